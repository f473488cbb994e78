//! What goes wrong between a registry and a disk: each case ends in an image
//! or in an error that says what it was.

use std::sync::atomic::{AtomicUsize, Ordering};

use image::{Config, Image, Kind, PullError, PullPolicy, Reference};
use std::sync::Arc;

use crate::harness::{Layout, Packing, Registry, config, have_tools, layer, noise, open};
use crate::proxy::{Act, Proxy, Seen};

const SIZE: usize = 3 << 20;

/// Pulls one image with one large layer through a proxy.
async fn pull(
    policy: impl Fn(&Seen, usize) -> Act + Send + Sync + 'static,
    change: impl FnOnce(&mut Config),
) -> (Result<Arc<Image>, PullError>, Vec<Seen>) {
    let registry = Registry::start();
    let layout = Layout::image(&[layer(&[("f", &noise(7, SIZE))])], Packing::Plain);
    registry.push(layout.path(), "app:1", &["--dest-decompress"]);
    let proxy = Proxy::start(registry.port, policy).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&[&proxy.host()]);
    change(&mut config);
    let images = open(config, dir.path()).await;
    let name: Reference = format!("{}/app:1", proxy.host()).parse().unwrap();
    let result = images.ensure(&name, PullPolicy::IfNotPresent, &[]).await;
    assert_eq!(result.is_ok(), images.get(&name).is_some());
    let left = std::fs::read_dir(dir.path().join("images"))
        .unwrap()
        .count();
    assert_eq!(
        left,
        if result.is_ok() { 2 } else { 0 },
        "nothing half-made stays"
    );
    (result, proxy.seen())
}

