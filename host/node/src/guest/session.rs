//! The control session of one machine: opened as soon as the agent listens,
//! opened again when it breaks, until the machine is gone.
//!
//! ```text
//!   worker --Command--> session --Action--> guest
//!   worker <--Observation-- session <--Event-- guest
//! ```
//!
//! At most 64 commands wait. A command whose connection breaks is answered by
//! the drop of its channel: the next snapshot tells what became of it.

use super::frames::{GuestError, GuestStream, connect};
use crate::machine::Control;
use crate::pod::Observation;
use guest_protocol::{Action, Answer, Event, Open, Refusal, VERSION};
use std::collections::HashMap;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// The first pause between two attempts to reach the agent, and the longest.
const RETRY_FIRST: Duration = Duration::from_millis(2);
const RETRY_LAST: Duration = Duration::from_millis(200);
/// How long one connection may take to give its snapshot.
const OPENING: Duration = Duration::from_secs(10);
/// How often a quiet guest is asked whether it is alive, and how long it has.
const PULSE: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(60);

/// Something to do for the guest; dropped unanswered when the session breaks.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) action: Action,
    pub(crate) answer: oneshot::Sender<Result<Answer, Refusal>>,
}

pub(crate) fn command_channel() -> (mpsc::Sender<Command>, mpsc::Receiver<Command>) {
    mpsc::channel(64)
}

/// What a session needs.
pub(crate) struct Session {
    pub(crate) control: Control,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) news: mpsc::Sender<Observation>,
    /// How long the agent may be out of reach.
    pub(crate) patience: Duration,
    /// 32 fresh random bytes for each connection.
    pub(crate) entropy: fn() -> Vec<u8>,
    pub(crate) realtime_ns: fn() -> u64,
}

impl Session {
    /// Runs until the agent is out of reach for too long (an error), or the
    /// worker is gone.
    ///
    /// # Errors
    /// The last failure to reach the agent.
    pub(crate) async fn run(mut self) -> Result<(), GuestError> {
        loop {
            let began = Instant::now();
            let (stream, snapshot) = self.reach().await?;
            log::info!("agent reached after {} ms", began.elapsed().as_millis());
            if self.news.send(snapshot).await.is_err() {
                return Ok(());
            }
            let broken = self.converse(stream).await;
            match broken {
                Ok(()) => return Ok(()),
                // As every guest does that powers off; why one ended is told
                // with its machine.
                Err(GuestError::Closed) => log::info!("control session closed"),
                Err(error) => log::warn!("control session: {error}"),
            }
            if self.news.send(Observation::SessionLost).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Tries until the agent answers or patience ends.
    async fn reach(&mut self) -> Result<(GuestStream<UnixStream>, Observation), GuestError> {
        let deadline = Instant::now() + self.patience;
        let mut pause = RETRY_FIRST;
        loop {
            let attempt = tokio::time::timeout(OPENING, self.open());
            let error = match attempt.await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(error)) => error,
                Err(_elapsed) => GuestError::Closed,
            };
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            // Commands that come now would wait for what they don't expect.
            while let Ok(command) = self.commands.try_recv() {
                drop(command);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_LAST);
        }
    }

    async fn open(&self) -> Result<(GuestStream<UnixStream>, Observation), GuestError> {
        let open = Open::Control {
            version: VERSION,
            entropy: (self.entropy)(),
            realtime_ns: (self.realtime_ns)(),
        };
        let mut stream = connect(&self.control, &open).await?;
        match stream.read_json::<Event>().await? {
            Some(Event::Snapshot { set_up, containers }) => {
                Ok((stream, Observation::SessionUp { set_up, containers }))
            }
            Some(Event::Answer { .. } | Event::Changed(_)) | None => Err(GuestError::Closed),
        }
    }

    /// Relays until the connection breaks; `Ok` when the worker is gone.
    async fn converse(&mut self, stream: GuestStream<UnixStream>) -> Result<(), GuestError> {
        let (reader, writer) = stream.0.into_split();
        let mut writer = GuestStream(writer);
        let (events, mut incoming) = mpsc::channel(16);
        let reading = tokio::spawn(read_events(GuestStream(reader), events));
        let _stop = AbortOnDrop(reading.abort_handle());
        let mut waiting: HashMap<u32, Option<oneshot::Sender<Result<Answer, Refusal>>>> =
            HashMap::new();
        let mut next_id = 1_u32;
        let mut heard = Instant::now();
        let mut pulse = tokio::time::interval_at(heard + PULSE, PULSE);
        loop {
            tokio::select! {
                command = self.commands.recv() => {
                    let Some(Command { action, answer }) = command else { return Ok(()) };
                    let id = next_id;
                    next_id = next_id.wrapping_add(1);
                    waiting.insert(id, Some(answer));
                    writer.write_json(&guest_protocol::Command { id, action }).await?;
                }
                event = incoming.recv() => {
                    heard = Instant::now();
                    match event.unwrap_or(Err(GuestError::Closed))? {
                        Event::Answer { id, result } => {
                            if let Some(Some(answer)) = waiting.remove(&id) {
                                drop(answer.send(result));
                            }
                        }
                        Event::Changed(state) => {
                            if self.news.send(Observation::Container(state)).await.is_err() {
                                return Ok(());
                            }
                        }
                        Event::Snapshot { .. } => return Err(GuestError::Closed),
                    }
                }
                _ = pulse.tick() => {
                    if heard.elapsed() > SILENCE {
                        log::warn!("the guest has said nothing for {} s", SILENCE.as_secs());
                        return Err(GuestError::Closed);
                    }
                    let id = next_id;
                    next_id = next_id.wrapping_add(1);
                    waiting.insert(id, None);
                    let action = Action::Stats;
                    writer.write_json(&guest_protocol::Command { id, action }).await?;
                }
            }
        }
    }
}

/// Reads whole events in a task of its own: reading halfway can't be resumed.
async fn read_events<S: tokio::io::AsyncRead + Unpin>(
    mut stream: GuestStream<S>,
    events: mpsc::Sender<Result<Event, GuestError>>,
) {
    loop {
        let event = match stream.read_json::<Event>().await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(GuestError::Closed),
            Err(error) => Err(error),
        };
        let last = event.is_err();
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
