//! An `init` whose machines are tasks of this process: each serves its control
//! socket as a vmm does, and its vsock connections as `guest-init` does.

use guest_protocol::{
    Action, Answer, Channel, Command, ContainerState, End, Event, HEADER_LEN, Header, Log, Open,
    Opened, Phase, Projection, Refusal, RefusalKind, Stats,
};
use machine_spec::MachineId;
use machine_spec::control::{self, FromVmm, MESSAGE_MAX, ToVmm};
use machine_spec::launch::{REQUEST_LEN, Reply, Request};
use rustix::fd::{AsFd, OwnedFd};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use sys::message::{Received, receive, send};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::AbortHandle;

/// What the containers of a test's guests do.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    /// What a container writes when it starts, by name.
    pub(super) output: BTreeMap<String, Vec<u8>>,
    /// How it ends by itself, by name; it runs on if it is not here.
    pub(super) ends: BTreeMap<String, End>,
    /// Containers whose executable does not exist.
    pub(super) missing: Vec<String>,
    /// What commands give and write, by their words; others are not found.
    pub(super) execs: BTreeMap<String, (u8, String)>,
    /// What is answered on a port, whatever is asked; other ports are closed.
    pub(super) ports: BTreeMap<u16, String>,
    /// What a guest says when it is asked for its figures.
    pub(super) figures: Stats,
    /// How much memory a container uses, by name; nothing if it is not here.
    pub(super) memory: BTreeMap<String, u64>,
    /// It says nothing instead.
    pub(super) silent: bool,
    /// Its agent isn't up yet: connections end at once.
    pub(super) deaf: bool,
}

#[derive(Clone)]
pub(super) struct Init(Arc<Inner>);

struct Inner {
    script: Mutex<Script>,
    machines: Mutex<HashMap<MachineId, Machine>>,
    ends: broadcast::Sender<(MachineId, i32)>,
    /// Every start that a guest carried out: machine, container, attempt.
    started: Mutex<Vec<(u32, String, u32)>>,
    /// Every container that a guest was asked to stop, every command, and every
    /// image that is mounted.
    done: Mutex<Vec<String>>,
    launches: Mutex<u32>,
    /// How many control sessions were opened.
    sessions: watch::Sender<u32>,
}

#[derive(Clone)]
struct Machine {
    /// Kept as `init` keeps it, for the next `node`.
    control: Arc<OwnedFd>,
    guest: Guest,
    task: AbortHandle,
    ended: Option<i32>,
}

