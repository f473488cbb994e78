//! QEMU's monitor: the power button and the plug.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::line_socket::LineSocket;

const PATIENCE: Duration = Duration::from_secs(20);
/// For what QEMU wrote before it ended.
const LAST: Duration = Duration::from_secs(1);

pub struct Qmp(LineSocket);

impl Qmp {
    /// The name of the socket in the machine's directory.
    pub const SOCKET: &str = "qmp.sock";

    pub fn connect(directory: &Path) -> Result<Self> {
        let mut socket = LineSocket::connect(directory, Self::SOCKET, PATIENCE)?;
        let greeting: Value = socket.receive(PATIENCE)?;
        if greeting.get("QMP").is_none() {
            bail!("no greeting of QMP: {greeting}");
        }
        let mut qmp = Self(socket);
        qmp.execute("qmp_capabilities")?;
        Ok(qmp)
    }

    /// Runs a command without arguments; events in between are skipped.
    pub fn execute(&mut self, command: &str) -> Result<Value> {
        self.0.send(&json!({ "execute": command }))?;
        loop {
            let answer: Value = self.0.receive(PATIENCE)?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if answer.get("error").is_some() {
                bail!("{command}: {answer}");
            }
        }
    }

    /// Why the machine was shut down or reset, once QEMU has ended: `guest-reset`,
    /// `guest-shutdown`, `host-signal` (`ShutdownCause` of QEMU's QAPI).
    pub fn shutdown_reason(&mut self) -> Option<String> {
        let events = std::iter::from_fn(|| self.0.receive::<Value>(LAST).ok());
        let mut reasons = events.filter(|event| event["event"] == "SHUTDOWN");
        let reason = reasons.next()?["data"]["reason"].take();
        reason.as_str().map(str::to_owned)
    }

    /// Presses the ACPI power button.
    pub fn power_button(&mut self) -> Result<()> {
        self.execute("system_powerdown").map(drop)
    }
}
