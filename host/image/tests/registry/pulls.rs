//! Pulls that succeed: formats, names, TLS, mirrors, proxies, credentials.

use std::fs;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{Credentials, Kind, PullPolicy, Reference};
use serde_json::json;

use crate::harness::{Layout, Packing, Registry, config, have_tools, layer, noise, open};
use crate::proxy::{Act, Proxy};

fn reference(host: &str, rest: &str) -> Reference {
    format!("{host}/{rest}").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_format_gives_the_same_image() {
    if !have_tools() {
        return;
    }
    let registry = Registry::start();
    let layers = [
        layer(&[("a", b"1"), ("b", b"2")]),
        layer(&[(".wh.a", b""), ("c", b"3")]),
    ];
    for (name, packing, options) in [
        ("plain:1", Packing::Plain, &[][..]),
        ("gzip:1", Packing::Gzip, &[]),
        ("zstd:1", Packing::Zstd, &[]),
        ("docker:1", Packing::Gzip, &["--format=v2s2"]),
    ] {
        registry.push(Layout::image(&layers, packing).path(), name, options);
    }
    registry.push(Layout::index(&layers).path(), "index:1", &["--all"]);
    let dir = tempfile::tempdir().unwrap();
    let images = open(config(&[&registry.host()]), dir.path()).await;
    let mut contents = Vec::new();
    for name in ["plain:1", "gzip:1", "zstd:1", "docker:1", "index:1"] {
        let reference = reference(&registry.host(), name);
        let image = images
            .ensure(&reference, PullPolicy::IfNotPresent, &[])
            .await
            .unwrap();
        contents.push(std::fs::read(&image.erofs).unwrap());
        assert_eq!(image.size, contents[0].len() as u64);
        let c = &image.config;
        assert_eq!(
            (&c.entrypoint[..], &c.cmd[..]),
            (&["/bin/app".into()][..], &["serve".into()][..])
        );
        assert_eq!(
            (c.user.as_str(), c.working_dir.as_str()),
            ("65532:65532", "/srv")
        );
        assert_eq!(
            (&c.env[..], c.stop_signal.as_deref()),
            (&["A=b".into()][..], Some("SIGQUIT"))
        );
        assert_eq!(
            (&c.exposed_ports[..], c.labels["l"].as_str()),
            (&["80/tcp".into()][..], "v")
        );
        let by_digest: Reference = image.repo_digest.parse().unwrap();
        assert_eq!(images.get(&by_digest).unwrap().id, image.id);
        let again = images
            .ensure(&by_digest, PullPolicy::Always, &[])
            .await
            .unwrap();
        assert_eq!(again.manifest, image.manifest);
    }
    assert!(contents.iter().all(|c| *c == contents[0]));
}

/// A hundred layers of two hundred files each; every layer replaces one file of the
/// layer below it and deletes another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_layers_are_one_image() {
    if !have_tools() {
        return;
    }
    let layers: Vec<_> = (0..100).map(one_of_a_hundred).collect();
    let registry = Registry::start();
    registry.push(Layout::image(&layers, Packing::Zstd).path(), "deep:1", &[]);
    let dir = tempfile::tempdir().unwrap();
    let images = open(config(&[&registry.host()]), dir.path()).await;
    let name = reference(&registry.host(), "deep:1");
    let pulled = images.ensure(&name, PullPolicy::IfNotPresent, &[]).await;
    let root = dir.path().join("extracted");
    let out = Command::new("fsck.erofs")
        .arg(format!("--extract={}", root.display()))
        .arg(&pulled.unwrap().erofs)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "fsck.erofs: {words}");
    assert_eq!(fs::read(root.join("top")).unwrap(), b"99");
    for number in 0..100 {
        let files = fs::read_dir(root.join(format!("d{number}"))).unwrap();
        assert_eq!(files.count(), 200, "layer {number}");
        let kept = root.join(format!("kept-{number}")).exists();
        assert_eq!(kept, number == 99, "layer {number}");
    }
}

