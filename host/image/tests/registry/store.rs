//! The image directory over time: reopening, torn files, removal, a full
//! disk, and what the converter is confined to.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use image::{Kind, PullPolicy, Reference};

use crate::harness::{
    CONVERTER, Layout, Packing, Registry, config, have_tools, layer, noise, open,
};

/// A registry with `app:1`, and the name of it.
fn published(bytes: &[u8], packing: Packing) -> (Registry, Reference) {
    let registry = Registry::start();
    let layout = Layout::image(&[layer(&[("f", bytes)])], packing);
    registry.push(layout.path(), "app:1", &[]);
    let name = format!("{}/app:1", registry.host()).parse().unwrap();
    (registry, name)
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_outlive_the_process_and_torn_ones_do_not() {
    if !have_tools() {
        return;
    }
    let (registry, name) = published(b"x", Packing::Gzip);
    let dir = tempfile::tempdir().unwrap();
    let config = config(&[&registry.host()]);
    let image = open(config.clone(), dir.path())
        .await
        .ensure(&name, PullPolicy::IfNotPresent, &[])
        .await
        .unwrap();
    let again = open(config.clone(), dir.path()).await.get(&name).unwrap();
    assert_eq!(again, image);
    let sub = dir.path().join("images");
    let sidecar = image.erofs.with_extension("json");
    let (whole, json) = (fs::read(&image.erofs).unwrap(), fs::read(&sidecar).unwrap());
    type Tear = fn(&Path, &Path);
    let tears: [(&str, Tear); 6] = [
        ("a shorter image", |erofs, _| {
            fs::File::options()
                .write(true)
                .open(erofs)
                .unwrap()
                .set_len(4096)
                .unwrap();
        }),
        ("no image", |erofs, _| fs::remove_file(erofs).unwrap()),
        ("no sidecar", |_, json| fs::remove_file(json).unwrap()),
        ("an empty sidecar", |_, json| fs::write(json, b"").unwrap()),
        ("half a sidecar", |_, json| {
            let text = fs::read(json).unwrap();
            fs::write(json, &text[..text.len() / 2]).unwrap();
        }),
        ("a strange sidecar", |_, json| {
            fs::write(json, br#"{"version":9}"#).unwrap()
        }),
    ];
    for (what, tear) in tears {
        fs::write(&image.erofs, &whole).unwrap();
        fs::write(&sidecar, &json).unwrap();
        fs::write(sub.join("x.erofs.tmp"), b"").unwrap();
        tear(&image.erofs, &sidecar);
        let images = open(config.clone(), dir.path()).await;
        assert!(images.get(&name).is_none(), "{what}");
        assert_eq!(files(&sub), [""; 0], "{what}");
    }
    let images = open(config, dir.path()).await;
    let back = images
        .ensure(&name, PullPolicy::IfNotPresent, &[])
        .await
        .unwrap();
    assert_eq!(
        fs::read(&back.erofs).unwrap(),
        whole,
        "the same bytes again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_images_leave_nothing() {
    if !have_tools() {
        return;
    }
    let (registry, name) = published(&noise(5, 100_000), Packing::Gzip);
    let dir = tempfile::tempdir().unwrap();
    let images = open(config(&[&registry.host()]), dir.path()).await;
    let image = images
        .ensure(&name, PullPolicy::IfNotPresent, &[])
        .await
        .unwrap();
    let usage = images.usage().await.unwrap();
    assert_eq!((usage.images, usage.blobs), (1, 2));
    assert!(usage.image_bytes > 100_000 && usage.blob_bytes > 100_000);
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let ids = vec![image.id.clone()];
    images.mark_used(ids, long_ago).await.unwrap();
    drop(images);
    let images = open(config(&[&registry.host()]), dir.path()).await;
    let stored = images.stored().await.unwrap();
    assert_eq!(
        (stored.len(), stored[0].used),
        (1, long_ago),
        "use survives"
    );
    assert!(stored[0].disk_bytes > 100_000 && stored[0].made > long_ago);
    let open_file = fs::File::open(&image.erofs).unwrap();
    assert!(images.remove(&image.id).await.unwrap());
    assert!(!images.remove(&image.id).await.unwrap());
    assert!(images.get(&name).is_none());
    assert_eq!(
        open_file.metadata().unwrap().len(),
        image.size,
        "who has it open keeps it"
    );
    assert!(images.prune_blobs().await.unwrap() > 100_000);
    let usage = images.usage().await.unwrap();
    assert_eq!((usage.images, usage.blobs), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_called_so() {
    if !have_tools() {
        return;
    }
    let (registry, name) = published(&noise(6, 6 << 20), Packing::Gzip);
    // Room for the layer at most; then for the layer, but not the image.
    for megabytes in [3, 9] {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(dir.path())
            .status()
            .unwrap();
        if !mounted.success() {
            eprintln!("SKIPPED: no tmpfs may be mounted, so no disk was full");
            return;
        }
        let images = open(config(&[&registry.host()]), dir.path()).await;
        let result = images.ensure(&name, PullPolicy::IfNotPresent, &[]).await;
        let left = files(&dir.path().join("images"));
        drop(images);
        // Lazily: a process that another test is just starting may have a
        // descriptor of it for a moment.
        let mut umount = Command::new("umount");
        let unmounted = umount.arg("-l").arg(dir.path()).status().unwrap();
        let e = result.unwrap_err();
        assert_eq!(e.kind(), Kind::DiskFull, "{megabytes} MB: {e}");
        assert_eq!(left, [""; 0]);
        assert!(unmounted.success());
    }
}

/// The status of a child of this process that converts into `dir`; other tests
/// have theirs.
fn converter_status(dir: &Path) -> Option<(String, std::path::PathBuf, Vec<String>)> {
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let path = entry.path();
        let Ok(exe) = fs::read_link(path.join("exe")) else {
            continue;
        };
        if exe != Path::new(CONVERTER) {
            continue;
        }
        // It may have ended since.
        let Ok(status) = fs::read_to_string(path.join("status")) else {
            continue;
        };
        let parent = format!("PPid:\t{}\n", std::process::id());
        if status.contains(&parent) && status.contains("Seccomp:\t2\n") {
            let Ok(fds) = fs::read_dir(path.join("fd")) else {
                continue;
            };
            let fds = fds.flatten().filter_map(|e| fs::read_link(e.path()).ok());
            let fds: Vec<_> = fds.collect();
            if !fds.iter().any(|target| target.starts_with(dir)) {
                continue;
            }
            let root = fs::read_link(path.join("root")).ok()?;
            let fds = fds.iter().map(|target| target.display().to_string());
            return Some((status, root, fds.collect()));
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_converter_has_nothing_but_its_files() {
    if !have_tools() {
        return;
    }
    // Zeros pack to nothing, but take a while to unpack.
    let (registry, name) = published(&vec![0; 200 << 20], Packing::Zstd);
    let dir = tempfile::tempdir().unwrap();
    let images = open(config(&[&registry.host()]), dir.path()).await;
    let pull = tokio::spawn(async move { images.ensure(&name, PullPolicy::Always, &[]).await });
    let deadline = Instant::now() + Duration::from_secs(30);
    let seen = loop {
        if let Some(seen) = converter_status(dir.path()) {
            break seen;
        }
        assert!(
            !pull.is_finished() && Instant::now() < deadline,
            "no converter was seen"
        );
        tokio::task::yield_now().await;
    };
    let (status, root, fds) = seen;
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let is_root = rustix::process::geteuid().is_root();
        let none = status.contains(&format!("{set}:\t0000000000000000\n"));
        assert!(none || (!is_root && set == "CapBnd"), "{set}: {status}");
    }
    if rustix::process::geteuid().is_root() {
        assert!(
            status.contains("Uid:\t64500\t64500\t64500\t64500\n"),
            "{status}"
        );
        assert!(
            status.contains("Gid:\t64500\t64500\t64500\t64500\n"),
            "{status}"
        );
        assert_eq!(root, dir.path().join("empty"));
    }
    // Socket, null, stderr, output and at most one layer.
    assert!(fds.len() <= 5, "{fds:?}");
    pull.await.unwrap().unwrap();
}
