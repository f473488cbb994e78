//! Logs, exec, attach, port-forward; hostile and vanishing hosts.

use crate::harness::{Control, Guest, Wire, container, shell};
use guest_protocol::{
    Action, Channel, Container, End, Exec, LOG_BUFFER, Log, Open, RefusalKind, Stream,
};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};

fn exec(args: &[&str]) -> Exec {
    Exec {
        container: "main".to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        stdin: false,
        stdout: true,
        stderr: true,
        tty: false,
    }
}

/// A guest with a container `main` that sleeps.
fn sleeping() -> Option<(Guest, Control)> {
    let guest = Guest::start()?;
    let mut control = guest.ready();
    control
        .start(container("main", &["sleep", "1000"]))
        .unwrap();
    Some((guest, control))
}

fn open_exec(guest: &Guest, exec: Exec) -> Wire {
    guest.open(&Open::Exec(Box::new(exec))).unwrap()
}

#[test]
fn exec_gives_streams_and_codes() {
    let Some((guest, _control)) = sleeping() else {
        return;
    };
    let table = [
        (
            "echo out; echo err >&2; exit 4",
            "out\n",
            "err\n",
            End::Code(4),
        ),
        ("kill -15 $$", "", "", End::Signal(15)),
        ("echo $COLOUR; id -u", "red\n0\n", "", End::Code(0)),
    ];
    for (script, stdout, stderr, end) in table {
        let mut wire = open_exec(&guest, exec(&["sh", "-c", script]));
        let expected = (stdout.to_owned(), stderr.to_owned(), end);
        assert_eq!(wire.until_exit(), expected, "{script}");
    }
    let missing = Open::Exec(Box::new(exec(&["foo"])));
    let refusal = guest.open(&missing).err().unwrap();
    assert_eq!(refusal.kind, RefusalKind::NotFound);
    assert_eq!(
        refusal.message,
        "exec: \"foo\": executable file not found in $PATH"
    );
}

#[test]
fn exec_stdin_is_half_closed() {
    let Some((guest, _control)) = sleeping() else {
        return;
    };
    let wants = Exec {
        stdin: true,
        ..exec(&["cat"])
    };
    let mut wire = open_exec(&guest, wants);
    let data: Vec<u8> = (0..1 << 20)
        .map(|index: u32| b'a' + (index % 26) as u8)
        .collect();
    let mut writer = Wire(wire.0.try_clone().unwrap());
    let sent = data.clone();
    let thread = std::thread::spawn(move || {
        for piece in sent.chunks(guest_protocol::DATA_MAX) {
            writer.send_on(Channel::Stdin, piece);
        }
        writer.send(&Stream::CloseStdin);
    });
    let (stdout, _, end) = wire.until_exit();
    thread.join().unwrap();
    assert_eq!(end, End::Code(0));
    assert!(
        stdout.as_bytes() == data,
        "{} bytes came back",
        stdout.len()
    );
}

#[test]
fn a_terminal_has_a_size_and_a_controlling_process() {
    let Some((guest, _control)) = sleeping() else {
        return;
    };
    let wants = Exec {
        stdin: true,
        tty: true,
        ..exec(&["sh", "-c", "read line; stty size; tty; echo $TERM; cat"])
    };
    let mut wire = open_exec(&guest, wants);
    wire.send(&Stream::Resize {
        columns: 132,
        rows: 43,
    });
    wire.send_on(Channel::Stdin, b"go\n");
    let seen = wire.until("xterm\r\n");
    assert!(seen.contains("43 132\r\n/dev/pts/0\r\n"), "{seen:?}");
    // ^C reaches the foreground process.
    wire.send_on(Channel::Stdin, &[3]);
    assert_eq!(wire.until_exit().2, End::Signal(2));
}

