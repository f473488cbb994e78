//! The pod's files in `/etc`, written into the container's own overlay.

use crate::errors::failed;
use crate::order::Start;
use guest_protocol::Refusal;
use std::fs;

pub(crate) fn write(order: &Start) -> Result<(), Refusal> {
    let pod = &order.pod;
    let hostname = format!("{}\n", pod.hostname);
    let files = [
        ("/etc/hosts", pod.hosts.as_str()),
        ("/etc/hostname", hostname.as_str()),
        ("/etc/resolv.conf", pod.resolv_conf.as_str()),
    ];
    fs::create_dir_all("/etc").map_err(failed("mkdir /etc"))?;
    for (path, content) in files {
        if projected(order, path) {
            continue;
        }
        // An image's link there leads to a file that does not exist here.
        let _ = fs::remove_file(path);
        fs::write(path, content).map_err(failed(path))?;
    }
    Ok(())
}

/// A file that the pod itself projects there wins.
fn projected(order: &Start, path: &str) -> bool {
    let mut files = order.container.files.iter();
    files.any(|file| file.path == path)
}
