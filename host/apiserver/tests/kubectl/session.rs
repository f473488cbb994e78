//! One server and one kubectl, for a test.

use apiserver::{Config, Dialer, Running};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

/// Every kubectl to test with, newest first: ATOLL_KUBECTLS (`image-build
/// kubectls`), or the one on the path.
pub(crate) fn kubectls() -> Vec<PathBuf> {
    let listed = std::env::var_os("ATOLL_KUBECTLS").unwrap_or_default();
    let found: Vec<PathBuf> = std::env::split_paths(&listed)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if found.is_empty() {
        return vec![PathBuf::from("kubectl")];
    }
    found
}

pub(crate) struct Session {
    runtime: tokio::runtime::Runtime,
    running: Option<Running>,
    dir: Arc<tempfile::TempDir>,
    kubectl: PathBuf,
}

/// What a command did, for chained expectations.
pub(crate) struct Said {
    command: String,
    output: Output,
}

impl Said {
    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    fn err(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    pub(crate) fn shown(&self) -> String {
        format!(
            "{} ({})\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.output.status,
            self.out(),
            self.err()
        )
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.output.status.success()
    }

    /// It succeeded and said this.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Said {
        assert!(self.output.status.success(), "{}", self.shown());
        self.finds(text)
    }

    /// It said this, however it ended (`diff` fails where it finds).
    #[track_caller]
    pub(crate) fn finds(&self, text: &str) -> &Said {
        assert!(self.out().contains(text), "no {text:?} in {}", self.shown());
        self
    }

    #[track_caller]
    pub(crate) fn silent_of(&self, text: &str) -> &Said {
        assert!(!self.out().contains(text), "{text:?} in {}", self.shown());
        self
    }

    #[track_caller]
    pub(crate) fn warns(&self, text: &str) -> &Said {
        assert!(self.err().contains(text), "no {text:?} in {}", self.shown());
        self
    }

    #[track_caller]
    pub(crate) fn warns_of_nothing(&self) -> &Said {
        assert!(!self.err().contains("Warning"), "{}", self.shown());
        self
    }

    #[track_caller]
    pub(crate) fn fails(&self, text: &str) -> &Said {
        assert!(!self.output.status.success(), "{}", self.shown());
        self.warns(text)
    }
}

impl Session {
    /// With the newest kubectl: the one on PATH may be 1.20.
    pub(crate) fn first() -> Session {
        Session::start(&kubectls()[0])
    }

    pub(crate) fn start(kubectl: &Path) -> Session {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let config = config(dir.path());
        Session::at(dir, kubectl, config)
    }

    /// With a configuration of its own, made for its directory.
    pub(crate) fn configured(config: impl FnOnce(&Path) -> Config) -> Session {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let config = config(dir.path());
        Session::at(dir, &kubectls()[0], config)
    }

    /// Whose server reaches others by `dialer`; with a kubectl, or the first.
    pub(crate) fn dialing(kubectl: Option<&Path>, dialer: Arc<dyn Dialer>) -> Session {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let config = config(dir.path());
        let kubectl = kubectl.map_or_else(|| kubectls()[0].clone(), Path::to_owned);
        Session::through(dir, &kubectl, config, Some(dialer))
    }

    /// With a configuration of its own, reaching others by `dialer`.
    pub(crate) fn configured_dialing(
        config: impl FnOnce(&Path) -> Config,
        dialer: Arc<dyn Dialer>,
    ) -> Session {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let config = config(dir.path());
        Session::through(dir, &kubectls()[0], config, Some(dialer))
    }

    fn at(dir: Arc<tempfile::TempDir>, kubectl: &Path, config: Config) -> Session {
        Session::through(dir, kubectl, config, None)
    }

    fn through(
        dir: Arc<tempfile::TempDir>,
        kubectl: &Path,
        config: Config,
        dialer: Option<Arc<dyn Dialer>>,
    ) -> Session {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let running = runtime
            .block_on(apiserver::run_through(config, dialer))
            .unwrap();
        Session {
            runtime,
            running: Some(running),
            dir,
            kubectl: kubectl.to_owned(),
        }
    }

    /// The same data directory, a new server.
    pub(crate) fn restart(self) -> Session {
        let (dir, kubectl) = (self.dir.clone(), self.kubectl.clone());
        drop(self);
        let config = config(dir.path());
        Session::at(dir, &kubectl, config)
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command
            .args(arguments)
            .env("KUBECONFIG", self.path("kubeconfig"))
            .env("HOME", self.dir.path())
            .stdin(Stdio::null());
        command
    }

    fn said(&self, mut command: Command) -> Said {
        let output = command.output().unwrap();
        Said {
            command: format!("{command:?}"),
            output,
        }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        self.said(self.command(arguments))
    }

    pub(crate) fn run_env(&self, arguments: &[&str], env: &[(&str, &str)]) -> Said {
        let mut command = self.command(arguments);
        command.envs(env.iter().copied());
        self.said(command)
    }

    /// With a bearer token instead of the administrator's certificate.
    pub(crate) fn run_as(&self, token: &str, arguments: &[&str]) -> Said {
        let server = format!("https://{}", self.running().addresses()[0]);
        let ca = self.path("data/pki/ca.crt");
        let mut command = self.command(arguments);
        command.env("KUBECONFIG", "/dev/null").args([
            "--server",
            &server,
            "--token",
            token,
            "--certificate-authority",
            ca.to_str().unwrap(),
        ]);
        self.said(command)
    }

    pub(crate) fn run_config(&self, kubeconfig: &str, arguments: &[&str]) -> Said {
        let mut command = self.command(arguments);
        command.env("KUBECONFIG", kubeconfig);
        self.said(command)
    }

    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Said {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        Said {
            command: format!("{command:?}"),
            output: child.wait_with_output().unwrap(),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let ended = self.runtime.block_on(running.stop());
            if !std::thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

/// The lines of a command that goes on; it is killed with this.
pub(crate) struct Lines {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Lines {
    pub(crate) fn of(mut command: Command) -> Lines {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Lines {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => self.seen.push(line),
                Err(_) => panic!("no {text:?} in {:#?}", self.seen),
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn config(dir: &Path) -> Config {
    serde_json::from_value(serde_json::json!({
        "listen": ["127.0.0.1:0"],
        "dataDir": dir.join("data"),
        "kubeconfigOut": dir.join("kubeconfig"),
        "nodeNames": ["n1"],
        "tokens": [{"token": "sesame", "user": "bob"}],
    }))
    .unwrap()
}
