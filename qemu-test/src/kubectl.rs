//! The real kubectl against the appliance, every call with a deadline.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use image_build::kubectls;
use serde_json::Value;

use crate::wait::{self, Seen};

/// A call that ends by itself, under TCG on a busy machine.
const CALL: Duration = Duration::from_secs(90);

/// Programs, with colons between.
const KUBECTLS: &str = "ATOLL_KUBECTLS";

#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

/// What a call said.
#[derive(Debug)]
pub struct Said {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

impl Kubectl {
    #[must_use]
    pub fn new(program: &Path, kubeconfig: &Path) -> Self {
        Self {
            program: program.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
        }
    }

    /// Every kubectl to test with, newest first: ATOLL_KUBECTLS, or what
    /// `image-build kubectls` would print.
    pub fn found() -> Result<Vec<PathBuf>> {
        match std::env::var_os(KUBECTLS) {
            Some(list) => Ok(std::env::split_paths(&list).collect()),
            None => kubectls::all(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        // Discovery is cached by host and port, and ports come back.
        let cache = self.kubeconfig.with_extension("cache");
        let mut command = Command::new(&self.program);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(&cache)
            .args(arguments)
            .env("KUBECACHEDIR", cache)
            .env_remove("KUBECONFIG");
        command
    }

    /// As `run`, with variables of the environment.
    pub fn run_env(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<String> {
        let mut command = self.command(arguments);
        command.envs(environment.iter().copied());
        let said = finished(command, "")?;
        if !said.status.success() {
            bail!("kubectl {}: {said:?}", arguments.join(" "));
        }
        Ok(said.stdout)
    }

    /// The program and its fixed arguments, for a shell.
    #[must_use]
    pub fn shell_words(&self) -> String {
        let (program, config) = (self.program.display(), self.kubeconfig.display());
        format!("'{program}' --kubeconfig '{config}'")
    }

    /// Runs to the end, whatever the exit status.
    pub fn say(&self, arguments: &[&str]) -> Result<Said> {
        self.say_with(arguments, "")
    }

    /// As `say`, with something on stdin.
    pub fn say_with(&self, arguments: &[&str], input: &str) -> Result<Said> {
        finished(self.command(arguments), input)
    }

    /// Runs to a good end and gives stdout.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_with(arguments, "")
    }

    pub fn run_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let said = self.say_with(arguments, input)?;
        if !said.status.success() {
            bail!(
                "kubectl {}: {}\n{}{}",
                arguments.join(" "),
                said.status,
                said.stdout,
                said.stderr
            );
        }
        Ok(said.stdout)
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.run_with(&["apply", "-f", "-"], manifest)
    }

    /// An object or a list as JSON.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend(arguments);
        Ok(serde_json::from_str(&self.run(&all)?)?)
    }

    /// Waits until `look` is done with the object; it may not exist yet.
    pub fn until<T>(
        &self,
        what: &str,
        object: &[&str],
        patience: Duration,
        look: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        wait::until(what, patience, || {
            Ok(match self.get(object) {
                Ok(value) => match look(&value) {
                    Some(found) => Seen::Done(found),
                    None => Seen::NotYet(brief(&value)),
                },
                Err(error) => Seen::NotYet(error.to_string()),
            })
        })
    }

    /// One that goes on until dropped: port-forward, watches, `logs -f`.
    pub fn start(&self, arguments: &[&str]) -> Result<Running> {
        Running::start(&mut self.command(arguments))
    }
}

/// Runs a kubectl that ends by itself, whatever the exit status.
fn finished(mut command: Command, input: &str) -> Result<Said> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting kubectl")?;
    let mut stdin = child.stdin.take().context("stdin")?;
    // It may end without reading.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let stdout = collect(child.stdout.take().context("stdout")?);
    let stderr = collect(child.stderr.take().context("stderr")?);
    let ended = finish(&mut child, CALL);
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    let join = |thread: thread::JoinHandle<String>| thread.join().unwrap_or_default();
    let (stdout, stderr) = (join(stdout), join(stderr));
    let status = ended.with_context(|| format!("{command:?}\n{stdout}\n{stderr}"))?;
    Ok(Said {
        status,
        stdout,
        stderr,
    })
}

/// Status and conditions, for who reads why a wait failed.
fn brief(value: &Value) -> String {
    match value.get("status") {
        Some(status) => status.to_string(),
        None => value.to_string(),
    }
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

type Output = std::sync::Arc<std::sync::Mutex<String>>;

fn follow(mut from: impl Read + Send + 'static, output: Output) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            if let Ok(mut output) = output.lock() {
                output.push_str(&text);
            }
        }
    });
}

fn finish(child: &mut Child, patience: Duration) -> Result<ExitStatus> {
    wait::until("end of kubectl", patience, || {
        Ok(match child.try_wait()? {
            Some(status) => Seen::Done(status),
            None => Seen::NotYet("running".to_owned()),
        })
    })
}

/// A kubectl in the background.
pub struct Running {
    child: Child,
    output: Output,
}

impl Running {
    /// Starts a command with nothing to read.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        let output = Output::default();
        let stdout = child.stdout.take().context("stdout")?;
        let stderr = child.stderr.take().context("stderr")?;
        follow(stdout, output.clone());
        follow(stderr, output.clone());
        Ok(Self { child, output })
    }

    /// What it said so far, stdout and stderr as they came.
    #[must_use]
    pub fn output(&self) -> String {
        self.output
            .lock()
            .map(|text| text.clone())
            .unwrap_or_default()
    }

    /// Waits for it to say something that `look` is content with.
    pub fn until<T>(
        &mut self,
        what: &str,
        patience: Duration,
        look: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        wait::until(what, patience, || {
            let said = self.output();
            if let Some(found) = look(&said) {
                return Ok(Seen::Done(found));
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("kubectl ended with {status} after saying {said:?}");
            }
            Ok(Seen::NotYet(said))
        })
    }

    /// Waits for it to end.
    pub fn finish(&mut self, patience: Duration) -> Result<ExitStatus> {
        finish(&mut self.child, patience)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