fn is_layer(seen: &Seen, large: &AtomicUsize) -> bool {
    // The config is fetched first, alone.
    seen.is_blob() && large.fetch_add(1, Ordering::SeqCst) > 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_blob_is_resumed_where_it_ended() {
    if !have_tools() {
        return;
    }
    let blobs = AtomicUsize::new(0);
    let policy = move |seen: &Seen, _: usize| match is_layer(seen, &blobs) {
        true if seen.header("range").is_none() => Act::Cut(1 << 20),
        true if seen.header("range") == Some("bytes=1048576-") => Act::Cut(500_000),
        _ => Act::Pass,
    };
    let (result, seen) = pull(policy, |_| {}).await;
    result.unwrap();
    let ranges: Vec<&str> = seen.iter().filter_map(|s| s.header("range")).collect();
    assert_eq!(ranges, ["bytes=1048576-", "bytes=1548576-"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_body_is_given_up_and_resumed() {
    if !have_tools() {
        return;
    }
    let blobs = AtomicUsize::new(0);
    let policy = move |seen: &Seen, _: usize| match is_layer(seen, &blobs) {
        true if seen.header("range").is_none() => Act::Stall(100_000),
        _ => Act::Pass,
    };
    let (result, seen) = pull(policy, |_| {}).await;
    result.unwrap();
    assert!(
        seen.iter()
            .any(|s| s.header("range") == Some("bytes=100000-"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_without_ranges_is_read_from_the_start() {
    if !have_tools() {
        return;
    }
    let blobs = AtomicUsize::new(0);
    let policy = move |seen: &Seen, _: usize| match is_layer(seen, &blobs) {
        true if seen.header("range").is_none() => Act::Cut(1 << 20),
        true => Act::IgnoreRange,
        false => Act::Pass,
    };
    pull(policy, |_| {}).await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_are_followed_but_not_for_ever() {
    if !have_tools() {
        return;
    }
    let redirect = |seen: &Seen, n: usize| {
        let target = seen.target.split('?').next().unwrap_or_default();
        Act::Answer(format!(
            "HTTP/1.1 307 Go\r\nLocation: {target}?{n}\r\nContent-Length: 0\r\n\r\n"
        ))
    };
    let once = move |seen: &Seen, n: usize| match seen.is_blob() && !seen.target.contains('?') {
        true => redirect(seen, n),
        false => Act::Pass,
    };
    pull(once, |_| {}).await.0.unwrap();
    let ever = move |seen: &Seen, n: usize| match seen.is_blob() {
        true => redirect(seen, n),
        false => Act::Pass,
    };
    let e = pull(ever, |_| {}).await.0.unwrap_err();
    assert!(e.to_string().contains("more than 10 redirects"), "{e}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_cuts_end() {
    if !have_tools() {
        return;
    }
    let blobs = AtomicUsize::new(0);
    let policy = move |seen: &Seen, _: usize| match is_layer(seen, &blobs) {
        true => Act::Cut(10),
        false => Act::Pass,
    };
    let (result, seen) = pull(policy, |_| {}).await;
    let e = result.unwrap_err();
    assert_eq!(e.kind(), Kind::Unavailable);
    assert!(e.is_transient());
    assert_eq!(
        seen.iter().filter(|s| s.is_blob()).count(),
        1 + 3,
        "bounded tries"
    );
    assert!(
        e.to_string().contains("failed to copy layer sha256:"),
        "{e}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_are_refused_by_their_digest() {
    if !have_tools() {
        return;
    }
    let blobs = AtomicUsize::new(0);
    let policy = move |seen: &Seen, _: usize| match is_layer(seen, &blobs) {
        true => Act::Flip(1_000_000),
        false => Act::Pass,
    };
    let (result, _) = pull(policy, |_| {}).await;
    let e = result.unwrap_err();
    assert_eq!(e.kind(), Kind::Digest);
    assert!(e.to_string().contains("unexpected commit digest"), "{e}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_bytes_than_announced_are_refused() {
    if !have_tools() {
        return;
    }
    let blobs = AtomicUsize::new(0);
    let policy = move |seen: &Seen, _: usize| match is_layer(seen, &blobs) {
        true => Act::Replace(vec![0; 8 << 20]),
        false => Act::Pass,
    };
    let (result, _) = pull(policy, |_| {}).await;
    assert_eq!(result.unwrap_err().kind(), Kind::Digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_that_are_none_are_refused() {
    if !have_tools() {
        return;
    }
    let garbage = |bytes: Vec<u8>| {
        move |seen: &Seen, _: usize| match (seen.target.contains("/manifests/"), &*seen.method) {
            // Without a digest from HEAD the tag is asked for.
            (true, "HEAD") => Act::Answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into()),
            (true, _) => Act::Answer(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}",
                bytes.len(),
                String::from_utf8_lossy(&bytes)
            )),
            (false, _) => Act::Pass,
        }
    };
    for (bytes, kind, words) in [
        (b"not json".to_vec(), Kind::Invalid, "manifest is not valid"),
        (b"{}".to_vec(), Kind::Invalid, "no config and layers"),
        (
            vec![b' '; 5 << 20],
            Kind::Invalid,
            "limits.maxManifestBytes",
        ),
        (
            br#"{"schemaVersion":1}"#.to_vec(),
            Kind::Invalid,
            "schema version 1",
        ),
    ] {
        let (result, _) = pull(garbage(bytes), |_| {}).await;
        let e = result.unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(words), "{e}");
        assert!(!e.is_transient());
    }
    let (result, _) = pull(
        |seen, _| match (seen.target.contains("/manifests/"), &*seen.method) {
            (true, "GET") => Act::Replace(b"{}".to_vec()),
            _ => Act::Pass,
        },
        |_| {},
    )
    .await;
    assert_eq!(result.unwrap_err().kind(), Kind::Digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_in_trouble_gets_another_chance() {
    if !have_tools() {
        return;
    }
    let sick = |status: &'static str, until: usize| {
        move |_: &Seen, number: usize| match number < until {
            true => Act::Answer(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")),
            false => Act::Pass,
        }
    };
    for status in ["500 Oops", "503 Busy", "429 Slow down"] {
        pull(sick(status, 2), |_| {}).await.0.unwrap();
        let e = pull(sick(status, 99), |_| {}).await.0.unwrap_err();
        assert_eq!(e.kind(), Kind::Unavailable);
        assert!(e.to_string().contains(&status[..3]), "{e}");
    }
    let noise = |_: &Seen, _: usize| Act::Answer("SSH-2.0-surprise\r\n".into());
    assert_eq!(
        pull(noise, |_| {}).await.0.unwrap_err().kind(),
        Kind::Unavailable
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_read_as_users_know_them() {
    if !have_tools() {
        return;
    }
    let registry = Registry::start();
    let host = registry.host();
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let images = open(config(&[&host, &closed.to_string()]), dir.path()).await;
    let missing: Reference = format!("{host}/nope:latest").parse().unwrap();
    let e = images
        .ensure(&missing, PullPolicy::IfNotPresent, &[])
        .await
        .unwrap_err();
    assert_eq!(e.kind(), Kind::NotFound);
    assert_eq!(
        e.to_string(),
        format!(
            "failed to pull and unpack image \"{host}/nope:latest\": failed to resolve \
             reference \"{host}/nope:latest\": {host}/nope:latest: not found"
        )
    );
    let down: Reference = format!("{closed}/x").parse().unwrap();
    let e = images
        .ensure(&down, PullPolicy::IfNotPresent, &[])
        .await
        .unwrap_err();
    assert_eq!(e.kind(), Kind::Unavailable);
    let words = format!(
        "failed to do request: Head \"http://{closed}/v2/x/manifests/latest\": \
         dial tcp {closed}: connect: connection refused"
    );
    assert!(e.to_string().ends_with(&words), "{e}");
    let e = images
        .ensure(&missing, PullPolicy::Never, &[])
        .await
        .unwrap_err();
    assert_eq!(e.kind(), Kind::NotPresent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_layer_ends_the_conversion_only() {
    if !have_tools() {
        return;
    }
    let registry = Registry::start();
    let mut torn = layer(&[("f", &noise(3, 5000))]);
    torn.truncate(3000);
    let bad = [("torn:1", torn), ("noise:1", noise(4, 5000))];
    for (name, bytes) in &bad {
        let layout = Layout::image(std::slice::from_ref(bytes), Packing::Zstd);
        registry.push(layout.path(), name, &[]);
    }
    registry.push(
        Layout::image(&[layer(&[("f", b"x")])], Packing::Zstd).path(),
        "good:1",
        &[],
    );
    let dir = tempfile::tempdir().unwrap();
    let images = open(config(&[&registry.host()]), dir.path()).await;
    for (name, words) in [
        ("torn:1", "truncated at byte"),
        ("noise:1", "invalid tar header at byte"),
    ] {
        let reference = format!("{}/{name}", registry.host()).parse().unwrap();
        let e = images
            .ensure(&reference, PullPolicy::Always, &[])
            .await
            .unwrap_err();
        assert_eq!(e.kind(), Kind::Invalid);
        assert!(
            e.to_string()
                .contains("failed to extract layers: layer 1: "),
            "{e}"
        );
        assert!(e.to_string().contains(words), "{e}");
    }
    let good = format!("{}/good:1", registry.host()).parse().unwrap();
    images.ensure(&good, PullPolicy::Always, &[]).await.unwrap();
}
