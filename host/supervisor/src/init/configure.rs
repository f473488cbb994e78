//! Runs the child that parses the machine config.
//!
//! The child has an uid of its own, no capabilities, limits, and eight
//! descriptors: the source, a pipe for the decision, the log, one file for each
//! role, opened here because it can't open any.

use super::descriptor::{Decision, LENGTH};
use super::pipes::Pipe;
use super::role;
use super::source::Source;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, chown};
use sys::Resource;
use sys::process::{Credentials, Program, Rlimit, Spawn};

const UID: u32 = 1004;
const LIMITS: [Rlimit; 5] = [
    limit(Resource::As, 256 << 20),
    limit(Resource::Cpu, 5),
    limit(Resource::Nofile, 16),
    limit(Resource::Fsize, 4 << 20),
    limit(Resource::Core, 0),
];

const fn limit(resource: Resource, value: u64) -> Rlimit {
    Rlimit { resource, value }
}

/// What the config says; defaults when there is none or it can't be used.
pub(super) fn configure(source: Option<&Source>, log: &Pipe) -> Decision {
    let mut broken = false;
    if let Some(source) = source {
        log::info!("machine config from {}", source.name);
        match run_child(Some(source), log) {
            Ok(decision) => return decision,
            Err(error) => {
                log::error!("the machine config could not be checked: {error}");
                broken = true;
            }
        }
    } else {
        log::info!("no machine config: DHCP on every interface, defaults elsewhere");
    }
    match run_child(None, log) {
        Ok(mut decision) => {
            decision.broken |= broken;
            decision
        }
        Err(error) => {
            log::error!("defaults could not be made: {error}");
            Decision {
                broken: true,
                ..Decision::default()
            }
        }
    }
}

fn run_child(source: Option<&Source>, log: &Pipe) -> io::Result<Decision> {
    let null = File::open("/dev/null")?;
    let input = source.map_or(&null, |source| &source.file);
    let files = [role::CONTROL, role::NODE, role::FABRIC].map(|role| output(role.name, role.uid));
    let [control, node, fabric] = files;
    let (control, node, fabric) = (control?, node?, fabric?);
    let (mut decision, decision_writer) = io::pipe()?;
    let mut words = vec!["atoll", "config-check", "--for-init"];
    if source.is_none() {
        words.push("--defaults");
    }
    if source.is_some_and(|source| source.base64) {
        words.push("--base64");
    }
    let arguments = role::strings(&words)?;
    let environment: Vec<CString> = role::environment(&[])?;
    let child = Spawn {
        program: Program::Path(role::SELF),
        arguments: &arguments,
        environment: &environment,
        descriptors: &[
            input.as_fd(),
            decision_writer.as_fd(),
            log.writer(),
            control.as_fd(),
            node.as_fd(),
            fabric.as_fd(),
        ],
        namespaces: &[],
        cgroup: None,
        oom_score_adj: None,
        rlimits: &LIMITS,
        credentials: Some(Credentials {
            uid: UID,
            gid: UID,
            capabilities: sys::CapabilitySet::empty(),
        }),
        no_new_privs: true,
    };
    let child = child.spawn().map_err(io::Error::other)?;
    drop(decision_writer);
    let status = sys::process::wait(child.pid)?;
    if status != 0 {
        return Err(io::Error::other(sys::process::describe_status(status)));
    }
    let mut bytes = [0; LENGTH];
    decision.read_exact(&mut bytes)?;
    Decision::decode(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The file that a role will read, empty and its own.
fn output(role: &str, uid: u32) -> io::Result<File> {
    let path = format!("/run/atoll/config/{role}.json");
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(&path)?;
    chown(&path, Some(uid), Some(uid))?;
    Ok(file)
}
