//! What pods could leave behind: processes, cgroups, descriptors, files.
//!
//! Images stay by intention, so what is below `IMAGES` is not looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use test_agent::Process;

use crate::agent::Agent;
use crate::wait::{self, Seen};

/// How long the last of a pod may take to go.
const GONE: Duration = Duration::from_secs(60);
/// Where pods leave files, if they do.
const TREES: &[&str] = &[
    "/sys/fs/cgroup",
    "/var/lib/atoll/data/node",
    "/run/atoll",
    "/tmp",
];
const IMAGES: &str = "/var/lib/atoll/data/node/images/";
const ROLES: &[&str] = &["init", "control", "node", "fabric"];

/// How many there are of each thing, by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces(BTreeMap<String, usize>);

impl Traces {
    pub fn of(agent: &mut Agent) -> Result<Self> {
        let mut seen = Self::default();
        for process in agent.processes()? {
            seen.add(format!("process {}", process.name));
            if let Some(role) = role(&process) {
                for target in agent.descriptors(process.pid)? {
                    seen.add(format!("descriptor of {role}: {}", kind(&target)));
                }
            }
        }
        for top in TREES {
            // Not every machine has each.
            for path in agent.tree(top).unwrap_or_default() {
                let path = format!("{top}/{path}");
                if !path.starts_with(IMAGES) {
                    seen.add(path);
                }
            }
        }
        Ok(seen)
    }

    fn add(&mut self, name: String) {
        *self.0.entry(name).or_default() += 1;
    }

    /// What there is more of than in `before`.
    #[must_use]
    pub fn beyond(&self, before: &Self) -> Vec<String> {
        let more = self.0.iter().filter_map(|(name, count)| {
            let was = before.0.get(name).copied().unwrap_or_default();
            (*count > was).then(|| format!("{name}: {count}, was {was}"))
        });
        more.collect()
    }

    /// Waits for there to be no more of anything than now.
    pub fn until_again(&self, agent: &mut Agent) -> Result<()> {
        wait::until("nothing left of the pods", GONE, || {
            let left = Self::of(agent)?.beyond(self);
            Ok(match left.is_empty() {
                true => Seen::Done(()),
                false => Seen::NotYet(left.join("\n")),
            })
        })
    }
}

fn role(process: &Process) -> Option<&str> {
    process.role().filter(|role| ROLES.contains(role))
}

/// A descriptor's target without what tells it from its like.
fn kind(target: &str) -> &str {
    match target.split_once(":[") {
        Some(("anon_inode", _)) | None => target,
        Some((kind, _)) => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_told_and_less_is_not() {
        let traces = |all: &[&str]| {
            let mut seen = Traces::default();
            for target in all {
                seen.add(kind(target).to_owned());
            }
            seen
        };
        let before = traces(&[
            "socket:[1]",
            "socket:[2]",
            "/dev/null",
            "anon_inode:[eventfd]",
        ]);
        for (after, wanted) in [
            (&["socket:[7]", "/dev/null"][..], &[][..]),
            (
                &["socket:[1]", "socket:[3]", "socket:[4]"],
                &["socket: 3, was 2"],
            ),
            (
                &["pipe:[4]", "anon_inode:[eventfd]", "anon_inode:[eventfd]"],
                &["anon_inode:[eventfd]: 2, was 1", "pipe: 1, was 0"],
            ),
        ] {
            assert_eq!(traces(after).beyond(&before), wanted, "{after:?}");
        }
    }
}
