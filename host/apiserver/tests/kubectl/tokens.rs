//! Tokens of service accounts, and reviews, as kubectl and HTTP clients see
//! them.

use crate::session::Session;
use crate::wire::Client;
use http::Method;
use serde_json::{Value, json};

#[test]
fn a_token_is_its_service_account() {
    let s = Session::first();
    s.run(&["create", "serviceaccount", "robot"])
        .says("created");
    let token = s.run(&["create", "token", "robot"]).out().trim().to_owned();
    assert_eq!(token.split('.').count(), 3, "{token}");
    s.run_as(&token, &["auth", "whoami"])
        .says("system:serviceaccount:default:robot")
        .says("system:serviceaccounts:default")
        .says("credential-id");
    s.run_as(&token, &["get", "pods"])
        .fails("User \"system:serviceaccount:default:robot\" cannot list resource \"pods\"");
    s.run_as(&token, &["auth", "can-i", "list", "pods"])
        .finds("no");
    s.run(&[
        "create",
        "rolebinding",
        "robots",
        "--clusterrole=cluster-admin",
        "--serviceaccount=default:robot",
    ])
    .says("created");
    s.run_as(&token, &["auth", "can-i", "list", "pods"])
        .says("yes");
    s.run_as(&token, &["auth", "can-i", "list", "pods", "-A"])
        .finds("no");
    s.run_as(&token, &["auth", "can-i", "--list"]).says("*.*");
    s.run_as(&token, &["get", "pods"])
        .warns("No resources found");
    s.run(&["auth", "can-i", "get", "/metrics"]).says("yes");
    s.run(&["auth", "can-i", "get", "pods", "--as=carol"])
        .finds("no");
    s.run(&["create", "token", "robot", "--duration=1m"])
        .fails("may not specify a duration less than 10 minutes");
    s.run(&["create", "token", "absent"])
        .fails("serviceaccounts \"absent\" not found");
    s.run(&["delete", "serviceaccount", "robot"])
        .says("deleted");
    s.run_as(&token, &["get", "pods"])
        .fails("You must be logged in to the server");
    // Another account of the same name isn't the same account.
    s.run(&["create", "serviceaccount", "robot"])
        .says("created");
    s.run_as(&token, &["get", "pods"])
        .fails("You must be logged in to the server");
}

#[test]
fn tokens_survive_a_restart_and_other_keys_do_not_count() {
    let s = Session::first();
    s.run(&["create", "serviceaccount", "robot"])
        .says("created");
    let token = s.run(&["create", "token", "robot"]).out().trim().to_owned();
    let s = s.restart();
    s.run_as(&token, &["auth", "whoami"]).says("robot");
    let other = Session::first();
    other
        .run(&["create", "serviceaccount", "robot"])
        .says("created");
    other
        .run_as(&token, &["get", "pods"])
        .fails("You must be logged in to the server");
}

#[test]
fn a_secret_that_asks_for_a_token_gets_one() {
    let s = Session::first();
    s.run(&["create", "serviceaccount", "robot"])
        .says("created");
    let secret = r#"
apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata: {name: t, annotations: {kubernetes.io/service-account.name: robot}}
"#;
    s.run_with(&["create", "-f", "-"], secret).says("created");
    s.run(&[
        "wait",
        "secret/t",
        "--for=jsonpath={.data.namespace}=ZGVmYXVsdA==",
        "--timeout=30s",
    ])
    .says("condition met");
    let encoded = s.run(&[
        "get",
        "secret",
        "t",
        "-o",
        "go-template={{.data.token | base64decode}}",
    ]);
    let token = encoded.out().trim().to_owned();
    s.run_as(&token, &["auth", "whoami"])
        .says("system:serviceaccount:default:robot");
    s.run(&["delete", "secret", "t"]).says("deleted");
    s.run_as(&token, &["auth", "whoami"])
        .fails("You must be logged in to the server");
}

fn post(client: &Client, path: &str, body: &Value) -> (u16, Value) {
    let (code, value) = client.send(Method::POST, path, &[], body.to_string().as_bytes());
    (code.as_u16(), value)
}

#[test]
fn tokens_are_reviewed() {
    let client = Client::start();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"metadata": {"name": "robot"}});
    let (code, account) = post(&client, accounts, &account);
    assert_eq!(code, 201, "{account}");
    let request = json!({"spec": {"audiences": ["vault", "other"]}});
    let (code, answer) = post(&client, &format!("{accounts}/robot/token"), &request);
    assert_eq!(code, 201, "{answer}");
    assert_eq!(answer["kind"], "TokenRequest");
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    let token = answer["status"]["token"].as_str().unwrap();
    let review = |spec: Value| {
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let (code, answer) = post(&client, path, &json!({"spec": spec}));
        assert_eq!(code, 201, "{answer}");
        answer["status"].clone()
    };
    let good = review(json!({"token": token, "audiences": ["vault", "none"]}));
    assert_eq!(good["authenticated"], true, "{good}");
    assert_eq!(good["audiences"], json!(["vault"]));
    assert_eq!(good["user"]["uid"], account["metadata"]["uid"]);
    assert_eq!(
        good["user"]["username"],
        "system:serviceaccount:default:robot"
    );
    for spec in [
        json!({"token": token}),
        json!({"token": token, "audiences": ["third"]}),
        json!({"token": format!("{token}x"), "audiences": ["vault"]}),
        json!({"token": "sesam"}),
    ] {
        let bad = review(spec);
        assert!(bad.get("authenticated").is_none_or(|a| a == false), "{bad}");
        assert!(
            bad["error"]
                .as_str()
                .unwrap()
                .contains("invalid bearer token"),
            "{bad}"
        );
    }
    assert_eq!(
        review(json!({"token": "sesame"}))["user"]["username"],
        "bob"
    );
    let (_, keys) = client.send(Method::GET, "/openid/v1/jwks", &[], b"");
    assert_eq!(keys["keys"][0]["alg"], "ES256");
    let (_, issuer) = client.send(Method::GET, "/.well-known/openid-configuration", &[], b"");
    assert_eq!(
        issuer["issuer"],
        "https://kubernetes.default.svc.cluster.local"
    );
}

#[test]
fn a_token_is_bound_to_its_pod() {
    let client = Client::start();
    let pods = "/api/v1/namespaces/default/pods";
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let (code, pod) = post(&client, pods, &pod);
    assert_eq!(code, 201, "{pod}");
    assert_eq!(pod["spec"]["serviceAccountName"], "default");
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let bound = |uid: &str| json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}}});
    let (code, refused) = post(&client, token, &bound("other"));
    assert_eq!(code, 409, "{refused}");
    let (code, answer) = post(
        &client,
        token,
        &bound(pod["metadata"]["uid"].as_str().unwrap()),
    );
    assert_eq!(code, 201, "{answer}");
    let review = |client: &Client| {
        let body = json!({"spec": {"token": answer["status"]["token"]}});
        post(client, "/apis/authentication.k8s.io/v1/tokenreviews", &body).1
    };
    let good = review(&client);
    let extra = &good["status"]["user"]["extra"];
    assert_eq!(
        extra["authentication.kubernetes.io/pod-name"],
        json!(["p"]),
        "{good}"
    );
    let (code, _) = client.send(Method::DELETE, &format!("{pods}/p"), &[], b"");
    assert_eq!(code, 200);
    let gone = review(&client);
    assert_eq!(
        gone["status"]["error"],
        "[invalid bearer token, service account token has been invalidated]"
    );
}
