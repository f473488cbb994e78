//! PriorityLevelConfiguration: how much of the server a level may use.

use super::{GROUP, bootstrap};
use crate::field::{Errors, Path};
use crate::kinds::{Kind, Subresource, strategy};
use crate::meta;
use crate::print::{AGE, Cells, Column, NAME, age, text};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub(in crate::kinds) static KIND: Kind = Kind {
    group: GROUP,
    kind: "PriorityLevelConfiguration",
    plural: "prioritylevelconfigurations",
    singular: "prioritylevelconfiguration",
    namespaced: false,
    type_name: "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
    storage: "flowcontrol.apiserver.k8s.io/prioritylevelconfigurations",
    subresources: &[Subresource::Status],
    columns: COLUMNS,
    cells,
    default,
    validate,
    validate_status: |new, _, errors| super::validate_conditions(new, errors),
    prepare_create: strategy::create_spec_status,
    prepare_update: strategy::update_spec_status,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Type", 0, "Limited or Exempt."),
    text("NominalConcurrencyShares", 0, "Its share of the server."),
    text("Queues", 0, "How many queues it has."),
    text("HandSize", 0, "How many queues a flow may use."),
    text("QueueLengthLimit", 0, "How many requests wait in a queue."),
    AGE,
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let spec = &object["spec"];
    let limited = spec.get("limited");
    let queuing = limited.and_then(|l| meta::at(l, &["limitResponse", "queuing"]));
    let or_none = |of: Option<&Value>, key: &str| match of {
        Some(of) => meta::int(of, &[key]).unwrap_or(0).into(),
        None => "<none>".into(),
    };
    vec![
        meta::name(object).into(),
        meta::text(spec, &["type"]).into(),
        or_none(limited, "nominalConcurrencyShares"),
        or_none(queuing, "queues"),
        or_none(queuing, "handSize"),
        or_none(queuing, "queueLengthLimit"),
        age(object, now),
    ]
}

fn default(object: &mut Value) {
    meta::ensure(object, "status");
    let spec = meta::ensure(object, "spec");
    let limits = |of: &mut Map<String, Value>, shares: i64| {
        meta::default(of, "nominalConcurrencyShares", shares);
        meta::default(of, "lendablePercent", 0);
    };
    if spec.get("type").and_then(Value::as_str) == Some("Exempt") {
        meta::default(spec, "exempt", json!({}));
    }
    if let Some(exempt) = spec.get_mut("exempt").and_then(Value::as_object_mut) {
        limits(exempt, 0);
    }
    let Some(limited) = spec.get_mut("limited").and_then(Value::as_object_mut) else {
        return;
    };
    limits(limited, 30);
    let queuing = limited
        .get_mut("limitResponse")
        .and_then(|r| r.get_mut("queuing"))
        .and_then(Value::as_object_mut);
    if let Some(queuing) = queuing {
        for (key, value) in [("handSize", 8), ("queueLengthLimit", 50), ("queues", 64)] {
            match queuing.get(key).and_then(Value::as_i64) {
                None | Some(0) => {
                    queuing.insert(key.to_owned(), value.into());
                }
                Some(_) => {}
            }
        }
    }
}

fn validate(object: &Value, errors: &mut Errors) {
    const TYPES: &[&str] = &["Exempt", "Limited"];
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let kind = meta::text(spec, &["type"]);
    if (meta::name(object) == "exempt") != (kind == "Exempt") {
        let why = "type must be 'Exempt' if and only if name is 'exempt'";
        errors.invalid(&path.child("type"), kind, why);
    }
    let (limited, exempt) = (spec.get("limited"), spec.get("exempt"));
    match kind {
        "Exempt" => {
            if limited.is_some() {
                let why = "must be nil if the type is not Limited";
                errors.forbidden(&path.child("limited"), why);
            }
            if let Some(exempt) = exempt {
                validate_shares(exempt, 0, &path.child("exempt"), errors);
            }
        }
        "Limited" => {
            if exempt.is_some() {
                let why = "must be nil if the type is Limited";
                errors.forbidden(&path.child("exempt"), why);
            }
            match limited {
                None => {
                    let why = "must not be empty when type is Limited";
                    errors.required(&path.child("limited"), why);
                }
                Some(limited) => validate_limited(limited, &path.child("limited"), errors),
            }
        }
        other => errors.not_supported(&path.child("type"), other, TYPES),
    }
    super::validate_mandatory(object, &bootstrap::mandatory_levels(), errors);
    super::validate_conditions(object, errors);
}

