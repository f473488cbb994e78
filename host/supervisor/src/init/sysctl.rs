//! Settings of the kernel that the appliance wants, each with its reason.

const SETTINGS: [(&str, &str); 12] = [
    // A dead kernel restarts after ten seconds rather than waits for somebody.
    ("/proc/sys/kernel/panic", "10"),
    ("/proc/sys/kernel/panic_on_oops", "1"),
    // Modules that the kernel misses are loaded by `atoll` itself.
    ("/proc/sys/kernel/modprobe", "/init"),
    // Guest memory is promised, not used: a thousand guests are overcommitted.
    ("/proc/sys/vm/overcommit_memory", "1"),
    // Each vmm maps guest memory, rings and stacks.
    ("/proc/sys/vm/max_map_count", "262144"),
    ("/proc/sys/fs/file-max", "4194304"),
    // Children of guests' stories stay out of each other's files.
    ("/proc/sys/fs/protected_symlinks", "1"),
    ("/proc/sys/fs/protected_hardlinks", "1"),
    ("/proc/sys/kernel/kptr_restrict", "2"),
    // Only those who ask get huge pages: guest memory does.
    ("/sys/kernel/mm/transparent_hugepage/enabled", "madvise"),
    (
        "/sys/kernel/mm/transparent_hugepage/shmem_enabled",
        "advise",
    ),
    // KVM's VM creation waits for grace periods: short ones.
    ("/sys/kernel/rcu_expedited", "1"),
];

const MIN_FREE: &str = "/proc/sys/vm/min_free_kbytes";

/// Applies them; what this kernel lacks is told, nothing more.
pub(super) fn apply() {
    for (path, value) in SETTINGS {
        if let Err(error) = std::fs::write(path, value) {
            log::warn!("{path}: {error}");
        }
    }
    // Last: the kernel chooses anew when huge pages are set.
    lower_reserve();
}

/// Huge pages make the kernel keep some 66 MiB free, and half as much again is
/// not available either: too much of a small machine. A hundredth is enough, and
/// what the kernel chose stands where it is less (from 7 GiB on).
fn lower_reserve() {
    let chosen = read_number(MIN_FREE, "");
    let memory = read_number("/proc/meminfo", "MemTotal:");
    let (Some(chosen), Some(memory)) = (chosen, memory) else {
        return log::warn!("{MIN_FREE}: not known");
    };
    if let Some(less) = reserve(chosen, memory)
        && let Err(error) = std::fs::write(MIN_FREE, less.to_string())
    {
        log::warn!("{MIN_FREE}: {error}");
    }
}

/// What to keep free instead, if less will do; all in KiB.
fn reserve(chosen: u64, memory: u64) -> Option<u64> {
    let enough = (memory / 100).max(LEAST_FREE);
    (enough < chosen).then_some(enough)
}

/// Atomic allocations of a NIC's driver in a burst.
const LEAST_FREE: u64 = 8 << 10;

/// The first number of the line that starts with `name`.
fn read_number(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_machine_keeps_less_free() {
        for (chosen, memory, wanted) in [
            (67_584, 2 << 20, Some(20_971)),
            (67_584, 256 << 10, Some(8192)),
            (67_584, 64 << 20, None),
            (4000, 256 << 10, None),
        ] {
            assert_eq!(reserve(chosen, memory), wanted, "{chosen} of {memory}");
        }
    }
}
