//! The parent's side of a conversion: opens files, starts the child, and
//! puts a finished image in its place. It never looks into a layer.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use sys::message::{self, Received};
use sys::process::{self, Child, Credentials, Program, Rlimit, Spawn};
use sys::{CapabilitySet, Resource};

use super::{MAX_MESSAGE, Outcome, Request};
use crate::config::Limits;
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::store::{remove_if_there, sync_dir};

/// Of what a dying child says on stderr, in an error.
const MAX_LAST_WORDS: u64 = 2048;
/// Wall-clock seconds for each allowed CPU second: disks are slow, and other
/// work runs too.
const WALL_PER_CPU: u64 = 4;
/// For the child to take the next layer's descriptor.
const SEND_SECONDS: i64 = 60;

/// A verified layer blob.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) path: PathBuf,
    pub(crate) diff_id: Digest,
}

/// Layers lowest first; `tmp` and `output` are in one directory.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) layers: Vec<Layer>,
    pub(crate) tmp: PathBuf,
    pub(crate) output: PathBuf,
}

/// How to start children.
#[derive(Clone, Debug)]
pub(crate) struct Converter {
    executable: PathBuf,
    /// An empty directory, the child's root.
    empty: PathBuf,
    limits: Limits,
}

impl Converter {
    pub(crate) fn new(executable: PathBuf, empty: PathBuf, limits: Limits) -> Converter {
        Converter {
            executable,
            empty,
            limits,
        }
    }

