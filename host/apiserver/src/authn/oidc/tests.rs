use super::jws::{Signed, signed};
use super::{Keys, keys, verified};
use jsonwebtoken::Algorithm::{self, ES256, PS256, RS256};
use serde_json::{Value, json};

/// The modulus of an RSA key of 2048 bits.
const MODULUS: &str = "\
    ptBsiSkiqbJv7kA06SUk2me-B8sGgP98-PxXrlASwvb1q28NdeQzCKV1CYeCGTAvrbTZI7dtQ-I2Dzpo0T0g\
    56e5ht3gpylmEduFiTYctKQ5SU4MSBrLxvsEsHHMlOM5WvU6_Tg_wZKfETFjpyeoXgv_tqmMAh0vUHiVtPtr\
    -OpNdWfz4hZtU7C-Li3g2NymtxjeU0BSu7xzwSwABBdxPRT8LZOUN_wN83dCAYwbh4KOzcg3P5LsejmqI0D_\
    iPVA5wPopQyHhsa33QoNV-zLuOaAWmKdcQLsrJqFizhFLVPO7WIAUGauzK_K9fJZJpxO2LFVq_fxzQmI779t\
    mGtS8w";

/// That it signed by RS256, as key `r`: of https://issuer.example, for c, sub a.
const TOKEN: &str = "\
    eyJhbGciOiJSUzI1NiIsImtpZCI6InIifQ.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwiYXVkI\
    joiYyIsInN1YiI6ImEiLCJleHAiOjQxMDI0NDQ4MDB9.poD2aNUSF5XO7q6E79_CBPpnsujqwWZWHxTfplcK\
    FctlpmHcgPEEaitUNmGOci8VHWYpQVVneikIxiq01MfoY2Y3iIFj7g4_mNWq2b4kedUMllubdr1DpzoHE1Mb\
    Sf99pS_uSvIRrEgltKkIw-jxJ74XOglbEVJQIymvMPEwB8n5fw-KGgpOQA-ufXNEDn9uJhOEaoAI9n3Clbh6\
    f3uC89bLZAUqq2ecCl0S3PGzW9WLFYEVmGqIWVYuBctebu87749SE4xFFkswn_9gUE5iWezRxpgYsyejtnLU\
    7t8YjvMZWmVpABitIKvlEM03U4E7YSSKhe32KlX6F-ysl_sS-g";

fn rsa() -> Value {
    json!({"kty": "RSA", "use": "sig", "kid": "r", "n": MODULUS, "e": "AQAB"})
}

fn read(set: &Value) -> Keys {
    Keys {
        url: String::new(),
        keys: keys(set),
        round: 0,
    }
}

fn proves(set: &Value, token: &str, by: (Option<&str>, Algorithm)) -> bool {
    let by = (by.0, Signed::By(by.1));
    verified(&read(set), token, by).is_some_and(|claims| claims["sub"] == "a")
}

// Table: key sets, the key that the token names, the algorithm.
#[test]
fn a_token_is_verified_by_the_key_that_it_names() {
    let set = |key: Value| json!({"keys": [{"kty": "unknown"}, key]});
    let mut other = rsa();
    other["kid"] = "other".into();
    let mut nameless = rsa();
    nameless.as_object_mut().expect("an object").remove("kid");
    let secret = json!({"kty": "oct", "kid": "r", "k": "c2VjcmV0"});
    for (key, id, by, good) in [
        (rsa(), Some("r"), RS256, true),
        (rsa(), None, RS256, true),
        (rsa(), Some("x"), RS256, false),
        (rsa(), Some("r"), PS256, false),
        (rsa(), Some("r"), ES256, false),
        (other, Some("r"), RS256, false),
        (nameless, Some("r"), RS256, false),
        (secret, Some("r"), RS256, false),
    ] {
        assert_eq!(
            proves(&set(key.clone()), TOKEN, (id, by)),
            good,
            "{key} {id:?} {by:?}"
        );
    }
    for empty in [
        json!({}),
        json!([]),
        json!({"keys": {}}),
        json!({"keys": [1]}),
    ] {
        assert!(!proves(&empty, TOKEN, (None, RS256)), "{empty}");
    }
}