fn one_of_a_hundred(number: usize) -> Vec<u8> {
    let text = number.to_string();
    let mut names: Vec<String> = (0..200).map(|file| format!("d{number}/{file}")).collect();
    names.extend(["top".to_owned(), format!("kept-{number}")]);
    names.extend(
        number
            .checked_sub(1)
            .map(|below| format!(".wh.kept-{below}")),
    );
    let files: Vec<_> = names
        .iter()
        .map(|name| (&**name, text.as_bytes()))
        .collect();
    layer(&files)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_moves_is_followed_by_always_only() {
    if !have_tools() {
        return;
    }
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let images = open(config(&[&registry.host()]), dir.path()).await;
    let name = reference(&registry.host(), "app");
    let push = |content: &[u8]| {
        let layout = Layout::image(&[layer(&[("f", content)])], Packing::Gzip);
        registry.push(layout.path(), "app:latest", &[]);
    };
    push(b"one");
    let first = images.ensure(&name, PullPolicy::Always, &[]).await.unwrap();
    push(b"two");
    let same = images
        .ensure(&name, PullPolicy::IfNotPresent, &[])
        .await
        .unwrap();
    assert_eq!(same.id, first.id);
    let second = images.ensure(&name, PullPolicy::Always, &[]).await.unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!(images.get(&name).unwrap().id, second.id);
    let old: Reference = first.repo_digest.parse().unwrap();
    assert_eq!(images.get(&old).unwrap().id, first.id);
    assert_eq!(images.list().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pulls_of_one_image_are_joined() {
    if !have_tools() {
        return;
    }
    let registry = Registry::start();
    let layout = Layout::image(&[layer(&[("f", &noise(1, 100_000))])], Packing::Gzip);
    registry.push(layout.path(), "app:1", &[]);
    let proxy = Proxy::start(registry.port, |_, _| Act::Pass).await;
    let dir = tempfile::tempdir().unwrap();
    let images = open(config(&[&proxy.host()]), dir.path()).await;
    let name = reference(&proxy.host(), "app:1");
    let all = (0..16).map(|_| images.ensure(&name, PullPolicy::Always, &[]));
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(Result::is_ok));
    let blobs = proxy.seen().iter().filter(|s| s.is_blob()).count();
    assert_eq!(blobs, 2, "config and layer once each");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_roots_are_trusted_where_they_are_configured() {
    if !have_tools() {
        return;
    }
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let registry = Registry::with(
        |dir| {
            let (cert_path, key_path) = (dir.join("cert"), dir.join("key"));
            std::fs::write(&cert_path, &certificate).unwrap();
            std::fs::write(&key_path, key).unwrap();
            json!({"tls": {"certificate": cert_path, "key": key_path}})
        },
        serde_json::Value::Null,
    );
    registry.push(
        Layout::image(&[layer(&[("f", b"x")])], Packing::Gzip).path(),
        "app:1",
        &[],
    );
    let name: Reference = format!("localhost:{}/app:1", registry.port)
        .parse()
        .unwrap();
    let mut trusting = config(&[]);
    let host = format!("localhost:{}", registry.port);
    trusting
        .registries
        .entry(host)
        .or_default()
        .ca_roots
        .push(certificate.clone());
    let mut everywhere = config(&[]);
    everywhere.ca_roots.push(certificate);
    for (config, works) in [(trusting, true), (everywhere, true), (config(&[]), false)] {
        let dir = tempfile::tempdir().unwrap();
        let images = open(config, dir.path()).await;
        match images.ensure(&name, PullPolicy::Always, &[]).await {
            Ok(_) => assert!(works),
            Err(e) => {
                assert!(!works && e.kind() == Kind::Unavailable, "{e}");
                assert!(e.to_string().contains("certificate"), "{e}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_come_before_the_registry() {
    if !have_tools() {
        return;
    }
    let registry = Registry::start();
    registry.push(
        Layout::image(&[layer(&[("f", b"x")])], Packing::Gzip).path(),
        "library/app:1",
        &[],
    );
    let broken = Proxy::start(registry.port, |_, _| {
        Act::Answer("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".into())
    })
    .await;
    let good = Proxy::start(registry.port, |_, _| Act::Pass).await;
    let mut config = config(&[]);
    config
        .registries
        .entry("docker.io".into())
        .or_default()
        .mirrors = vec![
        format!("http://{}", broken.host()),
        format!("http://{}", good.host()),
    ];
    let dir = tempfile::tempdir().unwrap();
    let images = open(config, dir.path()).await;
    let image = images
        .ensure(&"app:1".parse().unwrap(), PullPolicy::IfNotPresent, &[])
        .await
        .unwrap();
    assert!(
        image
            .repo_digest
            .starts_with("docker.io/library/app@sha256:")
    );
    assert!(!broken.seen().is_empty());
    assert!(
        good.seen()
            .iter()
            .all(|s| s.target.contains("ns=docker.io"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_goes_through_the_proxy() {
    if !have_tools() {
        return;
    }
    let registry = Registry::start();
    registry.push(
        Layout::image(&[layer(&[("f", b"x")])], Packing::Gzip).path(),
        "app:1",
        &[],
    );
    let proxy = Proxy::start(registry.port, |_, _| Act::Pass).await;
    // The name exists nowhere: only the proxy can know where it is.
    let mut config = config(&["registry.invalid:5000"]);
    config.proxy.http = Some(format!("http://u:p@{}", proxy.host()));
    let dir = tempfile::tempdir().unwrap();
    let images = open(config, dir.path()).await;
    let name = reference("registry.invalid:5000", "app:1");
    images
        .ensure(&name, PullPolicy::IfNotPresent, &[])
        .await
        .unwrap();
    let want = format!("Basic {}", STANDARD.encode("u:p"));
    for seen in proxy.seen() {
        assert!(
            seen.target
                .starts_with("http://registry.invalid:5000/v2/app/"),
            "{seen:?}"
        );
        assert_eq!(seen.header("proxy-authorization"), Some(want.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_fetched_with_the_credentials_that_fit() {
    if !have_tools() {
        return;
    }
    let registry = Registry::start();
    registry.push(
        Layout::image(&[layer(&[("f", b"x")])], Packing::Gzip).path(),
        "app:1",
        &[],
    );
    let good = format!("Basic {}", STANDARD.encode("user:right"));
    let proxy = Proxy::start(registry.port, move |seen, _| {
        let answer = |status: &str, more: &str, body: &str| {
            let length = body.len();
            Act::Answer(format!("HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\n\r\n{body}"))
        };
        if seen.target.starts_with("/token?") {
            let fits = seen.header("authorization") == Some(&good)
                && seen.target.contains("scope=repository:app:pull")
                && seen.target.contains("service=s");
            return match fits {
                true => answer("200 OK", "", r#"{"token":"T0","expires_in":60}"#),
                false => answer("401 Unauthorized", "", ""),
            };
        }
        if seen.header("authorization") == Some("Bearer T0") {
            return Act::Pass;
        }
        let host = seen.header("host").unwrap_or_default();
        let challenge = format!(
            "WWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"repository:app:pull\"\r\n"
        );
        answer("401 Unauthorized", &challenge, r#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#)
    })
    .await;
    let name = reference(&proxy.host(), "app:1");
    let dir = tempfile::tempdir().unwrap();
    let images = open(config(&[&proxy.host()]), dir.path()).await;
    let (wrong, right) = (
        Credentials::basic("user", "wrong"),
        Credentials::basic("user", "right"),
    );
    for auth in [&[][..], std::slice::from_ref(&wrong)] {
        let e = images
            .ensure(&name, PullPolicy::IfNotPresent, auth)
            .await
            .unwrap_err();
        assert_eq!(e.kind(), Kind::Unauthorized, "{e}");
        assert!(!e.to_string().contains("wrong"), "{e}");
    }
    images
        .ensure(&name, PullPolicy::IfNotPresent, &[wrong, right])
        .await
        .unwrap();
    let tokens = proxy
        .seen()
        .iter()
        .filter(|s| s.target.starts_with("/token"))
        .count();
    assert!(
        tokens <= 4,
        "the token is kept for the pull, not fetched {tokens} times"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn basic_logins_work_as_configured() {
    if !have_tools() {
        return;
    }
    let htpasswd = tempfile::NamedTempFile::new().unwrap();
    // "secret", by bcrypt.
    let line = "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
    std::fs::write(htpasswd.path(), line).unwrap();
    let auth = json!({"htpasswd": {"realm": "r", "path": htpasswd.path()}});
    let registry = Registry::with(|_| json!({}), auth);
    let layout = Layout::image(&[layer(&[("f", b"x")])], Packing::Gzip);
    registry.push(layout.path(), "app:1", &["--dest-creds=user:secret"]);
    let name = reference(&registry.host(), "app:1");
    for (password, works) in [("secret", true), ("other", false)] {
        let mut config = config(&[&registry.host()]);
        let own = config.registries.get_mut(&registry.host()).unwrap();
        own.credentials = Some(Credentials::basic("user", password));
        let dir = tempfile::tempdir().unwrap();
        let images = open(config, dir.path()).await;
        let result = images.ensure(&name, PullPolicy::IfNotPresent, &[]).await;
        match result {
            Ok(_) => assert!(works),
            Err(e) => assert!(!works && e.kind() == Kind::Unauthorized, "{e}"),
        }
    }
}
