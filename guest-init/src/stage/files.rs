//! The pod's files in `/etc`, written into the container's own overlay.
//!
//! Where a volume covers `/etc` they are put over it like projected files, so
//! that containers which share the volume don't write each other's.

use crate::errors::failed;
use crate::order::Start;
use guest_protocol::{FileEntry, Refusal};
use std::fs;
use std::path::Path;

/// Writes into the root while nobody else can change it.
pub(crate) fn write(order: &Start) -> Result<(), Refusal> {
    if order.mounts_at("/etc") {
        return Ok(());
    }
    fs::create_dir_all("/etc").map_err(failed("mkdir /etc"))?;
    for (path, content) in wanted(order) {
        // An image's link there leads to a file that does not exist here.
        let _ = fs::remove_file(path);
        fs::write(path, content).map_err(failed(path))?;
    }
    Ok(())
}

/// The files to put over the root: the container's own, and where `/etc` is a
/// volume those of the pod.
pub(crate) fn over_root(order: &Start) -> Vec<FileEntry> {
    let own = order.container.files.iter();
    let own = own.filter(|file| !order.mounts_at(&file.path));
    let mut files: Vec<_> = own.cloned().collect();
    if order.mounts_at("/etc") {
        files.extend(wanted(order).into_iter().map(|(path, content)| FileEntry {
            path: path.to_owned(),
            mode: 0o644,
            content: content.into_bytes(),
        }));
    }
    files
}

/// A file or volume that the pod itself puts there wins.
fn wanted(order: &Start) -> Vec<(&'static str, String)> {
    let pod = &order.pod;
    let files = [
        ("/etc/hosts", pod.hosts.clone()),
        ("/etc/hostname", format!("{}\n", pod.hostname)),
        ("/etc/resolv.conf", pod.resolv_conf.clone()),
    ];
    let taken = |path: &str| {
        let mut files = order.container.files.iter();
        order.mounts_at(path) || files.any(|file| Path::new(&file.path) == Path::new(path))
    };
    let files = files.into_iter();
    files.filter(|(path, _)| !taken(path)).collect()
}
