//! Fills a pod's volumes of files: asks the API for their sources and tokens,
//! and sends the guest what is new.

use super::{Shared, api};
use crate::guest::{GuestError, GuestStream};
use crate::machine::Control;
use crate::pod::Pod;
use crate::pod::environment::Sources;
use crate::pod::view::View;
use crate::pod::volumes::content::{Files, Known, TokenSpec, Tokens, content, wanted};
use crate::pod::volumes::of_files;
use guest_protocol::{Channel, DATA_MAX, Open, ProjectedFile, Projection};
use jiff::{SignedDuration, Timestamp};
use reconcile::resource::core::SERVICE_ACCOUNTS;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long the guest may take for one volume.
const PATIENCE: Duration = Duration::from_secs(60);
/// A token is replaced when this part of its life is over, or after this time,
/// as upstream's kubelet does.
const OLD_PERCENT: i64 = 80;
const OLD: SignedDuration = SignedDuration::from_hours(24);

/// What the guest of one pod holds. A lock on it makes fillings one after
/// another.
#[derive(Default)]
pub(super) struct Filled {
    /// Of the content that the guest took, by volume.
    digests: BTreeMap<String, u64>,
    tokens: BTreeMap<TokenSpec, Token>,
}

struct Token {
    text: String,
    /// From when on it is replaced.
    old_at: Timestamp,
}

pub(super) type SharedFilled = Arc<Mutex<Filled>>;

/// Brings all volumes up to date; what went wrong is told by volume.
pub(super) async fn fill(
    shared: &Shared,
    pod: &Pod,
    control: &Control,
    filled: &Mutex<Filled>,
) -> Vec<String> {
    let mut filled = filled.lock().await;
    let view = View(pod);
    let (sources, tokens) = wanted(view);
    let sources = match api::sources(shared, view.namespace(), sources).await {
        Ok(sources) => sources,
        Err(message) => return all_failed(view, &message),
    };
    let tokens = match filled.tokens(shared, view, tokens).await {
        Ok(tokens) => tokens,
        Err(message) => return all_failed(view, &message),
    };
    filled.send(shared, view, control, &sources, &tokens).await
}

fn all_failed(view: View<'_>, cause: &str) -> Vec<String> {
    let messages = of_files(view).map(|volume| failed(&volume.name, cause));
    messages.collect()
}

fn failed(volume: &str, cause: &str) -> String {
    format!("MountVolume.SetUp failed for volume \"{volume}\" : {cause}")
}

impl Filled {
    /// Sends what is new; tells what went wrong, by volume.
    async fn send(
        &mut self,
        shared: &Shared,
        view: View<'_>,
        control: &Control,
        sources: &Sources,
        tokens: &Tokens,
    ) -> Vec<String> {
        let host = shared.host.borrow().facts.clone();
        let known = Known {
            sources,
            tokens,
            host: &host,
        };
        let mut messages = Vec::new();
        for volume in of_files(view) {
            let name = &volume.name;
            let files = match content(view, volume, &known) {
                Ok(files) => files,
                Err(error) => {
                    messages.push(failed(name, &error.0));
                    continue;
                }
            };
            let digest = digest(&files);
            if self.digests.get(name) == Some(&digest) {
                continue;
            }
            let sent = tokio::time::timeout(PATIENCE, project(control, name, &files)).await;
            match sent.unwrap_or(Err(GuestError::Closed)) {
                Ok(()) => drop(self.digests.insert(name.clone(), digest)),
                Err(error) => messages.push(failed(name, &error.to_string())),
            }
        }
        messages
    }

    /// The tokens that are wanted, new ones for those that grow old.
    async fn tokens(
        &mut self,
        shared: &Shared,
        view: View<'_>,
        wanted: impl IntoIterator<Item = TokenSpec>,
    ) -> Result<Tokens, String> {
        let mut tokens = Tokens::new();
        for spec in wanted {
            let now = Timestamp::now();
            if let Some(kept) = self.tokens.get(&spec).filter(|kept| now < kept.old_at) {
                tokens.insert(spec, kept.text.clone());
                continue;
            }
            let token = request(shared, view, &spec).await;
            let token = token.map_err(|error| format!("failed to fetch token: {error}"))?;
            tokens.insert(spec.clone(), token.text.clone());
            self.tokens.insert(spec, token);
        }
        Ok(tokens)
    }
}

/// A token bound to the pod (TokenRequest of authentication.k8s.io/v1).
async fn request(shared: &Shared, view: View<'_>, spec: &TokenSpec) -> Result<Token, String> {
    let account = view.spec().and_then(|s| s.service_account_name.as_deref());
    let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
    let audiences: Vec<&str> = Some(spec.audience.as_str())
        .filter(|audience| !audience.is_empty())
        .into_iter()
        .collect();
    let asked = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": audiences,
            "expirationSeconds": spec.seconds,
            "boundObjectRef": {
                "apiVersion": "v1", "kind": "Pod", "name": view.name(), "uid": view.uid(),
            },
        },
    });
    let namespace = Some(view.namespace());
    let answer = shared
        .client
        .create_subresource(&SERVICE_ACCOUNTS, namespace, account, "token", &asked)
        .await
        .map_err(|error| error.to_string())?;
    token_of(&answer, Timestamp::now()).ok_or_else(|| "the answer holds no token".to_owned())
}

fn token_of(answer: &Value, now: Timestamp) -> Option<Token> {
    let status = answer.get("status")?;
    let text = status.get("token")?.as_str()?.to_owned();
    let expires: Timestamp = status.get("expirationTimestamp")?.as_str()?.parse().ok()?;
    let part = expires.duration_since(now) * i32::try_from(OLD_PERCENT).ok()? / 100;
    Some(Token {
        text,
        old_at: now.checked_add(part.min(OLD)).ok()?,
    })
}

/// Of this process only; a collision leaves an old content in place.
fn digest(files: &Files) -> u64 {
    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    hasher.finish()
}

/// Sends one volume's whole content.
async fn project(control: &Control, volume: &str, files: &Files) -> Result<(), GuestError> {
    let mut stream = GuestStream(control.connect(guest_protocol::PORT).await?);
    let listed = files.iter().map(|(path, file)| ProjectedFile {
        path: path.clone(),
        mode: file.mode,
        owner: file.owner,
        length: file.bytes.len() as u64,
    });
    let open = Open::Project(Box::new(Projection {
        volume: volume.to_owned(),
        files: listed.collect(),
    }));
    stream.open(&open).await?;
    for file in files.values() {
        for piece in file.bytes.chunks(DATA_MAX) {
            stream.write(Channel::Stdin, piece).await?;
        }
    }
    stream.opened().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_replaced_before_they_end() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let old_at = |expires: &str| {
            let status = json!({"status": {"token": "t", "expirationTimestamp": expires}});
            token_of(&status, now).map(|token| token.old_at.to_string())
        };
        for (expires, wanted) in [
            ("2026-01-01T01:00:00Z", "2026-01-01T00:48:00Z"),
            ("2027-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        ] {
            assert_eq!(old_at(expires).as_deref(), Some(wanted));
        }
        assert_eq!(old_at("soon"), None);
    }
}
