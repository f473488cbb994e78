//! A guest-init of its own mount namespace, with busybox on an EROFS disk.

use guest_protocol::{
    Action, Answer, Channel, Command, Container, ContainerState, Event, HEADER_LEN, Header,
    Identity, Limits, Open, Opened, Phase, Pod, Refusal, SecurityContext, User, VERSION,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const TOOLS: &[&str] = &[
    "sh", "cat", "echo", "id", "ls", "sleep", "true", "false", "dd", "mount", "stty", "hostname",
    "env", "pwd", "touch", "ps", "kill", "nc", "head", "tty", "grep", "readlink", "test", "wc",
    "cp", "df", "ln", "mkdir", "mknod", "stat",
];

/// A running guest-init; ends with the test.
pub(crate) struct Guest {
    process: Child,
    directory: tempfile::TempDir,
    pub(crate) cgroup: PathBuf,
}

pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Process::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Why these tests can't run here, if so.
fn obstacle() -> Option<String> {
    if run("id", &["-u"]) != "0" {
        return Some("not root".to_owned());
    }
    for tool in ["unshare", "losetup", "mkfs.erofs"] {
        let found = Process::new("sh")
            .args(["-c", &format!("command -v {tool}")])
            .output();
        if !found.is_ok_and(|output| output.status.success()) {
            return Some(format!("{tool} is missing"));
        }
    }
    if !Path::new("/bin/busybox").exists() {
        return Some("/bin/busybox is missing".to_owned());
    }
    cgroup2()
        .is_none()
        .then(|| "no cgroup2 is mounted".to_owned())
}

fn cgroup2() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let mut lines = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    lines
        .find(|fields| fields.get(2) == Some(&"cgroup2"))
        .map(|fields| PathBuf::from(fields[1]))
}

/// The disk that all tests share: made once, attached until the process ends.
fn disk() -> &'static Path {
    static DISK: OnceLock<PathBuf> = OnceLock::new();
    DISK.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        for path in ["bin", "etc", "tmp"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for tool in TOOLS {
            symlink("busybox", root.join("bin").join(tool)).unwrap();
        }
        let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:101:102::/home/web:/bin/sh\n";
        std::fs::write(root.join("etc/passwd"), passwd).unwrap();
        std::fs::write(
            root.join("etc/group"),
            "root:x:0:\nweb:x:102:\nextra:x:103:web\n",
        )
        .unwrap();
        // A link that leads out of any root that is not its own.
        symlink("../../../../etc/passwd", root.join("etc/hosts")).unwrap();
        std::fs::write(root.join("bin/broken"), "no program").unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(root.join("bin/broken"), mode).unwrap();
        let image = directory.path().join("image");
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        run("mkfs.erofs", &["--quiet", &path(&image), &path(&root)]);
        let device = run(
            "losetup",
            &["--find", "--show", "--read-only", &path(&image)],
        );
        // Detached when its last mount goes.
        let held = std::fs::File::open(&device).unwrap();
        run("losetup", &["--detach", &device]);
        std::mem::forget(held);
        PathBuf::from(device)
    })
}

