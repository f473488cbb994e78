//! Container logs on disk: written from the guest's output, read by kubectl.
//!
//! ```text
//!   <data>/logs/<namespace>_<pod>_<uid>/<container>/<attempt>.log
//!                                                  /<attempt>.log.<offset>
//! ```
//!
//! A line is the CRI's: time, stream, `P` or `F`, content. The second form is a
//! rotated part; its suffix is the guest's byte offset at its end. Nothing is
//! kept elsewhere: a restarted `node` computes the offset from the files.

mod cri;
mod query;
mod read;
mod write;

pub(crate) use query::{Query, boolean, decoded, parameters};
pub(crate) use read::{stream, tail};
pub(crate) use write::LogWriter;

use std::path::{Path, PathBuf};
use tokio::sync::watch;

/// How far a log that is still written has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) offset: u64,
    /// Nothing more comes.
    pub(crate) done: bool,
}

pub(crate) type ProgressSender = watch::Sender<Progress>;
pub(crate) type ProgressReceiver = watch::Receiver<Progress>;

/// The directory of a pod's logs; `None` for names that are no path component.
pub(crate) fn pod_directory(data: &Path, namespace: &str, pod: &str, uid: &str) -> Option<PathBuf> {
    let name = format!(
        "{}_{}_{}",
        component(namespace)?,
        component(pod)?,
        component(uid)?
    );
    Some(data.join("logs").join(name))
}

/// Removes a pod's logs, if there are any.
pub(crate) fn remove(data: &Path, namespace: &str, pod: &str, uid: &str) {
    if let Some(logs) = pod_directory(data, namespace, pod, uid)
        && let Err(error) = std::fs::remove_dir_all(&logs)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        log::warn!("logs of pod {pod}_{namespace}({uid}): {error}");
    }
}

/// The file of one attempt.
pub(crate) fn attempt_file(pod: &Path, container: &str, attempt: u32) -> Option<PathBuf> {
    Some(
        pod.join(component(container)?)
            .join(format!("{attempt}.log")),
    )
}

/// Names come from the API, which checked them; a path is worth a second look.
fn component(name: &str) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    let fits = !name.is_empty() && name.len() <= 253 && !name.starts_with('.');
    (fits && name.bytes().all(plain)).then_some(name)
}

/// The rotated parts of a log, oldest first, with the offset at their ends.
fn rotated(file: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let end = name
            .to_str()
            .and_then(|n| n.strip_prefix(&prefix)?.parse::<u64>().ok());
        parts.extend(end.map(|end| (end, entry.path())));
    }
    parts.sort();
    Ok(parts)
}
