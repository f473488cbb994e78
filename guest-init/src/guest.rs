//! What the guest knows: the pod, the attempts, and who listens to changes.
//!
//! ```text
//!   attempt:  Start -> Running -> (Stop) -> Ended -> Remove
//! ```
//!
//! One mutex guards it and is never held across I/O. Bounds: at most
//! [`NAMES_MAX`] containers, [`ENDED_MAX`] ended attempts of one (the oldest is
//! forgotten first), [`SUBSCRIBERS_MAX`] control connections of
//! [`EVENTS_MAX`] waiting events (a connection that is slower is closed, and
//! learns everything anew from the snapshot of the next).

use crate::attempt::Attempt;
use crate::order::Root;
use crate::process::Processes;
use crate::volume::{self, Files};
use guest_protocol::{Event, Phase, Pod};
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) const NAMES_MAX: usize = 128;
const ENDED_MAX: usize = 4;
const SUBSCRIBERS_MAX: usize = 8;
const EVENTS_MAX: usize = 256;
/// More than a machine has.
const SLOTS_MAX: usize = 64;

/// Where this process runs: in the micro-VM, or in a test on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// PID 1 of a machine of its own.
    pub(crate) machine: bool,
    pub(crate) cgroup: PathBuf,
    /// Own files, one directory for each attempt.
    pub(crate) run: PathBuf,
    /// In tests: a directory with a disk or a directory for each serial.
    pub(crate) disks: Option<PathBuf>,
}

impl Place {
    /// The root of a container, by its disk's serial.
    pub(crate) fn find_disk(&self, serial: &str) -> Option<Root> {
        if serial.is_empty() || serial.contains('/') || serial.starts_with('.') {
            return None;
        }
        if let Some(disks) = &self.disks {
            let path = disks.join(serial);
            let metadata = std::fs::metadata(&path).ok()?;
            return Some(if metadata.is_dir() {
                Root::Directory(path)
            } else {
                Root::Disk(path)
            });
        }
        let found = with_serial(serial).or_else(|| {
            // It may have come since the start.
            bind_new_devices();
            with_serial(serial)
        });
        found.map(Root::Disk)
    }
}

fn with_serial(serial: &str) -> Option<PathBuf> {
    let disks = std::fs::read_dir("/sys/block").ok()?;
    let found = disks.flatten().find(|disk| {
        let text = std::fs::read(disk.path().join("serial")).unwrap_or_default();
        text.trim_ascii_end() == serial.as_bytes()
    })?;
    Some(Path::new("/dev").join(found.file_name()))
}

/// Binds the driver to slots in which there was nothing when the guest started;
/// the vmm fills them in order, so the first that is still empty is the last.
fn bind_new_devices() {
    const DRIVER: &str = "/sys/bus/platform/drivers/virtio-mmio/bind";
    for slot in 0..SLOTS_MAX {
        let name = format!("virtio-mmio.{slot}");
        let device = Path::new("/sys/bus/platform/devices").join(&name);
        if !device.join("driver").exists() && std::fs::write(DRIVER, name).is_err() {
            return;
        }
    }
}

/// What waits for the writer of a control connection.
pub(crate) enum News {
    Event(Event),
    /// Dropped when all before it is written.
    Mark(#[expect(dead_code, reason = "its drop is the message")] SyncSender<()>),
}

struct Subscriber {
    events: SyncSender<News>,
    /// Shut down when it is too slow, which wakes its threads.
    connection: UnixStream,
}

#[derive(Default)]
struct State {
    pod: Option<Pod>,
    /// The pod's volumes of files, by name.
    files: BTreeMap<String, Arc<Files>>,
    /// By name, oldest attempt first.
    attempts: BTreeMap<String, Vec<Arc<Attempt>>>,
    subscribers: Vec<Subscriber>,
    powering_off: bool,
}

pub(crate) struct Guest {
    pub(crate) place: Place,
    pub(crate) processes: Processes,
    /// Held while one container starts: starts are one after another.
    pub(crate) starting: Mutex<Option<u32>>,
    state: Mutex<State>,
    /// Some attempt ended.
    ended: Condvar,
}

impl Guest {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            place,
            processes: Processes::default(),
            starting: Mutex::new(None),
            state: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pod(&self) -> Option<Pod> {
        self.lock().pod.clone()
    }

    pub(crate) fn set_pod(&self, pod: Pod) {
        let files = volume::files(&self.place, &pod);
        let mut state = self.lock();
        state.files = files;
        state.pod = Some(pod);
    }

    /// A volume that takes projections.
    pub(crate) fn files(&self, volume: &str) -> Option<Arc<Files>> {
        self.lock().files.get(volume).cloned()
    }

    pub(crate) fn is_powering_off(&self) -> bool {
        self.lock().powering_off
    }