impl Guest {
    /// `None`, and the reason on stderr, where these tests can't run.
    pub(crate) fn start() -> Option<Self> {
        if let Some(obstacle) = obstacle() {
            eprintln!("SKIPPED, NOTHING WAS TESTED: {obstacle}");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["disks", "run"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        symlink(disk(), at("disks").join("busybox")).unwrap();
        let name = directory.path().file_name().unwrap();
        let cgroup = cgroup2().unwrap().join(Path::new(name));
        std::fs::create_dir_all(cgroup.join("agent")).unwrap();
        // The host name of the machine that runs the test is not ours. What the
        // starter ignores must not be ignored by containers. In a group of its
        // own, so that whatever it leaves behind is killed with it.
        let script = "trap '' HUP INT QUIT; echo 0 > \"$0\" && exec \"$@\"";
        let process = Process::new("sh")
            .args(["-c", script])
            .arg(cgroup.join("agent/cgroup.procs"))
            .args(["unshare", "--mount", "--uts", "--ipc", "--"])
            .arg(env!("CARGO_BIN_EXE_guest-init"))
            .arg("--listen")
            .arg(at("socket"))
            .arg("--run")
            .arg(at("run"))
            .arg("--cgroup")
            .arg(&cgroup)
            .arg("--disks")
            .arg(at("disks"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self {
            process,
            directory,
            cgroup,
        })
    }

    pub(crate) fn connect(&self) -> Wire {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(self.directory.path().join("socket")) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.set_write_timeout(Some(PATIENCE)).unwrap();
                    return Wire(stream);
                }
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::yield_now();
        }
    }

    pub(crate) fn open(&self, open: &Open) -> Result<Wire, Refusal> {
        let mut wire = self.connect();
        wire.send(open);
        match wire.json::<Opened>() {
            Opened::Ok => Ok(wire),
            Opened::Refused(refusal) => Err(refusal),
        }
    }

    pub(crate) fn control(&self) -> Control {
        let open = Open::Control {
            version: VERSION,
            entropy: vec![7; 32],
            realtime_ns: 0,
        };
        let wire = self.open(&open).unwrap();
        Control {
            wire,
            next: 0,
            news: Vec::new(),
        }
    }

    /// A control connection to a guest whose pod is set up.
    pub(crate) fn ready(&self) -> Control {
        let mut control = self.control();
        control.done(Action::SetUp(Box::new(pod())));
        control
    }

    /// All output of an attempt until its end, acknowledged as it comes.
    pub(crate) fn output(&self, container: &str, attempt: u32) -> (String, String) {
        let open = Open::Logs {
            container: container.to_owned(),
            attempt,
            from: 0,
        };
        let mut wire = self.open(&open).unwrap();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            let (channel, payload) = wire.frame();
            match channel {
                Channel::Stdout => stdout.extend(payload),
                Channel::Stderr => stderr.extend(payload),
                Channel::Json => match serde_json::from_slice(&payload).unwrap() {
                    guest_protocol::Log::End { offset } => {
                        assert_eq!(offset, (stdout.len() + stderr.len()) as u64);
                        break;
                    }
                    guest_protocol::Log::From { offset } => assert_eq!(offset, 0),
                    _ => {}
                },
                Channel::Stdin => panic!("stdin from the guest"),
            }
            let offset = (stdout.len() + stderr.len()) as u64;
            wire.send(&guest_protocol::Log::Ack { offset });
        }
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(stdout), text(stderr))
    }

    /// Waits until no process of an attempt is left.
    pub(crate) fn wait_empty(&self, attempt: &str) {
        let group = self.cgroup.join("containers").join(attempt);
        let deadline = Instant::now() + PATIENCE;
        while group.exists() {
            assert!(Instant::now() < deadline, "{} stays", group.display());
            std::thread::yield_now();
        }
    }

    /// Waits until guest-init itself has ended.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "guest-init does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until guest-init has no more threads than this.
    pub(crate) fn wait_threads(&self, most: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.threads() > most {
            assert!(Instant::now() < deadline, "{} threads", self.threads());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The mounts that guest-init itself has.
    pub(crate) fn mounts(&self) -> String {
        let path = format!("/proc/{}/mountinfo", self.process.id());
        std::fs::read_to_string(path).unwrap()
    }

    /// Where everything of this guest is.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn threads(&self) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id()));
        tasks.unwrap().count()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let kill = |group: &Path| std::fs::write(group.join("cgroup.kill"), "1");
        let _ = kill(&self.cgroup);
        let _ = self.process.kill();
        let _ = self.process.wait();
        remove_group(&self.cgroup);
    }
}

fn remove_group(group: &Path) {
    let deadline = Instant::now() + PATIENCE;
    for child in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if child.path().is_dir() {
            remove_group(&child.path());
        }
    }
    while std::fs::remove_dir(group).is_err() && group.exists() && Instant::now() < deadline {
        std::thread::yield_now();
    }
}

/// Frames on one connection.
pub(crate) struct Wire(pub(crate) UnixStream);

impl Wire {
    pub(crate) fn send(&mut self, value: &impl Serialize) {
        self.send_on(Channel::Json, &serde_json::to_vec(value).unwrap());
    }

    pub(crate) fn send_on(&mut self, channel: Channel, payload: &[u8]) {
        let header = Header::new(channel, payload.len()).unwrap();
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(payload);
        self.0.write_all(&bytes).unwrap();
    }

    pub(crate) fn frame(&mut self) -> (Channel, Vec<u8>) {
        let mut header = [0; HEADER_LEN];
        self.0.read_exact(&mut header).unwrap();
        let header = Header::decode(header).unwrap();
        let mut payload = vec![0; header.length];
        self.0.read_exact(&mut payload).unwrap();
        (header.channel, payload)
    }

    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> T {
        let (channel, payload) = self.frame();
        assert_eq!(channel, Channel::Json);
        serde_json::from_slice(&payload).unwrap()
    }

    /// Waits until the guest has closed the connection.
    pub(crate) fn ended(mut self) {
        assert_eq!(self.0.read(&mut [0]).unwrap(), 0);
    }