impl Init {
    pub(super) fn new(script: Script) -> Self {
        Self(Arc::new(Inner {
            script: Mutex::new(script),
            machines: Mutex::default(),
            ends: broadcast::channel(64).0,
            started: Mutex::default(),
            done: Mutex::default(),
            launches: Mutex::default(),
            sessions: watch::Sender::default(),
        }))
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.0.script.lock().unwrap());
    }

    /// Stops, commands and mounts of images, in order; each command once.
    pub(super) fn done(&self) -> Vec<String> {
        let mut done = self.0.done.lock().unwrap().clone();
        done.dedup();
        done
    }

    /// The launch socket of a new `node`.
    pub(super) fn socket(&self) -> OwnedFd {
        let (ours, theirs) = sys::message::pair().unwrap();
        tokio::spawn(self.clone().serve(packets(ours)));
        theirs
    }

    /// Waits until `count` control sessions were opened.
    pub(super) async fn sessions(&self, count: u32) {
        let mut sessions = self.0.sessions.subscribe();
        let enough = sessions.wait_for(|seen| *seen >= count);
        tokio::time::timeout(super::api::DEADLINE, enough)
            .await
            .unwrap()
            .unwrap();
    }

    pub(super) fn started(&self) -> Vec<(u32, String, u32)> {
        self.0.started.lock().unwrap().clone()
    }

    pub(super) fn fall_silent(&self) {
        self.0.script.lock().unwrap().silent = true;
    }

    /// The files of the one machine's volumes, and how often they were sent.
    pub(super) fn files(&self) -> (BTreeMap<String, String>, u32) {
        let machines = self.0.machines.lock().unwrap();
        let machine = machines.values().next().unwrap();
        let state = machine.guest.0.state.lock().unwrap();
        (state.files.clone(), state.projections)
    }

    /// The disks of the one machine.
    pub(super) fn disks(&self) -> Vec<String> {
        let machines = self.0.machines.lock().unwrap();
        let machine = machines.values().next().unwrap();
        let state = machine.guest.0.state.lock().unwrap();
        state.disks.iter().cloned().collect()
    }

    pub(super) fn running(&self) -> usize {
        let machines = self.0.machines.lock().unwrap();
        machines
            .values()
            .filter(|machine| machine.ended.is_none())
            .count()
    }

    pub(super) fn launches(&self) -> u32 {
        *self.0.launches.lock().unwrap()
    }

    pub(super) fn known(&self) -> usize {
        self.0.machines.lock().unwrap().len()
    }

    /// All vmms die as by a signal.
    pub(super) fn kill_all(&self, signal: i32) {
        let ids: Vec<MachineId> = self.0.machines.lock().unwrap().keys().copied().collect();
        for id in ids {
            self.end(id, signal);
        }
    }

    /// Some container of any guest ends.
    pub(super) fn end_container(&self, name: &str, end: End) {
        let machines = self.0.machines.lock().unwrap();
        for machine in machines.values() {
            machine.guest.end(name, end);
        }
    }

    fn end(&self, id: MachineId, status: i32) {
        let mut machines = self.0.machines.lock().unwrap();
        let Some(machine) = machines.get_mut(&id).filter(|m| m.ended.is_none()) else {
            return;
        };
        machine.task.abort();
        machine.guest.0.gone.notify_waiters();
        machine.ended = Some(status);
        drop(machines);
        drop(self.0.ends.send((id, status)));
    }

    async fn serve(self, socket: AsyncFd<OwnedFd>) {
        let mut ends = self.0.ends.subscribe();
        loop {
            let mut buffer = [0; REQUEST_LEN];
            tokio::select! {
                ended = ends.recv() => {
                    let (id, status) = ended.unwrap();
                    if send(socket.get_ref(), &Reply::Ended { id, status }.encode(), &[]).is_err() {
                        return;
                    }
                }
                received = take(&socket, &mut buffer) => {
                    let Some((length, _)) = received else { return };
                    let request = Request::decode(&buffer[..length]).unwrap();
                    self.answer(&socket, request);
                }
            }
        }
    }

    fn answer(&self, socket: &AsyncFd<OwnedFd>, request: Request) {
        let reply = |reply: Reply, fds: &[rustix::fd::BorrowedFd<'_>]| {
            send(socket.get_ref(), &reply.encode(), fds).unwrap();
        };
        match request {
            Request::Launch { id, .. } => {
                if self.0.machines.lock().unwrap().contains_key(&id) {
                    return reply(Reply::Failed { id, errno: 17 }, &[]);
                }
                let control = self.launch(id);
                reply(Reply::Running { id }, &[pidfd().as_fd(), control.as_fd()]);
            }
            Request::List => {
                let machines = self.0.machines.lock().unwrap().clone();
                for (id, machine) in machines {
                    match machine.ended {
                        Some(status) => reply(Reply::Ended { id, status }, &[]),
                        None => reply(
                            Reply::Running { id },
                            &[pidfd().as_fd(), machine.control.as_fd()],
                        ),
                    }
                }
                reply(
                    Reply::Done {
                        id: MachineId([0; 16]),
                    },
                    &[],
                );
            }
            Request::Limit { id, limits } => {
                let done = format!("weight {}", limits.cpu_weight);
                self.0.done.lock().unwrap().push(done);
                reply(Reply::Done { id }, &[]);
            }
            Request::Kill { id } => {
                reply(Reply::Done { id }, &[]);
                self.end(id, 9);
            }
            Request::Forget { id } => {
                self.0.machines.lock().unwrap().remove(&id);
                reply(Reply::Done { id }, &[]);
            }
        }
    }

    fn launch(&self, id: MachineId) -> Arc<OwnedFd> {
        let (ours, theirs) = sys::message::pair().unwrap();
        let mut launches = self.0.launches.lock().unwrap();
        *launches += 1;
        let guest = Guest(Arc::new(GuestInner {
            number: *launches,
            init: self.clone(),
            id,
            state: Mutex::default(),
            news: broadcast::channel(64).0,
            gone: Notify::new(),
        }));
        let task = tokio::spawn(vmm(packets(ours), guest.clone())).abort_handle();
        let control = Arc::new(theirs);
        let machine = Machine {
            control: control.clone(),
            guest,
            task,
            ended: None,
        };
        self.0.machines.lock().unwrap().insert(id, machine);
        control
    }
}

