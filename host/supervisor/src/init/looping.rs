//! The loop of PID 1: one wait, then whatever is due.
//!
//! Owns the roles' processes, the launch socket, the pipes, and the timer by
//! which back-off, watchdog and the orderly end advance.

use super::boot::Booted;
use super::buttons::Buttons;
use super::launch::{Launcher, Wants};
use super::pipes::Pipe;
use super::role::{self, Backoff, RoleSpec};
use super::stop::{Alive, Effect, Phase};
use super::storage;
use crate::roles::CONSOLE_FD;
use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;
use sys::event::{Interest, Poll, Timer};
use sys::machine::Power;
use sys::process::{Child, Reaped};
use sys::signals::Signal;

const SIGNALS: u64 = 1;
const UEVENTS: u64 = 2;
const TIMER: u64 = 3;
const LAUNCH: u64 = 4;
const BUTTONS: u64 = 5;
const PIPES: u64 = 100;
const EVENTS_AT_ONCE: usize = 32;

/// The number of the launch socket in `node`.
const LAUNCH_FD: &str = "3";

/// Time since boot.
pub(super) fn now() -> Duration {
    Duration::from_nanos(sys::event::monotonic_ns())
}

struct Role {
    spec: RoleSpec,
    backoff: Backoff,
    child: Option<Child>,
    /// Its pipe's place in `pipes`.
    pipe: usize,
}

struct Init {
    booted: Booted,
    poll: Poll,
    timer: Timer,
    roles: Vec<Role>,
    pipes: Vec<Pipe>,
    vmm_pipe: usize,
    test_agent: Option<Child>,
    launcher: Launcher,
    buttons: Buttons,
    phase: Phase,
    next_pet: Duration,
}

/// Never returns but with what makes going on impossible.
pub(super) fn run(booted: io::Result<Booted>) -> io::Result<Infallible> {
    let mut init = Init::new(booted?)?;
    init.start_test_agent();
    loop {
        init.advance();
        init.timer.set(Some(init.until_next()))?;
        for ready in init.poll.wait()? {
            init.handle(ready.token);
        }
    }
}

impl Init {
    fn new(mut booted: Booted) -> io::Result<Self> {
        let poll = Poll::new(EVENTS_AT_ONCE)?;
        let timer = Timer::new()?;
        poll.add(&booted.signals, SIGNALS, Interest::Read)?;
        poll.add(&booted.uevents, UEVENTS, Interest::Read)?;
        poll.add(&timer, TIMER, Interest::Read)?;
        booted.system_log.drain(&booted.journal, now());
        let mut pipes = Vec::new();
        let mut roles = Vec::new();
        for spec in [role::FABRIC, role::CONTROL, role::NODE] {
            roles.push(Role {
                spec,
                backoff: Backoff::new(),
                child: None,
                pipe: pipes.len(),
            });
            pipes.push(Pipe::new(spec.name)?);
        }
        let vmm_pipe = pipes.len();
        pipes.push(Pipe::new("vmm")?);
        pipes.push(Pipe::new("test")?);
        for (number, pipe) in (PIPES..).zip(&pipes) {
            poll.add(pipe.reader(), number, Interest::Read)?;
        }
        let mut init = Self {
            booted,
            poll,
            timer,
            roles,
            pipes,
            vmm_pipe,
            test_agent: None,
            launcher: Launcher::default(),
            buttons: Buttons::default(),
            phase: Phase::Running,
            next_pet: Duration::ZERO,
        };
        init.watch_buttons();
        Ok(init)
    }

    fn start_test_agent(&mut self) {
        let path = role::TEST_AGENT.to_str().unwrap_or_default();
        if !self.booted.test_agent || !Path::new(path).exists() {
            return;
        }
        let Some(pipe) = self.pipes.last() else {
            return;
        };
        match role::start_test_agent(pipe.writer()) {
            Ok(child) => {
                log::warn!("atoll.test=1: the test agent runs with full rights");
                self.test_agent = Some(child);
            }
            Err(error) => log::error!("test agent: {error}"),
        }
    }

    fn handle(&mut self, token: u64) {
        match token {
            SIGNALS => self.signals(),
            UEVENTS => self.uevents(),
            TIMER => self.timer.clear(),
            LAUNCH => self.serve_launches(),
            BUTTONS => {
                if self.buttons.pressed() {
                    log::info!("power button");
                    self.stop(Power::Off);
                }
            }
            pipe => {
                let number = usize::try_from(pipe.saturating_sub(PIPES)).unwrap_or(usize::MAX);
                if let Some(pipe) = self.pipes.get_mut(number) {
                    pipe.drain(&self.booted.journal, now());
                }
            }
        }
    }

