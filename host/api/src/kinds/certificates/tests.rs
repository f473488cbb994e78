use crate::kinds::group_tests::{faults, row, shows};
use crate::kinds::{KindRef, SigningRequest, stamp_conditions, stamp_requester};
use base64::Engine as _;
use serde_json::{Value, json};

const GROUP: &str = "certificates";
const PLURAL: &str = "certificatesigningrequests";

fn pem(label: &str, der: &[u8]) -> String {
    let engine = base64::engine::general_purpose::STANDARD;
    let body = engine.encode(der);
    engine.encode(format!(
        "-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"
    ))
}

/// Of /O=g/CN=u, with a key on P-256.
const CSR: &str = "\
    LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIU01Ib0NBUUF3R0RFS01BZ0dBMVVFQ2d3\
    Qlp6RUtNQWdHQTFVRUF3d0JkVEJaTUJNR0J5cUdTTTQ5QWdFRwpDQ3FHU000OUF3RUhBMElBQkFzazFUelFJ\
    L3VELzBMdytNazJxbXJORCszTk45Z1N2UnZ0MU9FdGRDMm40NGxVCnlvTTVySnEvRlBpUEQxQnhCSjhFYjJI\
    T3hsMGg3QzhsNHVOT3lZNmdBREFLQmdncWhrak9QUVFEQWdOSUFEQkYKQWlBKy8vT2M4bU9pV3g5WW10bndB\
    cGcxR3JMRjNXYmVQL2h4UU9kejR0aHp3QUloQVA2Z2ZXd0ROWk5aNWJMdApXVnp4K2hBU2k2QS9rYk1ZM3dT\
    NE1mM0lWNis5Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=";

fn request() -> Value {
    json!({"spec": {
        "request": CSR,
        "signerName": "example.com/signer", "usages": ["client auth"]}})
}

#[test]
fn requests_are_checked() {
    let spec = |patch: Value| json!({"spec": patch});
    let other = pem("CERTIFICATE", &[0x30, 0]);
    let empty = pem("CERTIFICATE REQUEST", &[0x30, 1, 0]);
    let why = format!(
        "spec.request: Invalid value: {other:?}: PEM block type must be CERTIFICATE REQUEST"
    );
    faults(
        GROUP,
        PLURAL,
        request(),
        &[
            (spec(json!({"request": other})), &why),
            (
                spec(json!({"request": empty})),
                &format!(
                    "spec.request: Invalid value: {empty:?}: x509: malformed certificate request"
                ),
            ),
            (spec(json!({"usages": null})), "spec.usages: Required value"),
            (
                spec(json!({"usages": ["signing", "signing"]})),
                "spec.usages[1]: Duplicate value: \"signing\"",
            ),
            (
                spec(json!({"signerName": null})),
                "spec.signerName: Required value",
            ),
            (
                spec(json!({"signerName": "kubernetes.io/legacy-unknown"})),
                "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via this API version",
            ),
            (
                spec(json!({"signerName": "signer"})),
                "spec.signerName: Invalid value: \"signer\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
            ),
            (
                spec(json!({"signerName": "local/signer"})),
                "spec.signerName: Invalid value: \"local\": should be a domain with at least two segments separated by dots",
            ),
            (
                spec(json!({"expirationSeconds": 5})),
                "spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 600 seconds (10 minutes)",
            ),
        ],
    );
    let mut asked = request();
    asked["spec"]["username"] = "mallory".into();
    asked["spec"]["uid"] = "1".into();
    stamp_requester(&mut asked, &json!({"username": "u", "groups": ["g"]}));
    asked["spec"]["expirationSeconds"] = 3600.into();
    assert_eq!(asked["spec"].get("uid"), None);
    shows(
        GROUP,
        PLURAL,
        asked,
        json!(["x", "example.com/signer", "u", "60m", "Pending"]),
    );
}

/// What an endpoint makes of a client's object, and its faults.
fn change(endpoint: &str, new: Value, old: &Value) -> (Value, String) {
    let k = KindRef::Row(row(GROUP, PLURAL));
    let (mut new, mut errors) = (new, crate::field::Errors::default());
    match endpoint {
        "approval" => {
            k.prepare_approval(&mut new, old);
            k.validate_approval(&new, old, &mut errors);
        }
        _ => {
            k.prepare_status(&mut new, old);
            k.validate_status(&new, old, &mut errors);
        }
    }
    let why = match errors.is_empty() {
        true => String::new(),
        false => errors.aggregate(),
    };
    (new, why)
}

