//! The orderly end: pods, then roles, then file systems.
//!
//! ```text
//!   Running -> Pods(deadline) -> Roles(deadline) -> Done
//! ```
//!
//! `node` gets SIGUSR1 and the time to stop its pods; what is left of vmms is
//! killed; then `control` and `fabric` get theirs. A second request skips the
//! waiting. The watchdog stays armed all along.

use std::time::Duration;
use sys::machine::Power;

const FOR_PODS: Duration = Duration::from_secs(40);
/// Beyond the time that pods are given by the machine config.
const SLACK: Duration = Duration::from_secs(15);
const FOR_ROLES: Duration = Duration::from_secs(10);

/// How long pods may take that are given so much.
pub(super) fn for_pods(shutdown_seconds: u32) -> Duration {
    FOR_PODS.max(Duration::from_secs(shutdown_seconds.into()) + SLACK)
}

/// What the end waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    Pods { power: Power, deadline: Duration },
    Roles { power: Power, deadline: Duration },
    Done(Power),
}

/// Who is alive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alive {
    pub(super) node: bool,
    pub(super) others: bool,
}

/// What to do on entering a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    TerminateNode,
    KillMachinesTerminateRoles,
    KillRest,
}

impl Phase {
    /// Somebody asked for the end.
    pub(super) fn request(&mut self, power: Power, now: Duration, for_pods: Duration) -> Effect {
        match *self {
            Self::Running => {
                let deadline = now + for_pods;
                *self = Self::Pods { power, deadline };
                Effect::TerminateNode
            }
            Self::Pods { power, .. } => {
                let deadline = now;
                *self = Self::Pods { power, deadline };
                Effect::Nothing
            }
            Self::Roles { power, .. } => {
                let deadline = now;
                *self = Self::Roles { power, deadline };
                Effect::Nothing
            }
            Self::Done(_) => Effect::Nothing,
        }
    }

    /// One step on, if it is time.
    pub(super) fn step(&mut self, alive: Alive, now: Duration) -> Effect {
        match *self {
            Self::Pods { power, deadline } if !alive.node || now >= deadline => {
                let deadline = now + FOR_ROLES;
                *self = Self::Roles { power, deadline };
                Effect::KillMachinesTerminateRoles
            }
            Self::Roles { power, deadline } => {
                let nobody = !alive.node && !alive.others;
                if nobody || now >= deadline {
                    *self = Self::Done(power);
                    return Effect::KillRest;
                }
                Effect::Nothing
            }
            Self::Running | Self::Pods { .. } | Self::Done(_) => Effect::Nothing,
        }
    }

    pub(super) const fn deadline(&self) -> Option<Duration> {
        match self {
            Self::Pods { deadline, .. } | Self::Roles { deadline, .. } => Some(*deadline),
            Self::Running | Self::Done(_) => None,
        }
    }

    pub(super) const fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);
    const ALL: Alive = Alive {
        node: true,
        others: true,
    };
    const NONE: Alive = Alive {
        node: false,
        others: false,
    };

    #[test]
    fn pods_end_before_roles_and_roles_before_the_machine() {
        let mut phase = Phase::Running;
        assert_eq!(phase.step(NONE, NOW), Effect::Nothing);
        assert_eq!(
            phase.request(Power::Off, NOW, FOR_PODS),
            Effect::TerminateNode
        );
        assert_eq!(phase.step(ALL, NOW), Effect::Nothing);
        let without_node = Alive { node: false, ..ALL };
        let effect = phase.step(without_node, NOW);
        assert_eq!(effect, Effect::KillMachinesTerminateRoles);
        assert_eq!(phase.step(without_node, NOW), Effect::Nothing);
        assert_eq!(phase.step(NONE, NOW), Effect::KillRest);
        assert_eq!(phase, Phase::Done(Power::Off));
    }

    #[test]
    fn pods_have_what_the_machine_config_gives_them() {
        for (seconds, wanted) in [(0, 40), (25, 40), (90, 105)] {
            assert_eq!(for_pods(seconds), Duration::from_secs(wanted));
        }
    }

    #[test]
    fn deadlines_and_a_second_request_end_the_waiting() {
        for second in [false, true] {
            let mut phase = Phase::Running;
            let mut now = NOW;
            phase.request(Power::Restart, now, for_pods(0));
            for wanted in [Effect::KillMachinesTerminateRoles, Effect::KillRest] {
                if second {
                    phase.request(Power::Off, now, FOR_PODS);
                } else {
                    assert_eq!(phase.step(ALL, now), Effect::Nothing);
                    now = phase.deadline().unwrap_or(now);
                }
                assert_eq!(phase.step(ALL, now), wanted);
            }
            assert_eq!(phase, Phase::Done(Power::Restart));
        }
    }
}