    /// False if it was so before.
    pub(crate) fn begin_power_off(&self) -> bool {
        !std::mem::replace(&mut self.lock().powering_off, true)
    }

    pub(crate) fn attempt(&self, name: &str, number: u32) -> Option<Arc<Attempt>> {
        let state = self.lock();
        let attempts = state.attempts.get(name)?;
        attempts.iter().find(|one| one.number() == number).cloned()
    }

    pub(crate) fn newest(&self, name: &str) -> Option<Arc<Attempt>> {
        self.lock().attempts.get(name)?.last().cloned()
    }

    pub(crate) fn running(&self, name: &str) -> Option<Arc<Attempt>> {
        self.newest(name).filter(|attempt| attempt.is_running())
    }

    pub(crate) fn all_running(&self) -> Vec<Arc<Attempt>> {
        let state = self.lock();
        let newest = state
            .attempts
            .values()
            .filter_map(|attempts| attempts.last());
        newest.filter(|one| one.is_running()).cloned().collect()
    }

    /// Whether one more container name fits.
    pub(crate) fn has_room(&self, name: &str) -> bool {
        let state = self.lock();
        state.attempts.contains_key(name) || state.attempts.len() < NAMES_MAX
    }

    /// Enters a running attempt and tells of it; the oldest ended ones go.
    pub(crate) fn enter(&self, attempt: Arc<Attempt>) {
        let mut forgotten = Vec::new();
        let mut state = self.lock();
        let attempts = state.attempts.entry(attempt.name().to_owned()).or_default();
        while attempts.len() > ENDED_MAX {
            forgotten.push(attempts.remove(0));
        }
        let news = attempt.state();
        attempts.push(attempt);
        broadcast(&mut state, &Event::Changed(news));
        drop(state);
        forgotten.iter().for_each(|one| one.forget());
    }

    /// Notes how an attempt ended and tells of it.
    pub(crate) fn note_end(&self, attempt: &Attempt, phase: Phase) {
        let mut state = self.lock();
        attempt.set_phase(phase);
        broadcast(&mut state, &Event::Changed(attempt.state()));
        self.ended.notify_all();
    }

    pub(crate) fn wait_all_ended(&self) {
        let mut state = self.lock();
        let runs = |state: &State| {
            let mut all = state.attempts.values().flatten();
            all.any(|attempt| attempt.is_running())
        };
        while runs(&state) {
            state = self
                .ended
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until every control connection has been told what was to tell; a
    /// host that does not read is waited for no longer than this.
    pub(crate) fn wait_told(&self, most: Duration) {
        let (mark, told) = sync_channel(0);
        for one in &self.lock().subscribers {
            // A queue that is full has a reader that is gone.
            let _ = one.events.try_send(News::Mark(mark.clone()));
        }
        drop(mark);
        // Nothing is ever sent: it ends when the last mark is dropped.
        let _ = told.recv_timeout(most);
    }

    /// Forgets an ended attempt; true if there is none any more.
    pub(crate) fn remove(&self, name: &str, number: u32) -> bool {
        let mut state = self.lock();
        let Some(attempts) = state.attempts.get_mut(name) else {
            return true;
        };
        let Some(at) = attempts.iter().position(|one| one.number() == number) else {
            return true;
        };
        if attempts.get(at).is_some_and(|one| one.is_running()) {
            return false;
        }
        let removed = attempts.remove(at);
        if attempts.is_empty() {
            state.attempts.remove(name);
        }
        drop(state);
        removed.forget();
        true
    }

    /// Adds a control connection; its first event is the snapshot.
    pub(crate) fn subscribe(
        &self,
        connection: UnixStream,
    ) -> Option<(SyncSender<News>, Receiver<News>)> {
        let (events, receiver) = sync_channel(EVENTS_MAX);
        let mut state = self.lock();
        if state.subscribers.len() >= SUBSCRIBERS_MAX {
            // The oldest is the likeliest to be dead.
            shut(&state.subscribers.remove(0).connection);
        }
        let containers = state.attempts.values().flatten();
        let snapshot = Event::Snapshot {
            set_up: state.pod.is_some(),
            containers: containers.map(|attempt| attempt.state()).collect(),
        };
        events.try_send(News::Event(snapshot)).ok()?;
        state.subscribers.push(Subscriber {
            events: events.clone(),
            connection,
        });
        Some((events, receiver))
    }
}

fn broadcast(state: &mut State, event: &Event) {
    state.subscribers.retain(|one| {
        let sent = one.events.try_send(News::Event(event.clone()));
        if matches!(sent, Err(TrySendError::Full(_))) {
            shut(&one.connection);
        }
        sent.is_ok()
    });
}

/// A connection that is gone already needs none.
fn shut(connection: &UnixStream) {
    let _ = connection.shutdown(std::net::Shutdown::Both);
}

/// Nanoseconds since the epoch.
pub(crate) fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |passed| {
        u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
    })
}
