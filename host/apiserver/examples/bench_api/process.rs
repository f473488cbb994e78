//! A server under measurement: started, asked what it uses, killed at the end.

use crate::Result;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Of /proc/PID/stat on every architecture of Linux that matters.
const TICK: Duration = Duration::from_millis(10);

pub(crate) struct Process(Child);

impl Process {
    /// Output goes to `log`.
    pub(crate) fn start(program: &Path, arguments: &[&str], log: &Path) -> Result<Process> {
        let output = File::create(log)?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        Ok(Process(child))
    }

    /// Of all its threads, since its start.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        // The name in parentheses may have spaces; utime and stime are the
        // twelfth and thirteenth word after it (proc(5)).
        let rest = text.rsplit_once(')').ok_or("stat")?.1;
        let mut ticks = 0;
        for word in rest.split_whitespace().skip(11).take(2) {
            ticks += word.parse::<u32>()?;
        }
        Ok(TICK * ticks)
    }

    /// MiB of `field` in /proc/PID/status: `VmRSS` now, `VmHWM` at most.
    pub(crate) fn memory(&self, field: &str) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
        Ok(number.ok_or("no such field")?.parse::<f64>()? / 1024.0)
    }

    /// Until it has used no processor for half a second.
    pub(crate) async fn quiet(&self) -> Result<()> {
        let mut before = self.cpu()?;
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = self.cpu()?;
            if now == before {
                break;
            }
            before = now;
        }
        Ok(())
    }

    /// At once, as a crash.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; there is nobody to tell.
        let _ = self.kill();
    }
}

/// A TCP port of this machine's loopback that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    Ok(listener.local_addr()?.port())
}
