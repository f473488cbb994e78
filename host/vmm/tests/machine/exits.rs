//! Each way in which a guest ends, as event and as exit status; and how the
//! process behaves towards its peer.

use crate::guest::{MARK_PANIC, MARK_POWER_OFF, RESET, SPIN, Vmm, print};
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