    fn signals(&mut self) {
        while let Ok(Some(signal)) = self.booted.signals.next() {
            match signal {
                Signal::Child => self.reap(),
                Signal::Interrupt => self.stop(Power::Restart),
                Signal::Terminate => self.stop(Power::Off),
            }
        }
    }

    fn reap(&mut self) {
        while let Ok(Some(reaped)) = sys::process::reap() {
            if self.launcher.reaped(reaped.pid, reaped.status) {
                let how = sys::process::describe_status(reaped.status);
                log::info!("vmm {} ended: {how}", reaped.pid.as_raw_nonzero());
                self.serve_launches();
            } else {
                self.role_ended(reaped);
            }
        }
    }

    fn role_ended(&mut self, reaped: Reaped) {
        let how = sys::process::describe_status(reaped.status);
        let is = |child: &Option<Child>| child.as_ref().is_some_and(|c| c.pid == reaped.pid);
        if is(&self.test_agent) {
            log::warn!("the test agent ended: {how}");
            self.test_agent = None;
        }
        let Some(role) = self.roles.iter_mut().find(|role| is(&role.child)) else {
            return;
        };
        role.child = None;
        let wait = role.backoff.ended(now());
        let name = role.spec.name;
        if self.phase.is_running() {
            log::error!(
                "{name} ended: {how}; starts again in {} ms",
                wait.as_millis()
            );
        } else {
            log::info!("{name} ended: {how}");
        }
        if name == role::NODE.name {
            self.forget_node();
        }
    }

    fn forget_node(&mut self) {
        if let Some(socket) = self.launcher.socket() {
            drop(self.poll.remove(socket));
        }
        self.launcher.detach();
    }

    fn uevents(&mut self) {
        loop {
            match self.booted.uevents.next() {
                Ok(None) => return,
                Ok(Some(event)) => {
                    if event.value("ACTION") != Some("add") {
                        continue;
                    }
                    if let (Some(modules), Some(alias)) =
                        (&self.booted.modules, event.value("MODALIAS"))
                    {
                        modules.load_for_device(alias);
                    }
                    if event.value("SUBSYSTEM") == Some("input") {
                        self.watch_buttons();
                    }
                }
                Err(_) => {
                    // Some were lost: look at everything.
                    if let Some(modules) = &self.booted.modules {
                        modules.load_for_present();
                    }
                    self.watch_buttons();
                    return;
                }
            }
        }
    }

    fn watch_buttons(&mut self) {
        for name in self.buttons.scan() {
            if let Some(fd) = self.buttons.fd(&name) {
                drop(self.poll.add(fd, BUTTONS, Interest::Read));
            }
        }
    }

    fn serve_launches(&mut self) {
        let (jail, pipes) = (&self.booted.jail, &self.pipes);
        let vmm_pipe = self.vmm_pipe;
        let mut start = |id, limits, slot| {
            let missing = || io::Error::from(io::ErrorKind::Unsupported);
            let jail = jail.as_ref().ok_or_else(missing)?;
            let log = pipes.get(vmm_pipe).ok_or_else(missing)?.writer();
            jail.start(id, limits, slot, log)
        };
        let wants = match self.launcher.serve(&mut start) {
            Wants::Requests => Interest::Read,
            Wants::Room => Interest::Write,
            Wants::Nothing => return self.forget_node(),
        };
        if let Some(socket) = self.launcher.socket() {
            drop(self.poll.change(socket, LAUNCH, wants));
        }
    }

    /// Everything that depends on time.
    fn advance(&mut self) {
        let now = now();
        if now >= self.next_pet
            && let Some(watchdog) = &mut self.booted.watchdog
        {
            watchdog
                .pet()
                .unwrap_or_else(|error| log::error!("watchdog: {error}"));
            let interval = Duration::from_secs(watchdog.timeout_seconds.into()) / 3;
            self.next_pet = now + interval.max(Duration::from_millis(300));
        }
        if self.phase.is_running() {
            for index in 0..self.roles.len() {
                self.start_if_due(index, now);
            }
            return;
        }
        let alive = Alive {
            node: self.is_alive(role::NODE.name),
            others: self.is_alive(role::CONTROL.name) || self.is_alive(role::FABRIC.name),
        };
        let effect = self.phase.step(alive, now);
        self.apply(effect);
    }

    fn is_alive(&self, name: &str) -> bool {
        let named = |role: &&Role| role.spec.name == name;
        self.roles
            .iter()
            .find(named)
            .is_some_and(|role| role.child.is_some())
    }