#[test]
fn each_endpoint_changes_its_part_of_the_status() {
    let mut old = request();
    old["metadata"] = json!({"name": "x"});
    let approved = json!([{"type": "Approved", "status": "True"}]);
    let certificate = pem("CERTIFICATE", &[0x30, 0]);
    let mut new = old.clone();
    new["status"] = json!({"conditions": approved, "certificate": certificate});
    new["spec"]["usages"] = json!(["signing"]);

    let (made, why) = change("approval", new.clone(), &old);
    assert_eq!(why, "");
    assert_eq!(made["status"], json!({"conditions": approved}));
    assert_eq!(made["spec"], old["spec"]);

    let (_, why) = change("status", new.clone(), &old);
    assert_eq!(
        why,
        "status.conditions: Forbidden: updates may not add a condition of type \"Approved\""
    );
    let (_, why) = change("approval", old.clone(), &made);
    assert_eq!(
        why,
        "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""
    );
    let (signed, why) = change("status", new.clone(), &made);
    assert_eq!(why, "");
    assert_eq!(signed["status"]["certificate"], certificate);
    new["status"]["certificate"] = pem("CERTIFICATE", &[0x30, 1, 0]).into();
    let (_, why) = change("status", new.clone(), &signed);
    assert_eq!(
        why,
        "status.certificate: Forbidden: updates may not modify existing certificate content"
    );
    new["status"]["conditions"] = json!([
        {"type": "Approved", "status": "True"}, {"type": "Denied", "status": "False"}]);
    let (_, why) = change("approval", new, &old);
    assert_eq!(
        why,
        "[status.conditions[1].status: Unsupported value: \"False\": supported values: \"True\", status.conditions[1].type: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive]"
    );
}

#[test]
fn conditions_get_times() {
    let condition = |at: Option<&str>| json!({"status": {"conditions": [{"type": "Approved", "status": "True", "lastTransitionTime": at}]}});
    let since = "2020-01-01T00:00:00Z";
    let mut new = condition(None);
    stamp_conditions(
        &mut new,
        &condition(Some(since)),
        jiff::Timestamp::UNIX_EPOCH,
    );
    let made = &new["status"]["conditions"][0];
    assert_eq!(made["lastTransitionTime"], since);
    assert_eq!(made["lastUpdateTime"], "1970-01-01T00:00:00Z");
}

fn der() -> Vec<u8> {
    let engine = base64::engine::general_purpose::STANDARD;
    let text = String::from_utf8(engine.decode(CSR).expect("base64")).expect("text");
    let body: String = text.lines().filter(|l| !l.starts_with('-')).collect();
    engine.decode(body).expect("base64")
}

fn parse(der: &[u8]) -> Result<SigningRequest, &'static str> {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    SigningRequest::parse(&format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n"
    ))
}

#[test]
fn a_request_is_read_and_its_signature_held_to() {
    let whole = der();
    let read = parse(&whole).expect("a request");
    assert_eq!(
        (&*read.common_name, read.organizations),
        ("u", vec!["g".to_owned()])
    );
    assert_eq!(read.public_key.first(), Some(&0x30));
    // The name is signed for: another one isn't this request's.
    let mut other = whole.clone();
    let at = whole.windows(3).position(|w| w == [0x0c, 1, b'u']);
    other[at.expect("the common name") + 2] = b'v';
    assert_eq!(
        parse(&other),
        Err("x509: the request's signature isn't its key's")
    );
}

#[test]
fn no_bytes_but_the_signed_ones_are_a_request() {
    let mut random = fuzzing::Random::seeded();
    let whole = der();
    let wanted = parse(&whole).expect("a request");
    for _ in 0..fuzzing::rounds(3000) {
        let mut bytes = whole.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, random.draw().to_le_bytes()[0]),
                _ => bytes[at] = random.draw().to_le_bytes()[0],
            }
            if bytes.is_empty() {
                break;
            }
        }
        if let Ok(read) = parse(&bytes) {
            assert_eq!(read, wanted);
        }
    }
}

// Requests of u in g, by OpenSSL.
const P521_SHA256: &str = "\
    MIIBWzCBvQIBADAYMQowCAYDVQQKDAFnMQowCAYDVQQDDAF1MIGbMBAGByqGSM49AgEGBSuB\
    BAAjA4GGAAQAoTakPhH1i/38zjT/UwK7/rh65OnSVv5/Ar81elcvmYFOFtI5adoBBbD6yfa8\
    v0q4mMITbyhp3d2Q0YcHF/6MfMUAAq78gAQ99Cs08P+txv+Xg40YJUH1+UEBdK9PpIm1DaKw\
    xWpwL7JqcmSjkqrb2w+VpxT0TEQQLXfxUm4/2lYLuBGgADAKBggqhkjOPQQDAgOBjAAwgYgC\
    QgHv433LxcWzYYwXCCp/HMyTTE/P1Ib4GYtuA8QH5lojw3B0X+ZdLKq0ArCu3zZ31mfkC3u/\
    IkRDII7JCtX7TeanTAJCAOTygp5enaO8o17N14yFttESkF4XikVrOosftIR0ISatNqS7rGRp\
    nLBoSQi2iQ6IyANs/i/MVCUXElRItJNPbjpO";
