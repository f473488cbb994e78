#![expect(clippy::unwrap_used, reason = "tests")]
use super::definition::kinds_of;
use super::*;
use serde_json::json;

fn kind(schema: &Value) -> Arc<CustomKind> {
    let definition = json!({
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema},
            }],
        },
        "status": {
            "acceptedNames": {"plural": "things", "kind": "Thing", "singular": "thing", "listKind": "ThingList"},
            "conditions": [{"type": "Established", "status": "True"}],
        },
    });
    let never = |_| unreachable!("no webhook is named");
    kinds_of(&definition, &never).into_iter().next().unwrap()
}

fn of(properties: &Value) -> Arc<CustomKind> {
    kind(
        &json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}),
    )
}

fn object(spec: &Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x"}, "spec": spec})
}

fn faults(kind: &CustomKind, new: &Value, old: Option<&Value>) -> String {
    let mut errors = Errors::default();
    match old {
        None => kind.validate(new, &mut errors),
        Some(old) => kind.validate_update(new, old, &mut errors),
    }
    match errors.is_empty() {
        true => String::new(),
        false => errors.aggregate(),
    }
}

#[test]
fn values_are_checked_with_upstreams_words() {
    for (schema, value, wanted) in [
        (
            json!({"type": "string", "maxLength": 2}),
            json!("abc"),
            "spec.f: Too long: may not be more than 2 bytes",
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("a"),
            "spec.f: Invalid value: \"a\": spec.f in body should be at least 2 chars long",
        ),
        (
            json!({"type": "string", "pattern": "^a+$"}),
            json!("b"),
            "spec.f: Invalid value: \"b\": spec.f in body should match '^a+$'",
        ),
        (
            json!({"type": "string", "format": "date"}),
            json!("x"),
            "spec.f: Invalid value: \"x\": spec.f in body must be of type date: \"x\"",
        ),
        (
            json!({"type": "string", "format": "unknown"}),
            json!("x"),
            "",
        ),
        (
            json!({"type": "integer", "minimum": 3, "exclusiveMinimum": true}),
            json!(3),
            "spec.f: Invalid value: 3: spec.f in body should be greater than 3",
        ),
        (
            json!({"type": "integer", "multipleOf": 5}),
            json!(7),
            "spec.f: Invalid value: 7: spec.f in body should be a multiple of 5",
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(5_000_000_000_i64),
            "<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in spec.f",
        ),
        (json!({"type": "integer"}), json!(1.0), ""),
        (json!({"type": "number"}), json!(1), ""),
        (
            json!({"type": "boolean"}),
            json!("true"),
            "spec.f: Invalid value: \"string\": spec.f in body must be of type boolean: \"string\"",
        ),
        (
            json!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
            json!(["a", "b"]),
            "spec.f: Too many: 2: must have at most 1 items",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!([1]),
            "spec.f[0]: Invalid value: \"integer\": spec.f[0] in body must be of type string: \"integer\"",
        ),
        (
            json!({"type": "object", "maxProperties": 1, "additionalProperties": {"type": "string"}}),
            json!({"a": "1", "b": "2"}),
            "spec.f: Too many: 2: must have at most 1 items",
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "integer"}}),
            json!({"a": "1"}),
            "spec.f.a: Invalid value: \"string\": spec.f.a in body must be of type integer: \"string\"",
        ),
        (json!({"type": "string", "nullable": true}), Value::Null, ""),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!("50%"),
            "",
        ),
        (
            json!({"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]}),
            json!(3),
            "[<nil>: Invalid value: \"\": \"spec.f\" must validate at least one schema (anyOf), spec.f: Invalid value: 3: spec.f in body should be greater than or equal to 5]",
        ),
        (
            json!({"type": "integer", "not": {"enum": [3]}}),
            json!(3),
            "<nil>: Invalid value: \"\": \"spec.f\" must not validate the schema (not)",
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}}),
            json!([{"k": "a"}, {"k": "a"}]),
            "spec.f[1]: Duplicate value: {\"k\":\"a\"}",
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
            json!({"kind": "Pod"}),
            "spec.f.apiVersion: Required value",
        ),
    ] {
        let kind = of(&json!({"f": schema}));
        assert_eq!(
            faults(&kind, &object(&json!({"f": value})), None),
            wanted,
            "{schema}"
        );
    }
}

#[test]
fn what_the_schema_does_not_know_goes() {
    let kind = of(&json!({
        "known": {"type": "string"},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"strict": {"type": "object", "properties": {"a": {"type": "integer"}}}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "integer"}}}},
        "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "integer"}}}},
        "inner": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
    }));
    let mut value = object(&json!({
        "known": "x", "unknown": 1,
        "free": {"any": 1, "strict": {"a": 1, "b": 2}},
        "map": {"k": {"a": 1, "b": 2}},
        "list": [{"a": 1, "b": 2}],
        "inner": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "wrong": 1}, "other": 1},
    }));
    let mut unknown = Vec::new();
    kind.conform(&mut value, &mut unknown).unwrap();
    unknown.sort();
    assert_eq!(
        unknown,
        [
            "spec.free.strict.b",
            "spec.inner.metadata.wrong",
            "spec.inner.other",
            "spec.list[0].b",
            "spec.map.k.b",
            "spec.unknown",
        ]
    );
    let wanted = json!({
        "known": "x", "free": {"any": 1, "strict": {"a": 1}}, "map": {"k": {"a": 1}},
        "list": [{"a": 1}],
        "inner": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}},
    });
    assert_eq!(value["spec"], wanted);
}

