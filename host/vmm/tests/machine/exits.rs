//! Each way in which a guest ends, as event and as exit status; and how the
//! process behaves towards its peer.

use crate::guest::{MARK_PANIC, MARK_POWER_OFF, RESET, SPIN, Vmm, print};
use machine_spec::Transport;
use machine_spec::control::{Answer, Request, State};
use machine_spec::exit::{Code, Exit};

#[test]
fn each_end_has_its_code() {
    // `lidt` of nothing, then an exception.
    let triple_fault: &[u8] = &[0x0F, 0x01, 0x1D, 0, 0, 0, 0, 0x0F, 0x0B];
    for (code, exit) in [
        (RESET.to_vec(), Exit::Reset),
        ([MARK_POWER_OFF, RESET].concat(), Exit::PowerOff),
        ([MARK_PANIC, RESET].concat(), Exit::Panic),
        ([MARK_POWER_OFF, MARK_PANIC, RESET].concat(), Exit::Panic),
        (triple_fault.to_vec(), Exit::TripleFault),
    ] {
        let code = [print("hello"), code].concat();
        let (seen, status, output) = Vmm::boot(&code).end();
        assert_eq!(seen, Some(exit.clone()));
        assert_eq!(status, Some(exit.code() as i32));
        assert_eq!(output, "hello");
    }
}

#[test]
fn a_paused_guest_resumes_and_a_killed_one_ends() {
    let mut vmm = Vmm::boot(SPIN);
    let status = |vmm: &mut Vmm| match vmm.ask(Request::Status, vec![]) {
        Answer::Status(status) => status.state,
        Answer::Done => panic!("no status"),
    };
    assert_eq!(status(&mut vmm), State::Running);
    assert_eq!(vmm.ask(Request::Pause, vec![]), Answer::Done);
    assert_eq!(status(&mut vmm), State::Paused);
    assert_eq!(vmm.ask(Request::Resume, vec![]), Answer::Done);
    assert_eq!(status(&mut vmm), State::Running);
    assert_eq!(vmm.ask(Request::Kill, vec![]), Answer::Done);
    let (exit, code, _) = vmm.end();
    assert_eq!(exit, Some(Exit::Killed));
    assert_eq!(code, Some(Code::Killed as i32));
}

#[test]
fn a_guest_outlives_its_peer() {
    let mut vmm = Vmm::boot(SPIN);
    let (replacement, _other) = sys::message::pair().unwrap();
    let control = std::mem::replace(&mut vmm.control, replacement);
    drop(control);
    let stat = format!("/proc/{}/stat", vmm.child.id());
    let ticks = || {
        let text = std::fs::read_to_string(&stat).unwrap();
        let fields: Vec<&str> = text.rsplit(')').next().unwrap().split(' ').collect();
        fields[12].parse::<u64>().unwrap() + fields[13].parse::<u64>().unwrap()
    };
    let before = ticks();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while ticks() < before + 5 {
        assert!(
            std::time::Instant::now() < deadline,
            "the guest stands still"
        );
        std::thread::yield_now();
    }
    vmm.child.kill().unwrap();
    vmm.child.wait().unwrap();
}

#[test]
fn no_guest_outlives_the_thread_that_tests_it() {
    use std::os::unix::process::ExitStatusExt;
    let mut vmm = std::thread::spawn(|| Vmm::boot(SPIN)).join().unwrap();
    assert_eq!(vmm.child.wait().unwrap().signal(), Some(9));
}

#[test]
fn a_guest_sees_pci_where_it_is_asked_for() {
    // Selects 00:01.0 and sends the first three bytes of its identity.
    let mut code = vec![0x66, 0xBA, 0xF8, 0x0C]; // mov dx, 0xCF8
    code.extend([0xB8, 0x00, 0x08, 0x00, 0x80, 0xEF]); // mov eax, ...; out dx, eax
    code.extend([0x66, 0xBA, 0xFC, 0x0C, 0xED]); // mov dx, 0xCFC; in eax, dx
    for _ in 0..3 {
        code.extend([0x66, 0xBA, 0xF8, 0x03, 0xEE]); // mov dx, 0x3F8; out dx, al
        code.extend([0xC1, 0xE8, 8]); // shr eax, 8
    }
    code.extend(RESET);
    for (transport, identity) in [
        (Transport::Pci, [0xF4, 0x1A, 0x53]),
        (Transport::Mmio, [0xFF; 3]),
    ] {
        let (_, _, output) = Vmm::boot_with(transport, &code).end();
        assert_eq!(output, String::from_utf8_lossy(&identity));
    }
}
