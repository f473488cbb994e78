//! The images of the tests, from the distribution's packages, no fixtures.
//!
//! | image | what |
//! | --- | --- |
//! | `busybox` | static, with its applets as links |
//! | `nginx` | serves `PAGE` on port 80, logs to stdout |
//! | `redis` | redis-server on 6379 |
//! | `python` | the interpreter with its standard library |
//! | `memcached`, `haproxy`, `mosquitto`, `node`, `postgres` | as their names say |
//! | `jvm` | a headless Java, and Rhino as a program for it |
//!
//! A package's closure is unpacked, its maintainer scripts don't run; three
//! layers each: busybox, packages, configuration.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use image_build::cache::{Cache, Key};
use image_build::command::{self, command};
use image_build::packages;
use image_build::progress::say;
use serde_json::{Value, json};

use crate::oci::{Layer, Layout};

/// What nginx serves as `/`.
pub const PAGE: &str = "<h1>A page from a pod on Atoll</h1>\n";
const RECIPE: &str = "test image 3";
const HAPROXY: &str = "global\n  maxconn 64\n  nbthread 2\ndefaults\n  mode http\n\
    \x20 timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n  retries 5\n\
    \x20 option redispatch 1\n  retry-on all-retryable-errors\nlisten front\n  bind :8000\n\
    \x20 balance roundrobin\n  server one 127.0.0.1:8001 check inter 1s\n\
    \x20 server two 127.0.0.1:8002 check inter 1s\n";
const MOSQUITTO: &str = "user root\nlistener 1883\nallow_anonymous true\n";
const NGINX: &str = "daemon off;\nuser root;\nworker_processes 1;\npid /run/nginx.pid;\n\
    error_log stderr notice;\nevents { worker_connections 64; }\nhttp {\n  access_log /dev/stdout;\n\
    \x20 types { text/html html; }\n  server { listen 80; root /srv/www; }\n}\n";
const BYTE_CODE: &str = "byte code 1";
/// Debian is merged: these are links into /usr.
const MERGED: &[&str] = &["bin", "sbin", "lib", "lib64"];
/// Not needed to run, and large.
const SKIP: &[&str] = &[
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bug",
    "usr/share/i18n",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/share/zoneinfo",
    "usr/lib/x86_64-linux-gnu/perl-base",
];
/// What only maintainer scripts would use: packages that start so, but for those
/// that a recipe names.
const NEEDLESS: &[&str] = &[
    "adduser",
    "coreutils",
    "cron",
    "debconf",
    "dpkg",
    "init-system-helpers",
    "iproute2",
    "libfile-find",
    "libllvm",
    "libnumber-compare",
    "libpam",
    "libperl",
    "libsemanage",
    "libtext-glob",
    "libz3",
    "locales",
    "logrotate",
    "lsb-base",
    "media-types",
    "passwd",
    "perl",
    "procps",
    "readline-common",
    "sensible-utils",
    "systemd",
    "sysvinit-utils",
    "tar",
    "ucf",
    "usr",
];

/// One image to build.
#[derive(Clone, Copy)]
pub struct Recipe {
    pub name: &'static str,
    packages: &'static [&'static str],
    files: &'static [(&'static str, &'static str)],
    command: &'static [&'static str],
}

/// What every run of the tests builds.
pub const ALL: &[Recipe] = &[TOOLS, NGINX_IMAGE, REDIS, PYTHON, MEMCACHED];

/// Larger ones, for long tests.
pub const LARGE: &[Recipe] = &[
    Recipe {
        name: "haproxy",
        packages: &["haproxy"],
        files: &[("etc/haproxy/here.cfg", HAPROXY)],
        command: &["/usr/sbin/haproxy"],
    },
    Recipe {
        name: "jvm",
        packages: &["default-jre-headless", "rhino"],
        files: &[],
        command: &["/usr/lib/jvm/default-java/bin/java"],
    },
    Recipe {
        name: "mosquitto",
        packages: &["mosquitto", "mosquitto-clients"],
        files: &[("etc/mosquitto/here.conf", MOSQUITTO)],
        command: &["/usr/sbin/mosquitto"],
    },
    Recipe {
        name: "node",
        packages: &["nodejs"],
        files: &[],
        command: &["/usr/bin/node"],
    },
    Recipe {
        name: "postgres",
        packages: &["postgresql", "libpam0g"],
        files: &[],
        command: &["/bin/sh"],
    },
];

pub const TOOLS: Recipe = Recipe {
    name: "busybox",
    packages: &[],
    files: &[("etc/motd", "busybox\n")],
    command: &["/bin/sh"],
};
pub const NGINX_IMAGE: Recipe = Recipe {
    name: "nginx",
    packages: &["nginx"],
    files: &[
        ("etc/nginx/nginx.conf", NGINX),
        ("srv/www/index.html", PAGE),
    ],
    command: &["/usr/sbin/nginx", "-c", "/etc/nginx/nginx.conf"],
};
pub const REDIS: Recipe = Recipe {
    name: "redis",
    packages: &["redis-server"],
    files: &[],
    command: &[
        "/usr/bin/redis-server",
        "--protected-mode",
        "no",
        "--save",
        "",
    ],
};
pub const PYTHON: Recipe = Recipe {
    name: "python",
    packages: &["python3-minimal", "libpython3-stdlib"],
    files: &[],
    command: &["/usr/bin/python3"],
};
pub const MEMCACHED: Recipe = Recipe {
    name: "memcached",
    packages: &["memcached"],
    files: &[],
    command: &["/usr/bin/memcached"],
};

