//! The real kubectl against the appliance, every call with a deadline.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::wait::{self, Seen};

/// A call that ends by itself, under TCG on a busy machine.
const CALL: Duration = Duration::from_secs(90);

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

    /// Every kubectl on the path.
    pub fn found() -> Result<Vec<PathBuf>> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut all = Vec::new();
        for directory in std::env::split_paths(&path) {
            let Ok(listing) = std::fs::read_dir(directory) else {
                continue;
            };
            for entry in listing.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                // Debian's, and others beside it: kubectl, kubectl1.33, kubectl.1.20.
                let version = name.strip_prefix("kubectl");
                let numbered = |rest: &str| rest.chars().all(|c| c.is_ascii_digit() || c == '.');
                if version.is_some_and(numbered) {
                    all.push(entry.path().canonicalize()?);
                }
            }
        }
        all.sort();
        all.dedup();
        if all.is_empty() {
            bail!("no kubectl on the path: run `make setup`");
        }
        Ok(all)
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
        let mut child = self
            .command(arguments)
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
        let status = ended
            .with_context(|| format!("kubectl {}\n{stdout}\n{stderr}", arguments.join(" ")))?;
        Ok(Said {
            status,
            stdout,
            stderr,
        })
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
        let mut child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting kubectl")?;
        let output = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let stdout = child.stdout.take().context("stdout")?;
        let stderr = child.stderr.take().context("stderr")?;
        follow(stdout, output.clone());
        follow(stderr, output.clone());
        Ok(Running { child, output })
    }
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
