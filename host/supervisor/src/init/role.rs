//! The roles that `init` starts, and when it starts them again.
//!
//! ```text
//!   Waiting(until) --start--> Running(since) --ends--> Waiting
//! ```
//!
//! The wait doubles from a quarter second to half a minute; a role that ran for
//! a minute starts over at a quarter second.

use crate::logging;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;
use sys::process::{Child, Credentials, Program, Rlimit, Spawn};
use sys::{CapabilitySet, Resource};

/// The executable that runs now.
pub(super) const SELF: &CStr = c"/proc/self/exe";

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const STABLE: Duration = Duration::from_secs(60);

/// What a role is and may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoleSpec {
    pub(super) name: &'static str,
    /// Also the group's.
    pub(super) uid: u32,
    capabilities: CapabilitySet,
    /// Roles outlive guests when memory is short.
    oom_score_adj: i16,
}

pub(super) const CONTROL: RoleSpec = RoleSpec {
    name: "control",
    uid: 1001,
    capabilities: CapabilitySet::empty(),
    oom_score_adj: -900,
};

pub(super) const NODE: RoleSpec = RoleSpec {
    name: "node",
    uid: 1002,
    capabilities: CapabilitySet::empty(),
    oom_score_adj: -900,
};

pub(super) const FABRIC: RoleSpec = RoleSpec {
    name: "fabric",
    uid: 1003,
    capabilities: CapabilitySet::NET_ADMIN
        .union(CapabilitySet::NET_RAW)
        .union(CapabilitySet::NET_BIND_SERVICE)
        .union(CapabilitySet::SYS_TIME),
    oom_score_adj: -900,
};

/// The test harness's agent, of which `init` knows only that it exists.
pub(super) const TEST_AGENT: &CStr = c"/test/agent";

const LIMITS: [Rlimit; 2] = [
    Rlimit {
        resource: Resource::Nofile,
        value: 1 << 20,
    },
    Rlimit {
        resource: Resource::Core,
        value: 0,
    },
];

impl RoleSpec {
    /// Starts it; `extra` become descriptors 3 and on.
    pub(super) fn start(
        &self,
        log: BorrowedFd<'_>,
        extra: &[BorrowedFd<'_>],
        variables: &[(&str, &str)],
    ) -> io::Result<Child> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let cgroup = super::cgroup::of_role(self.name)?;
        let config = format!("/run/atoll/config/{}.json", self.name);
        let arguments = strings(&["atoll", self.name, "--config", &config])?;
        let environment = environment(variables)?;
        let mut descriptors = vec![null.as_fd(), null.as_fd(), log];
        descriptors.extend(extra);
        let spawn = Spawn {
            program: Program::Path(SELF),
            arguments: &arguments,
            environment: &environment,
            descriptors: &descriptors,
            namespaces: &[],
            cgroup: Some(cgroup.as_fd()),
            oom_score_adj: Some(self.oom_score_adj),
            rlimits: &LIMITS,
            credentials: Some(Credentials {
                uid: self.uid,
                gid: self.uid,
                capabilities: self.capabilities,
            }),
            no_new_privs: true,
        };
        spawn.spawn().map_err(io::Error::other)
    }
}

/// Starts the test agent with full rights.
pub(super) fn start_test_agent(log: BorrowedFd<'_>) -> io::Result<Child> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let arguments = strings(&["agent"])?;
    let environment = environment(&[])?;
    let spawn = Spawn {
        program: Program::Path(TEST_AGENT),
        arguments: &arguments,
        environment: &environment,
        descriptors: &[null.as_fd(), log, log],
        namespaces: &[],
        cgroup: None,
        oom_score_adj: Some(-900),
        rlimits: &[],
        credentials: None,
        no_new_privs: false,
    };
    spawn.spawn().map_err(io::Error::other)
}

pub(super) fn strings(words: &[&str]) -> io::Result<Vec<CString>> {
    let words = words.iter().map(|word| CString::new(*word));
    words.collect::<Result<_, _>>().map_err(io::Error::other)
}

/// The whole environment of a role.
pub(super) fn environment(variables: &[(&str, &str)]) -> io::Result<Vec<CString>> {
    let level = log::max_level().to_string().to_ascii_lowercase();
    let fixed = [
        (logging::SUPERVISED, "1"),
        (logging::LEVEL, level.as_str()),
        ("RUST_BACKTRACE", "1"),
        ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"),
    ];
    let all = fixed.iter().chain(variables);
    let lines: Vec<String> = all.map(|(name, value)| format!("{name}={value}")).collect();
    strings(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Whether and when a role runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backoff {
    wait: Duration,
    /// When it may start; nothing while it runs.
    due: Option<Duration>,
    since: Duration,
}

impl Backoff {
    /// Due at once.
    pub(super) const fn new() -> Self {
        Self {
            wait: FIRST_WAIT,
            due: Some(Duration::ZERO),
            since: Duration::ZERO,
        }
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// When to look again, if it waits.
    pub(super) const fn due(&self) -> Option<Duration> {
        self.due
    }

    pub(super) const fn started(&mut self, now: Duration) {
        self.due = None;
        self.since = now;
    }

    /// It ended, or didn't start. Gives the wait.
    pub(super) fn ended(&mut self, now: Duration) -> Duration {
        let ran = self.due.is_none();
        if ran && now.saturating_sub(self.since) >= STABLE {
            self.wait = FIRST_WAIT;
        }
        let wait = self.wait;
        self.due = Some(now + wait);
        self.wait = (wait * 2).min(LONGEST_WAIT);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_until_a_minute_was_stable() {
        let mut backoff = Backoff::new();
        let mut now = Duration::from_secs(10);
        assert!(backoff.is_due(now));
        for wanted in [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            backoff.started(now);
            assert!(!backoff.is_due(now + LONGEST_WAIT));
            now += Duration::from_secs(1);
            let wait = backoff.ended(now);
            assert_eq!(wait.as_millis(), wanted);
            assert!(!backoff.is_due(now));
            now += wait;
            assert!(backoff.is_due(now));
        }
        backoff.started(now);
        assert_eq!(backoff.ended(now + STABLE), FIRST_WAIT);
    }
}