    /// Converts; the output is durable under its name when this returns its
    /// size.
    pub(crate) async fn run(&self, job: Job) -> Result<u64, Failure> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            let result = this.run_blocking(&job);
            if result.is_err() {
                let _ = remove_if_there(&job.tmp);
            }
            result
        })
        .await
        .unwrap_or_else(|e| Err(Failure::new(Kind::Host, e)))
    }

    fn run_blocking(&self, job: &Job) -> Result<u64, Failure> {
        let host = |what: &'static str| move |e: io::Error| Failure::io(what, &e);
        remove_if_there(&job.tmp).map_err(host("removing an old conversion"))?;
        let output = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&job.tmp)
            .map_err(host("creating the image file"))?;
        let layers: Vec<File> = job
            .layers
            .iter()
            .map(|l| File::open(&l.path))
            .collect::<io::Result<_>>()
            .map_err(host("opening a layer"))?;
        let request = Request {
            diff_ids: job.layers.iter().map(|l| l.diff_id).collect(),
            limits: self.limits,
        };
        let mut running = self.spawn().map_err(host("starting the converter"))?;
        let sent = send_all(&running.socket, &request, &output, &layers);
        let outcome = sent.and_then(|()| self.receive(&running.socket));
        if outcome.is_err() {
            running.kill();
        }
        let status = process::wait(running.child.pid).map_err(host("waiting for the converter"))?;
        match (outcome, status) {
            (Ok(Some(Outcome::Done { size, .. })), 0) => {
                finish(job, &output, size).map_err(host("committing the image file"))?;
                Ok(size)
            }
            (Ok(Some(Outcome::Failed { cause, message })), _) => {
                Err(Failure::new(cause.into(), message))
            }
            (Ok(_), status) => Err(death(&mut running.stderr, status)),
            (Err(e), _) => Err(Failure::new(Kind::Host, format!("converter: {e}"))),
        }
    }

    /// The child gets the socket as descriptor 0, nothing as 1, a pipe as 2,
    /// and as 3 the empty directory that becomes its root; whatever else this process has open isn't passed on. As root it is
    /// given a uid of its own and keeps two capabilities, to leave the file
    /// system and to drop both from every set.
    fn spawn(&self) -> io::Result<Running> {
        let (socket, theirs) = message::pair()?;
        let (stderr, their_stderr) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let null = OpenOptions::new().write(true).open("/dev/null")?;
        let executable = File::open(&self.executable)?;
        let empty = File::open(&self.empty)?;
        let arguments = [c"atoll", c"convert-image"].map(CString::from);
        let root = rustix::process::geteuid().is_root();
        let limit = |resource, value| Rlimit { resource, value };
        let rlimits = [
            limit(Resource::As, self.limits.converter_memory_bytes),
            limit(Resource::Fsize, self.limits.max_image_bytes),
            limit(Resource::Cpu, self.limits.converter_cpu_seconds),
            limit(Resource::Core, 0),
        ];
        let child = Spawn {
            program: Program::Fd(executable.as_fd()),
            arguments: &arguments,
            environment: &[],
            descriptors: &[
                theirs.as_fd(),
                null.as_fd(),
                their_stderr.as_fd(),
                empty.as_fd(),
            ],
            namespaces: &[],
            cgroup: None,
            oom_score_adj: None,
            rlimits: &rlimits,
            credentials: root.then_some(Credentials {
                uid: self.limits.converter_uid,
                gid: self.limits.converter_uid,
                capabilities: CapabilitySet::SYS_CHROOT | CapabilitySet::SETPCAP,
            }),
            no_new_privs: true,
        }
        .spawn()
        .map_err(io::Error::other)?;
        Ok(Running {
            socket,
            stderr: File::from(stderr),
            child,
        })
    }

    /// `None` if the child ended without an outcome.
    fn receive(&self, socket: &OwnedFd) -> io::Result<Option<Outcome>> {
        let seconds = self
            .limits
            .converter_cpu_seconds
            .saturating_mul(WALL_PER_CPU);
        let deadline = Instant::now() + Duration::from_secs(seconds.clamp(60, 86_400));
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut fds = [PollFd::new(socket, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let mut buffer = vec![0; MAX_MESSAGE];
        match message::receive(socket, &mut buffer, false) {
            Ok(Received::Message { length, .. }) => {
                Ok(Some(serde_json::from_slice(&buffer[..length])?))
            }
            Ok(Received::Closed) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// A started child.
struct Running {
    socket: OwnedFd,
    stderr: File,
    child: Child,
}

impl Running {
    fn kill(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.child.pidfd, Signal::KILL);
    }
}

fn send_all(socket: &OwnedFd, request: &Request, output: &File, layers: &[File]) -> io::Result<()> {
    let json = serde_json::to_vec(request)?;
    if json.len() > MAX_MESSAGE {
        return Err(io::Error::other("the request is too long"));
    }
    let result = message::send(socket, &json, &[output.as_fd()])
        .and_then(|()| layers.iter().try_for_each(|l| send_layer(socket, l)));
    match result {
        // A child that is dead already is diagnosed by its status.
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Waits while the socket is full: there may be more layers than fit.
fn send_layer(socket: &OwnedFd, layer: &File) -> io::Result<()> {
    loop {
        match message::send(socket, b"L", &[layer.as_fd()]) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(socket, PollFlags::OUT)];
                let timeout = Timespec {
                    tv_sec: SEND_SECONDS,
                    tv_nsec: 0,
                };
                if poll(&mut fds, Some(&timeout))? == 0 {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            result => return result,
        }
    }
}

/// See `store` for the order.
fn finish(job: &Job, output: &File, size: u64) -> io::Result<()> {
    if output.metadata()?.len() != size {
        return Err(io::Error::other(
            "the image file has another size than reported",
        ));
    }
    output.sync_all()?;
    fs::rename(&job.tmp, &job.output)?;
    job.output.parent().map_or(Ok(()), sync_dir)
}

/// A child that says nothing has crashed or hit a limit.
fn death(stderr: &mut File, status: i32) -> Failure {
    let mut words = Vec::new();
    let _ = stderr.take(MAX_LAST_WORDS).read_to_end(&mut words);
    let signal = Signal::from_named_raw(status & 0x7f);
    let how = match signal {
        Some(Signal::XCPU) => "it needs more time than limits.converterCpuSeconds".to_owned(),
        Some(Signal::XFSZ) => "the image is larger than limits.maxImageBytes".to_owned(),
        Some(Signal::SYS) => "it made a forbidden system call".to_owned(),
        _ => process::describe_status(status),
    };
    let kind = match signal {
        Some(Signal::XCPU | Signal::XFSZ) => Kind::Invalid,
        _ => Kind::Host,
    };
    let words = String::from_utf8_lossy(&words);
    let words: String = words.chars().filter(|c| !c.is_control()).collect();
    let separator = if words.is_empty() { "" } else { ": " };
    Failure::new(kind, format!("the converter died: {how}{separator}{words}"))
}
