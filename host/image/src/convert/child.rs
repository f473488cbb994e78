//! The child's side: takes its descriptors, gives up everything else, then
//! converts. See the module's diagram.

use std::fs::File;
use std::io;
use std::process::ExitCode;

use rustix::fd::{AsFd as _, OwnedFd};
use rustix::process::Signal;
use sys::message::{self, Received};
use sys::seccomp::{self, Arg, Call, call, call_when, numbers as nr};

use super::{Cause, MAX_MESSAGE, Outcome, Request, run};

const EMPTY: i32 = 3;
/// More layers than any configuration allows.
const MAX_LAYERS: usize = 4096;

/// The whole life of the confined converter, `atoll convert-image`: one
/// request on standard input, which must be the parent's socket.
///
/// Call it before the process starts a thread or opens a file.
pub fn convert_child() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("convert-image: {e}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    // Whoever starts this may end before it does.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let empty = sys::inherit::take(EMPTY)?;
    sys::inherit::close_from(EMPTY as u32 + 1)?;
    leave_file_system(empty)?;
    sys::jail::confine()?;
    let stdin = io::stdin();
    let socket = stdin.as_fd();
    seccomp::confine(&[ALLOWED])?;
    let (request, output) = receive_request(&socket)?;
    let layers = receive_layers(&socket, request.diff_ids.len())?;
    let outcome = run::run(&request, &layers, &output);
    let answer = match serde_json::to_vec(&outcome) {
        Ok(answer) if answer.len() <= MAX_MESSAGE => answer,
        _ => serde_json::to_vec(&Outcome::Failed {
            cause: Cause::Host,
            message: "the outcome can't be told".to_owned(),
        })?,
    };
    message::send(socket, &answer, &[])
}

/// Into the empty directory, if this process may; one started by an
/// ordinary user (in tests) can't, and has seccomp to refuse every path.
fn leave_file_system(empty: OwnedFd) -> io::Result<()> {
    rustix::process::fchdir(&empty)?;
    drop(empty);
    match rustix::process::chroot(".") {
        Ok(()) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn receive_request(socket: &impl rustix::fd::AsFd) -> io::Result<(Request, File)> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let (length, mut fds) = receive(socket, &mut buffer)?;
    let request: Request = serde_json::from_slice(&buffer[..length])?;
    match (fds.pop(), fds.is_empty()) {
        (Some(output), true) => Ok((request, File::from(output))),
        _ => Err(io::Error::other(
            "the request has not exactly one descriptor",
        )),
    }
}

fn receive_layers(socket: &impl rustix::fd::AsFd, count: usize) -> io::Result<Vec<File>> {
    if count > MAX_LAYERS {
        return Err(io::Error::other("too many layers"));
    }
    let mut layers = Vec::with_capacity(count);
    while layers.len() < count {
        let (_, fds) = receive(socket, &mut [0; 16])?;
        layers.extend(fds.into_iter().map(File::from));
    }
    Ok(layers)
}

fn receive(socket: &impl rustix::fd::AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    match message::receive(socket, buffer, true)? {
        Received::Message { length, fds } => Ok((length, fds)),
        Received::Closed => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Everything that reading layers and writing the image needs. No call that
/// takes a path, makes a descriptor, a process or a thread.
const ALLOWED: &[Call] = &[
    call(nr::SYS_recvmsg, "the request and its descriptors"),
    call(nr::SYS_pread64, "layers"),
    call(nr::SYS_pwrite64, "the image"),
    call(nr::SYS_ftruncate, "the image's size"),
    call(nr::SYS_sendmsg, "the outcome"),
    call(nr::SYS_write, "last words on stderr"),
    call(nr::SYS_writev, "last words on stderr"),
    call(nr::SYS_close, "layers and image at the end"),
    call_when(
        nr::SYS_fcntl,
        &[Arg::Is(1, nr::F_GETFD.cast_unsigned())],
        "std's check before it closes, with debug assertions",
    ),
    call(nr::SYS_brk, "memory"),
    call(nr::SYS_mmap, "memory"),
    call(nr::SYS_munmap, "memory"),
    call(nr::SYS_mremap, "memory"),
    call(nr::SYS_madvise, "memory given back"),
    call(nr::SYS_mprotect, "memory of glibc's arenas"),
    call(
        nr::SYS_futex,
        "locks of std and glibc, also without contention",
    ),
    call(nr::SYS_getrandom, "hash seeds of std"),
    call(
        nr::SYS_sigaltstack,
        "std's own, at the end of the main thread",
    ),
    call(nr::SYS_rt_sigaction, "abort, after a panic"),
    call(nr::SYS_rt_sigprocmask, "abort, after a panic"),
    call(nr::SYS_rt_sigreturn, "a signal that std handles"),
    call(nr::SYS_gettid, "abort, after a panic"),
    call(nr::SYS_getpid, "abort, after a panic"),
    call(nr::SYS_tgkill, "abort, after a panic"),
    call(nr::SYS_exit, "the end"),
    call(nr::SYS_exit_group, "the end"),
];
