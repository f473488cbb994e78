//! Which programs, and how each is started.

use super::{Load, Part, Program};

const fn main(image: &'static str, command: &'static [&'static str], mib: u32) -> Part {
    Part {
        name: "main",
        image,
        command,
        mib,
    }
}

const fn backend(name: &'static str, command: &'static [&'static str]) -> Part {
    Part {
        name,
        image: "busybox",
        command,
        mib: 16,
    }
}

const ROOT: u32 = 0;
const NOBODY: u32 = 65534;

/// Small enough for each run of the tests.
pub const FAST: &[Program] = &[
    Program {
        name: "nginx-files",
        parts: &[main(
            "nginx",
            &["/usr/sbin/nginx", "-c", "/etc/nginx/nginx.conf"],
            24,
        )],
        load: Load::Python(include_str!("nginx.py")),
        kills: &[],
        data: "/srv/www/files",
        user: ROOT,
    },
    Program {
        name: "redis",
        parts: &[main(
            "redis",
            &[
                "/usr/bin/redis-server",
                "--dir",
                "/data",
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
            ],
            32,
        )],
        load: Load::Python(include_str!("redis.py")),
        kills: &["main"],
        data: "/data",
        user: ROOT,
    },
    Program {
        name: "memcached",
        parts: &[main("memcached", &["/usr/bin/memcached", "-u", "root"], 32)],
        load: Load::Python(include_str!("memcached.py")),
        kills: &[],
        data: "/data",
        user: ROOT,
    },
    Program {
        name: "web-app",
        parts: &[main(
            "python",
            &["/usr/bin/python3", "-c", include_str!("web_app.py")],
            40,
        )],
        load: Load::Python(include_str!("web.py")),
        kills: &[],
        data: "/data",
        user: ROOT,
    },
    Program {
        name: "sqlite",
        parts: &[main(
            "python",
            &[
                "/usr/bin/python3",
                "-c",
                include_str!("sqlite_app.py"),
                "keeper",
            ],
            40,
        )],
        load: Load::Python(include_str!("sqlite.py")),
        kills: &["main"],
        data: "/data",
        user: ROOT,
    },
];

const POSTGRES: &str = "set -e; cd /usr/lib/postgresql/*/bin
    [ -s /data/base/PG_VERSION ] || ./initdb -D /data/base -A trust --no-locale -N
    exec ./postgres -D /data/base -h 127.0.0.1 -k /tmp -c shared_buffers=16MB";

/// With large images, or slow to start: for long tests.
pub const SLOW: &[Program] = &[
    Program {
        name: "postgres",
        parts: &[main("postgres", &["/bin/sh", "-c", POSTGRES], 128)],
        load: Load::Shell {
            image: "postgres",
            script: include_str!("postgres.sh"),
        },
        kills: &["main"],
        data: "/data",
        user: NOBODY,
    },
    Program {
        name: "node",
        parts: &[main(
            "node",
            &["/usr/bin/node", "-e", include_str!("node_app.js")],
            160,
        )],
        load: Load::Python(include_str!("node.py")),
        kills: &[],
        data: "/data",
        user: ROOT,
    },
    Program {
        name: "jvm",
        parts: &[main(
            "jvm",
            &[
                "/bin/sh",
                "-c",
                "exec /usr/lib/jvm/default-java/bin/java -Xmx64m -jar /usr/share/java/js.jar -e \"$0\"",
                include_str!("jvm_app.js"),
            ],
            256,
        )],
        load: Load::Python(include_str!("jvm.py")),
        kills: &[],
        data: "/data",
        user: ROOT,
    },
    Program {
        name: "mosquitto",
        parts: &[main(
            "mosquitto",
            &["/usr/sbin/mosquitto", "-c", "/etc/mosquitto/here.conf"],
            32,
        )],
        load: Load::Shell {
            image: "mosquitto",
            script: include_str!("mosquitto.sh"),
        },
        kills: &[],
        data: "/data",
        user: ROOT,
    },
    Program {
        name: "haproxy",
        parts: &[
            main(
                "haproxy",
                &["/usr/sbin/haproxy", "-db", "-f", "/etc/haproxy/here.cfg"],
                64,
            ),
            backend(
                "one",
                &[
                    "/bin/sh",
                    "-c",
                    "mkdir -p /www; echo one >/www/name; exec httpd -f -h /www -p 8001",
                ],
            ),
            backend(
                "two",
                &[
                    "/bin/sh",
                    "-c",
                    "mkdir -p /www; echo two >/www/name; exec httpd -f -h /www -p 8002",
                ],
            ),
        ],
        load: Load::Python(include_str!("haproxy.py")),
        kills: &["two"],
        data: "/data",
        user: ROOT,
    },
];
