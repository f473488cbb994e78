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

/// Applies them; what this kernel lacks is told, nothing more.
pub(super) fn apply() {
    for (path, value) in SETTINGS {
        if let Err(error) = std::fs::write(path, value) {
            log::warn!("{path}: {error}");
        }
    }
}