    /// Output until the process ends.
    pub(crate) fn until_exit(&mut self) -> (String, String, guest_protocol::End) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        loop {
            let (channel, payload) = self.frame();
            let text = String::from_utf8_lossy(&payload);
            match channel {
                Channel::Stdout => stdout.push_str(&text),
                Channel::Stderr => stderr.push_str(&text),
                Channel::Json => match serde_json::from_slice(&payload).unwrap() {
                    guest_protocol::Stream::Exit(end) => return (stdout, stderr, end),
                    other => panic!("{other:?}"),
                },
                Channel::Stdin => panic!("stdin from the guest"),
            }
        }
    }

    /// Reads stdout until it contains a text.
    pub(crate) fn until(&mut self, wanted: &str) -> String {
        let mut stdout = String::new();
        while !stdout.contains(wanted) {
            let (channel, payload) = self.frame();
            let text = String::from_utf8_lossy(&payload);
            assert_eq!(channel, Channel::Stdout, "{text} after {stdout}");
            stdout.push_str(&text);
        }
        stdout
    }
}

pub(crate) struct Control {
    wire: Wire,
    next: u32,
    news: Vec<ContainerState>,
}

impl Control {
    pub(crate) fn ask(&mut self, action: Action) -> Result<Answer, Refusal> {
        self.next += 1;
        let command = Command {
            id: self.next,
            action,
        };
        self.wire.send(&command);
        loop {
            match self.wire.json() {
                Event::Answer { id, result } => {
                    assert_eq!(id, command.id);
                    return result;
                }
                Event::Changed(state) => self.news.push(state),
                Event::Snapshot { .. } => {}
            }
        }
    }

    pub(crate) fn done(&mut self, action: Action) {
        assert_eq!(self.ask(action), Ok(Answer::Done));
    }

    pub(crate) fn start(&mut self, container: Container) -> Result<Answer, Refusal> {
        self.ask(Action::Start(Box::new(container)))
    }

    /// The process of a container that was started.
    pub(crate) fn pid(&self, name: &str) -> u32 {
        let mut news = self.news.iter().filter(|state| state.name == name);
        let pid = news.find_map(|state| match state.phase {
            Phase::Running { pid } => Some(pid),
            Phase::Ended { .. } => None,
        });
        pid.unwrap()
    }

    /// Who a container that was started began as.
    pub(crate) fn identity(&self, name: &str) -> Identity {
        let mut news = self.news.iter().filter(|state| state.name == name);
        news.find_map(|state| state.identity.clone()).unwrap()
    }

    /// The end of an attempt, once the guest tells of it.
    pub(crate) fn end(&mut self, name: &str, attempt: u32) -> (guest_protocol::End, String) {
        loop {
            let mut news = self.news.iter().filter(|state| state.name == name);
            let found = news.find_map(|state| match &state.phase {
                Phase::Ended { end, message, .. } if state.attempt == attempt => {
                    Some((*end, message.clone()))
                }
                _ => None,
            });
            if let Some(found) = found {
                return found;
            }
            match self.wire.json() {
                Event::Changed(state) => self.news.push(state),
                other => panic!("{other:?}"),
            }
        }
    }
}

pub(crate) fn pod() -> Pod {
    Pod {
        hostname: "pod-1".to_owned(),
        hosts: "127.0.0.1 localhost\n".to_owned(),
        resolv_conf: "nameserver 10.0.0.1\n".to_owned(),
        shm_size: 1 << 20,
        share_process_namespace: false,
        volumes: Vec::new(),
        layers: Default::default(),
        sysctls: Default::default(),
        fs_group: None,
    }
}

/// busybox with containerd's default capabilities.
pub(crate) fn container(name: &str, args: &[&str]) -> Container {
    let capabilities = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "SETUID",
        "SETGID",
        "KILL",
    ];
    Container {
        name: name.to_owned(),
        attempt: 0,
        disk: "busybox".to_owned(),
        overlay_size: 1 << 20,
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: vec!["COLOUR=red".to_owned()],
        working_dir: String::new(),
        user: User {
            user: String::new(),
            group: None,
            additional_groups: Vec::new(),
            strict: false,
        },
        security: SecurityContext {
            capabilities: capabilities.map(|name| format!("CAP_{name}")).to_vec(),
            ..SecurityContext::default()
        },
        limits: Limits::default(),
        rlimits: Vec::new(),
        stdin: false,
        stdin_once: false,
        tty: false,
        stop_signal: 15,
        termination_message_path: "/dev/termination-log".to_owned(),
        files: Vec::new(),
        mounts: Vec::new(),
        target: None,
    }
}

pub(crate) fn shell(name: &str, script: &str) -> Container {
    container(name, &["sh", "-c", script])
}