#[test]
fn defaults_replace_what_is_absent_or_null() {
    let kind = of(&json!({
        "a": {"type": "string", "default": "x"},
        "b": {"type": "string"},
        "c": {"type": "string", "nullable": true, "default": "x"},
        "o": {"type": "object", "default": {}, "properties": {"n": {"type": "integer", "default": 1}}},
        "l": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer", "default": 2}}}},
    }));
    let mut value = object(&json!({"a": null, "b": null, "c": null, "l": [{}]}));
    kind.default(&mut value);
    let wanted = json!({"a": "x", "c": null, "l": [{"n": 2}], "o": {"n": 1}});
    assert_eq!(value["spec"], wanted);
}

#[test]
fn rules_are_evaluated() {
    let schema = |rules: Value| {
        json!({
            "type": "object",
            "x-kubernetes-validations": [{"rule": "self.metadata.name != 'bad'", "message": "a bad name"}],
            "properties": {"spec": {
                "type": "object",
                "x-kubernetes-validations": rules,
                "properties": {
                    "min": {"type": "integer"}, "max": {"type": "integer"},
                    "a-b": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable"}]},
                    "at": {"type": "string", "format": "date-time"},
                },
            }},
        })
    };
    let ordered = json!([{
        "rule": "self.min <= self.max", "fieldPath": ".max", "reason": "FieldValueForbidden",
        "messageExpression": "'min is ' + string(self.min)",
    }]);
    let kind = kind_with(&schema(ordered));
    let good = object(&json!({"min": 1, "max": 2, "a-b": "x"}));
    assert_eq!(faults(&kind, &good, None), "");
    let bad = object(&json!({"min": 3, "max": 2}));
    assert_eq!(faults(&kind, &bad, None), "spec.max: Forbidden: min is 3");
    let changed = object(&json!({"min": 1, "max": 2, "a-b": "y"}));
    assert_eq!(
        faults(&kind, &changed, Some(&good)),
        "spec.a-b: Invalid value: \"y\": is immutable"
    );
    let missing = object(&json!({"min": 3}));
    assert!(faults(&kind, &missing, None).contains("no such key: max evaluating rule"));
    let mut named = good.clone();
    named["metadata"]["name"] = "bad".into();
    assert!(faults(&kind, &named, None).contains("a bad name"));
    // What was wrong already, and is as it was, may stay.
    let mut later = bad.clone();
    later["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(faults(&kind, &later, Some(&bad)), "");
    for (rule, value, holds) in [
        (
            json!({"rule": "self.a__dash__b.startsWith('x')"}),
            json!({"a-b": "xy"}),
            true,
        ),
        (
            json!({"rule": "self.at > timestamp('2020-01-01T00:00:00Z')"}),
            json!({"at": "2024-01-01T00:00:00Z"}),
            true,
        ),
        (json!({"rule": "!has(self.min)"}), json!({"min": 1}), false),
        (
            json!({"rule": "oldSelf.hasValue() || self.min == 1", "optionalOldSelf": true}),
            json!({"min": 2}),
            false,
        ),
    ] {
        let kind = kind_with(&schema(json!([rule])));
        let found = faults(&kind, &object(&value), None);
        assert_eq!(found.is_empty(), holds, "{rule}: {found}");
    }
}

fn kind_with(schema: &Value) -> Arc<CustomKind> {
    kind(schema)
}

#[test]
fn rules_of_definitions_are_compiled() {
    for (rule, wanted) in [
        (json!({"rule": "self.min > 0"}), ""),
        (json!({"rule": "self.min >"}), "Syntax error"),
        (
            json!({"rule": "self.nothing > 0"}),
            "undefined field 'nothing'",
        ),
        (
            json!({"rule": "other > 0"}),
            "undeclared reference to 'other'",
        ),
        (json!({"rule": "self.min"}), "must evaluate to a bool"),
        (json!({"rule": " "}), "rule is not specified"),
        (
            json!({"rule": "true", "reason": "Because"}),
            "Unsupported value: \"Because\"",
        ),
        (
            json!({"rule": "true", "fieldPath": ".nothing"}),
            "must be a valid path",
        ),
        (
            json!({"rule": "true", "optionalOldSelf": true}),
            "may not be set if oldSelf is not used in rule",
        ),
        (
            json!({"rule": "true", "messageExpression": "1 + 1"}),
            "must evaluate to a string",
        ),
    ] {
        let of = json!({
            "type": "object", "x-kubernetes-validations": [rule],
            "properties": {"min": {"type": "integer"}},
        });
        let mut errors = Errors::default();
        rules::validate(&of, &Path::new("s"), true, None, &mut errors);
        let found = errors.aggregate();
        match wanted {
            "" => assert!(errors.is_empty(), "{found}"),
            wanted => assert!(found.contains(wanted), "{found}"),
        }
    }
}

#[test]
fn versions_are_ordered_as_upstream_does() {
    let mut versions = [
        "v1alpha1", "foo", "v10", "v2", "v1beta2", "v1", "v2beta1", "bar",
    ];
    versions.sort_by(|a, b| version_order(a, b));
    assert_eq!(
        versions,
        [
            "v10", "v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "bar", "foo"
        ]
    );
}

#[test]
fn answers_of_converters_are_not_believed_blindly() {
    let webhook = conversion::Webhook::parse(&json!({
        "strategy": "Webhook",
        "webhook": {"conversionReviewVersions": ["v2", "v1"], "clientConfig": {"url": "https://h/c"}},
    }))
    .unwrap();
    let asked = [object(&json!({}))];
    let review = conversion::review(&webhook, "u", "example.com/v2", &asked);
    assert_eq!(review["request"]["desiredAPIVersion"], "example.com/v2");
    let mut right = asked[0].clone();
    right["apiVersion"] = "example.com/v2".into();
    right["metadata"]["labels"] = json!({"l": "1"});
    let answer = |change: &dyn Fn(&mut Value)| {
        let mut answer = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
            "response": {"uid": "u", "result": {"status": "Success"}, "convertedObjects": [right]},
        });
        change(&mut answer);
        conversion::converted(&webhook, &answer, "u", "example.com/v2", &asked)
    };
    let good = answer(&|_| {}).unwrap();
    assert_eq!(good[0]["metadata"]["labels"]["l"], "1");
    type Change = (&'static str, fn(&mut Value));
    let changes: [Change; 8] = [
        ("got apiextensions.k8s.io/v9", |a| {
            a["apiVersion"] = "apiextensions.k8s.io/v9".into()
        }),
        ("no response provided", |a| a["response"] = Value::Null),
        ("expected response.uid", |a| {
            a["response"]["uid"] = "other".into()
        }),
        ("because", |a| {
            a["response"]["result"] = json!({"status": "Failure", "message": "because"})
        }),
        ("returned 0 objects", |a| {
            a["response"]["convertedObjects"] = json!([])
        }),
        ("invalid groupVersion", |a| {
            a["response"]["convertedObjects"][0]["apiVersion"] = "x".into()
        }),
        ("must have the same name", |a| {
            a["response"]["convertedObjects"][0]["metadata"]["name"] = "y".into()
        }),
        ("invalid metadata.labels", |a| {
            a["response"]["convertedObjects"][0]["metadata"]["labels"] = json!([1])
        }),
    ];
    for (why, change) in changes {
        let refused = answer(&change).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn any_schema_survives_any_value() {
    const KEYS: &[&str] = &[
        "type",
        "properties",
        "items",
        "additionalProperties",
        "default",
        "enum",
        "nullable",
        "required",
        "pattern",
        "format",
        "minimum",
        "maxLength",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-validations",
        "spec",
        "metadata",
        "a",
        "rule",
        "multipleOf",
    ];
    const TEXTS: &[&str] = &[
        "object",
        "array",
        "string",
        "integer",
        "set",
        "map",
        "(",
        "date",
        "self.a == 1",
        "a",
    ];
    let mut state = u64::from(std::process::id()) | 1;
    println!("seed {state}");
    fn next(state: &mut u64) -> usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        usize::try_from(*state % 1_000_003).unwrap()
    }
    fn value(state: &mut u64, depth: usize) -> Value {
        match next(state) % if depth == 0 { 5 } else { 8 } {
            0 => Value::Null,
            1 => Value::Bool(next(state).is_multiple_of(2)),
            2 => json!(next(state)),
            3 => json!(-1.5),
            4 => TEXTS[next(state) % TEXTS.len()].into(),
            5 => (0..next(state) % 3)
                .map(|_| value(state, depth - 1))
                .collect(),
            _ => {
                let members = (0..next(state) % 5).map(|_| {
                    let key = KEYS[next(state) % KEYS.len()].to_owned();
                    (key, value(state, depth - 1))
                });
                Value::Object(members.collect())
            }
        }
    }
    for _ in 0..300 {
        let schema = value(&mut state, 5);
        let mut errors = Errors::default();
        let mut definition =
            json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}});
        (definition::KIND.validate)(&definition, &mut errors);
        definition["spec"]["versions"][0]["served"] = true.into();
        let kind = kind(&schema);
        let mut object = json!({"a": value(&mut state, 5), "spec": value(&mut state, 5)});
        let _ = kind.conform(&mut object, &mut Vec::new());
        kind.default(&mut object);
        let once = object.clone();
        kind.default(&mut object);
        let mut errors = Errors::default();
        kind.validate_update(&object, &once, &mut errors);
        let _ = errors.aggregate();
        let _ = publish::definition(&kind, "#/", false);
    }
}
