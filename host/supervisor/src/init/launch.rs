//! The launch socket: starts vmms for `node`, keeps their pidfds and control
//! sockets across its restarts, and tells when they end.
//!
//! ```text
//!   absent --Launch--> running --waitpid--> ended --Forget--> absent
//! ```
//!
//! At most `MACHINES_MAX` machines. Replies that the socket doesn't take wait
//! here, and requests wait until those are gone: the queue never holds more than
//! one `List` and one `Ended` for each machine.

use super::cgroup::MachineGroup;
use super::jail::Launched;
use machine_spec::MachineId;
use machine_spec::launch::{Limits, REQUEST_LEN, Reply, Request};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use sys::Pid;
use sys::message::Received;

/// More machines than any host of today runs.
const MACHINES_MAX: usize = 4096;
/// Requests taken before others get their turn.
const TURN: usize = 64;

const EIO: i32 = 5;
const ENOENT: i32 = 2;
const EAGAIN: i32 = 11;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;

/// The descriptor store.
#[derive(Default)]
pub(super) struct Launcher {
    machines: BTreeMap<MachineId, Machine>,
    socket: Option<OwnedFd>,
    replies: VecDeque<Reply>,
}

struct Machine {
    slot: u32,
    group: MachineGroup,
    state: State,
}

enum State {
    Running {
        pid: Pid,
        pidfd: OwnedFd,
        control: OwnedFd,
    },
    Ended {
        status: i32,
    },
}

/// What the socket is to be watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    Requests,
    Room,
    /// `node` closed it.
    Nothing,
}

/// Starts a vmm for a machine in a slot.
pub(super) type Start<'a> = dyn FnMut(MachineId, Limits, u32) -> io::Result<Launched> + 'a;

impl Launcher {
    /// Serves a new `node`, which asks with `List` for what runs.
    pub(super) fn attach(&mut self, socket: OwnedFd) {
        self.replies.clear();
        self.socket = Some(socket);
    }

    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn detach(&mut self) {
        self.socket = None;
        self.replies.clear();
    }

