//! A machine that runs, and the tasks that live as long as it does: session,
//! logs, console.

use super::{Happened, Shared};
use crate::guest::{Command, GuestError, LogSource, Session, command_channel, follow};
use crate::logs::{LogWriter, ProgressReceiver};
use crate::machine::{Control, Process, cause};
use crate::pod::Observation;
use jiff::Timestamp;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// How much of a guest's console is kept for when it fails.
const CONSOLE_MAX: usize = 16 << 10;
/// How long a vmm that ended may take to tell why.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The wait status of the vmm: to come, here, or never to come.
enum End {
    Awaited(oneshot::Receiver<i32>),
    Known(i32),
    /// `init` is gone, and `node` ends soon.
    Unknown,
}

pub(super) struct Running {
    pub(super) control: Control,
    pub(super) commands: mpsc::Sender<Command>,
    /// Among the machines that start, until the agent is reached.
    pub(super) place: Option<OwnedSemaphorePermit>,
    ended: End,
    _pidfd: rustix::fd::OwnedFd,
    console: Arc<Mutex<Vec<u8>>>,
    followed: HashSet<(String, u32)>,
    tasks: JoinSet<()>,
}

impl Running {
    pub(super) fn start(
        shared: &Shared,
        process: Process,
        control: Control,
        console: Option<pipe::Receiver>,
        reports: &mpsc::Sender<Happened>,
    ) -> Self {
        let mut tasks = JoinSet::new();
        let (commands, receiver) = command_channel();
        let (news, observations) = mpsc::channel(16);
        let session = Session {
            control: control.clone(),
            commands: receiver,
            news,
            patience: shared.patience,
            entropy,
            realtime_ns,
        };
        tasks.spawn(relay(observations, reports.clone()));
        let told = reports.clone();
        tasks.spawn(async move {
            if let Err(error) = session.run().await {
                let message = format!("the agent is out of reach: {error}");
                report(&told, Observation::AgentTimeout { message }).await;
            }
        });
        let kept = Arc::new(Mutex::new(Vec::new()));
        if let Some(console) = console {
            tasks.spawn(read_console(console, kept.clone()));
        }
        Self {
            control,
            commands,
            place: None,
            ended: End::Awaited(process.ended),
            _pidfd: process._pidfd,
            console: kept,
            followed: HashSet::new(),
            tasks,
        }
    }

    /// Resolves with the cause when the machine ends; never without one.
    /// Cancelling loses nothing.
    pub(super) async fn ended(running: Option<&mut Self>) -> String {
        let Some(running) = running else {
            return std::future::pending().await;
        };
        if let End::Awaited(receiver) = &mut running.ended {
            running.ended = receiver.await.map_or(End::Unknown, End::Known);
        }
        let End::Known(status) = running.ended else {
            return std::future::pending().await;
        };
        let told = running.control.last_words(LAST_WORDS).await;
        cause(told.as_ref(), status)
    }

    /// What the guest wrote last on its console, as far as it is text.
    pub(super) fn console_tail(&self) -> String {
        let kept = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let printable = |c: char| if c == '\n' || !c.is_control() { c } else { ' ' };
        text.trim().chars().map(printable).collect()
    }

    /// Follows the output of an attempt, once; `fallback` if its end may be the
    /// termination message.
    pub(super) fn follow_log(
        &mut self,
        key: &(String, u32),
        file: PathBuf,
        fallback: bool,
        reports: &mpsc::Sender<Happened>,
    ) -> Option<ProgressReceiver> {
        if !self.followed.insert(key.clone()) {
            return None;
        }
        let (progress, receiver) = watch::channel(crate::logs::Progress::default());
        let source = LogSource {
            control: self.control.clone(),
            container: key.0.clone(),
            attempt: key.1,
        };
        let reports = reports.clone();
        self.tasks.spawn(async move {
            let kept = progress.clone();
            if let Err(error) = write_log(&source, &file, progress).await {
                log::warn!("log of {} #{}: {error}", source.container, source.attempt);
            }
            kept.send_modify(|progress| progress.done = true);
            let tail = match fallback {
                true => crate::logs::tail(&file).await,
                false => None,
            };
            let LogSource {
                container, attempt, ..
            } = source;
            let drained = Observation::LogsDrained {
                container,
                attempt,
                tail,
            };
            report(&reports, drained).await;
        });
        Some(receiver)
    }
}

async fn write_log(
    source: &LogSource,
    file: &Path,
    progress: watch::Sender<crate::logs::Progress>,
) -> Result<(), GuestError> {
    let mut log = LogWriter::open(file, progress)?;
    let offset = log.offset();
    follow(source, offset, |piece| log.append(&piece, Timestamp::now())).await
}

async fn relay(mut news: mpsc::Receiver<Observation>, reports: mpsc::Sender<Happened>) {
    while let Some(observation) = news.recv().await {
        report(&reports, observation).await;
    }
}

pub(super) async fn report(reports: &mpsc::Sender<Happened>, observation: Observation) {
    // A worker that is gone needs no news.
    drop(reports.send(Happened::Observed(observation)).await);
}

async fn read_console(mut console: pipe::Receiver, kept: Arc<Mutex<Vec<u8>>>) {
    let mut block = [0; 4096];
    while let Ok(count) = console.read(&mut block).await {
        if count == 0 {
            return;
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(block.get(..count).unwrap_or_default());
        let surplus = kept.len().saturating_sub(CONSOLE_MAX);
        kept.drain(..surplus);
    }
}

/// 32 bytes of the kernel's generator.
fn entropy() -> Vec<u8> {
    let mut bytes = [0; 32];
    let flags = rustix::rand::GetRandomFlags::empty();
    // A short read is possible only above 256 bytes (getrandom(2)).
    if let Err(error) = rustix::rand::getrandom(&mut bytes[..], flags) {
        log::error!("getrandom: {error}");
    }
    bytes.to_vec()
}

fn realtime_ns() -> u64 {
    u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default()
}
