//! Programs beside the appliance: QEMU, the registry, kubectl in the background.
//!
//! A `Tied` process dies with the harness, even when that is killed: the kernel
//! sends SIGKILL when the thread that started it ends, so suites start theirs
//! from `main`. A `Loose` one is left running, for `make run`.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::wait::{self, Seen};

/// Whether a process may outlive us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bond {
    Tied,
    Loose,
}

/// A running program whose output goes to a file.
pub struct Process {
    child: Child,
    bond: Bond,
    name: String,
}

impl Process {
    /// Starts `program` in `directory`; stdout and stderr go to `log`.
    pub fn start<S: AsRef<OsStr>>(
        program: impl AsRef<Path>,
        arguments: impl IntoIterator<Item = S>,
        directory: &Path,
        log: &Path,
        bond: Bond,
    ) -> Result<Self> {
        let program = program.as_ref();
        let output = File::create(log).with_context(|| log.display().to_string())?;
        let mut command = match bond {
            Bond::Tied => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", "--"]).arg(program);
                command
            }
            Bond::Loose => {
                let mut command = Command::new(program);
                command.process_group(0);
                command
            }
        };
        let child = command
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self {
            child,
            bond,
            name: program.display().to_string(),
        })
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The status, once it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let what = format!("end of {}", self.name);
        wait::until(what, patience, || {
            Ok(match self.child.try_wait()? {
                Some(status) => Seen::Done(status),
                None => Seen::NotYet("running".to_owned()),
            })
        })
    }

    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.bond == Bond::Tied {
            // It may have ended already; there is nobody to tell.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A TCP port of this machine's loopback that was free a moment ago.
pub fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    Ok(listener.local_addr()?.port())
}