const P521_SHA384: &str = "\
    MIIBWzCBvQIBADAYMQowCAYDVQQKDAFnMQowCAYDVQQDDAF1MIGbMBAGByqGSM49AgEGBSuB\
    BAAjA4GGAAQAoTakPhH1i/38zjT/UwK7/rh65OnSVv5/Ar81elcvmYFOFtI5adoBBbD6yfa8\
    v0q4mMITbyhp3d2Q0YcHF/6MfMUAAq78gAQ99Cs08P+txv+Xg40YJUH1+UEBdK9PpIm1DaKw\
    xWpwL7JqcmSjkqrb2w+VpxT0TEQQLXfxUm4/2lYLuBGgADAKBggqhkjOPQQDAwOBjAAwgYgC\
    QgEAJwOdIIuLAXQvaX3Nyu1o3ihA6mNQFML4L6mjhLwnZDdZPeB08WQ9Fa9F99xH+drl0aMz\
    NwCKNrDtq2awyIB7hQJCAJfWI0xQoQfMQ2KilID/uJ++KJ0oDH3ZQ/JV0PuZVS9a4Rrw/29g\
    YPSEM8bwdaeChoL81Rnfck4KJmmwcIUJFrMT";
const P521_SHA512: &str = "\
    MIIBWjCBvQIBADAYMQowCAYDVQQKDAFnMQowCAYDVQQDDAF1MIGbMBAGByqGSM49AgEGBSuB\
    BAAjA4GGAAQAoTakPhH1i/38zjT/UwK7/rh65OnSVv5/Ar81elcvmYFOFtI5adoBBbD6yfa8\
    v0q4mMITbyhp3d2Q0YcHF/6MfMUAAq78gAQ99Cs08P+txv+Xg40YJUH1+UEBdK9PpIm1DaKw\
    xWpwL7JqcmSjkqrb2w+VpxT0TEQQLXfxUm4/2lYLuBGgADAKBggqhkjOPQQDBAOBiwAwgYcC\
    QgDk/7cB01pwIQGGpn3NfJqZPgtbxsUP6d6yh9GAngXZmwuAkW5LPTIpe/hQfbEtXGng8k2N\
    /HK6SwYMxsj5nPaMhQJBTmJHm1lhewSzk+RewTtSvfX21oiu5Zqv8GuXNLVACw3ADYjQUaHL\
    aIBUQYsiI62c67irAiFnhMoVtnV7smV6M04=";
const P384_SHA512: &str = "\
    MIIBDzCBlwIBADAYMQowCAYDVQQKDAFnMQowCAYDVQQDDAF1MHYwEAYHKoZIzj0CAQYFK4EE\
    ACIDYgAEn3Blj5oAerIG1aoJ1UuKq4+eAZzjxME9Zp6V1fPWKYTIaCSAanztsKybBBCzXtMT\
    TyH9w5Ff0kNdIonQG8U3m8c1lkW75Silyq+zOCziQ3KVwcmJcI8P2mN46jUvtqtfoAAwCgYI\
    KoZIzj0EAwQDZwAwZAIwYxEkpTHqaIVs5JqI0kGPaK1lClwaqhxlWKFfWXuyeQJLA3gjVMpH\
    Na/xsBt/wEK6AjBllxYKdidnALmDNWpFnuIBULgHXjfsr9vfe8TPMgoG0+oFbJkht+OoTphc\
    ShPgroc=";
const P256_SHA512: &str = "\
    MIHTMHoCAQAwGDEKMAgGA1UECgwBZzEKMAgGA1UEAwwBdTBZMBMGByqGSM49AgEGCCqGSM49\
    AwEHA0IABL952eH9wekuYb7b1SrXk9V9eMdZG94VmHU15A4tFTmMHyJOBYzwspjvvPBy5Dw6\
    ioSIuctRTtmx12nfALDtow6gADAKBggqhkjOPQQDBANJADBGAiEAkIXPkdfS8XkTl/QxSYk8\
    P0QSDYOUlkV00bcDeOkv+m0CIQCtEu23ZNN6LW9jVyA5XXYoCKbFKZq8Ep0FFx4jBZ9mcA==";

#[test]
fn requests_are_signed_by_every_curve_and_digest() {
    for signed in [
        P521_SHA256,
        P521_SHA384,
        P521_SHA512,
        P384_SHA512,
        P256_SHA512,
    ] {
        let engine = base64::engine::general_purpose::STANDARD;
        let whole = engine.decode(signed).expect("base64");
        let read = parse(&whole).expect(signed);
        assert_eq!(read.common_name, "u");
        let at = whole.windows(3).position(|w| w == [0x0c, 1, b'u']);
        let mut other = whole.clone();
        other[at.expect("the common name") + 2] = b'v';
        let refused = Err("x509: the request's signature isn't its key's");
        assert_eq!(parse(&other), refused, "{signed}");
    }
}
