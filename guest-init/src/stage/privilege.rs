//! What a process may do: limits, ids, capabilities, no_new_privs.
//!
//! As runc does it: the bounding set is what is granted; permitted and
//! effective are the same, inheritable and ambient are empty, so that a user
//! who is not root has none after `execve` (capabilities(7)).

use crate::errors::{failed, invalid};
use crate::stage::identity::Person;
use guest_protocol::{CAPABILITIES, Refusal, Rlimit, SecurityContext};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
};

pub(crate) fn limit(rlimits: &[Rlimit]) -> Result<(), Refusal> {
    use nix::sys::resource::{Resource, setrlimit};
    /// In the order of their numbers on x86-64 (asm-generic/resource.h).
    const RESOURCES: [Resource; 16] = [
        Resource::RLIMIT_CPU,
        Resource::RLIMIT_FSIZE,
        Resource::RLIMIT_DATA,
        Resource::RLIMIT_STACK,
        Resource::RLIMIT_CORE,
        Resource::RLIMIT_RSS,
        Resource::RLIMIT_NPROC,
        Resource::RLIMIT_NOFILE,
        Resource::RLIMIT_MEMLOCK,
        Resource::RLIMIT_AS,
        Resource::RLIMIT_LOCKS,
        Resource::RLIMIT_SIGPENDING,
        Resource::RLIMIT_MSGQUEUE,
        Resource::RLIMIT_NICE,
        Resource::RLIMIT_RTPRIO,
        Resource::RLIMIT_RTTIME,
    ];
    for wanted in rlimits {
        let number = wanted.resource;
        let resource = RESOURCES
            .get(usize::from(number))
            .ok_or_else(|| invalid(format!("rlimits.resource: {number} does not exist")))?;
        setrlimit(*resource, wanted.soft, wanted.hard)
            .map_err(failed(format_args!("setrlimit {number}")))?;
    }
    Ok(())
}

/// Changes to the person, with no more than what the context grants.
pub(crate) fn take_identity(person: &Person, security: &SecurityContext) -> Result<(), Refusal> {
    let granted = granted(security)?;
    drop_from_bounding_set(granted)?;
    set_keep_capabilities(true).map_err(failed("PR_SET_KEEPCAPS"))?;
    let groups: Vec<_> = person.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(failed("setgroups"))?;
    let (uid, gid) = (Uid::from_raw(person.uid), Gid::from_raw(person.gid));
    setresgid(gid, gid, gid).map_err(failed("setresgid"))?;
    setresuid(uid, uid, uid).map_err(failed("setresuid"))?;
    set_keep_capabilities(false).map_err(failed("PR_SET_KEEPCAPS"))?;
    clear_ambient_capability_set().map_err(failed("ambient set"))?;
    let sets = CapabilitySets {
        effective: granted,
        permitted: granted,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(failed("capset"))?;
    if security.no_new_privileges {
        set_no_new_privs(true).map_err(failed("no_new_privs"))?;
    }
    Ok(())
}

/// Those that this kernel does not know are left out when all are wanted.
fn granted(security: &SecurityContext) -> Result<CapabilitySet, Refusal> {
    if security.privileged {
        let known = (0..CAPABILITIES.len()).map(bit);
        return Ok(known.filter(|one| in_bounding_set(*one)).collect());
    }
    security
        .capabilities
        .iter()
        .map(|name| {
            CAPABILITIES
                .iter()
                .position(|known| known == name)
                .map(bit)
                .ok_or_else(|| invalid(format!("security.capabilities: unknown {name:?}")))
        })
        .collect()
}

fn bit(number: usize) -> CapabilitySet {
    CapabilitySet::from_bits_retain(1 << number)
}

fn in_bounding_set(one: CapabilitySet) -> bool {
    capability_is_in_bounding_set(one).unwrap_or(false)
}

fn drop_from_bounding_set(granted: CapabilitySet) -> Result<(), Refusal> {
    for one in (0..64).map(bit) {
        if !granted.contains(one) && in_bounding_set(one) {
            remove_capability_from_bounding_set(one).map_err(failed("bounding set"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_kernel_s_numbers() {
        for (name, set) in [
            ("CAP_CHOWN", CapabilitySet::CHOWN),
            ("CAP_NET_RAW", CapabilitySet::NET_RAW),
            ("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN),
            ("CAP_CHECKPOINT_RESTORE", CapabilitySet::CHECKPOINT_RESTORE),
        ] {
            let security = SecurityContext {
                capabilities: vec![name.to_owned()],
                ..SecurityContext::default()
            };
            assert_eq!(granted(&security), Ok(set));
        }
        let unknown = SecurityContext {
            capabilities: vec!["CAP_FLY".to_owned()],
            ..SecurityContext::default()
        };
        assert!(granted(&unknown).is_err());
    }
}
