//! Conversations with `guest-init`, over connections that a vmm relays.
//!
//! Every byte comes from a guest and is hostile: lengths are bounded by the
//! protocol's frames, JSON by its types, and a violation ends the connection.

mod frames;
mod logs;
mod session;

pub(crate) use frames::{GuestError, GuestStream, connect};
pub(crate) use logs::{LogPiece, LogSource, follow};
pub(crate) use session::{Command, Session, command_channel};
