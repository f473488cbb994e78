//! The issuers that count now, and another set of them when their file changes
//! (upstream's `authenticationconfig` controller).
//!
//! ```text
//! file differs --parsed--> new issuers --all have answered--> they count
//!        ^                    | a fault, or silence for a minute
//!        +--------------------+ the old ones stay, and it is tried again
//! ```
//! The file is read every `LOOK`. Options aren't read again.

use super::{Issuer, Oidc, OidcError, structured};
use crate::metrics::head;
use crate::webhook::Client;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

const LOOK: Duration = Duration::from_secs(5);
/// After a file of no use.
const RETRY: Duration = Duration::from_secs(60);
/// How long new issuers may take to answer.
const ANSWERED: Duration = Duration::from_secs(60);

type Set = Arc<[Arc<Oidc>]>;

/// Whose ID tokens count.
#[derive(Default)]
pub(crate) struct Issuers(Mutex<Now>);

#[derive(Default)]
struct Now {
    set: Set,
    /// By outcome: how many reloads there were, and when the last one was.
    reloads: BTreeMap<&'static str, (u64, i64)>,
}

impl Issuers {
    pub(super) fn new(all: Vec<Arc<Oidc>>) -> Issuers {
        let issuers = Issuers::default();
        issuers.now().set = all.into();
        issuers
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn all(&self) -> Set {
        self.now().set.clone()
    }

    fn reloaded(&self, outcome: &'static str) {
        let mut now = self.now();
        let (count, last) = now.reloads.entry(outcome).or_default();
        *count += 1;
        *last = Timestamp::now().as_second();
    }

    /// Upstream's, without the name of the server.
    pub(crate) fn metrics(&self) -> String {
        let now = self.now();
        if now.reloads.is_empty() {
            return String::new();
        }
        let prefix = "apiserver_authentication_config_controller_automatic_reload";
        let (total, last) = (
            format!("{prefix}s_total"),
            format!("{prefix}_last_timestamp_seconds"),
        );
        let mut out = head(
            &total,
            "counter",
            "Reloads of the authentication configuration.",
        );
        for (status, (count, _)) in &now.reloads {
            let _ = writeln!(out, "{total}{{status=\"{status}\"}} {count}");
        }
        out += &head(&last, "gauge", "When it was reloaded last.");
        for (status, (_, at)) in &now.reloads {
            let _ = writeln!(out, "{last}{{status=\"{status}\"}} {at}");
        }
        out
    }
}

/// Who asks issuers for their keys, and reads the file again.
pub(crate) struct Reload {
    issuers: Arc<Issuers>,
    /// The file, and what was read of it.
    file: Option<(PathBuf, Vec<u8>)>,
    /// Who issues service accounts' tokens.
    own: String,
    client: Arc<Client>,
}

impl Reload {
    pub(super) fn new(
        issuers: Arc<Issuers>,
        file: Option<(PathBuf, Vec<u8>)>,
        own: &str,
        client: &Arc<Client>,
    ) -> Reload {
        Reload {
            issuers,
            file,
            own: own.to_owned(),
            client: client.clone(),
        }
    }

    /// Ends with the server.
    pub(crate) async fn run(self, mut shutdown: watch::Receiver<bool>) {
        tokio::select! {
            () = self.go_on() => {}
            () = crate::listen::ended(&mut shutdown) => {}
        }
    }

    async fn go_on(self) {
        let mut asking = ask(&self.issuers.all());
        let Some((file, mut known)) = self.file.clone() else {
            while asking.join_next().await.is_some() {}
            return;
        };
        let mut pause = LOOK;
        loop {
            tokio::time::sleep(pause).await;
            let text = super::read(&file);
            if text.as_ref().is_ok_and(|text| *text == known) {
                pause = LOOK;
                continue;
            }
            let renewed = match text {
                Ok(text) => self.renewed(&file, &text).await.map(|new| (new, text)),
                Err(e) => Err(e.to_string()),
            };
            match renewed {
                Ok((new, text)) => {
                    // Who was asked before is asked no more.
                    asking.abort_all();
                    known = text;
                    self.issuers.now().set = new;
                    self.issuers.reloaded("success");
                    log::info!("authentication configuration {}: reloaded", file.display());
                    pause = LOOK;
                }
                Err(why) => {
                    self.issuers.reloaded("failure");
                    log::error!("{why}; what was read before stays");
                    pause = RETRY;
                }
            }
        }
    }

    /// The issuers that `text` names, once all have answered.
    async fn renewed(&self, file: &Path, text: &[u8]) -> Result<Set, String> {
        let named = structured::of(text, file, &self.own).map_err(|e| e.to_string())?;
        let made = made(named, &self.client).map_err(|e| e.to_string())?;
        let set: Set = made.into();
        let mut asked = ask(&set);
        let all = async { while asked.join_next().await.is_some() {} };
        match tokio::time::timeout(ANSWERED, all).await {
            Ok(()) => Ok(set),
            Err(_) => {
                let silent = set.iter().filter(|o| o.known().is_none());
                let silent: Vec<&str> = silent.map(|o| o.issuer.url.as_str()).collect();
                let (path, silent) = (file.display(), silent.join(", "));
                Err(format!(
                    "authentication configuration {path}: no answer of {silent}"
                ))
            }
        }
    }
}

pub(super) fn made(all: Vec<Issuer>, client: &Arc<Client>) -> Result<Vec<Arc<Oidc>>, OidcError> {
    let made = all.into_iter().map(|issuer| Oidc::new(issuer, client));
    made.map(|made| made.map(Arc::new)).collect()
}

/// Asks each issuer until it answers.
fn ask(all: &Set) -> JoinSet<()> {
    all.iter().map(|oidc| oidc.clone().run()).collect()
}
