//! The test agent: looks inside a booted appliance for the harness.
//!
//! It is no part of the image: tests append it to the initramfs, and `init`
//! starts it only with `atoll.test=1`. It ends when it can't find its port.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::fstatvfs;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use nix::unistd::Pid;
use test_agent::{Line, PORT, Process, Reply, Request, TREE_MAX};

mod divert;

const PORTS: &str = "/sys/class/virtio-ports";
/// How long devtmpfs may take to show the port.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between looks at a port whose other side is not connected: it reads as empty.
const PAUSE: Duration = Duration::from_millis(50);
/// How a file system is filled: at most so many pieces, halves above this size.
const PIECES_MAX: u32 = 128;
const SMALL: u64 = 1 << 20;
/// What a program may say before it is killed.
const LINES_MAX: usize = 4096;

fn main() -> Result<()> {
    let port = find_port()?;
    // A port can be opened once only.
    let mut writer = File::options().read(true).write(true).open(&port)?;
    let mut reader = BufReader::new(writer.try_clone()?);
    let mut line = String::new();
    loop {
        if reader.read_line(&mut line)? == 0 {
            sleep(PAUSE);
            continue;
        }
        if !line.ends_with('\n') {
            continue;
        }
        let reply = match serde_json::from_str(&line) {
            Ok(request) => {
                answer(&request).unwrap_or_else(|error| Reply::Failed(format!("{error:#}")))
            }
            Err(error) => Reply::Failed(error.to_string()),
        };
        line.clear();
        let mut text = serde_json::to_string(&reply)?;
        text.push('\n');
        writer.write_all(text.as_bytes())?;
    }
}

fn find_port() -> Result<PathBuf> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        for entry in fs::read_dir(PORTS).into_iter().flatten().flatten() {
            let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            let device = PathBuf::from("/dev").join(entry.file_name());
            if name.trim() == PORT && device.exists() {
                return Ok(device);
            }
        }
        sleep(PAUSE);
    }
    bail!("no virtio-serial port {PORT}");
}

fn answer(request: &Request) -> Result<Reply> {
    Ok(match request {
        Request::Read { path } => {
            let bytes = fs::read(path).with_context(|| path.clone())?;
            Reply::Text(String::from_utf8_lossy(&bytes).into_owned())
        }
        Request::List { path } => {
            let mut names = Vec::new();
            for entry in fs::read_dir(path).with_context(|| path.clone())? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            Reply::Names(names)
        }
        Request::Tree { path } => Reply::Names(tree(path)?),
        Request::Descriptors { pid } => {
            let mut names = Vec::new();
            for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
                names.push(fs::read_link(entry?.path())?.display().to_string());
            }
            names.sort();
            Reply::Names(names)
        }
        Request::Processes => Reply::Processes(processes()?),
        Request::Kill { pid } => {
            kill(Pid::from_raw(*pid), Signal::SIGKILL)?;
            Reply::Done
        }
        Request::Divert { thread, call } => {
            divert::divert(Pid::from_raw(*thread), *call)?;
            Reply::Done
        }
        Request::Fill { path, left } => {
            fill(path, *left)?;
            Reply::Done
        }
        Request::Remove { path } => {
            fs::remove_file(path).with_context(|| path.clone())?;
            Reply::Done
        }
        Request::StepClock { seconds } => {
            let now = clock_gettime(ClockId::CLOCK_REALTIME)?;
            let step = TimeSpec::new(*seconds, 0);
            clock_settime(ClockId::CLOCK_REALTIME, now + step)?;
            Reply::Done
        }
        Request::Run {
            arguments,
            input,
            until,
            seconds,
        } => {
            let patience = Duration::from_secs(*seconds);
            Reply::Ran(run(arguments, input, until.as_deref(), patience)?)
        }
    })
}

/// What goes meanwhile is left out.
fn tree(top: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut open = vec![PathBuf::new()];
    fs::read_dir(top).with_context(|| top.to_owned())?;
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(PathBuf::from(top).join(&directory));
        for entry in entries.into_iter().flatten().flatten() {
            let path = directory.join(entry.file_name());
            names.push(path.display().to_string());
            if names.len() > TREE_MAX {
                bail!("{top}: more than {TREE_MAX} files");
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(path);
            }
        }
    }
    names.sort();
    Ok(names)
}

/// In pieces, since a file system's own tables take room, too.
fn fill(path: &str, left: u64) -> Result<()> {
    let file = File::create(path).with_context(|| path.to_owned())?;
    let mut length = 0_u64;
    for _ in 0..PIECES_MAX {
        let space = fstatvfs(&file)?;
        let free = space.blocks_available() * space.fragment_size();
        let Some(piece) = free.checked_sub(left).filter(|piece| *piece > 0) else {
            break;
        };
        // Half of a large piece: the last ones are small.
        let piece = if piece > SMALL { piece / 2 } else { piece };
        match fallocate(
            &file,
            FallocateFlags::empty(),
            length.try_into()?,
            piece.try_into()?,
        ) {
            Ok(()) => length += piece,
            Err(nix::Error::ENOSPC) => break,
            Err(error) => return Err(error).context(path.to_owned()),
        }
    }
    file.sync_all()?;
    Ok(())
}

/// Lines are timed as they are read, by a thread of their own; at most
/// `LINES_MAX` are kept.
fn run(
    arguments: &[String],
    input: &str,
    until: Option<&str>,
    patience: Duration,
) -> Result<Vec<Line>> {
    let (program, rest) = arguments.split_first().context("no program")?;
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::new(program);
    command
        .args(rest)
        .stdin(Stdio::piped())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| program.clone())?;
    // It holds the pipe's other end, too.
    drop(command);
    if let Some(mut stdin) = child.stdin.take() {
        // It may end without reading.
        let _ = stdin.write_all(input.as_bytes());
    }
    let (sender, receiver) = mpsc::sync_channel(LINES_MAX);
    thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut bytes = Vec::new();
        while let Ok(1..) = reader.read_until(b'\n', &mut bytes) {
            let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            if sender.send(Line { micros, text }).is_err() {
                return;
            }
        }
    });
    let mut lines: Vec<Line> = Vec::new();
    while let Some(left) = patience.checked_sub(began.elapsed()) {
        let Ok(line) = receiver.recv_timeout(left) else {
            break;
        };
        let found = until.is_some_and(|text| line.text.contains(text));
        lines.push(line);
        if found || lines.len() == LINES_MAX {
            break;
        }
    }
    // It may have ended by itself.
    let _ = child.kill();
    child.wait()?;
    Ok(lines)
}

fn processes() -> Result<Vec<Process>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse() else {
            continue;
        };
        // What ended meanwhile is left out.
        all.extend(process(pid));
    }
    all.sort_by_key(|process| process.pid);
    Ok(all)
}

/// `None` for a kernel thread, which has no memory of its own.
fn process(pid: i32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()
    };
    Some(Process {
        pid,
        parent: field("PPid:")?.parse().ok()?,
        name: field("Name:")?.to_owned(),
        uid: field("Uid:")?.parse().ok()?,
        resident: field("VmRSS:")?.parse().ok()?,
        arguments: arguments
            .split(|byte| *byte == 0)
            .filter(|argument| !argument.is_empty())
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect(),
    })
}
