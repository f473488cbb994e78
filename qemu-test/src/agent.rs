//! The harness's side of the test agent.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use test_agent::{Line, Process, Reply, Request};

use crate::line_socket::LineSocket;
use crate::wait::{self, Seen};

const CONNECT: Duration = Duration::from_secs(10);
/// An answer under TCG on a busy machine.
const ANSWER: Duration = Duration::from_secs(60);

pub struct Agent(LineSocket);

impl Agent {
    pub const SOCKET: &str = "agent.sock";

    /// QEMU queues what is asked before the agent runs.
    pub fn connect(directory: &Path) -> Result<Self> {
        Ok(Self(LineSocket::connect(directory, Self::SOCKET, CONNECT)?))
    }

    fn ask(&mut self, request: &Request) -> Result<Reply> {
        self.ask_within(request, ANSWER)
    }

    fn ask_within(&mut self, request: &Request, patience: Duration) -> Result<Reply> {
        self.0.send(request)?;
        match self
            .0
            .receive(patience)
            .with_context(|| format!("{request:?}"))?
        {
            Reply::Failed(why) => bail!("{request:?}: {why}"),
            reply => Ok(reply),
        }
    }

    pub fn read(&mut self, path: &str) -> Result<String> {
        match self.ask(&Request::Read {
            path: path.to_owned(),
        })? {
            Reply::Text(text) => Ok(text),
            other => bail!("read {path}: {other:?}"),
        }
    }

    pub fn list(&mut self, path: &str) -> Result<Vec<String>> {
        match self.ask(&Request::List {
            path: path.to_owned(),
        })? {
            Reply::Names(names) => Ok(names),
            other => bail!("list {path}: {other:?}"),
        }
    }

    /// What is below a directory, all levels.
    pub fn tree(&mut self, path: &str) -> Result<Vec<String>> {
        match self.ask(&Request::Tree {
            path: path.to_owned(),
        })? {
            Reply::Names(names) => Ok(names),
            other => bail!("tree of {path}: {other:?}"),
        }
    }

    pub fn descriptors(&mut self, pid: i32) -> Result<Vec<String>> {
        match self.ask(&Request::Descriptors { pid })? {
            Reply::Names(names) => Ok(names),
            other => bail!("descriptors of {pid}: {other:?}"),
        }
    }

    pub fn processes(&mut self) -> Result<Vec<Process>> {
        match self.ask(&Request::Processes)? {
            Reply::Processes(all) => Ok(all),
            other => bail!("processes: {other:?}"),
        }
    }

    /// Those of one role.
    pub fn of_role(&mut self, role: &str) -> Result<Vec<Process>> {
        let mut all = self.processes()?;
        all.retain(|process| process.role() == Some(role));
        Ok(all)
    }

    /// The one process of a role, waiting for there to be just one.
    pub fn the(&mut self, role: &str, patience: Duration) -> Result<Process> {
        wait::until(format!("one process of {role}"), patience, || {
            let mut all = self.of_role(role)?;
            Ok(match (all.pop(), all.len()) {
                (Some(process), 0) => Seen::Done(process),
                (last, more) => Seen::NotYet(format!("{last:?} and {more} more")),
            })
        })
    }

    /// One line of `/proc/PID/status`.
    pub fn status(&mut self, pid: i32, field: &str) -> Result<String> {
        let text = self.read(&format!("/proc/{pid}/status"))?;
        text.lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .map(|value| value.trim().to_owned())
            .with_context(|| format!("no {field} in status of {pid}"))
    }

    pub fn kill(&mut self, pid: i32) -> Result<()> {
        self.ask(&Request::Kill { pid }).map(drop)
    }

    /// Makes a thread enter a system call that it didn't ask for.
    pub fn divert(&mut self, thread: i32, call: u64) -> Result<()> {
        self.ask(&Request::Divert { thread, call }).map(drop)
    }

    /// Allocates a file until its file system has `left` bytes free.
    pub fn fill(&mut self, path: &str, left: u64) -> Result<()> {
        let path = path.to_owned();
        self.ask(&Request::Fill { path, left }).map(drop)
    }

    pub fn remove(&mut self, path: &str) -> Result<()> {
        let path = path.to_owned();
        self.ask(&Request::Remove { path }).map(drop)
    }

    /// Sets the appliance's clock forward, or back.
    pub fn step_clock(&mut self, seconds: i64) -> Result<()> {
        self.ask(&Request::StepClock { seconds }).map(drop)
    }

    /// Runs a program inside until it ends, has said `until`, or `patience` of
    /// the appliance's clock is over.
    pub fn run(
        &mut self,
        arguments: &[&str],
        input: &str,
        until: Option<&str>,
        patience: Duration,
    ) -> Result<Vec<Line>> {
        let request = Request::Run {
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            input: input.to_owned(),
            until: until.map(str::to_owned),
            seconds: patience.as_secs(),
        };
        // Its clock may be slower than ours.
        match self.ask_within(&request, patience * 5 + ANSWER)? {
            Reply::Ran(lines) => Ok(lines),
            other => bail!("run {arguments:?}: {other:?}"),
        }
    }
}
