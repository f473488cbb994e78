//! QEMU's monitor: the power button and the plug.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::line_socket::LineSocket;

const PATIENCE: Duration = Duration::from_secs(20);

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

    /// Presses the ACPI power button.
    pub fn power_button(&mut self) -> Result<()> {
        self.execute("system_powerdown").map(drop)
    }
}
