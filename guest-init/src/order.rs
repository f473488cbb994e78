//! What PID 1 and a stage say to each other over the stage's descriptor 0.
//!
//! A stage is this same program, started anew as the future container process:
//! single-threaded, so that it may fork, change namespaces and identity.
//!
//! ```text
//!   PID 1: length u32 | Order as JSON     + descriptors with the first byte
//!   stage: 'T'                            + the terminal's master
//!          'I' | length u32 | Identity as JSON, of a container's init
//!          'E' | Refusal as JSON, or the end of the stream: exec succeeded
//! ```

use guest_protocol::{Container, Exec, Identity, Pod, Refusal, RefusalKind};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// stdin, stdout, stderr, and the pidfd of the container to enter.
const FDS_MAX: usize = 4;
const TERMINAL: u8 = b'T';
const IDENTITY: u8 = b'I';
const ERROR: u8 = b'E';
/// The longest refusal or identity, in bytes.
const ANSWER_MAX: u32 = 64 << 10;

/// What a stage is to become.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The init of a container; descriptors: its stdio, unless it has a
    /// terminal.
    Start(Box<Start>),
    /// One more process of a container; descriptors: its stdio unless it has
    /// a terminal, then the pidfd of the container's init.
    Exec(Box<Enter>),
    /// The init of the pod's shared process namespace: reaps, never ends.
    Pause,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) container: Container,
    pub(crate) pod: Pod,
    pub(crate) root: Root,
    /// What its mounts of images are, by their disks' serials.
    pub(crate) images: BTreeMap<String, Root>,
    pub(crate) cgroup: PathBuf,
    /// An empty directory to mount things on while the root is made.
    pub(crate) scratch: PathBuf,
    /// The pod's `/dev/shm`.
    pub(crate) shm: PathBuf,
    /// Where the pod's volumes are, by name.
    pub(crate) volumes: PathBuf,
    /// An empty directory on a disk for the writable layer, unless that is in
    /// memory.
    pub(crate) layer: Option<PathBuf>,
    /// The file to put at the termination message path.
    pub(crate) message: Option<PathBuf>,
}

impl Start {
    /// Whether the container has a volume at just this path.
    pub(crate) fn mounts_at(&self, path: &str) -> bool {
        let mut mounts = self.container.mounts.iter();
        mounts.any(|mount| Path::new(&mount.path) == Path::new(path))
    }
}

/// Where the read-only part of a container's root comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Root {
    /// A block device with an EROFS image.
    Disk(PathBuf),
    /// A directory, in tests.
    Directory(PathBuf),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Enter {
    pub(crate) container: Container,
    pub(crate) hostname: String,
    pub(crate) exec: Exec,
    pub(crate) cgroup: PathBuf,
}

/// Sends the order and the descriptors.
pub(crate) fn send(to: &UnixStream, order: &Order, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let json = serde_json::to_vec(order)?;
    let length = u32::try_from(json.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    send_with_fds(to, &length.to_le_bytes(), fds)?;
    let mut to = to;
    to.write_all(&json)
}

/// Receives an order; only whoever started this stage can have written it.
pub(crate) fn receive(from: &UnixStream) -> io::Result<(Order, Vec<OwnedFd>)> {
    let mut length = [0; 4];
    let (count, fds) = receive_with_fds(from, &mut length)?;
    let mut from = from;
    from.read_exact(length.get_mut(count..).unwrap_or_default())?;
    let mut json = Vec::new();
    let length = u64::from(u32::from_le_bytes(length));
    from.take(length).read_to_end(&mut json)?;
    Ok((serde_json::from_slice(&json)?, fds))
}

pub(crate) fn send_terminal(to: &UnixStream, master: BorrowedFd<'_>) -> io::Result<()> {
    send_with_fds(to, &[TERMINAL], &[master])
}

pub(crate) fn send_identity(to: &UnixStream, identity: &Identity) -> io::Result<()> {
    let json = serde_json::to_vec(identity)?;
    let length = u32::try_from(json.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut to = to;
    to.write_all(&[IDENTITY])?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&json)
}

pub(crate) fn send_refusal(to: &UnixStream, refusal: &Refusal) -> io::Result<()> {
    let mut bytes = vec![ERROR];
    serde_json::to_writer(&mut bytes, refusal)?;
    let mut to = to;
    to.write_all(&bytes)
}

/// What a stage told before it became the program.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) identity: Option<Identity>,
}

/// Waits until the stage has become the program, or has failed.
pub(crate) fn outcome(from: &UnixStream) -> Result<Told, Refusal> {
    let failed = |error: io::Error| Refusal {
        kind: RefusalKind::Failed,
        message: format!("starting the process: {error}"),
    };
    let mut told = Told::default();
    loop {
        let mut tag = [0];
        let (count, mut fds) = receive_with_fds(from, &mut tag).map_err(failed)?;
        match (count, tag) {
            (0, _) => return Ok(told),
            (_, [TERMINAL]) => told.terminal = fds.pop(),
            (_, [IDENTITY]) => told.identity = Some(receive_identity(from).map_err(failed)?),
            _ => {
                let mut json = Vec::new();
                let mut rest = from.take(u64::from(ANSWER_MAX));
                rest.read_to_end(&mut json).map_err(failed)?;
                return Err(serde_json::from_slice(&json).unwrap_or_else(|error| {
                    failed(io::Error::new(io::ErrorKind::InvalidData, error))
                }));
            }
        }
    }
}

fn receive_identity(mut from: &UnixStream) -> io::Result<Identity> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > ANSWER_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

fn send_with_fds(to: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(
        to,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

fn receive_with_fds(from: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        from,
        &mut [IoSliceMut::new(bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((received.bytes, fds))
}
