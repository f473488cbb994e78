//! Who may come in: the API server is asked who bears a token (TokenReview) and
//! what somebody may (SubjectAccessReview), as upstream's kubelet delegates it
//! (`pkg/kubelet/server/auth.go`).
//!
//! ```text
//!   certificate, or token --TokenReview--> Client --allowed, or SubjectAccessReview--> in
//! ```
//! Administrators and the API server are let in unasked, so that logs are there
//! while the API is not. Answers are kept for as long as upstream keeps them: at
//! most [`KEPT_MAX`] of each kind, and all go when there is no room. A token is
//! kept as its digest only.

use super::auth::Client;
use super::routes::Refusal;
use http::{HeaderMap, Method, StatusCode, header};
use reconcile::ClientError;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Upstream's `authentication.webhook.cacheTTL`, and those of authorization.
const TOKEN_KEPT: Duration = Duration::from_secs(120);
const ALLOWED_KEPT: Duration = Duration::from_secs(300);
const DENIED_KEPT: Duration = Duration::from_secs(30);
const KEPT_MAX: usize = 1024;
/// Longer than any token that somebody issues.
const TOKEN_MAX: usize = 32 << 10;

const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// Answers with the times until which they hold.
struct Kept<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn get(&self, key: &K) -> Option<V> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, value) = kept.get(key)?;
        (Instant::now() < *until).then(|| value.clone())
    }

    fn put(&self, key: K, value: V, ttl: Duration) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, (until, _)| now < *until);
        }
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(key, (now + ttl, value));
    }
}

/// Somebody, and what they want.
type Question = (Client, &'static str, &'static str);

pub(crate) struct Gate {
    client: reconcile::Client,
    node_name: String,
    tokens: Kept<[u8; 32], Option<Client>>,
    verdicts: Kept<Question, bool>,
}

impl Gate {
    pub(crate) fn new(client: reconcile::Client, node_name: String) -> Self {
        Self {
            client,
            node_name,
            tokens: Kept::new(),
            verdicts: Kept::new(),
        }
    }

    /// Whoever sends a request, if they may.
    pub(super) async fn admit(
        &self,
        certificate: Option<&Client>,
        headers: &HeaderMap,
        method: &Method,
        path: &str,
    ) -> Result<Client, Refusal> {
        let client = match certificate {
            Some(client) => client.clone(),
            None => self.bearer(headers).await?,
        };
        if client.allowed() {
            return Ok(client);
        }
        let (verb, subresources) = (verb(method), subresources(path));
        let user = &client.user;
        for subresource in subresources {
            match self.may(&client, verb, subresource).await {
                Ok(true) => return Ok(client),
                Ok(false) => {}
                Err(error) => {
                    log::warn!("authorization of {user:?}: {error}");
                    let message = format!(
                        "Authorization error (user={user}, verb={verb}, resource=nodes, subresource(s)={subresources:?})"
                    );
                    return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message));
                }
            }
        }
        let listed = subresources.join(" ");
        let message = format!(
            "Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{listed}])"
        );
        Err(Refusal::new(StatusCode::FORBIDDEN, message))
    }

    async fn bearer(&self, headers: &HeaderMap) -> Result<Client, Refusal> {
        let unknown = || Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized");
        let token = token(headers).ok_or_else(unknown)?;
        let key: [u8; 32] = Sha256::digest(token).into();
        let known = match self.tokens.get(&key) {
            Some(known) => known,
            None => {
                let asked = self.review(token).await;
                let found = asked.map_err(|error| {
                    log::warn!("review of a token: {error}");
                    unknown()
                })?;
                self.tokens.put(key, found.clone(), TOKEN_KEPT);
                found
            }
        };
        known.ok_or_else(unknown)
    }

    async fn review(&self, token: &str) -> Result<Option<Client>, ClientError> {
        let review = json!({
            "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
            "spec": {"token": token},
        });
        let answer = self.client.post_path(TOKEN_REVIEWS, &review).await?;
        let status = &answer["status"];
        let authenticated = status["authenticated"] == true;
        Ok(authenticated.then(|| told(&status["user"])).flatten())
    }

    async fn may(
        &self,
        client: &Client,
        verb: &'static str,
        subresource: &'static str,
    ) -> Result<bool, ClientError> {
        let question = (client.clone(), verb, subresource);
        if let Some(known) = self.verdicts.get(&question) {
            return Ok(known);
        }
        let review = json!({
            "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
            "spec": {
                "user": client.user, "groups": client.groups,
                "uid": client.uid, "extra": client.extra,
                "resourceAttributes": {
                    "verb": verb, "version": "v1", "resource": "nodes",
                    "subresource": subresource, "name": self.node_name,
                },
            },
        });
        let answer = self.client.post_path(ACCESS_REVIEWS, &review).await?;
        let allowed = answer["status"]["allowed"] == true;
        let ttl = if allowed { ALLOWED_KEPT } else { DENIED_KEPT };
        self.verdicts.put(question, allowed, ttl);
        Ok(allowed)
    }
}

/// The user of a TokenReview's status; one without a name is none.
fn told(user: &Value) -> Option<Client> {
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let extra = user["extra"].as_object().into_iter().flatten();
    Some(Client {
        user: user["username"]
            .as_str()
            .filter(|name| !name.is_empty())?
            .to_owned(),
        groups: texts(&user["groups"]),
        uid: user["uid"].as_str().unwrap_or_default().to_owned(),
        extra: extra
            .map(|(key, values)| (key.clone(), texts(values)))
            .collect(),
    })
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.trim().split_once(' ')?;
    let token = token.trim();
    let fits = scheme.eq_ignore_ascii_case("bearer") && (1..=TOKEN_MAX).contains(&token.len());
    fits.then_some(token)
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// The subresources of `nodes` of which one is enough for a path (KEP-2862).
fn subresources(path: &str) -> &'static [&'static str] {
    match path.trim_start_matches('/').split('/').next() {
        Some("stats") => &["stats"],
        Some("metrics") => &["metrics"],
        Some("logs") => &["log"],
        Some("healthz") => &["healthz", "proxy"],
        Some("pods" | "runningpods") => &["pods", "proxy"],
        Some("configz") => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn paths_are_parts_of_the_node() {
        for (path, wanted) in [
            ("/metrics", &["metrics"][..]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/metricsx", &["proxy"]),
            ("/stats/summary", &["stats"]),
            ("/pods", &["pods", "proxy"]),
            ("/exec/a/b/c", &["proxy"]),
            ("/containerLogs/a/b/c", &["proxy"]),
            ("/", &["proxy"]),
        ] {
            assert_eq!(subresources(path), wanted, "{path}");
        }
    }

    #[test]
    fn tokens_are_borne() {
        for (text, wanted) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Basic abc", None),
            ("Bearer ", None),
            ("Bearer", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(text));
            assert_eq!(token(&headers), wanted, "{text}");
        }
        assert_eq!(token(&HeaderMap::new()), None);
    }

    #[test]
    fn answers_are_kept_within_bounds() {
        let kept: Kept<usize, usize> = Kept::new();
        for number in 0..=KEPT_MAX {
            kept.put(number, number, Duration::from_secs(60));
        }
        assert_eq!(kept.get(&KEPT_MAX), Some(KEPT_MAX));
        assert_eq!(kept.get(&0), None);
        kept.put(1, 1, Duration::ZERO);
        assert_eq!(kept.get(&1), None, "its time is over");
    }
}
