//! A command in a container: its exit code and what it wrote, both streams in
//! the order in which they came.

use super::OUTPUT_MAX;
use crate::guest::{self, GuestError};
use crate::machine::Control;
use guest_protocol::{Channel, Exec, Open, Stream};

pub(super) async fn run(
    control: &Control,
    container: &str,
    args: &[String],
) -> Result<(i32, String), GuestError> {
    let exec = Exec {
        container: container.to_owned(),
        args: args.to_vec(),
        stdin: false,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let mut guest = guest::connect(control, &Open::Exec(Box::new(exec))).await?;
    let mut output = Vec::new();
    loop {
        let (channel, payload) = guest.read().await?.ok_or(GuestError::Closed)?;
        match channel {
            Channel::Stdout | Channel::Stderr => {
                let room = OUTPUT_MAX.saturating_sub(output.len());
                output.extend(payload.into_iter().take(room));
            }
            Channel::Json => match serde_json::from_slice(&payload)? {
                Stream::Exit(end) => {
                    let text = String::from_utf8_lossy(&output).into_owned();
                    return Ok((end.exit_code(), text));
                }
                Stream::Resize { .. } | Stream::CloseStdin => {
                    return Err(GuestError::Channel(channel));
                }
            },
            Channel::Stdin => return Err(GuestError::Channel(channel)),
        }
    }
}
