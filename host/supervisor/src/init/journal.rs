//! Where log lines go: the console, and a bounded file for each role.
//!
//! `/run/atoll/log/<role>.log` holds at most `FILE_MAX` bytes, the part before it
//! is in `<role>.log.1`. The console never stops `init`: a line that a slow
//! terminal doesn't take within a moment is dropped there, not in the file.

use crate::logging::format_line;
use log::{Log, Metadata, Record};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

const DIRECTORY: &str = "/run/atoll/log";
const FILE_MAX: u64 = 512 << 10;

/// Shared by `init`'s own log and the pipes of the roles.
#[derive(Clone)]
pub(super) struct Journal {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    console: Option<File>,
    files: BTreeMap<String, RoleFile>,
}

struct RoleFile {
    file: File,
    length: u64,
}

impl Journal {
    /// Writes to the console alone until `/run` is there.
    pub(super) fn new() -> Self {
        let console = File::options().write(true).open("/dev/console").ok();
        let inner = Inner {
            console,
            files: BTreeMap::new(),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Takes the `log` macros of this process.
    pub(super) fn install(&self) {
        log::set_max_level(log::LevelFilter::Info);
        drop(log::set_boxed_logger(Box::new(Own(self.clone()))));
    }

    /// Writes one line of printable text, without its end.
    pub(super) fn write(&self, role: &str, text: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{role} {text}\n");
        if let Some(console) = &mut inner.console {
            drop(console.write_all(line.as_bytes()));
        }
        if let Some(file) = inner.file(role) {
            file.append(role, text);
        }
    }
}

impl Inner {
    fn file(&mut self, role: &str) -> Option<&mut RoleFile> {
        if !self.files.contains_key(role) {
            let file = open(role).ok()?;
            self.files.insert(role.to_owned(), file);
        }
        self.files.get_mut(role)
    }
}

fn open(role: &str) -> std::io::Result<RoleFile> {
    let path = format!("{DIRECTORY}/{role}.log");
    let file = File::options().create(true).append(true).open(path)?;
    let length = file.metadata()?.len();
    Ok(RoleFile { file, length })
}

impl RoleFile {
    /// A full /run costs lines, nothing else.
    fn append(&mut self, role: &str, text: &str) {
        if self.length > FILE_MAX {
            let path = format!("{DIRECTORY}/{role}.log");
            if std::fs::rename(&path, format!("{path}.1")).is_ok()
                && let Ok(fresh) = open(role)
            {
                *self = fresh;
            }
        }
        let line = format!("{text}\n");
        if self.file.write_all(line.as_bytes()).is_ok() {
            self.length += line.len() as u64;
        }
    }
}

struct Own(Journal);

impl Log for Own {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.write("init", format_line("", record).trim_end());
        }
    }

    fn flush(&self) {}
}
