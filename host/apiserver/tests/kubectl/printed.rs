//! Every kind as kubectl shows it: `get` in its forms, and `describe`.

use crate::groups::samples;
use crate::session::Session;
use api::kinds::{KINDS, Kind, KindRef, by_resource};
use serde_json::{Value, json};

const LABELS: &str = "of=print";

/// Objects of the kinds that aren't in `groups::samples`, a quota last.
fn more() -> Vec<(&'static str, Value)> {
    let labels = json!({"app": "a"});
    let selector = json!({"matchLabels": labels});
    let template = |policy: &str| {
        json!({"metadata": {"labels": labels}, "spec": {"restartPolicy": policy,
            "containers": [{"name": "c", "image": "i"}]}})
    };
    let lasting = template("Always");
    let set = json!({"spec": {"replicas": 2, "selector": selector, "template": lasting}});
    let about = json!({"kind": "Pod", "name": "p", "namespace": "default"});
    vec![
        ("v1/configmaps", json!({"data": {"a": "b"}})),
        (
            "v1/events",
            json!({"involvedObject": about, "type": "Normal", "reason": "R", "message": "m",
                "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z", "count": 2}),
        ),
        ("v1/namespaces", json!({})),
        ("v1/nodes", json!({})),
        (
            "v1/pods",
            json!({"spec": {"containers": [{"name": "c", "image": "i"}]}}),
        ),
        ("v1/secrets", json!({"data": {"k": "dg=="}})),
        ("v1/serviceaccounts", json!({})),
        (
            "v1/endpoints",
            json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
        ),
        (
            "v1/limitranges",
            json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}}),
        ),
        (
            "v1/persistentvolumes",
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}}),
        ),
        (
            "v1/persistentvolumeclaims",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
        ("v1/podtemplates", json!({"template": lasting})),
        (
            "v1/replicationcontrollers",
            json!({"spec": {"replicas": 1, "selector": labels, "template": lasting}}),
        ),
        (
            "v1/services",
            json!({"spec": {"ports": [{"port": 80}], "selector": labels}}),
        ),
        (
            "apps/v1/controllerrevisions",
            json!({"revision": 1, "data": {}}),
        ),
        (
            "apps/v1/daemonsets",
            json!({"spec": {"selector": selector, "template": lasting}}),
        ),
        ("apps/v1/deployments", set.clone()),
        ("apps/v1/replicasets", set.clone()),
        ("apps/v1/statefulsets", set),
        (
            "batch/v1/jobs",
            json!({"spec": {"template": template("Never")}}),
        ),
        (
            "batch/v1/cronjobs",
            json!({"spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": template("Never")}}}}),
        ),
        (
            "autoscaling/v2/horizontalpodautoscalers",
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}),
        ),
        (
            "policy/v1/poddisruptionbudgets",
            json!({"spec": {"minAvailable": 1, "selector": selector}}),
        ),
        (
            "coordination.k8s.io/v1/leases",
            json!({"spec": {"holderIdentity": "h"}}),
        ),
        (
            "apiextensions.k8s.io/v1/customresourcedefinitions",
            json!({"spec": {"group": "example.com", "scope": "Namespaced",
                "names": {"plural": "things", "kind": "Thing"},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
                    "additionalPrinterColumns": [
                        {"name": "Sizes", "type": "string", "jsonPath": ".spec.sizes"},
                        {"name": "First", "type": "integer", "jsonPath": ".spec.sizes[0]", "priority": 1},
                        {"name": "Ready", "type": "string", "jsonPath": ".status[?(@.type==\"Ready\")].is"},
                        {"name": "Since", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]}]}}),
        ),
        (
            "v1/resourcequotas",
            json!({"spec": {"hard": {"pods": "9"}}}),
        ),
    ]
}

fn found(path: &str) -> KindRef {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        [version, plural] => by_resource("", version, plural),
        [group, version, plural] => by_resource(group, version, plural),
        _ => None,
    }
    .unwrap()
}