/// Any descriptor stands for a pidfd here.
fn pidfd() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

#[expect(deprecated, reason = "an OwnedFd stays open while it is registered")]
fn packets(socket: OwnedFd) -> AsyncFd<OwnedFd> {
    AsyncFd::new(socket).unwrap()
}

async fn take(socket: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> Option<(usize, Vec<OwnedFd>)> {
    loop {
        let mut ready = socket.readable().await.unwrap();
        match ready.try_io(|socket| receive(socket.get_ref(), buffer, false)) {
            Ok(Ok(Received::Message { length, fds })) => return Some((length, fds)),
            Ok(_) => return None,
            Err(_) => {}
        }
    }
}

/// A vmm's side of the control socket; it survives the loss of its `node`.
async fn vmm(socket: AsyncFd<OwnedFd>, guest: Guest) {
    let mut state = control::State::Waiting;
    let mut buffer = vec![0; MESSAGE_MAX];
    while let Some((length, mut fds)) = take(&socket, &mut buffer).await {
        let message: ToVmm = serde_json::from_slice(&buffer[..length]).unwrap();
        let mut answer = control::Answer::Done;
        match message.request {
            control::Request::Start(spec) => {
                spec.check(fds.len()).unwrap();
                let names = spec.disks.iter().map(|disk| disk.id.to_string());
                guest.0.state.lock().unwrap().disks.extend(names);
                state = control::State::Running;
            }
            control::Request::AttachDisk(disk) => {
                let mut state = guest.0.state.lock().unwrap();
                state.disks.insert(disk.id.to_string());
            }
            control::Request::ConnectVsock { port, .. } => {
                assert_eq!(port, guest_protocol::PORT);
                let stream = std::os::unix::net::UnixStream::from(fds.remove(0));
                let stream = UnixStream::from_std(stream).unwrap();
                tokio::spawn(guest.clone().connection(stream));
            }
            control::Request::Status => {
                answer = control::Answer::Status(control::Status { state, exits: 0 });
            }
            other => panic!("unexpected {other:?}"),
        }
        let reply = FromVmm::Reply {
            id: message.id,
            result: Ok(answer),
        };
        send(socket.get_ref(), &serde_json::to_vec(&reply).unwrap(), &[]).unwrap();
    }
}

#[derive(Clone)]
struct Guest(Arc<GuestInner>);

struct GuestInner {
    number: u32,
    init: Init,
    id: MachineId,
    state: Mutex<GuestState>,
    news: broadcast::Sender<ContainerState>,
    gone: Notify,
}

#[derive(Default)]
struct GuestState {
    set_up: bool,
    containers: BTreeMap<String, ContainerState>,
    /// What was sent to volumes, by `volume/path`.
    files: BTreeMap<String, String>,
    projections: u32,
    disks: BTreeSet<String>,
}

type Frames = UnixStream;

impl Guest {
    async fn connection(self, mut stream: Frames) {
        let serving = async {
            let deaf = self.0.init.0.script.lock().unwrap().deaf;
            let Some(open) = read_json::<Open>(&mut stream).await.filter(|_| !deaf) else {
                return;
            };
            if let Some(refusal) = self.refusal(&open) {
                return write_json(&mut stream, &Opened::Refused(refusal)).await;
            }
            write_json(&mut stream, &Opened::Ok).await;
            match open {
                Open::Control { entropy, .. } => {
                    assert_eq!(entropy.len(), 32);
                    self.0
                        .init
                        .0
                        .sessions
                        .send_modify(|sessions| *sessions += 1);
                    self.control(stream).await;
                }
                Open::Logs {
                    container,
                    attempt,
                    from,
                } => {
                    self.logs(stream, &container, attempt, from).await;
                }
                Open::Exec(exec) => self.exec(stream, &exec.args.join(" ")).await,
                Open::PortForward { port } => self.answer(stream, port).await,
                Open::Project(projection) => self.project(stream, &projection).await,
                other => panic!("unexpected {other:?}"),
            }
        };
        tokio::select! {
            () = serving => {}
            () = self.0.gone.notified() => {}
        }
    }

    /// Why the guest does not do what a connection is for.
    fn refusal(&self, open: &Open) -> Option<Refusal> {
        let script = self.0.init.0.script.lock().unwrap();
        let there = match open {
            Open::Exec(exec) => script.execs.contains_key(&exec.args.join(" ")),
            Open::PortForward { port } => script.ports.contains_key(port),
            _ => true,
        };
        (!there).then(|| Refusal {
            kind: RefusalKind::NotFound,
            message: "not there".to_owned(),
        })
    }

    async fn exec(&self, mut stream: Frames, command: &str) {
        let script = self.0.init.0.script.lock().unwrap().clone();
        let (code, output) = script.execs[command].clone();
        self.0.init.0.done.lock().unwrap().push(command.to_owned());
        write(&mut stream, Channel::Stdout, output.as_bytes()).await;
        let exit = guest_protocol::Stream::Exit(End::Code(code));
        write_json(&mut stream, &exit).await;
    }

    /// Answers when the client has asked.
    async fn answer(&self, mut stream: Frames, port: u16) {
        let answer = self.0.init.0.script.lock().unwrap().ports[&port].clone();
        let mut asked = [0; 4096];
        if stream.read(&mut asked).await.unwrap_or(0) > 0 {
            drop(stream.write_all(answer.as_bytes()).await);
        }
    }

    async fn project(&self, mut stream: Frames, projection: &Projection) {
        let mut files = BTreeMap::new();
        for file in &projection.files {
            let mut content = Vec::new();
            while (content.len() as u64) < file.length {
                content.extend(read_data(&mut stream).await);
            }
            let path = format!("{}/{}", projection.volume, file.path);
            files.insert(path, String::from_utf8(content).unwrap());
        }
        {
            let mut state = self.0.state.lock().unwrap();
            assert!(state.set_up);
            let other = |path: &String| !path.starts_with(&format!("{}/", projection.volume));
            state.files.retain(|path, _| other(path));
            state.files.extend(files);
            state.projections += 1;
        }
        write_json(&mut stream, &Opened::Ok).await;
    }

    async fn control(&self, stream: Frames) {
        let mut news = self.0.news.subscribe();
        let (mut reader, mut writer) = stream.into_split();
        let snapshot = {
            let state = self.0.state.lock().unwrap();
            Event::Snapshot {
                set_up: state.set_up,
                containers: state.containers.values().cloned().collect(),
            }
        };
        write_json(&mut writer, &snapshot).await;
        let (commands, mut incoming) = tokio::sync::mpsc::channel(8);
        tokio::spawn(async move {
            while let Some(command) = read_json::<Command>(&mut reader).await {
                if commands.send(command).await.is_err() {
                    return;
                }
            }
        });
        loop {
            tokio::select! {
                command = incoming.recv() => {
                    let Some(Command { id, action }) = command else { return };
                    let silent = self.0.init.0.script.lock().unwrap().silent;
                    if silent && action == Action::Stats {
                        continue;
                    }
                    let result = self.act(action);
                    write_json(&mut writer, &Event::Answer { id, result }).await;
                }
                state = news.recv() => write_json(&mut writer, &Event::Changed(state.unwrap())).await,
            }
        }
    }

    fn act(&self, action: Action) -> Result<Answer, Refusal> {
        let script = self.0.init.0.script.lock().unwrap().clone();
        match action {
            Action::SetUp(pod) => {
                assert!(pod.hosts.contains("localhost"));
                self.0.state.lock().unwrap().set_up = true;
            }
            Action::Start(container) => {
                if script.missing.contains(&container.name) {
                    return Err(Refusal {
                        kind: RefusalKind::NotFound,
                        message: "exec: no such file".to_owned(),
                    });
                }
                let mut state = self.0.state.lock().unwrap();
                assert!(state.disks.contains(&container.disk), "{container:?}");
                let known = state.containers.get(&container.name);
                if known.is_some_and(|known| known.attempt >= container.attempt) {
                    return Ok(Answer::Done);
                }
                for mount in &container.mounts {
                    let Some(disk) = &mount.disk else { continue };
                    assert!(state.disks.contains(disk), "{container:?}");
                    let mounted = format!("{} mounts {disk} at {}", container.name, mount.path);
                    self.0.init.0.done.lock().unwrap().push(mounted);
                }
                let started = (self.0.number, container.name.clone(), container.attempt);
                self.0.init.0.started.lock().unwrap().push(started);
                let new = ContainerState {
                    name: container.name.clone(),
                    attempt: container.attempt,
                    started_at_ns: now_ns(),
                    identity: None,
                    phase: Phase::Running { pid: 2 },
                };
                state.containers.insert(container.name.clone(), new.clone());
                drop(state);
                drop(self.0.news.send(new));
                if let Some(end) = script.ends.get(&container.name) {
                    self.end(&container.name, *end);
                }
            }
            Action::Resize {
                container, limits, ..
            } => {
                let used = script.memory.get(&container).copied().unwrap_or(0);
                if (1..used).contains(&limits.memory) {
                    return Err(Refusal {
                        kind: RefusalKind::InUse,
                        message: format!("{container} uses {used}"),
                    });
                }
                let (memory, cpu) = (limits.memory >> 20, limits.cpu_milli);
                let resized = format!("resize {container}: {memory} MiB, {cpu} m");
                self.0.init.0.done.lock().unwrap().push(resized);
            }
            Action::Stop { container, .. } => {
                let stopped = format!("stop {container}");
                self.0.init.0.done.lock().unwrap().push(stopped);
                self.end(&container, End::Signal(15));
            }
            Action::PowerOff { .. } => {
                let (init, id) = (self.0.init.clone(), self.0.id);
                tokio::spawn(async move { init.end(id, 0) });
            }
            Action::Stats => return Ok(Answer::Stats(script.figures)),
            Action::Remove { .. } => {}
        }
        Ok(Answer::Done)
    }

    fn end(&self, name: &str, end: End) {
        let mut state = self.0.state.lock().unwrap();
        let Some(container) = state.containers.get_mut(name) else {
            return;
        };
        if let Phase::Ended { .. } = container.phase {
            return;
        }
        container.phase = Phase::Ended {
            at_ns: now_ns(),
            end,
            message: String::new(),
        };
        drop(self.0.news.send(container.clone()));
    }

    async fn logs(&self, mut stream: Frames, container: &str, attempt: u32, from: u64) {
        let output = {
            let script = self.0.init.0.script.lock().unwrap();
            script.output.get(container).cloned().unwrap_or_default()
        };
        write_json(&mut stream, &Log::From { offset: from }).await;
        write_json(
            &mut stream,
            &Log::At {
                realtime_ns: now_ns(),
            },
        )
        .await;
        let from = usize::try_from(from).unwrap();
        for piece in output[from.min(output.len())..].chunks(7) {
            write(&mut stream, Channel::Stdout, piece).await;
        }
        let mut news = self.0.news.subscribe();
        loop {
            let ended = {
                let state = self.0.state.lock().unwrap();
                let current = state.containers.get(container);
                current
                    .is_none_or(|c| c.attempt > attempt || matches!(c.phase, Phase::Ended { .. }))
            };
            if ended {
                let offset = output.len() as u64;
                return write_json(&mut stream, &Log::End { offset }).await;
            }
            // Acknowledgements are read so that the other side never waits.
            let mut sink = [0; 256];
            tokio::select! {
                state = news.recv() => drop(state),
                read = stream.read(&mut sink) => if read.unwrap_or(0) == 0 { return },
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    }
}

fn now_ns() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap()
}

async fn read_json<T: serde::de::DeserializeOwned>(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
) -> Option<T> {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).await.ok()?;
    let header = Header::decode(header).unwrap();
    assert_eq!(header.channel, Channel::Json);
    let mut payload = vec![0; header.length];
    stream.read_exact(&mut payload).await.ok()?;
    Some(serde_json::from_slice(&payload).unwrap())
}

/// One frame of content.
async fn read_data(stream: &mut Frames) -> Vec<u8> {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).await.unwrap();
    let header = Header::decode(header).unwrap();
    assert_eq!(header.channel, Channel::Stdin);
    let mut payload = vec![0; header.length];
    stream.read_exact(&mut payload).await.unwrap();
    payload
}

async fn write_json<T: serde::Serialize>(
    stream: &mut (impl tokio::io::AsyncWrite + Unpin),
    value: &T,
) {
    write(stream, Channel::Json, &serde_json::to_vec(value).unwrap()).await;
}

/// A connection that broke is the other side's to notice.
async fn write(stream: &mut (impl tokio::io::AsyncWrite + Unpin), channel: Channel, bytes: &[u8]) {
    let header = Header::new(channel, bytes.len()).unwrap().encode();
    drop(stream.write_all(&[&header[..], bytes].concat()).await);
}
