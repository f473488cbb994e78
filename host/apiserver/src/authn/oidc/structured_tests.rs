use super::parse;
use serde_json::{Value, json};

fn jwt() -> Value {
    json!({
        "issuer": {"url": "https://i.example", "audiences": ["a"]},
        "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
    })
}

fn said(jwt: &[Value]) -> String {
    let file = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": jwt});
    match parse(&file.to_string(), "https://own") {
        Ok(issuers) => format!("{} issuers", issuers.len()),
        Err(why) => why,
    }
}

fn with(path: &str, value: Value) -> Value {
    let mut jwt = jwt();
    let (parent, last) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = match parent {
        "" => &mut jwt,
        parent => jwt.pointer_mut(&format!("/{parent}")).expect("a parent"),
    };
    parent[last] = value;
    jwt
}

// Table: what is set otherwise, and what is said of it.
#[test]
fn configurations_are_checked_field_by_field() {
    let email = "claims.email_verified must be used";
    for (path, value, says) in [
        ("issuer/url", json!("https://i.example"), "1 issuers"),
        (
            "issuer/url",
            json!("http://i"),
            "jwt[0].issuer.url: Invalid value: \"http://i\": URL scheme must be https",
        ),
        (
            "issuer/url",
            json!("https://own"),
            "URL must not overlap with disallowed issuers",
        ),
        (
            "issuer/discoveryURL",
            json!("https://i.example/"),
            "discoveryURL must be different from URL",
        ),
        (
            "issuer/audiences",
            json!([]),
            "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required",
        ),
        (
            "issuer/audiences",
            json!(["a", "b"]),
            "audienceMatchPolicy must be MatchAny for multiple audiences",
        ),
        (
            "issuer/audiences",
            json!(["a", "a"]),
            "jwt[0].issuer.audiences[1]: Duplicate value: \"a\"",
        ),
        (
            "issuer/egressSelectorType",
            json!("cluster"),
            "unknown field `egressSelectorType`",
        ),
        (
            "claimMappings/username",
            json!({}),
            "jwt[0].claimMappings.username: Required value: claim or expression is required",
        ),
        (
            "claimMappings/username",
            json!({"claim": "sub"}),
            "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set",
        ),
        (
            "claimMappings/username",
            json!({"expression": "claims.sub"}),
            "1 issuers",
        ),
        (
            "claimMappings/username",
            json!({"expression": "claims.sub", "prefix": ""}),
            "may not be specified when expression is set",
        ),
        (
            "claimMappings/username",
            json!({"expression": "claims.sub", "claim": "sub"}),
            "claim and expression can't both be set",
        ),
        (
            "claimMappings/username",
            json!({"expression": "claims."}),
            "jwt[0].claimMappings.username.expression: Invalid value: \"claims.\"",
        ),
        (
            "claimMappings/username",
            json!({"expression": "1 == 1"}),
            "must evaluate to string",
        ),
        (
            "claimMappings/username",
            json!({"expression": "claims.email"}),
            email,
        ),
        (
            "claimMappings/username",
            json!({"expression": "claims.email_verified ? claims.email : ''"}),
            "1 issuers",
        ),
        (
            "claimMappings/extra",
            json!([{"key": "plain", "valueExpression": "'a'"}]),
            "jwt[0].claimMappings.extra[0].key: Invalid value: \"plain\"",
        ),
        (
            "claimMappings/extra",
            json!([{"key": "a.k8s.io/b", "valueExpression": "'a'"}]),
            "reserved for Kubernetes use",
        ),
        (
            "claimMappings/extra",
            json!([{"key": "x.example/Up", "valueExpression": "'a'"}]),
            "must be lowercase",
        ),
        (
            "claimMappings/extra",
            json!([{"key": "x.example/a", "valueExpression": "claims.a"}]),
            "1 issuers",
        ),
        (
            "claimValidationRules",
            json!([{}]),
            "jwt[0].claimValidationRules[0]: Required value: claim or expression is required",
        ),
        (
            "claimValidationRules",
            json!([{"expression": "'a'"}]),
            "must evaluate to bool",
        ),
        (
            "claimValidationRules",
            json!([{"claim": "a", "requiredValue": "b"}, {"claim": "a"}]),
            "jwt[0].claimValidationRules[1].claim: Duplicate value: \"a\"",
        ),
        (
            "claimValidationRules",
            json!([{"claim": "a", "message": "m"}]),
            "may not be specified when claim is set",
        ),
        (
            "userValidationRules",
            json!([{"expression": "user.username != ''"}]),
            "1 issuers",
        ),
        (
            "userValidationRules",
            json!([{"expression": "claims.a == 1"}]),
            "undeclared reference to 'claims'",
        ),
    ] {
        let said = said(&[with(path, value.clone())]);
        assert!(said.contains(says), "{path} {value}: {said}");
        assert_eq!(
            said == "1 issuers",
            says == "1 issuers",
            "{path} {value}: {said}"
        );
    }
    assert!(said(&[jwt(), jwt()]).contains("jwt[1].issuer.url: Duplicate value"));
    assert_eq!(said(&[]), "0 issuers");
    let other = parse("{apiVersion: v1, kind: Pod}", "");
    assert!(other.is_err_and(|why| why.contains("no kind \"Pod\" is registered")));
}