/// One object of each kind, as a list to create.
fn objects() -> Value {
    let others = samples()
        .into_iter()
        .map(|(path, _, name, object)| (path, name, object));
    let named = more()
        .into_iter()
        .map(|(path, object)| match path.contains("definitions") {
            true => (path, "things.example.com", object),
            false => (path, "", object),
        });
    let items: Vec<Value> = others
        .chain(named)
        .map(|(path, name, mut object)| {
            let kind = found(path);
            let name = if name.is_empty() { "x1" } else { name };
            object["apiVersion"] = kind.api_version().into();
            object["kind"] = kind.kind().into();
            object["metadata"] = json!({"name": name, "labels": {"of": "print"}});
            object
        })
        .collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// `pods.v1.`, `leases.v1.coordination.k8s.io`: one kind and version.
fn exact(kind: &Kind) -> String {
    format!("{}.{}.{}", kind.plural, kind.version, kind.group)
}

fn headings(kind: &Kind, wide: bool) -> Vec<String> {
    let shown = kind.columns.iter().filter(|c| wide || c.priority == 0);
    shown.map(|c| c.name.to_uppercase()).collect()
}

/// The words of a line of a table: at least two spaces are between columns.
fn words(line: &str) -> Vec<String> {
    let words = line.split("  ").map(str::trim).filter(|w| !w.is_empty());
    words.map(str::to_owned).collect()
}

#[test]
fn every_kind_is_shown_and_described() {
    let s = Session::first();
    s.run_with(&["create", "-f", "-"], &objects().to_string())
        .says("deployment.apps/x1 created")
        .says("certificatesigningrequest.certificates.k8s.io/x1 created");
    let kinds: Vec<&Kind> = KINDS
        .iter()
        .copied()
        .filter(|k| k.verbs.contains(&"list") && k.verbs.contains(&"create"))
        .collect();
    let all = kinds.iter().map(|k| exact(k)).collect::<Vec<_>>().join(",");
    for wide in [false, true] {
        let mut command = vec!["get", all.as_str(), "-l", LABELS];
        command.extend(wide.then_some(["-o", "wide"]).into_iter().flatten());
        let said = s.run(&command);
        let out = said.says("NAME").out();
        let tables: Vec<&str> = out.trim_end().split("\n\n").collect();
        assert_eq!(tables.len(), kinds.len(), "{}", said.shown());
        for (kind, table) in kinds.iter().zip(tables) {
            let mut lines = table.lines();
            let heading = words(lines.next().unwrap_or_default());
            assert_eq!(heading, headings(kind, wide), "{table}");
            assert_eq!(lines.count(), 1, "{table}");
        }
    }
    let names = s.run(&["get", &all, "-l", LABELS, "-o", "name"]);
    assert_eq!(
        names.says("pod/x1").out().lines().count(),
        kinds.len(),
        "{}",
        names.shown()
    );
    described(&s, &kinds);
    a_custom_kind(&s);
}

/// Described by kubectl 1.32 in their beta versions alone, which aren't served.
const BETA: &[&str] = &["ipaddresses", "servicecidrs", "volumeattributesclasses"];

fn described(s: &Session, kinds: &[&Kind]) {
    let asked: Vec<String> = kinds
        .iter()
        .filter(|k| !BETA.contains(&k.plural))
        .map(|k| exact(k))
        .collect();
    let said = s.run(&["describe", &asked.join(","), "-l", LABELS]);
    let out = said.says("Name:").out();
    let count = out.lines().filter(|l| l.starts_with("Name:")).count();
    assert!(
        count >= asked.len(),
        "{count} of {}: {}",
        asked.len(),
        said.shown()
    );
}

fn a_custom_kind(s: &Session) {
    s.run(&[
        "wait",
        "--for=condition=Established",
        "crd/things.example.com",
        "--timeout=30s",
    ])
    .says("condition met");
    let thing = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"},
        "spec": {"sizes": [3, 4.5, {"b": 1, "a": "<"}]}, "status": [{"type": "Ready", "is": "yes"}]});
    s.run_with(&["create", "-f", "-"], &thing.to_string())
        .says("thing.example.com/t created");
    let rows = |arguments: &[&str]| -> Vec<Vec<String>> {
        let out = s.run(arguments).says("t").out();
        out.lines().map(words).collect()
    };
    let narrow = rows(&["get", "things"]);
    assert_eq!(narrow[0], ["NAME", "SIZES", "READY", "SINCE"]);
    assert_eq!(
        narrow[1][..3],
        ["t", r#"[3,4.5,{"a":"\u003c","b":1}]"#, "yes"]
    );
    let wide = rows(&["get", "things", "-o", "wide"]);
    assert_eq!(wide[0], ["NAME", "SIZES", "FIRST", "READY", "SINCE"]);
    assert_eq!(wide[1][2], "3");
    s.run(&["get", "things", "-o", "name"])
        .says("thing.example.com/t");
    s.run(&["describe", "thing", "t"]).says("Name:         t");
}