    fn start_if_due(&mut self, index: usize, now: Duration) {
        let Some(role) = self.roles.get_mut(index) else {
            return;
        };
        if !role.backoff.is_due(now) {
            return;
        }
        let Some(pipe) = self.pipes.get(role.pipe) else {
            return;
        };
        let started = match role.spec.name {
            "node" => start_node(role.spec, pipe, &mut self.launcher, &self.poll),
            "control" => start_control(role.spec, pipe, self.booted.show_credentials),
            _ => role.spec.start(pipe.writer(), &[], &[]),
        };
        match started {
            Ok(child) => {
                log::info!(
                    "{} runs as process {}",
                    role.spec.name,
                    child.pid.as_raw_nonzero()
                );
                role.child = Some(child);
                role.backoff.started(now);
            }
            Err(error) => {
                let wait = role.backoff.ended(now);
                let name = role.spec.name;
                log::error!("{name}: {error}; again in {} ms", wait.as_millis());
            }
        }
    }

    fn until_next(&self) -> Duration {
        let now = now();
        let running = self.phase.is_running();
        let starts = self
            .roles
            .iter()
            .filter_map(|role| role.backoff.due().filter(|_| running));
        let pet = self.booted.watchdog.is_some().then_some(self.next_pet);
        let next = starts.chain(pet).chain(self.phase.deadline()).min();
        next.map_or(Duration::from_secs(60), |next| next.saturating_sub(now))
    }

    fn stop(&mut self, power: Power) {
        let effect = self.phase.request(power, now(), self.booted.for_pods);
        if effect == Effect::TerminateNode {
            let how = if power == Power::Off {
                "power off"
            } else {
                "restart"
            };
            log::info!("{how}: stopping pods and roles");
        }
        self.apply(effect);
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::TerminateNode => self.terminate_roles(&[role::NODE.name]),
            Effect::KillMachinesTerminateRoles => {
                let left = self.launcher.running();
                if left > 0 {
                    log::warn!("{left} micro-VMs are still running and are killed");
                }
                self.launcher.kill_all();
                let others = [role::CONTROL.name, role::FABRIC.name];
                self.terminate_roles(&others);
            }
            Effect::KillRest => self.end(),
        }
    }

    fn terminate_roles(&self, names: &[&str]) {
        for role in &self.roles {
            if let (true, Some(child)) = (names.contains(&role.spec.name), &role.child) {
                // SIGTERM means to `node` that its pods run on.
                let node = role.spec.name == role::NODE.name;
                // Ended meanwhile: SIGCHLD is on its way.
                drop(if node {
                    sys::signals::user1(&child.pidfd)
                } else {
                    sys::signals::terminate(&child.pidfd)
                });
            }
        }
    }

    /// The last act; returns only if the kernel refuses.
    fn end(&mut self) {
        let all = self.roles.iter().filter_map(|role| role.child.as_ref());
        for child in all.chain(&self.test_agent) {
            drop(sys::signals::kill(&child.pidfd));
        }
        for pipe in &mut self.pipes {
            pipe.drain(&self.booted.journal, now());
        }
        let mut left: Vec<sys::Pid> = Vec::new();
        left.extend(
            self.roles
                .iter()
                .filter_map(|role| role.child.as_ref().map(|c| c.pid)),
        );
        for pid in left {
            drop(sys::process::wait(pid));
        }
        self.launcher.wait_all();
        sys::machine::sync();
        storage::unmount_all();
        let Phase::Done(power) = self.phase else {
            return;
        };
        if power == Power::Off
            && let Some(watchdog) = self.booted.watchdog.take()
        {
            drop(watchdog.disarm());
        }
        log::info!("file systems are unmounted, the machine ends");
        if let Err(error) = sys::machine::power(power) {
            log::error!("reboot(2): {error}");
        }
    }
}

/// `node` gets a launch socket of its own, the old one is forgotten.
fn start_node(
    spec: RoleSpec,
    pipe: &Pipe,
    launcher: &mut Launcher,
    poll: &Poll,
) -> io::Result<Child> {
    let (ours, theirs) = sys::message::pair()?;
    let variables = [("ATOLL_LAUNCH_FD", LAUNCH_FD)];
    let child = spec.start(pipe.writer(), &[theirs.as_fd()], &variables)?;
    poll.add(&ours, LAUNCH, Interest::Read)?;
    launcher.attach(ours);
    Ok(child)
}

/// `control` gets the console only to show credentials that nobody chose.
fn start_control(spec: RoleSpec, pipe: &Pipe, show_credentials: bool) -> io::Result<Child> {
    if !show_credentials {
        return spec.start(pipe.writer(), &[], &[]);
    }
    let console = std::fs::File::options().write(true).open("/dev/console")?;
    spec.start(pipe.writer(), &[console.as_fd()], &[(CONSOLE_FD, "3")])
}
