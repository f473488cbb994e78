//! One server and one kubectl, for a test.

use apiserver::{Config, Running};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

/// Every kubectl to test with.
pub(crate) fn kubectls() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("kubectl")];
    if let Ok(more) = std::env::var("ATOLL_KUBECTLS") {
        found.extend(more.split(':').filter(|p| !p.is_empty()).map(PathBuf::from));
    }
    found
}

pub(crate) struct Session {
    runtime: tokio::runtime::Runtime,
    running: Option<Running>,
    dir: tempfile::TempDir,
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

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    fn shown(&self) -> String {
        format!(
            "{} ({})\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.output.status,
            self.out(),
            self.err()
        )
    }

    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Said {
        assert!(self.output.status.success(), "{}", self.shown());
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
    pub(crate) fn fails(&self, text: &str) -> &Said {
        assert!(!self.output.status.success(), "{}", self.shown());
        self.warns(text)
    }
}

impl Session {
    pub(crate) fn start(kubectl: &std::path::Path) -> Session {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let config = config(dir.path());
        let running = runtime.block_on(apiserver::run(config)).unwrap();
        Session {
            runtime,
            running: Some(running),
            dir,
            kubectl: kubectl.to_owned(),
        }
    }

    pub(crate) fn server(&self) -> &Arc<apiserver::Server> {
        self.running.as_ref().unwrap().server()
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
            .arg("--kubeconfig")
            .arg(self.path("kubeconfig"))
            .args(arguments)
            .env("HOME", self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output().unwrap();
        Said {
            command: format!("{} {}", self.kubectl.display(), arguments.join(" ")),
            output,
        }
    }

    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Said {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        Said {
            command: format!("{} {}", self.kubectl.display(), arguments.join(" ")),
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

pub(crate) fn config(dir: &std::path::Path) -> Config {
    serde_json::from_value(serde_json::json!({
        "listen": ["127.0.0.1:0"],
        "dataDir": dir.join("data"),
        "kubeconfigOut": dir.join("kubeconfig"),
        "nodeNames": ["n1"],
        "tokens": [{"token": "sesame", "user": "bob"}],
    }))
    .unwrap()
}