    /// Sends what waits, answers what is asked.
    pub(super) fn serve(&mut self, start: &mut Start<'_>) -> Wants {
        for _ in 0..TURN {
            match self.flush() {
                Ok(true) => {}
                Ok(false) => return Wants::Room,
                Err(_) => return Wants::Nothing,
            }
            let Some(socket) = &self.socket else {
                return Wants::Nothing;
            };
            let mut buffer = [0; REQUEST_LEN];
            match sys::message::receive(socket, &mut buffer, false) {
                Ok(Received::Message { length, .. }) => {
                    let request = Request::decode(buffer.get(..length).unwrap_or_default());
                    self.answer(request, start);
                }
                Ok(Received::Closed) => return Wants::Nothing,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Wants::Requests;
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.answer(None, start);
                }
                Err(_) => return Wants::Nothing,
            }
        }
        match self.flush() {
            Ok(true) => Wants::Requests,
            Ok(false) => Wants::Room,
            Err(_) => Wants::Nothing,
        }
    }

    fn answer(&mut self, request: Option<Request>, start: &mut Start<'_>) {
        let Some(request) = request else {
            let id = MachineId([0; 16]);
            self.replies.push_back(Reply::Failed { id, errno: EINVAL });
            return;
        };
        match request {
            Request::Launch { id, limits } => {
                let reply = match self.launch(id, limits, start) {
                    Ok(()) => Reply::Running { id },
                    Err(errno) => Reply::Failed { id, errno },
                };
                self.replies.push_back(reply);
            }
            Request::List => {
                let all = self
                    .machines
                    .iter()
                    .map(|(id, machine)| match machine.state {
                        State::Running { .. } => Reply::Running { id: *id },
                        State::Ended { status } => Reply::Ended { id: *id, status },
                    });
                self.replies.extend(all);
                let id = MachineId([0; 16]);
                self.replies.push_back(Reply::Done { id });
            }
            Request::Limit { id, limits } => {
                let reply = match self.limit(id, limits) {
                    Ok(()) => Reply::Done { id },
                    Err(errno) => Reply::Failed { id, errno },
                };
                self.replies.push_back(reply);
            }
            Request::Kill { id } => {
                let reply = match self.machines.get(&id) {
                    None => Reply::Failed { id, errno: ENOENT },
                    Some(machine) => {
                        if let State::Running { pidfd, .. } = &machine.state {
                            // Ended meanwhile: `Ended` is on its way.
                            drop(sys::signals::kill(pidfd));
                        }
                        Reply::Done { id }
                    }
                };
                self.replies.push_back(reply);
            }
            Request::Forget { id } => {
                let reply = match self.forget(id) {
                    Ok(()) => Reply::Done { id },
                    Err(errno) => Reply::Failed { id, errno },
                };
                self.replies.push_back(reply);
            }
        }
    }

    fn launch(&mut self, id: MachineId, limits: Limits, start: &mut Start<'_>) -> Result<(), i32> {
        if self.machines.contains_key(&id) {
            return Err(EEXIST);
        }
        if self.machines.len() >= MACHINES_MAX {
            return Err(EAGAIN);
        }
        check(limits)?;
        let slot = self.free_slot();
        let launched = start(id, limits, slot).map_err(|error| {
            log::error!("machine {id} was not started: {error}");
            error.raw_os_error().unwrap_or(EIO)
        })?;
        let machine = Machine {
            slot,
            group: launched.group,
            state: State::Running {
                pid: launched.child.pid,
                pidfd: launched.child.pidfd,
                control: launched.control,
            },
        };
        self.machines.insert(id, machine);
        Ok(())
    }

    fn limit(&self, id: MachineId, limits: Limits) -> Result<(), i32> {
        check(limits)?;
        let machine = self.machines.get(&id).ok_or(ENOENT)?;
        let set = machine.group.set(limits);
        set.map_err(|error| error.raw_os_error().unwrap_or(EIO))
    }

    /// The lowest slot that no machine has, so that no two share an uid.
    fn free_slot(&self) -> u32 {
        let used: BTreeSet<u32> = self.machines.values().map(|machine| machine.slot).collect();
        (0..).find(|slot| !used.contains(slot)).unwrap_or(u32::MAX)
    }

    fn forget(&mut self, id: MachineId) -> Result<(), i32> {
        let machine = self.machines.get(&id).ok_or(ENOENT)?;
        if matches!(machine.state, State::Running { .. }) {
            return Err(EBUSY);
        }
        match machine.group.remove() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error.raw_os_error().unwrap_or(EIO));
            }
            _ => {}
        }
        self.machines.remove(&id);
        Ok(())
    }

    /// A child was reaped; gives whether it was a vmm.
    pub(super) fn reaped(&mut self, child: Pid, status: i32) -> bool {
        let found = self.machines.iter_mut().find(
            |(_, machine)| matches!(machine.state, State::Running { pid, .. } if pid == child),
        );
        let Some((id, machine)) = found else {
            return false;
        };
        machine.state = State::Ended { status };
        if self.socket.is_some() {
            self.replies.push_back(Reply::Ended { id: *id, status });
        }
        true
    }

    /// Sends what waits; false if the socket is full.
    fn flush(&mut self) -> io::Result<bool> {
        let Some(socket) = &self.socket else {
            return Ok(true);
        };
        while let Some(reply) = self.replies.front() {
            let fds = match *reply {
                Reply::Running { id } => match self.machines.get(&id).map(|m| &m.state) {
                    Some(State::Running { pidfd, control, .. }) => {
                        vec![pidfd.as_fd(), control.as_fd()]
                    }
                    // It ended before the answer went out: say just that.
                    _ => {
                        self.replies.pop_front();
                        continue;
                    }
                },
                Reply::Ended { .. } | Reply::Done { .. } | Reply::Failed { .. } => Vec::new(),
            };
            match sys::message::send(socket, &reply.encode(), &fds) {
                Ok(()) => self.replies.pop_front(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
        }
        Ok(true)
    }

    /// Kills every machine, at the end.
    pub(super) fn kill_all(&self) {
        for machine in self.machines.values() {
            if let State::Running { pidfd, .. } = &machine.state {
                drop(sys::signals::kill(pidfd));
            }
        }
    }

    /// Waits for those that were killed.
    pub(super) fn wait_all(&self) {
        for machine in self.machines.values() {
            if let State::Running { pid, .. } = machine.state {
                drop(sys::process::wait(pid));
            }
        }
    }

    pub(super) fn running(&self) -> usize {
        let running = |machine: &&Machine| matches!(machine.state, State::Running { .. });
        self.machines.values().filter(running).count()
    }
}

fn check(limits: Limits) -> Result<(), i32> {
    let weight = (1..=10_000).contains(&limits.cpu_weight);
    if !weight || limits.memory == 0 || limits.pids == 0 {
        return Err(EINVAL);
    }
    Ok(())
}

#[cfg(test)]
#[path = "launch_tests.rs"]
mod tests;