fn validate_shares(of: &Value, least: i64, path: &Path, errors: &mut Errors) {
    let shares = meta::int(of, &["nominalConcurrencyShares"]).unwrap_or(0);
    if shares < least {
        let why = "must be a non-negative integer";
        errors.invalid(&path.child("nominalConcurrencyShares"), shares, why);
    }
    if let Some(percent) = meta::int(of, &["lendablePercent"])
        && !(0..=100).contains(&percent)
    {
        let why = "must be between 0 and 100, inclusive";
        errors.invalid(&path.child("lendablePercent"), percent, why);
    }
}

fn validate_limited(of: &Value, path: &Path, errors: &mut Errors) {
    const RESPONSES: &[&str] = &["Queue", "Reject"];
    validate_shares(of, 0, path, errors);
    if let Some(percent) = meta::int(of, &["borrowingLimitPercent"])
        && percent < 0
    {
        let why = "if specified, must be a non-negative integer";
        errors.invalid(&path.child("borrowingLimitPercent"), percent, why);
    }
    let path = path.child("limitResponse");
    let response = &of["limitResponse"];
    let at = path.child("queuing");
    match (meta::text(response, &["type"]), response.get("queuing")) {
        ("Reject", None) => {}
        ("Reject", Some(_)) => {
            let why = "must be nil if limited.limitResponse.type is not Limited";
            errors.forbidden(&at, why);
        }
        ("Queue", None) => {
            let why = "must not be empty if limited.limitResponse.type is Limited";
            errors.required(&at, why);
        }
        ("Queue", Some(queuing)) => validate_queuing(queuing, &at, errors),
        (other, _) => errors.not_supported(&path.child("type"), other, RESPONSES),
    }
}

/// Bits that a hand of `hand` queues out of `queues` takes, as shuffle sharding
/// deals it (`apiserver/pkg/util/shufflesharding`).
fn entropy(queues: i64, hand: i64) -> f64 {
    let spread: f64 = (0..hand).map(|i| ((queues - i) as f64).log2()).sum();
    spread.ceil()
}

fn validate_queuing(of: &Value, path: &Path, errors: &mut Errors) {
    const MAX_QUEUES: i64 = 10_000_000;
    const MAX_BITS: f64 = 60.0;
    let n = |key| meta::int(of, &[key]).unwrap_or(0);
    let (limit, queues, hand) = (n("queueLengthLimit"), n("queues"), n("handSize"));
    if limit <= 0 {
        errors.invalid(&path.child("queueLengthLimit"), limit, "must be positive");
    }
    let at = path.child("queues");
    if queues <= 0 {
        errors.invalid(&at, queues, "must be positive");
    } else if queues > MAX_QUEUES {
        let why = format!("must not be greater than {MAX_QUEUES}");
        errors.invalid(&at, queues, why);
    }
    let at = path.child("handSize");
    if hand <= 0 {
        errors.invalid(&at, hand, "must be positive");
    } else if hand > queues {
        let why = format!("should not be greater than queues ({queues})");
        errors.invalid(&at, hand, why);
    } else if queues <= MAX_QUEUES && (hand > 60 || entropy(queues, hand) > MAX_BITS) {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_BITS}"
        );
        errors.invalid(&at, hand, why);
    }
}
