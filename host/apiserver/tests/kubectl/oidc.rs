//! OpenID Connect as kubectl's users see it, with an issuer of this process.

use crate::hooks::{Reply, Server};
use crate::session::{self, Session};
use apiserver::OidcConfig;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);

struct Key {
    id: &'static str,
    pair: KeyPair,
}

impl Key {
    fn new(id: &'static str) -> Key {
        let pair = KeyPair::generate().unwrap();
        Key { id, pair }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key_raw();
        let part = |at: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[at]);
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id,
            "x": part(1..33), "y": part(33..65)})
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.to_owned());
        let pem = self.pair.serialize_pem();
        let key = EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
        jsonwebtoken::encode(&header, claims, &key).unwrap()
    }
}

/// An issuer whose keys may change.
struct Issuer {
    server: Server,
    keys: Arc<Mutex<Vec<Value>>>,
    up: Arc<Mutex<bool>>,
}

impl Issuer {
    fn start(first: &Key, up: bool) -> Issuer {
        let keys = Arc::new(Mutex::new(vec![first.jwk()]));
        let up = Arc::new(Mutex::new(up));
        let (listed, answering) = (keys.clone(), up.clone());
        let server = Server::start_named(move |url, path, _| match path {
            _ if !*answering.lock().unwrap() => Reply::Refuse(503, "not yet"),
            "/.well-known/openid-configuration" => {
                Reply::Json(json!({"issuer": url, "jwks_uri": format!("{url}/keys")}))
            }
            "/keys" => Reply::Json(json!({"keys": *listed.lock().unwrap()})),
            _ => Reply::Refuse(404, "no such path"),
        });
        Issuer { server, keys, up }
    }

    fn claims(&self, patch: &Value) -> Value {
        let end = jiff::Timestamp::now().as_second() + 3600;
        let mut claims = json!({"iss": self.server.url(), "aud": "atoll", "exp": end,
            "email": "jane@example.com", "groups": ["devs"], "hd": "example.com"});
        for (key, value) in patch.as_object().unwrap() {
            claims[key] = value.clone();
        }
        claims
    }

    fn session(&self) -> Session {
        Session::configured(|dir| {
            let ca = dir.join("issuer.crt");
            std::fs::write(&ca, self.server.ca()).unwrap();
            apiserver::Config {
                oidc: Some(OidcConfig {
                    issuer_url: self.server.url().to_owned(),
                    client_id: "atoll".to_owned(),
                    ca_file: Some(ca),
                    username_claim: Some("email".to_owned()),
                    groups_claim: Some("groups".to_owned()),
                    groups_prefix: "oidc:".to_owned(),
                    required_claims: [("hd".to_owned(), "example.com".to_owned())].into(),
                    signing_algs: vec!["ES256".to_owned()],
                    ..OidcConfig::default()
                }),
                ..session::config(dir)
            }
        })
    }
}

fn until(session: &Session, token: &str, text: &str) {
    let start = Instant::now();
    while !session
        .run_as(token, &["auth", "whoami"])
        .out()
        .contains(text)
    {
        let shown = session.run_as(token, &["auth", "whoami"]);
        assert!(start.elapsed() < DEADLINE, "{}", shown.shown());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn an_id_token_is_its_user() {
    let key = Key::new("one");
    let issuer = Issuer::start(&key, true);
    let s = issuer.session();
    let token = key.sign(&issuer.claims(&json!({})));
    until(&s, &token, "jane@example.com");
    s.run_as(&token, &["auth", "whoami"])
        .says("oidc:devs")
        .says("system:authenticated");
    s.run(&[
        "create",
        "clusterrole",
        "lister",
        "--verb=list",
        "--resource=pods",
    ])
    .says("created");
    s.run(&[
        "create",
        "clusterrolebinding",
        "devs",
        "--clusterrole=lister",
        "--group=oidc:devs",
    ])
    .says("created");
    s.run_as(&token, &["get", "pods"])
        .warns("No resources found");
    s.run_as(&token, &["get", "secrets"])
        .fails("cannot list resource \"secrets\"");
    let review = |token: &str| {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token}});
        s.run_with(&["create", "-o", "json", "-f", "-"], &body.to_string())
            .out()
    };
    assert!(review(&token).contains("\"authenticated\": true"));
    let stranger = Key::new("one");
    for (token, why) in [
        (
            key.sign(&issuer.claims(&json!({"aud": "other"}))),
            "expected audience",
        ),
        (
            key.sign(&issuer.claims(&json!({"exp": 1}))),
            "token is expired",
        ),
        (
            key.sign(&issuer.claims(&json!({"email_verified": false}))),
            "email not verified",
        ),
        (
            key.sign(&issuer.claims(&json!({"hd": "elsewhere"}))),
            "required claim hd value",
        ),
        (
            stranger.sign(&issuer.claims(&json!({}))),
            "failed to verify signature",
        ),
        (
            key.sign(&issuer.claims(&json!({"iss": "https://x"}))),
            "invalid bearer token",
        ),
    ] {
        s.run_as(&token, &["get", "pods"])
            .fails("You must be logged in to the server");
        let reviewed = review(&token);
        assert!(reviewed.contains(why), "{why}: {reviewed}");
    }
}