#[test]
fn what_is_executed_dies_with_its_connection() {
    let Some((guest, _control)) = sleeping() else {
        return;
    };
    let script = "echo started; sleep 777";
    let mut wire = open_exec(&guest, exec(&["sh", "-c", script]));
    wire.until("started\n");
    drop(wire);
    let look = "while ps | grep -q '[e]cho started'; do sleep 0.01; done; echo gone";
    let mut wire = open_exec(&guest, exec(&["sh", "-c", look]));
    assert_eq!(wire.until_exit().0, "gone\n");
}

#[test]
fn exec_lasts_until_its_output_is_closed() {
    let Some((guest, _control)) = sleeping() else {
        return;
    };
    let before = guest.threads();
    let script = "(sleep 0.3; echo late) & echo now; exit 3";
    let mut wire = open_exec(&guest, exec(&["sh", "-c", script]));
    let expected = ("now\nlate\n".to_owned(), String::new(), End::Code(3));
    assert_eq!(wire.until_exit(), expected);
    drop(wire);
    guest.wait_threads(before);
    let mut wire = open_exec(&guest, exec(&["sh", "-c", "sleep 777 & echo now"]));
    wire.until("now\n");
    assert!(guest.threads() > before);
    drop(wire);
    guest.wait_threads(before);
}

#[test]
fn attach_sees_and_writes_the_container_s_own_streams() {
    let Some(guest) = Guest::start() else { return };
    let mut control = guest.ready();
    let main = Container {
        stdin: true,
        ..shell("main", "read x; echo $x; read x; echo $x; echo end; exit 6")
    };
    control.start(main).unwrap();
    let attach = Open::Attach {
        container: "main".to_owned(),
        stdin: true,
    };
    let mut first = guest.open(&attach).unwrap();
    first.send_on(Channel::Stdin, b"one\n");
    assert_eq!(first.until("one\n"), "one\n");
    // Detaching leaves the container and its input as they are.
    first.send(&Stream::CloseStdin);
    drop(first);
    let mut second = guest.open(&attach).unwrap();
    second.send_on(Channel::Stdin, b"two\n");
    let (stdout, _, end) = second.until_exit();
    assert_eq!((stdout.as_str(), end), ("two\nend\n", End::Code(6)));
    assert_eq!(guest.output("main", 0).0, "one\ntwo\nend\n");
}

#[test]
fn input_that_is_for_one_ends_with_who_was_attached() {
    let Some(guest) = Guest::start() else { return };
    let mut control = guest.ready();
    for (name, closes) in [("closes", true), ("goes", false)] {
        let main = Container {
            stdin: true,
            stdin_once: true,
            ..shell(name, "cat; echo end; sleep 1; exit 6")
        };
        control.start(main).unwrap();
        let attach = |stdin| Open::Attach {
            container: name.to_owned(),
            stdin,
        };
        // Who only looks doesn't count.
        drop(guest.open(&attach(false)).unwrap());
        let mut first = guest.open(&attach(true)).unwrap();
        first.send_on(Channel::Stdin, b"one\n");
        assert_eq!(first.until("one\n"), "one\n");
        if closes {
            first.send(&Stream::CloseStdin);
            let (stdout, _, end) = first.until_exit();
            assert_eq!((stdout.as_str(), end), ("end\n", End::Code(6)));
        } else {
            drop(first);
        }
        assert_eq!(control.end(name, 0).0, End::Code(6));
        assert_eq!(guest.output(name, 0).0, "one\nend\n");
    }
}

#[test]
fn a_container_s_terminal_can_be_attached() {
    let Some(guest) = Guest::start() else { return };
    let mut control = guest.ready();
    let script =
        "read line; stty size; readlink /proc/self/fd/0; test -c /dev/console && echo console";
    let main = Container {
        stdin: true,
        tty: true,
        ..shell("main", script)
    };
    control.start(main).unwrap();
    let attach = Open::Attach {
        container: "main".to_owned(),
        stdin: true,
    };
    let mut wire = guest.open(&attach).unwrap();
    wire.send(&Stream::Resize {
        columns: 90,
        rows: 30,
    });
    wire.send_on(Channel::Stdin, b"go\n");
    let (stdout, _, end) = wire.until_exit();
    assert!(
        stdout.ends_with("30 90\r\n/dev/pts/0\r\nconsole\r\n"),
        "{stdout:?}"
    );
    assert_eq!(end, End::Code(0));
}

