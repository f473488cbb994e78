use super::{Expression, Mapping, Rule, Source};
use expressions::Type;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn claim(name: &str, prefix: &str) -> Source {
    Source::Claim {
        name: name.to_owned(),
        prefix: prefix.to_owned(),
    }
}

fn mapping(username: &str) -> Mapping {
    Mapping {
        username: claim(username, "u:"),
        groups: Some(claim("groups", "g:")),
        uid: None,
        extra: Vec::new(),
        required: BTreeMap::from([("hd".to_owned(), "x".to_owned())]),
        claim_rules: Vec::new(),
        user_rules: Vec::new(),
    }
}

/// Name and own groups, or what is wrong.
fn said(mapping: &Mapping, claims: &Value) -> String {
    match mapping.user(claims) {
        Err(why) => why,
        Ok(user) => {
            let own = user.groups.iter().filter(|g| !g.starts_with("system:"));
            let own: Vec<&str> = own.map(String::as_str).collect();
            format!("{} {}", user.name, own.join(","))
        }
    }
}

// Table: claims, and the user or what is wrong.
#[test]
fn claims_name_a_user() {
    for (claim, claims, outcome) in [
        (
            "sub",
            json!({"sub": "a", "hd": "x", "groups": ["b", "c"]}),
            "u:a g:b,g:c",
        ),
        (
            "sub",
            json!({"sub": "a", "hd": "x", "groups": "b"}),
            "u:a g:b",
        ),
        ("sub", json!({"sub": "a", "hd": "x"}), "u:a "),
        (
            "sub",
            json!({"hd": "x"}),
            "oidc: parse username claims \"sub\": claim not present",
        ),
        (
            "sub",
            json!({"sub": 1, "hd": "x"}),
            "oidc: parse username claims \"sub\": not a string",
        ),
        (
            "sub",
            json!({"sub": "a"}),
            "oidc: required claim hd not present in ID token",
        ),
        (
            "sub",
            json!({"sub": "a", "hd": "y"}),
            "oidc: required claim hd value does not match. Got = y, want = x",
        ),
        (
            "sub",
            json!({"sub": "a", "hd": "x", "groups": [1]}),
            "oidc: parse groups claim \"groups\": not a string or strings",
        ),
        ("email", json!({"email": "a@b", "hd": "x"}), "u:a@b "),
        (
            "email",
            json!({"email": "a@b", "email_verified": false, "hd": "x"}),
            "oidc: email not verified",
        ),
        (
            "email",
            json!({"email": "a@b", "email_verified": "true", "hd": "x"}),
            "oidc: parse 'email_verified' claim: not a boolean",
        ),
    ] {
        assert_eq!(said(&mapping(claim), &claims), outcome, "{claims}");
    }
}

fn over(variable: &str, text: &str) -> Expression {
    Expression::compile(text, variable, None).expect("an expression")
}

fn rule(variable: &str, text: &str) -> Rule {
    Rule {
        expression: over(variable, text),
        message: "no".to_owned(),
    }
}

#[test]
fn expressions_name_a_user_and_rules_hold() {
    let mapping = Mapping {
        username: Source::Expression(over("claims", "claims.name + ':' + claims.org")),
        groups: Some(Source::Expression(over(
            "claims",
            "claims.roles.split(',')",
        ))),
        uid: Some(Source::Expression(over("claims", "string(claims.number)"))),
        extra: vec![
            ("x.example/org".to_owned(), over("claims", "claims.org")),
            ("x.example/none".to_owned(), over("claims", "''")),
        ],
        required: BTreeMap::new(),
        claim_rules: vec![rule("claims", "claims.org != 'closed'")],
        user_rules: vec![rule(
            "user",
            "!user.username.startsWith('system:') && user.groups.size() < 3",
        )],
    };
    let claims = |name: &str, org: &str, roles: &str| json!({"name": name, "org": org, "roles": roles, "number": 7});
    let user = mapping.user(&claims("a", "o", "r,s")).expect("a user");
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("a:o", "7"));
    assert_eq!(user.groups, ["r", "s", "system:authenticated"]);
    assert_eq!(
        user.extra,
        BTreeMap::from([("x.example/org".to_owned(), vec!["o".to_owned()])])
    );
    for (claims, why) in [
        (
            claims("a", "closed", "r"),
            "oidc: error evaluating claim validation expression: validation expression 'claims.org != 'closed'' failed: no",
        ),
        (
            claims("system", "o", "r"),
            "oidc: error evaluating user info validation rule: validation expression",
        ),
        (
            claims("a", "o", "r,s,t"),
            "oidc: error evaluating user info validation rule: validation expression",
        ),
        (
            json!({"name": "a"}),
            "oidc: error evaluating username claim expression: expression",
        ),
    ] {
        let said = said(&mapping, &claims);
        assert!(said.starts_with(why), "{claims}: {said}");
    }
}

#[test]
fn what_is_no_text_is_nobody() {
    let by = |text: &str| Mapping {
        username: Source::Expression(over("claims", text)),
        groups: None,
        required: BTreeMap::new(),
        ..mapping("sub")
    };
    for (text, why) in [
        ("claims.sub", "must return a string"),
        ("claims.none", "resulted in error"),
        ("''", "the user's name is empty"),
        (
            "[1, 2].map(x, claims.many.map(y, claims.many.map(z, claims.many.map(w, w)))).size() > 0 ? 'a' : 'b'",
            "username claim expression: expression '[1, 2]",
        ),
    ] {
        let claims = json!({"sub": 1, "many": vec![1; 300]});
        let said = said(&by(text), &claims);
        assert!(said.contains(why), "{text}: {said}");
    }
    let wrong = Expression::compile("claims.a == 1", "claims", Some(&Type::String));
    assert!(wrong.is_err(), "{wrong:?}");
    assert!(Expression::compile("user.name", "claims", None).is_err());
}