#[test]
fn new_keys_are_fetched_when_a_token_names_them_and_not_too_often() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let issuer = Issuer::start(&old, true);
    let s = issuer.session();
    until(
        &s,
        &old.sign(&issuer.claims(&json!({}))),
        "jane@example.com",
    );
    issuer.server.asked();
    let foreign = Key::new("foreign");
    let token = foreign.sign(&issuer.claims(&json!({})));
    let fetches =
        |asked: Vec<(String, Value)>| asked.iter().filter(|(path, _)| path == "/keys").count();
    let start = Instant::now();
    for _ in 0..5 {
        s.run_as(&token, &["get", "pods"])
            .fails("You must be logged in to the server");
    }
    let most = start.elapsed().as_secs() / 5 + 1;
    let seen = fetches(issuer.server.asked());
    assert!(
        (1..=usize::try_from(most).unwrap()).contains(&seen),
        "{seen} of {most}"
    );
    *issuer.keys.lock().unwrap() = vec![old.jwk(), new.jwk()];
    until(
        &s,
        &new.sign(&issuer.claims(&json!({"email": "joe@example.com"}))),
        "joe@example.com",
    );
    until(
        &s,
        &old.sign(&issuer.claims(&json!({}))),
        "jane@example.com",
    );
}

#[test]
fn an_issuer_may_come_later() {
    let key = Key::new("one");
    let issuer = Issuer::start(&key, false);
    let s = issuer.session();
    let token = key.sign(&issuer.claims(&json!({})));
    s.run_as(&token, &["get", "pods"])
        .fails("You must be logged in to the server");
    s.run(&["get", "pods"]).warns("No resources found");
    *issuer.up.lock().unwrap() = true;
    until(&s, &token, "jane@example.com");
}

#[test]
fn several_issuers_and_expressions_in_a_file() {
    let (one, two) = (Key::new("one"), Key::new("two"));
    let (first, second) = (Issuer::start(&one, true), Issuer::start(&two, true));
    let jwt = |issuer: &Issuer, mappings: Value, rules: Value| {
        json!({"issuer": {"url": issuer.server.url(), "audiences": ["atoll", "other"],
                "audienceMatchPolicy": "MatchAny", "certificateAuthority": issuer.server.ca()},
            "claimMappings": mappings, "userValidationRules": rules})
    };
    let file = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [
        jwt(&first, json!({"username": {"claim": "hd", "prefix": "first:"}}), json!([])),
        jwt(&second, json!({
            "username": {"expression": "claims.email.split('@')[0] + (has(claims.email_verified) && !claims.email_verified ? '?' : '')"},
            "groups": {"expression": "claims.groups.map(g, 'second:' + g)"},
            "extra": [{"key": "x.example/domain", "valueExpression": "claims.hd"}],
        }), json!([{"expression": "user.username != 'root'", "message": "root is nobody"}])),
    ]});
    let s = Session::configured(|dir| {
        let path = dir.join("authentication.yaml");
        std::fs::write(&path, file.to_string()).unwrap();
        apiserver::Config {
            authentication_config: Some(path),
            ..session::config(dir)
        }
    });
    until(
        &s,
        &one.sign(&first.claims(&json!({}))),
        "first:example.com",
    );
    let token = two.sign(&second.claims(&json!({"aud": "other"})));
    until(&s, &token, "jane");
    s.run_as(&token, &["auth", "whoami"])
        .says("second:devs")
        .says("x.example/domain");
    let root = two.sign(&second.claims(&json!({"email": "root@example.com"})));
    s.run_as(&root, &["get", "pods"])
        .fails("You must be logged in to the server");
    // One issuer's keys say nothing of the other's users.
    let crossed = one.sign(&second.claims(&json!({})));
    s.run_as(&crossed, &["get", "pods"])
        .fails("You must be logged in to the server");
}

#[test]
fn a_file_that_changes_is_read_again() {
    let key = Key::new("one");
    let issuer = Issuer::start(&key, true);
    let file = |url: &str, prefix: &str| {
        json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
        "jwt": [{"issuer": {"url": url, "audiences": ["atoll"],
                "certificateAuthority": issuer.server.ca()},
            "claimMappings": {"username": {"claim": "hd", "prefix": prefix}}}]})
        .to_string()
    };
    let url = issuer.server.url();
    let s = Session::configured(|dir| {
        let path = dir.join("authentication.yaml");
        std::fs::write(&path, file(url, "first:")).unwrap();
        apiserver::Config {
            authentication_config: Some(path),
            ..session::config(dir)
        }
    });
    let path = s.path("authentication.yaml");
    let token = key.sign(&issuer.claims(&json!({})));
    until(&s, &token, "first:example.com");
    let metric = |status: &str, count: &str| {
        let name = "apiserver_authentication_config_controller_automatic_reloads_total";
        let line = format!("{name}{{status=\"{status}\"}} {count}\n");
        let all = s.run(&["get", "--raw", "/metrics"]).out();
        (all.contains(&line), all)
    };
    std::fs::write(&path, file(url, "second:")).unwrap();
    until(&s, &token, "second:example.com");
    assert!(metric("success", "1").0);
    // One of no use changes nothing, and is told.
    std::fs::write(&path, file("http://plain.example", "third:")).unwrap();
    let start = Instant::now();
    loop {
        let (found, all) = metric("failure", "1");
        if found {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "{all}");
        std::thread::sleep(Duration::from_millis(100));
    }
    s.run_as(&token, &["auth", "whoami"])
        .says("second:example.com");
}
