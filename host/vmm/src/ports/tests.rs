#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use sys::memory::{Range, Source, map};

fn ports() -> Ports {
    let range = Range {
        start: 0,
        length: 1 << 20,
    };
    let memory = map(&[range], Source::Anonymous).unwrap();
    let line = EventFd::new(0).unwrap();
    Ports::new(memory, line, Arc::new(Output::new().unwrap())).unwrap()
}

#[test]
fn a_reset_says_what_the_guest_meant() {
    for (flag, modem_control, exit) in [
        (0, 0x08, Exit::Reset),
        (0, 0x0C, Exit::PowerOff),
        (WARM, 0x08, Exit::Panic),
        (WARM, 0x0C, Exit::Panic),
    ] {
        let mut ports = ports();
        let at = GuestAddress(layout::RESET_FLAG);
        ports.memory.write_obj(flag, at).unwrap();
        assert_eq!(ports.write(0x3FC, &[modem_control]), None);
        assert_eq!(ports.write(0x64, &[0xD1]), None);
        assert_eq!(ports.write(0x64, &[0xFE]), Some(exit));
    }
}

#[test]
fn the_clock_tells_the_time() {
    for (seconds, expected) in [
        (0, (1970, 1, 1, 5, 0, 0, 0)),
        (951_782_400, (2000, 2, 29, 3, 0, 0, 0)),
        (1_795_219_199, (2026, 11, 20, 6, 23, 59, 59)),
    ] {
        let utc = Utc::from_unix(seconds);
        let seen = (
            utc.year,
            utc.month,
            utc.day,
            utc.weekday,
            utc.hour,
            utc.minute,
            utc.second,
        );
        assert_eq!(seen, expected, "{seconds}");
    }
    let mut ports = ports();
    let mut byte = [0];
    let _ = ports.write(0x70, &[0x04]);
    ports.read(0x71, &mut byte, || Utc::from_unix(86_399));
    assert_eq!(byte, [0x23]);
}

#[test]
fn serial_output_is_bounded() {
    let mut ports = ports();
    for _ in 0..fuzzing::rounds(100_000) {
        assert_eq!(ports.write(0x3F8, b"x"), None);
    }
    let mut seen = 0;
    let state = ports.freeze();
    ports.thaw(&state).unwrap();
    assert_eq!(ports.freeze(), state);
    ports.serial.output.drain(|bytes| {
        seen += bytes.len();
        bytes.len()
    });
    assert_eq!(seen, 64 << 10);
}

#[test]
fn odd_accesses_do_nothing() {
    let mut ports = ports();
    for port in 0..=u16::MAX {
        let mut data = [0; 4];
        ports.read(port, &mut data, || Utc::from_unix(0));
        assert_eq!(data, [0xFF; 4]);
        assert_eq!(ports.write(port, &[0xFE; 2]), None);
    }
}