/// The image, from the cache if its packages are what they were.
pub fn build(cache: &Cache, recipe: &Recipe) -> Result<Layout> {
    let closure = closure(recipe.packages)?;
    let mut key = Key::new(RECIPE).with(recipe.name.as_bytes());
    for (package, version) in &closure {
        key = key.with(package.as_bytes()).with(version.as_bytes());
    }
    for (path, text) in recipe.files {
        key = key.with(path.as_bytes()).with(text.as_bytes());
    }
    for word in recipe.command {
        key = key.with(word.as_bytes());
    }
    if has_python(&closure) {
        key = key.with(BYTE_CODE.as_bytes());
    }
    let entry = cache.entry(&format!("image-{}", recipe.name), key, |draft| {
        say(format!(
            "test image {}: {} packages",
            recipe.name,
            closure.len()
        ));
        make(recipe, &closure, draft)
    })?;
    Ok(Layout::open(entry))
}

fn make(recipe: &Recipe, closure: &[(String, String)], draft: &Path) -> Result<()> {
    let root = draft.join("root");
    for name in MERGED {
        fs::create_dir_all(root.join("usr").join(name))?;
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    for (package, version) in closure {
        let archive = packages::download(package, version, draft)?;
        packages::unpack(&archive, &root)?;
        fs::remove_file(archive)?;
    }
    if has_python(closure) {
        byte_code(&root).context("byte code of Python's library")?;
    }
    let mut layers = vec![busybox()?];
    if !closure.is_empty() {
        let mut layer = Layer::default();
        layer.tree(&root, SKIP)?;
        layers.push(layer.finish()?);
    }
    layers.push(configuration(recipe)?);
    Layout::write(draft, &layers, &config(recipe))?;
    Ok(fs::remove_dir_all(root)?)
}

fn has_python(closure: &[(String, String)]) -> bool {
    closure.iter().any(|(name, _)| name == "python3-minimal")
}

/// Compiles the library as its maintainer scripts would, by the interpreter in
/// `root`: to do so at each start takes minutes under emulation. The sources go,
/// so that the image is no larger.
fn byte_code(root: &Path) -> Result<()> {
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let modules = fs::read_dir(root.join("usr/lib"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.join("os.py").exists())
        .context("no library")?;
    let fixed = ["-S", "-m", "compileall", "-q", "-b"];
    command::output(
        command(libraries.join("ld-linux-x86-64.so.2"), ["--library-path"])
            .arg(&libraries)
            .arg(root.join("usr/bin/python3"))
            .args(fixed)
            .args(["--invalidation-mode", "unchecked-hash", "-s"])
            .args([root, &modules])
            .env("PYTHONHOME", root.join("usr")),
    )?;
    remove_sources(&modules)
}

fn remove_sources(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            remove_sources(&path)?;
        } else if path.with_extension("pyc").exists() && path.extension() == Some("py".as_ref()) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn config(recipe: &Recipe) -> Value {
    json!({
        "Cmd": recipe.command,
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "WorkingDir": "/",
    })
}

fn busybox() -> Result<Vec<u8>> {
    let program = "/bin/busybox";
    let bytes = fs::read(program).context("busybox-static")?;
    let applets = command::text(&mut command(program, ["--list"]))?;
    let mut layer = Layer::default();
    for directory in ["usr", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"] {
        layer.directory(directory, 0o755)?;
    }
    for name in MERGED {
        layer.link(name, &format!("usr/{name}"))?;
    }
    layer.file("usr/bin/busybox", 0o755, &bytes)?;
    for applet in applets.lines().filter(|name| *name != "busybox") {
        layer.link(&format!("usr/bin/{applet}"), "busybox")?;
    }
    layer.finish()
}

/// The top layer: users, places to write, the recipe's files, and a file that
/// it removes again from the layer below.
fn configuration(recipe: &Recipe) -> Result<Vec<u8>> {
    let mut layer = Layer::default();
    let mut directories = BTreeSet::from(["etc", "run", "var", "var/log", "var/lib", "root"]);
    for (path, _) in recipe.files {
        directories.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
    }
    for directory in directories {
        layer.directory(directory, 0o755)?;
    }
    for (path, mode) in [
        ("tmp", 0o1777),
        ("var/log/nginx", 0o755),
        ("var/lib/nginx", 0o755),
    ] {
        layer.directory(path, mode)?;
    }
    layer.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    )?;
    layer.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    layer.whiteout("usr/bin/wall")?;
    for (path, text) in recipe.files {
        layer.file(path, 0o644, text.as_bytes())?;
    }
    layer.finish()
}

/// Every package that the given ones need, as apt resolves them on an empty machine.
fn closure(wanted: &[&str]) -> Result<Vec<(String, String)>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let fixed = [
        "-o",
        "Dir::State::status=/dev/null",
        "--no-install-recommends",
        "-s",
        "-q",
        "install",
    ];
    let plan = command::text(command("apt-get", fixed).args(wanted).env("LC_ALL", "C"))?;
    let mut found = Vec::new();
    for line in plan.lines().filter_map(|line| line.strip_prefix("Inst ")) {
        let mut words = line.split([' ', '(']).filter(|word| !word.is_empty());
        let package = words.next().context("apt's plan")?;
        let version = words.next().context("apt's plan")?;
        let needless = NEEDLESS.iter().any(|start| package.starts_with(start));
        if wanted.contains(&package) || !needless {
            found.push((package.to_owned(), version.to_owned()));
        }
    }
    found.sort();
    Ok(found)
}
