//! The program itself: its directory, its environment, its file.

use super::target::{self, Kind};
use crate::errors::{failed, invalid, refuse, text};
use guest_protocol::{Container, Refusal, RefusalKind};
use nix::sys::signal::SigSet;
use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// As root: an image's user often may not make it.
pub(crate) fn make_working_dir(path: &str) -> Result<(), Refusal> {
    if !path.starts_with('/') {
        return Err(invalid(format!("working_dir {path:?}: not absolute")));
    }
    match target::find(Path::new(path), Kind::Directory) {
        // On a read-only root the next step tells, and of what is no directory.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        other => other
            .map(drop)
            .map_err(failed(format_args!("mkdir {path}"))),
    }
}

pub(crate) fn enter_working_dir(path: &str) -> Result<(), Refusal> {
    let path = if path.is_empty() { "/" } else { path };
    rustix::process::chdir(path).map_err(failed(format_args!(
        "chdir to cwd ({path:?}) set in config.json failed"
    )))
}

/// Becomes the program; returns only with an error.
pub(crate) fn exec(
    container: &Container,
    args: &[String],
    home: &str,
    host: &str,
) -> Result<(), Refusal> {
    let env = environment(container, home, host);
    let path = env
        .iter()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    let name = args.first().ok_or_else(|| invalid("args: empty"))?;
    let file = look_up(name, path)?;
    let file = CString::new(file.into_os_string().into_encoded_bytes());
    let file = file.map_err(|_| invalid("args: a NUL byte"))?;
    let args = c_strings("args", args)?;
    let env = c_strings("env", &env)?;
    crate::sys::default_signals();
    let unblocked = SigSet::empty();
    unblocked.thread_set_mask().map_err(failed("signal mask"))?;
    let Err(errno) = nix::unistd::execve(&file, &args, &env);
    let error = io::Error::from(errno);
    let message = format!("exec {}: {}", file.to_string_lossy(), text(&error));
    Err(refuse(RefusalKind::Failed, message))
}

fn c_strings(field: &str, texts: &[String]) -> Result<Vec<CString>, Refusal> {
    texts
        .iter()
        .map(|text| CString::new(text.as_str()))
        .collect::<Result<_, _>>()
        .map_err(|_| invalid(format!("{field}: a NUL byte")))
}

/// The container's environment; what is missing of PATH, HOME, HOSTNAME, and
/// TERM for a terminal, is added.
fn environment(container: &Container, home: &str, host: &str) -> Vec<String> {
    let mut env = container.env.clone();
    let mut add = |name: &str, value: &str| {
        let set = |entry: &String| {
            entry
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('='))
        };
        if !env.iter().any(set) {
            env.push(format!("{name}={value}"));
        }
    };
    add("PATH", DEFAULT_PATH);
    add("HOSTNAME", host);
    add("HOME", home);
    if container.tty {
        add("TERM", "xterm");
    }
    env
}

/// As Go's `exec.LookPath`, whose messages users know.
fn look_up(name: &str, path: &str) -> Result<PathBuf, Refusal> {
    let refusal = |kind, reason: &str| refuse(kind, format!("exec: {name:?}: {reason}"));
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(refusal(
                RefusalKind::NotFound,
                &format!("stat {name}: {}", text(&error)),
            )),
            Err(error) => Err(refusal(RefusalKind::Failed, &text(&error))),
        };
    }
    path.split(':')
        .map(|directory| Path::new(if directory.is_empty() { "." } else { directory }))
        .map(|directory| directory.join(name))
        .find(|file| !name.is_empty() && executable(file).is_ok())
        .ok_or_else(|| refusal(RefusalKind::NotFound, "executable file not found in $PATH"))
}

fn executable(file: &Path) -> io::Result<()> {
    if fs::metadata(file)?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let flags = rustix::fs::AtFlags::EACCESS;
    rustix::fs::accessat(rustix::fs::CWD, file, rustix::fs::Access::EXEC_OK, flags)?;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_go_finds_them() {
        assert_eq!(
            look_up("sh", "/nowhere::/bin").unwrap(),
            Path::new("/bin/sh")
        );
        assert_eq!(look_up("/bin/sh", "").unwrap(), Path::new("/bin/sh"));
        for (name, message) in [
            ("foo", "exec: \"foo\": executable file not found in $PATH"),
            ("", "exec: \"\": executable file not found in $PATH"),
            ("/no", "exec: \"/no\": stat /no: no such file or directory"),
            ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
            ("/etc", "exec: \"/etc\": is a directory"),
        ] {
            assert_eq!(look_up(name, "/bin").unwrap_err().message, message);
        }
    }
}
