use crate::kinds::group_tests::{faults, row, shows};
use crate::kinds::{KindRef, stamp_conditions, stamp_requester};
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

fn request() -> Value {
    json!({"spec": {
        "request": pem("CERTIFICATE REQUEST", &[0x30, 1, 0]),
        "signerName": "example.com/signer", "usages": ["client auth"]}})
}

#[test]
fn requests_are_checked() {
    let spec = |patch: Value| json!({"spec": patch});
    let other = pem("CERTIFICATE", &[0x30, 0]);
    let why = format!(
        "spec.request: Invalid value: {other:?}: PEM block type must be CERTIFICATE REQUEST"
    );
    faults(
        GROUP,
        PLURAL,
        request(),
        &[
            (spec(json!({"request": other})), &why),
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
    stamp_requester(&mut asked, "u", &["g".to_owned()]);
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