#[test]
fn logs_wait_for_acknowledgement_and_resume() {
    let Some(guest) = Guest::start() else { return };
    let mut control = guest.ready();
    let total = 4 * LOG_BUFFER;
    let script = format!("dd if=/dev/zero bs=4096 count={} 2>/dev/null", total / 4096);
    control.start(shell("main", &script)).unwrap();
    let open = |from| Open::Logs {
        container: "main".to_owned(),
        attempt: 0,
        from,
    };
    // Without acknowledgement only so much comes, and it comes again.
    for _ in 0..2 {
        let mut wire = guest.open(&open(0)).unwrap();
        let mut seen = 0;
        while seen < LOG_BUFFER / 2 {
            let (channel, payload) = wire.frame();
            seen += if channel == Channel::Stdout {
                payload.len()
            } else {
                0
            };
        }
    }
    let mut wire = guest.open(&open(1000)).unwrap();
    let mut offset = 0;
    loop {
        let (channel, payload) = wire.frame();
        if channel == Channel::Stdout {
            offset += payload.len() as u64;
            // Only half of it is safe: the rest may be asked for again.
            wire.send(&Log::Ack { offset: offset / 2 });
            if offset > (LOG_BUFFER + LOG_BUFFER / 4) as u64 {
                break;
            }
            continue;
        }
        match serde_json::from_slice(&payload).unwrap() {
            Log::From { offset: from } => offset = from,
            Log::At { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(offset >= 1000);
    drop(wire);
    let mut wire = guest.open(&open(0)).unwrap();
    let Log::From { offset: from } = wire.json() else {
        panic!("no start");
    };
    assert!(from > 0 && from <= offset / 2, "{from} of {offset}");
    let mut at = from;
    loop {
        let (channel, payload) = wire.frame();
        match channel {
            Channel::Stdout => at += payload.len() as u64,
            _ => {
                if let Log::End { offset } = serde_json::from_slice(&payload).unwrap() {
                    assert_eq!(offset, total as u64);
                    break;
                }
            }
        }
        wire.send(&Log::Ack { offset: at });
    }
    assert_eq!(at, total as u64);
    assert_eq!(control.end("main", 0).0, End::Code(0));
}

#[test]
fn ports_are_forwarded_with_half_close() {
    let Some(guest) = Guest::start() else { return };
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        stream.write_all(format!("got {text}").as_bytes()).unwrap();
        drop(server);
    });
    let mut wire = guest.open(&Open::PortForward { port }).unwrap();
    wire.0.write_all(b"hello").unwrap();
    wire.0.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    wire.0.read_to_string(&mut text).unwrap();
    thread.join().unwrap();
    assert_eq!(text, "got hello");
    let refusal = guest.open(&Open::PortForward { port }).err().unwrap();
    assert!(refusal.message.contains("connection refused"), "{refusal}");
}

#[test]
fn no_bytes_from_the_host_end_the_guest() {
    let Some((guest, mut control)) = sleeping() else {
        return;
    };
    let good = serde_json::to_vec(&Open::Exec(Box::new(exec(&["true"])))).unwrap();
    let before = guest.threads();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..300_u32 {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&(good.len() as u32).to_le_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&good);
        for _ in 0..=round % 4 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = usize::try_from(seed >> 32).unwrap() % bytes.len();
            bytes[at] ^= 1 << (seed % 8);
        }
        let mut wire = guest.connect();
        // The guest may have closed it already.
        let _ = wire.0.write_all(&bytes);
        let _ = wire.0.shutdown(Shutdown::Both);
    }
    assert!(control.ask(Action::Stats).is_ok());
    // One connection too many would be closed unread.
    guest.wait_threads(before);
    assert_eq!(
        open_exec(&guest, exec(&["echo", "alive"])).until_exit().0,
        "alive\n"
    );
}
