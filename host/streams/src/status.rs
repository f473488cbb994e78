//! How a remote command ended, on the error stream: plain text up to v3, a
//! `metav1.Status` from v4 on (`remotecommand/v4` in cri/streaming).

use crate::StreamError;
use crate::negotiate::Version;
use crate::pipe::OutputWriter;
use bytes::Bytes;
use std::fmt::Write as _;

/// The end of a remote command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Success,
    /// The command ended with this code, not 0.
    ExitCode(i32),
    /// The command could not be run or watched to its end.
    Error(String),
}

/// Writes the status, once, as the last of all streams.
pub struct StatusWriter {
    pub(crate) version: Version,
    pub(crate) stream: OutputWriter,
    /// Streams whose closing by the server would tell the client to stop
    /// sending: stdin and resize.
    pub(crate) held: Vec<OutputWriter>,
}

impl StatusWriter {
    /// Sends the status and closes the error stream. Drop or close the other
    /// streams before; the connection closes when all handles are dropped.
    ///
    /// # Errors
    /// The peer is gone.
    pub async fn finish(mut self, status: Status) -> Result<(), StreamError> {
        if let Some(text) = encode(self.version, &status) {
            self.stream.write(Bytes::from(text)).await?;
        }
        self.stream.close();
        self.held.clear();
        Ok(())
    }
}

/// `None` where the protocol says success by silence.
fn encode(version: Version, status: &Status) -> Option<String> {
    let status = match status {
        Status::ExitCode(0) => &Status::Success,
        other => other,
    };
    if version < Version::V4 {
        return match status {
            Status::Success => None,
            Status::ExitCode(code) => Some(exit_message(*code)),
            Status::Error(message) => Some(message.clone()),
        };
    }
    Some(match status {
        Status::Success => r#"{"metadata":{},"status":"Success"}"#.to_owned(),
        Status::ExitCode(code) => format!(
            r#"{{"metadata":{{}},"status":"Failure","message":"{}","reason":"NonZeroExitCode","details":{{"causes":[{{"reason":"ExitCode","message":"{code}"}}]}}}}"#,
            exit_message(*code)
        ),
        Status::Error(message) => format!(
            r#"{{"metadata":{{}},"status":"Failure","message":"{}","reason":"InternalError","details":{{"causes":[{{"message":"{}"}}]}},"code":500}}"#,
            Escaped(&format!("Internal error occurred: {message}")),
            Escaped(message)
        ),
    })
}

fn exit_message(code: i32) -> String {
    format!("command terminated with non-zero exit code: exit status {code}")
}

/// A JSON string's content (RFC 8259, 7).
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                control if control < ' ' => write!(f, "\\u{:04x}", u32::from(control))?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_json_from_v4_on() {
        let error = Status::Error("a \"quoted\"\n\\ text".to_owned());
        for status in [Status::Success, Status::ExitCode(5), error.clone()] {
            let text = encode(Version::V4, &status).unwrap();
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            let expected = if status == Status::Success {
                "Success"
            } else {
                "Failure"
            };
            assert_eq!(json["status"], expected);
        }
        let text = encode(Version::V5, &error).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            json["message"],
            "Internal error occurred: a \"quoted\"\n\\ text"
        );
        assert_eq!(encode(Version::V3, &Status::ExitCode(0)), None);
        assert!(
            encode(Version::V1, &Status::ExitCode(7))
                .unwrap()
                .contains('7')
        );
    }
}