#[test]
fn no_bytes_but_the_signed_ones_are_a_token() {
    let set = json!({"keys": [rsa()]});
    let known = read(&set);
    let mut random = fuzzing::Random::seeded();
    for _ in 0..fuzzing::rounds(5000) {
        let mut bytes = TOKEN.as_bytes().to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            let byte = random.draw().to_le_bytes()[0];
            match random.below(5) {
                0 => bytes.truncate(at + 1),
                1 => bytes.insert(at, byte),
                2 => bytes.insert(at, b'.'),
                _ => bytes[at] = byte,
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let _ = signed(&text);
        let claimed = super::jws::unverified(&text);
        assert!(claimed.is_none_or(|c| c.is_object()), "{text}");
        if let Some(claims) = verified(&known, &text, (None, Signed::By(RS256))) {
            assert_eq!(
                (&claims["sub"], &claims["aud"]),
                (&json!("a"), &json!("c")),
                "{text}"
            );
        }
    }
    // What no token is as large as isn't looked at.
    let huge = format!("{TOKEN}{}", "A".repeat(20_000));
    assert_eq!(super::jws::unverified(&huge), None);
}

#[test]
fn key_sets_of_any_form_are_read() {
    let mut random = fuzzing::Random::seeded();
    let parts = [
        json!(null),
        json!(1),
        json!("RSA"),
        json!("EC"),
        json!("oct"),
        json!("AQAB"),
        json!("!"),
        json!("P-256"),
        json!({}),
        json!([]),
        rsa(),
    ];
    for _ in 0..fuzzing::rounds(5000) {
        let mut key = rsa();
        for _ in 0..=random.below(3) {
            let name = random.pick(&["kty", "n", "e", "kid", "alg", "crv", "x", "y", "k", "use"]);
            key[name] = parts[random.below(parts.len())].clone();
        }
        let set = json!({"keys": [key]});
        assert!(keys(&set).len() <= 1, "{set}");
    }
}

/// A token that this key signs by ES512 as `id`, and the JWK of the key.
fn es512(id: &Value) -> (String, Value) {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
    let key = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).expect("a key");
    let (x, y) = key.public_key().as_ref()[1..].split_at(66);
    let jwk = json!({"kty": "EC", "crv": "P-521", "kid": id, "alg": "ES512",
        "x": B64.encode(x), "y": B64.encode(y)});
    let header = B64.encode(json!({"alg": "ES512", "kid": id}).to_string());
    let claims = B64.encode(json!({"sub": "a", "exp": 4_102_444_800_u64}).to_string());
    let said = format!("{header}.{claims}");
    let signature = key
        .sign(&SystemRandom::new(), said.as_bytes())
        .expect("a signature");
    (format!("{said}.{}", B64.encode(signature)), jwk)
}

#[test]
fn the_longest_curve_signs_too() {
    let (token, jwk) = es512(&json!("k"));
    let (_, other) = es512(&json!("k"));
    let (id, by) = signed(&token).expect("a header");
    assert_eq!((id.as_deref(), by), (Some("k"), Signed::Es512));
    let proves = |key: &Value, token: &str, by: (Option<&str>, Signed)| {
        let set = json!({"keys": [rsa(), key]});
        verified(&read(&set), token, by).is_some_and(|claims| claims["sub"] == "a")
    };
    let mut short = jwk.clone();
    short["x"] = "AQAB".into();
    let tampered = token.replacen("eyJ", "eyK", 2);
    for (key, token, by, good) in [
        (&jwk, &token, (Some("k"), Signed::Es512), true),
        (&jwk, &token, (None, Signed::Es512), true),
        (&jwk, &token, (Some("x"), Signed::Es512), false),
        (&jwk, &token, (Some("k"), Signed::By(ES256)), false),
        (&other, &token, (Some("k"), Signed::Es512), false),
        (&short, &token, (Some("k"), Signed::Es512), false),
        (&jwk, &tampered, (Some("k"), Signed::Es512), false),
        (&jwk, &TOKEN.to_owned(), (None, Signed::Es512), false),
    ] {
        assert_eq!(proves(key, token, by), good, "{key} {token} {by:?}");
    }
}
