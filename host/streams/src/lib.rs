//! Exec, attach and port-forward as kubectl speaks them: SPDY/3.1 or
//! WebSocket over an upgraded HTTP connection, turned into plain streams; logs
//! and watches over WebSocket.
//!
//! ```text
//!   headers --negotiate--> Negotiated (answer 101 with its headers), upgrade
//!   io + Negotiated --remote_command--> stdin, stdout, stderr, resize, status
//!   io + Negotiated --port_forward----> Forward, Forward, ...
//!   io + pieces ------send_messages---> a WebSocket message each
//! ```
//!
//! Owns framing, subprotocols and the bounds of both. It neither opens a
//! connection nor knows a Pod: whoever calls decides where the bytes go.
//!
//! Bounds: a connection has at most [`STREAMS_MAX`] streams, keeps at most
//! [`INPUT_MAX`] messages per stream that nobody has read (then it stops
//! reading, so the peer blocks), and [`OUTPUT_MAX`] bytes that are not yet
//! written (then writers wait). The connection's tasks end when the peer is
//! gone or when every handle of it is dropped.

mod forward;
mod messages;
mod negotiate;
mod pipe;
mod remote;
mod spdy;
mod status;
mod table;
mod tunnel;
mod websocket;

pub use forward::{ErrorWriter, Forward, PortForwardListener, port_forward};
pub use messages::{Form, send_messages};
pub use negotiate::{Kind, Negotiated, Refusal, negotiate};
pub use pipe::{Gone, InputReader, OutputWriter};
pub use remote::{RemoteCommand, StreamSet, TerminalSize, remote_command};
pub use status::{Status, StatusWriter};

/// The most streams that one connection may have open.
pub const STREAMS_MAX: usize = 256;
/// The most messages of one stream that wait to be read.
pub const INPUT_MAX: usize = 8;
/// The most bytes of one connection that wait to be written.
pub const OUTPUT_MAX: usize = 256 << 10;
/// The largest frame or message taken from a peer, in bytes.
pub const FRAME_MAX: usize = 1 << 20;
/// How long a client may take to open the streams that it announced.
pub const CREATION_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Why a connection ended before its purpose was served.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("the peer is gone")]
    Gone,
    #[error("the peer broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("timed out waiting for client to create streams")]
    Timeout,
    #[error("negotiated for {0:?}, used for something else")]
    Kind(Kind),
}
