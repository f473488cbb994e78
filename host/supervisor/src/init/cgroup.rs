//! cgroup v2: one group for each role, one for each vmm below `vmm`.

use machine_spec::MachineId;
use machine_spec::launch::Limits;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The directory of the vmms' groups.
pub(super) const MACHINES: &str = machine_spec::launch::GROUPS;
const ROOT: &str = "/sys/fs/cgroup";
const CONTROLLERS: &str = "+cpu +memory +pids +io";

/// Enables the controllers for roles and vmms.
pub(super) fn prepare() -> io::Result<()> {
    enable(Path::new(ROOT))?;
    make(Path::new(MACHINES))?;
    enable(Path::new(MACHINES))
}

fn enable(group: &Path) -> io::Result<()> {
    let control = group.join("cgroup.subtree_control");
    let mut result = Ok(());
    // One at a time: a kernel without one of them still gives the others.
    for controller in CONTROLLERS.split(' ') {
        if let Err(error) = std::fs::write(&control, controller) {
            result = Err(error);
        }
    }
    result
}

fn make(group: &Path) -> io::Result<()> {
    match std::fs::create_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// The group of a role, to start it in.
pub(super) fn of_role(role: &str) -> io::Result<File> {
    let group = Path::new(ROOT).join(role);
    make(&group)?;
    File::open(group)
}

/// The group of one vmm; removed by `remove`.
pub(super) struct MachineGroup {
    path: PathBuf,
}

impl MachineGroup {
    /// Makes it below `root` and sets the limits.
    pub(super) fn create_below(root: &Path, id: MachineId, limits: Limits) -> io::Result<Self> {
        let path = root.join(id.to_string());
        make(&path)?;
        let group = Self { path };
        match group.set(limits) {
            Ok(()) => Ok(group),
            Err(error) => {
                drop(group.remove());
                Err(error)
            }
        }
    }

    /// # Errors
    /// Of the first limit that the kernel refuses.
    pub(super) fn set(&self, limits: Limits) -> io::Result<()> {
        let settings = [
            ("memory.max", limits.memory),
            ("memory.swap.max", 0),
            ("memory.oom.group", 1),
            ("cpu.weight", limits.cpu_weight),
            ("pids.max", limits.pids),
        ];
        for (file, value) in settings {
            let written = std::fs::write(self.path.join(file), value.to_string());
            match written {
                // A kernel without swap accounting has no such file.
                Err(error)
                    if file == "memory.swap.max" && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// A group that exists.
    #[cfg(test)]
    pub(super) const fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Kills what is left and removes it.
    pub(super) fn remove(&self) -> io::Result<()> {
        let kill = File::options()
            .write(true)
            .open(self.path.join("cgroup.kill"));
        if let Ok(mut kill) = kill {
            drop(kill.write_all(b"1"));
        }
        std::fs::remove_dir(&self.path)
    }
}
