//! The client of `init`: starts, lists, kills and forgets vmm processes.
//!
//! One task owns the socket and has one request under way at a time, since
//! `init` answers in order. News of ends go to whoever holds the [`Process`].
//! Requests wait in a queue of 64; its senders wait when it is full.

use super::packets::Packets;
use machine_spec::MachineId;
use machine_spec::launch::{Limits, REPLY_LEN, Reply, Request};
use rustix::fd::OwnedFd;
use std::collections::HashMap;
use std::io;
use tokio::sync::{mpsc, oneshot};

#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("init refused: {0}")]
    Refused(io::Error),
    #[error("the launch socket failed: {0}")]
    Socket(String),
}

/// A vmm that runs.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) control: OwnedFd,
    /// Kept open: it names the process for as long as somebody asks.
    pub(crate) _pidfd: OwnedFd,
    /// Its wait status, once.
    pub(crate) ended: oneshot::Receiver<i32>,
}

/// A machine that `init` knows.
#[derive(Debug)]
pub(crate) enum Known {
    Running(MachineId, Process),
    Ended(MachineId, i32),
}

/// A handle; all of them share the one socket.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    requests: mpsc::Sender<(Request, oneshot::Sender<Result<Answer, LaunchError>>)>,
}

enum Answer {
    Done,
    Running(Process),
    List(Vec<Known>),
}

impl Launcher {
    /// Must be called in a runtime; the task ends with the last handle.
    ///
    /// # Errors
    /// As registering the socket.
    pub(crate) fn start(socket: OwnedFd) -> io::Result<Self> {
        let (requests, receiver) = mpsc::channel(64);
        let conversation = Conversation {
            socket: Packets::new(socket)?,
            ends: HashMap::new(),
        };
        tokio::spawn(conversation.serve(receiver));
        Ok(Self { requests })
    }

    /// # Errors
    /// What `init` says: EEXIST, EAGAIN and so on.
    pub(crate) async fn launch(
        &self,
        id: MachineId,
        limits: Limits,
    ) -> Result<Process, LaunchError> {
        match self.ask(Request::Launch { id, limits }).await? {
            Answer::Running(process) => Ok(process),
            Answer::Done | Answer::List(_) => Err(unexpected()),
        }
    }

    /// Gives a machine that runs other limits.
    ///
    /// # Errors
    /// ENOENT for a machine that `init` does not know; else the kernel's.
    pub(crate) async fn limit(&self, id: MachineId, limits: Limits) -> Result<(), LaunchError> {
        self.ask(Request::Limit { id, limits }).await.map(drop)
    }

    /// # Errors
    /// Only if the socket fails.
    pub(crate) async fn list(&self) -> Result<Vec<Known>, LaunchError> {
        match self.ask(Request::List).await? {
            Answer::List(list) => Ok(list),
            Answer::Done | Answer::Running(_) => Err(unexpected()),
        }
    }

    /// # Errors
    /// ENOENT for a machine that `init` does not know.
    pub(crate) async fn kill(&self, id: MachineId) -> Result<(), LaunchError> {
        self.ask(Request::Kill { id }).await.map(drop)
    }

    /// # Errors
    /// ENOENT as for `kill`; EBUSY or so while it runs.
    pub(crate) async fn forget(&self, id: MachineId) -> Result<(), LaunchError> {
        self.ask(Request::Forget { id }).await.map(drop)
    }

    async fn ask(&self, request: Request) -> Result<Answer, LaunchError> {
        let gone = || LaunchError::Socket("init is gone".to_owned());
        let (answer, receiver) = oneshot::channel();
        self.requests
            .send((request, answer))
            .await
            .map_err(|_| gone())?;
        receiver.await.map_err(|_| gone())?
    }

    /// Resolves when `init` is gone: then `node` can do nothing any more.
    pub(crate) async fn closed(&self) {
        self.requests.closed().await;
    }
}

fn unexpected() -> LaunchError {
    LaunchError::Socket("init answered something else".to_owned())
}

struct Conversation {
    socket: Packets,
    ends: HashMap<MachineId, oneshot::Sender<i32>>,
}

type Requests = mpsc::Receiver<(Request, oneshot::Sender<Result<Answer, LaunchError>>)>;

impl Conversation {
    async fn serve(mut self, mut requests: Requests) {
        loop {
            tokio::select! {
                request = requests.recv() => {
                    let Some((request, answer)) = request else { return };
                    match self.exchange(request).await {
                        // Who asked may have stopped waiting.
                        Ok(result) => drop(answer.send(result.map_err(LaunchError::Refused))),
                        Err(error) => {
                            let text = error.to_string();
                            drop(answer.send(Err(LaunchError::Socket(text))));
                            return log::error!("launch socket: {error}");
                        }
                    }
                }
                reply = self.reply() => match reply {
                    Ok((Reply::Ended { id, status }, _)) => self.ended(id, status),
                    Ok((reply, _)) => log::warn!("launch socket: unasked {reply:?}"),
                    Err(error) => return log::error!("launch socket: {error}"),
                }
            }
        }
    }

    async fn exchange(&mut self, request: Request) -> io::Result<io::Result<Answer>> {
        self.socket.send(&request.encode(), &[]).await?;
        let mut list = Vec::new();
        loop {
            let (reply, fds) = self.reply().await?;
            match (reply, request) {
                (Reply::Running { id }, Request::List) => {
                    list.push(Known::Running(id, self.process(id, fds)?));
                }
                (Reply::Ended { id, status }, Request::List) => {
                    self.ended(id, status);
                    list.push(Known::Ended(id, status));
                }
                (Reply::Ended { id, status }, _) => self.ended(id, status),
                (Reply::Done { .. }, Request::List) => return Ok(Ok(Answer::List(list))),
                (Reply::Done { .. }, _) => return Ok(Ok(Answer::Done)),
                (Reply::Failed { errno, .. }, _) => {
                    return Ok(Err(io::Error::from_raw_os_error(errno)));
                }
                (Reply::Running { id }, _) => {
                    let process = self.process(id, fds)?;
                    return Ok(Ok(Answer::Running(process)));
                }
            }
        }
    }

    fn process(&mut self, id: MachineId, fds: Vec<OwnedFd>) -> io::Result<Process> {
        let [pidfd, control] = <[OwnedFd; 2]>::try_from(fds)
            .map_err(|fds| io::Error::other(format!("{} descriptors with a machine", fds.len())))?;
        let (sender, ended) = oneshot::channel();
        self.ends.insert(id, sender);
        Ok(Process {
            control,
            _pidfd: pidfd,
            ended,
        })
    }

    fn ended(&mut self, id: MachineId, status: i32) {
        if let Some(sender) = self.ends.remove(&id)
            && sender.send(status).is_err()
        {
            log::debug!("machine {id} ended, and nobody asks");
        }
    }

    async fn reply(&self) -> io::Result<(Reply, Vec<OwnedFd>)> {
        let mut buffer = [0; REPLY_LEN];
        let Some((length, fds)) = self.socket.receive(&mut buffer).await? else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        let reply = Reply::decode(bytes).ok_or_else(|| io::Error::other("no reply of init's"))?;
        Ok((reply, fds))
    }
}
