//! The client of one vmm: describes the machine to it and opens connections to
//! its guest.
//!
//! One task owns the socket. At most 32 requests wait; their senders wait when
//! that is full. A vmm's bytes are bounded and parsed, and a vmm that answers
//! nonsense loses its connection, never more.

use super::packets::Packets;
use machine_spec::control::{
    Answer, Event, Failure, FromVmm, MESSAGE_MAX, Request, Status, ToVmm, VERSION,
};
use machine_spec::exit::Exit;
use machine_spec::{DiskAccess, DiskId, DiskSpec, FdIndex, MachineSpec};
use rustix::fd::{AsFd, OwnedFd};
use std::collections::HashMap;
use std::io;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("the vmm refused: {0}")]
    Refused(Failure),
    #[error("the vmm is gone")]
    Gone,
    #[error("vsock connection: {0}")]
    Socket(#[from] io::Error),
}

/// A handle to one vmm.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    requests: mpsc::Sender<Asked>,
    exit: watch::Receiver<Option<Exit>>,
    first_run: watch::Receiver<Option<u64>>,
}

#[derive(Debug)]
struct Asked {
    request: Request,
    fds: Vec<OwnedFd>,
    answer: oneshot::Sender<Result<Answer, Failure>>,
}

impl Control {
    /// # Errors
    /// As registering the socket.
    pub(crate) fn start(socket: OwnedFd) -> io::Result<Self> {
        let (requests, receiver) = mpsc::channel(32);
        let (told, exit) = watch::channel(None);
        let (started, first_run) = watch::channel(None);
        let conversation = Conversation {
            socket: Packets::new(socket)?,
            // Replies to an earlier `node` may still wait in the socket.
            next_id: uuid::Uuid::new_v4().as_fields().0,
            waiting: HashMap::new(),
            told,
            started,
        };
        tokio::spawn(conversation.serve(receiver));
        Ok(Self {
            requests,
            exit,
            first_run,
        })
    }

    /// Describes the machine; it starts.
    ///
    /// # Errors
    /// What the vmm says, or that it is gone.
    pub(crate) async fn boot(
        &self,
        spec: MachineSpec,
        fds: Vec<OwnedFd>,
    ) -> Result<(), ControlError> {
        self.ask(Request::Start(Box::new(spec)), fds)
            .await
            .map(drop)
    }

    /// A connection to a port of the guest. A port where nobody listens gives
    /// a stream that is closed at once.
    ///
    /// # Errors
    /// As making a socket pair, or the vmm's refusal.
    pub(crate) async fn connect(&self, port: u32) -> Result<UnixStream, ControlError> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let request = Request::ConnectVsock {
            port,
            stream: FdIndex(0),
        };
        self.ask(request, vec![theirs.into()]).await?;
        Ok(UnixStream::from_std(ours)?)
    }

    /// Gives the machine one more disk, which it may have already.
    ///
    /// # Errors
    /// That it has no room for it, or is gone.
    pub(crate) async fn attach(&self, id: DiskId, file: OwnedFd) -> Result<(), ControlError> {
        let disk = DiskSpec {
            id,
            file: FdIndex(0),
            access: DiskAccess::Read,
        };
        self.ask(Request::AttachDisk(disk), vec![file])
            .await
            .map(drop)
    }

    /// # Errors
    /// As for every request.
    pub(crate) async fn status(&self) -> Result<Status, ControlError> {
        match self.ask(Request::Status, Vec::new()).await? {
            Answer::Status(status) => Ok(status),
            Answer::Done => Err(ControlError::Gone),
        }
    }

    /// When the vmm said that it entered the guest: nanoseconds of
    /// CLOCK_MONOTONIC.
    pub(crate) fn first_run_ns(&self) -> Option<u64> {
        *self.first_run.borrow()
    }

    /// What the vmm told about its end, if it did; waits as long as `patience`
    /// while the socket is still open.
    pub(crate) async fn last_words(&self, patience: Duration) -> Option<Exit> {
        let mut exit = self.exit.clone();
        let told = exit.wait_for(Option::is_some);
        match tokio::time::timeout(patience, told).await {
            Ok(Ok(exit)) => exit.clone(),
            Ok(Err(_)) | Err(_) => self.exit.borrow().clone(),
        }
    }

    async fn ask(&self, request: Request, fds: Vec<OwnedFd>) -> Result<Answer, ControlError> {
        let (answer, receiver) = oneshot::channel();
        let asked = Asked {
            request,
            fds,
            answer,
        };
        self.requests
            .send(asked)
            .await
            .map_err(|_| ControlError::Gone)?;
        receiver
            .await
            .map_err(|_| ControlError::Gone)?
            .map_err(ControlError::Refused)
    }
}

struct Conversation {
    socket: Packets,
    next_id: u32,
    waiting: HashMap<u32, oneshot::Sender<Result<Answer, Failure>>>,
    told: watch::Sender<Option<Exit>>,
    started: watch::Sender<Option<u64>>,
}

impl Conversation {
    async fn serve(mut self, mut requests: mpsc::Receiver<Asked>) {
        let mut buffer = vec![0; MESSAGE_MAX];
        loop {
            let result = tokio::select! {
                asked = requests.recv() => match asked {
                    Some(asked) => self.send(asked).await,
                    None => return,
                },
                received = self.socket.receive(&mut buffer) => match received {
                    Ok(Some((length, _))) => {
                        self.take(buffer.get(..length).unwrap_or_default())
                    }
                    Ok(None) => return,
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = result {
                return log::warn!("control socket of a vmm: {error}");
            }
        }
    }

    async fn send(&mut self, asked: Asked) -> io::Result<()> {
        // Those who stopped waiting are forgotten here.
        self.waiting.retain(|_, answer| !answer.is_closed());
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let message = ToVmm {
            version: VERSION,
            id,
            request: asked.request,
        };
        let bytes = serde_json::to_vec(&message).map_err(io::Error::other)?;
        let fds: Vec<_> = asked.fds.iter().map(AsFd::as_fd).collect();
        self.socket.send(&bytes, &fds).await?;
        self.waiting.insert(id, asked.answer);
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        match serde_json::from_slice(bytes).map_err(io::Error::other)? {
            FromVmm::Reply { id, result } => {
                if let Some(answer) = self.waiting.remove(&id) {
                    drop(answer.send(result));
                }
            }
            FromVmm::Event(Event::Started {
                exec_ns,
                first_run_ns,
            }) => {
                let micros = first_run_ns.saturating_sub(exec_ns) / 1000;
                self.started.send_replace(Some(first_run_ns));
                log::info!("vmm: exec to first KVM_RUN took {micros} us");
            }
            FromVmm::Event(Event::Exited(exit)) => {
                self.told.send_replace(Some(exit));
            }
        }
        Ok(())
    }
}
