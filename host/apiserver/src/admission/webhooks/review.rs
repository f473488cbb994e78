//! AdmissionReview: what a webhook is asked, and what of its answer is
//! believed (`webhook/request/admissionreview.go`). Pure.

use api::meta;
use api::status::Status;
use base64::Engine as _;
use serde_json::{Value, json};

/// An answer that holds together.
#[derive(Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    /// `metav1.Status`, or null.
    pub(super) result: Value,
    pub(super) patch: Vec<u8>,
    pub(super) patch_type: String,
    pub(super) warnings: Vec<String>,
    /// For the audit log.
    pub(super) annotations: Vec<(String, String)>,
}

/// The question in the first version that the webhook and we understand.
pub(super) fn review(
    versions: &[String],
    uid: &str,
    request: &Value,
    (object, old): (&Value, &Value),
) -> Option<Value> {
    let version = versions
        .iter()
        .find(|v| matches!(v.as_str(), "v1" | "v1beta1"))?;
    let mut request = request.clone();
    request["uid"] = uid.into();
    request["object"] = object.clone();
    request["oldObject"] = old.clone();
    Some(json!({
        "kind": "AdmissionReview",
        "apiVersion": format!("admission.k8s.io/{version}"),
        "request": request,
    }))
}

/// What the answer to `asked` says.
pub(super) fn verdict(asked: &Value, answer: &Value, mutating: bool) -> Result<Verdict, String> {
    let Some(response) = answer.get("response").filter(|r| r.is_object()) else {
        return Err("webhook response was absent".to_owned());
    };
    let wanted = meta::text(asked, &["apiVersion"]);
    let patch = base64::engine::general_purpose::STANDARD
        .decode(meta::text(response, &["patch"]))
        .map_err(|e| format!("response.patch: {e}"))?;
    let patch_type = response.get("patchType").and_then(Value::as_str);
    let warnings = meta::list(response, &["warnings"]).iter();
    let annotations = response.get("auditAnnotations").and_then(Value::as_object);
    let annotations = annotations.into_iter().flatten();
    let mut verdict = Verdict {
        allowed: meta::flag(response, &["allowed"]),
        result: response.get("status").cloned().unwrap_or_default(),
        patch,
        patch_type: String::new(),
        warnings: warnings
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        annotations: annotations
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
    };
    if wanted == "admission.k8s.io/v1beta1" {
        // This version's answers were never looked at closely.
        match mutating && !verdict.patch.is_empty() {
            true => verdict.patch_type = "JSONPatch".to_owned(),
            false => verdict.patch.clear(),
        }
        return Ok(verdict);
    }
    let uid = meta::text(asked, &["request", "uid"]);
    let its = meta::text(response, &["uid"]);
    if its != uid {
        return Err(format!("expected response.uid={uid:?}, got {its:?}"));
    }
    let its = (
        meta::text(answer, &["apiVersion"]),
        meta::text(answer, &["kind"]),
    );
    if its != (wanted, "AdmissionReview") {
        let group = if its.0.contains('/') { "" } else { "/" };
        return Err(format!(
            "expected webhook response of {wanted}, Kind=AdmissionReview, got {group}{}, Kind={}",
            its.0, its.1
        ));
    }
    check_patch(&verdict, patch_type, mutating)?;
    verdict.patch_type = patch_type.unwrap_or_default().to_owned();
    Ok(verdict)
}

fn check_patch(of: &Verdict, patch_type: Option<&str>, mutating: bool) -> Result<(), String> {
    let why = match (mutating, of.patch.is_empty(), patch_type) {
        (true, false, None) => "webhook returned response.patch but not response.patchType",
        (true, true, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, false, Some("")) => "webhook returned invalid response.patchType of \"\"",
        (false, false, _) => "validating webhook may not return response.patch",
        (false, true, Some(_)) => "validating webhook may not return response.patchType",
        (true, false, Some(_)) | (_, true, None) => return Ok(()),
    };
    Err(why.to_owned())
}

/// The refusal that a webhook's `result` makes.
pub(super) fn refusal(webhook: &str, result: &Value) -> Status {
    let text = |key: &str| meta::text(result, &[key]);
    let denied = format!("admission webhook {webhook:?} denied the request");
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    let code = meta::int(result, &["code"])
        .and_then(|code| u16::try_from(code).ok())
        .filter(|code| (400..600).contains(code));
    let mut status = Status::new(code.unwrap_or(400), text("reason").to_owned(), message);
    status.details = result.get("details").filter(|d| d.is_object()).cloned();
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &Value, mutating: bool, wanted: Result<bool, &str>) {
        let asked = json!({"apiVersion": "admission.k8s.io/v1", "request": {"uid": "u"}});
        let found = verdict(&asked, answer, mutating).map(|v| v.allowed);
        assert_eq!(found, wanted.map_err(str::to_owned), "{answer}");
    }

    fn answer(response: Value) -> Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }

    #[test]
    fn answers_are_believed_if_they_hold_together() {
        let patch = "W10=";
        for (response, mutating, wanted) in [
            (json!({"uid": "u", "allowed": true}), false, Ok(true)),
            (json!({"uid": "u"}), true, Ok(false)),
            (
                json!({"uid": "v", "allowed": true}),
                true,
                Err("expected response.uid=\"u\", got \"v\""),
            ),
            (
                json!({"uid": "u", "patch": patch}),
                true,
                Err("webhook returned response.patch but not response.patchType"),
            ),
            (
                json!({"uid": "u", "patchType": "JSONPatch"}),
                true,
                Err("webhook returned response.patchType but not response.patch"),
            ),
            (
                json!({"uid": "u", "patch": patch, "patchType": "JSONPatch"}),
                false,
                Err("validating webhook may not return response.patch"),
            ),
            (
                json!({"uid": "u", "patch": patch, "patchType": "JSONPatch", "allowed": true}),
                true,
                Ok(true),
            ),
            (Value::Null, true, Err("webhook response was absent")),
        ] {
            check(&answer(response), mutating, wanted);
        }
        check(
            &json!({"response": {"uid": "u"}}),
            true,
            Err(
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=",
            ),
        );
    }

    #[test]
    fn whatever_an_answer_holds_it_is_read() {
        let odd = [
            json!(null),
            json!(7),
            json!("="),
            json!([[]]),
            json!({"code": -1}),
            json!(true),
        ];
        let asked = json!({"apiVersion": "admission.k8s.io/v1", "request": {"uid": "u"}});
        for a in &odd {
            for b in &odd {
                let response = json!({"uid": "u", "allowed": a, "patch": b, "patchType": a,
                    "status": b, "warnings": a, "auditAnnotations": b});
                for found in [a.clone(), answer(a.clone()), answer(response)] {
                    for mutating in [true, false] {
                        // A patch is text, whatever else it is.
                        let Ok(verdict) = verdict(&asked, &found, mutating) else {
                            continue;
                        };
                        assert!(verdict.patch.is_empty() && found.is_object(), "{found}");
                        assert!((400..600).contains(&refusal("w", &verdict.result).code));
                    }
                }
            }
        }
    }

    #[test]
    fn refusals_say_who_refused_and_why() {
        for (result, code, reason, message) in [
            (json!(null), 400, "", " without explanation"),
            (json!({"code": 403, "message": "no"}), 403, "", ": no"),
            (
                json!({"code": 200, "reason": "Because"}),
                400,
                "Because",
                ": Because",
            ),
        ] {
            let status = refusal("w", &result);
            assert_eq!((status.code, &*status.reason), (code, reason));
            let wanted = format!("admission webhook \"w\" denied the request{message}");
            assert_eq!(status.message, wanted);
        }
    }
}
