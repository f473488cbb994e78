//! The kinds outside of the core group, end to end: every verb on every kind,
//! discovery, health, what is there from the start.

use crate::session::{Session, kubectls};
use crate::wire::Client;
use http::{Method, StatusCode};
use serde_json::{Value, json};

/// A kind's path under `/apis`, whether it has namespaces, its name if it can't
/// be any, and what is in its objects.
pub(crate) type Sample = (&'static str, bool, &'static str, Value);

pub(crate) fn samples() -> Vec<Sample> {
    let service = json!({"service": {"name": "s", "port": {"number": 80}}});
    let rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
    let webhook = json!({"webhooks": [{"name": "a.example.com", "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "rules": [],
        "clientConfig": {"url": "https://example.com/x"}}]});
    let policy = |more: Value| {
        let mut spec = json!({"matchConstraints": {"resourceRules": [rule]}});
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"spec": spec})
    };
    let binding = json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"}});
    let subject = json!({"kind": "User", "user": {"name": "u"}});
    vec![
        (
            "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
            false,
            "",
            webhook.clone(),
        ),
        (
            "admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
            false,
            "",
            webhook,
        ),
        (
            "admissionregistration.k8s.io/v1/validatingadmissionpolicies",
            false,
            "",
            policy(json!({"validations": [{"expression": "true"}]})),
        ),
        (
            "admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
            false,
            "",
            json!({"spec": {"policyName": "p", "validationActions": ["Audit"]}}),
        ),
        (
            "admissionregistration.k8s.io/v1/mutatingadmissionpolicies",
            false,
            "",
            policy(
                json!({"reinvocationPolicy": "Never", "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}),
            ),
        ),
        (
            "admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings",
            false,
            "",
            json!({"spec": {"policyName": "p"}}),
        ),
        (
            "apiregistration.k8s.io/v1/apiservices",
            false,
            "v1.w.example.com",
            json!({"spec": {"group": "w.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 10}}),
        ),
        (
            "certificates.k8s.io/v1/certificatesigningrequests",
            false,
            "",
            json!({"spec": {"request": CSR, "signerName": "example.com/s", "usages": ["client auth"]}}),
        ),
        (
            "discovery.k8s.io/v1/endpointslices",
            true,
            "",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}),
        ),
        (
            "flowcontrol.apiserver.k8s.io/v1/flowschemas",
            false,
            "",
            json!({"spec": {"priorityLevelConfiguration": {"name": "global-default"}, "matchingPrecedence": 9000, "rules": [{"subjects": [subject], "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}]}}),
        ),
        (
            "flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations",
            false,
            "",
            json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}}),
        ),
        (
            "networking.k8s.io/v1/ingressclasses",
            false,
            "",
            json!({"spec": {"controller": "example.com/c"}}),
        ),
        (
            "networking.k8s.io/v1/ingresses",
            true,
            "",
            json!({"spec": {"defaultBackend": service}}),
        ),
        (
            "networking.k8s.io/v1/ipaddresses",
            false,
            "10.9.8.7",
            json!({"spec": {"parentRef": {"resource": "services", "name": "s", "namespace": "default"}}}),
        ),
        (
            "networking.k8s.io/v1/networkpolicies",
            true,
            "",
            json!({"spec": {"podSelector": {}}}),
        ),
        (
            "networking.k8s.io/v1/servicecidrs",
            false,
            "",
            json!({"spec": {"cidrs": ["10.77.0.0/16"]}}),
        ),
        (
            "node.k8s.io/v1/runtimeclasses",
            false,
            "",
            json!({"handler": "h"}),
        ),
        (
            "rbac.authorization.k8s.io/v1/clusterroles",
            false,
            "",
            json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
        ),
        (
            "rbac.authorization.k8s.io/v1/clusterrolebindings",
            false,
            "",
            binding.clone(),
        ),
        (
            "rbac.authorization.k8s.io/v1/roles",
            true,
            "",
            json!({"rules": []}),
        ),
        (
            "rbac.authorization.k8s.io/v1/rolebindings",
            true,
            "",
            binding,
        ),
        (
            "scheduling.k8s.io/v1/priorityclasses",
            false,
            "",
            json!({"value": 5}),
        ),
        (
            "storage.k8s.io/v1/csidrivers",
            false,
            "",
            json!({"spec": {}}),
        ),
        (
            "storage.k8s.io/v1/csinodes",
            false,
            "",
            json!({"spec": {"drivers": []}}),
        ),
        (
            "storage.k8s.io/v1/csistoragecapacities",
            true,
            "",
            json!({"storageClassName": "c"}),
        ),
        (
            "storage.k8s.io/v1/storageclasses",
            false,
            "",
            json!({"provisioner": "example.com/p"}),
        ),
        (
            "storage.k8s.io/v1/volumeattachments",
            false,
            "",
            json!({"spec": {"attacher": "a.example.com", "nodeName": "n", "source": {"persistentVolumeName": "pv"}}}),
        ),
        (
            "storage.k8s.io/v1/volumeattributesclasses",
            false,
            "",
            json!({"driverName": "d.example.com", "parameters": {"a": "b"}}),
        ),
    ]
}

/// Of /O=g/CN=u.
const CSR: &str = "\
    LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIU01Ib0NBUUF3R0RFS01BZ0dBMVVFQ2d3\
    Qlp6RUtNQWdHQTFVRUF3d0JkVEJaTUJNR0J5cUdTTTQ5QWdFRwpDQ3FHU000OUF3RUhBMElBQkFzazFUelFJ\
    L3VELzBMdytNazJxbXJORCszTk45Z1N2UnZ0MU9FdGRDMm40NGxVCnlvTTVySnEvRlBpUEQxQnhCSjhFYjJI\
    T3hsMGg3QzhsNHVOT3lZNmdBREFLQmdncWhrak9QUVFEQWdOSUFEQkYKQWlBKy8vT2M4bU9pV3g5WW10bndB\
    cGcxR3JMRjNXYmVQL2h4UU9kejR0aHp3QUloQVA2Z2ZXd0ROWk5aNWJMdApXVnp4K2hBU2k2QS9rYk1ZM3dT\
    NE1mM0lWNis5Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=";

const JSON: (&str, &str) = ("content-type", "application/json");
const MERGE: (&str, &str) = ("content-type", "application/merge-patch+json");

impl Client {
    #[track_caller]
    fn does(&self, method: Method, path: &str, kind: (&str, &str), body: &Value) -> Value {
        let text = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let (code, answer) = self.send(method.clone(), path, &[kind], text.as_bytes());
        assert!(code.is_success(), "{method} {path}: {code} {answer:#}");
        answer
    }
}

#[test]
fn every_kind_lives_through_every_verb() {
    let client = Client::start();
    for (path, namespaced, name, mut object) in samples() {
        let (group_version, plural) = path.rsplit_once('/').unwrap();
        let collection = match namespaced {
            true => format!("/apis/{group_version}/namespaces/default/{plural}"),
            false => format!("/apis/{path}"),
        };
        let name = if name.is_empty() { "x1" } else { name };
        object["metadata"] = json!({"name": name, "labels": {"of": "test"}});
        let made = client.does(Method::POST, &collection, JSON, &object);
        assert_eq!(made["apiVersion"], group_version, "{path}");
        let one = format!("{collection}/{name}");
        let mut got = client.does(Method::GET, &one, JSON, &Value::Null);
        assert_eq!(got, made, "{path}");
        for place in [collection.clone(), format!("/apis/{path}")] {
            let listed = client.does(
                Method::GET,
                &format!("{place}?labelSelector=of%3Dtest"),
                JSON,
                &Value::Null,
            );
            assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{path}");
        }
        let (code, _) = client.post(&collection, &object);
        assert_eq!(code, StatusCode::CONFLICT, "{path}");
        let note = json!({"metadata": {"annotations": {"patched": "true"}}});
        let patched = client.does(Method::PATCH, &one, MERGE, &note);
        assert_eq!(
            patched["metadata"]["annotations"],
            json!({"patched": "true"})
        );
        got["metadata"]["resourceVersion"] = patched["metadata"]["resourceVersion"].clone();
        got["metadata"]["annotations"] = json!({"updated": "true"});
        let updated = client.does(Method::PUT, &one, JSON, &got);
        assert_eq!(
            updated["metadata"]["annotations"],
            json!({"updated": "true"})
        );
        assert_eq!(
            updated["metadata"]["generation"], made["metadata"]["generation"],
            "{path}"
        );
        let rows = client
            .send(
                Method::GET,
                &one,
                &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")],
                b"",
            )
            .1;
        assert_eq!(rows["rows"][0]["cells"][0], name, "{path}");
        client.does(Method::DELETE, &one, JSON, &Value::Null);
        assert_eq!(client.get(&one).0, StatusCode::NOT_FOUND, "{path}");
        client.does(Method::POST, &collection, JSON, &object);
        client.does(
            Method::DELETE,
            &format!("{collection}?labelSelector=of%3Dtest"),
            JSON,
            &Value::Null,
        );
        assert_eq!(client.get(&one).0, StatusCode::NOT_FOUND, "{path}");
    }
}

#[test]
fn a_status_has_its_own_endpoint() {
    let client = Client::start();
    let (_, _, _, mut ingress) = samples()
        .into_iter()
        .find(|s| s.0.ends_with("/ingresses"))
        .unwrap();
    ingress["metadata"] = json!({"name": "i"});
    let collection = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    client.does(Method::POST, collection, JSON, &ingress);
    let status = json!({"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}});
    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}}, "status": status,
        "spec": {"ingressClassName": "ignored"}});
    let made = client.does(
        Method::PATCH,
        &format!("{collection}/i/status"),
        MERGE,
        &patch,
    );
    assert_eq!(made["status"], status);
    assert_eq!(made["metadata"]["annotations"]["patchedstatus"], "true");
    assert_eq!(made["spec"].get("ingressClassName"), None);
    assert_eq!(made["metadata"]["generation"], 1);
    let made = client.does(Method::PATCH, &format!("{collection}/i"), MERGE, &patch);
    assert_eq!(made["metadata"]["generation"], 2);
    let bad = json!({"status": {"loadBalancer": {"ingress": [{"hostname": "A_b"}]}}});
    let (code, why) = client.send(
        Method::PATCH,
        &format!("{collection}/i/status"),
        &[MERGE],
        bad.to_string().as_bytes(),
    );
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        why["details"]["causes"][0]["field"],
        "status.loadBalancer.ingress[0].hostname"
    );
}

#[test]
fn a_certificate_is_asked_for_and_approved() {
    let client = Client::start();
    let collection = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let asked = json!({"metadata": {"name": "c"}, "spec": {"request": CSR, "signerName": "example.com/s",
        "usages": ["client auth"], "username": "somebody-else"},
        "status": {"conditions": [{"type": "Approved", "status": "True"}]}});
    let made = client.does(Method::POST, collection, JSON, &asked);
    assert_ne!(made["spec"]["username"], "somebody-else");
    assert_eq!(made["status"].get("conditions"), None);
    let approval = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "r", "message": "m"}]}});
    let (code, why) = client.send(
        Method::PATCH,
        &format!("{collection}/c/status"),
        &[MERGE],
        approval.to_string().as_bytes(),
    );
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{why}");
    let made = client.does(
        Method::PATCH,
        &format!("{collection}/c/approval"),
        MERGE,
        &approval,
    );
    assert!(
        made["status"]["conditions"][0]["lastTransitionTime"].is_string(),
        "{made:#}"
    );
    let s = client.session();
    s.run(&["get", "csr"])
        .says("Approved")
        .says("example.com/s");
    s.run(&[
        "get",
        "--raw",
        &format!("{collection}?fieldSelector=spec.signerName=example.com/s"),
    ])
    .says("\"name\":\"c\"");
}

#[test]
fn discovery_is_whole() {
    let client = Client::start();
    let groups = client.get("/apis/").1["groups"].as_array().unwrap().clone();
    assert!(groups.len() >= 10);
    for group in &groups {
        let name = group["name"].as_str().unwrap();
        let one = client.get(&format!("/apis/{name}/")).1;
        assert_eq!(one["preferredVersion"], group["preferredVersion"]);
        assert!(
            one["versions"]
                .as_array()
                .unwrap()
                .contains(&one["preferredVersion"])
        );
        let version = one["preferredVersion"]["groupVersion"].as_str().unwrap();
        let list = client.get(&format!("/apis/{version}")).1;
        assert_eq!(list["groupVersion"], version);
    }
    let aggregated = (
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    );
    let all = client.send(Method::GET, "/apis", &[aggregated], b"").1;
    assert_eq!(all["items"].as_array().map(Vec::len), Some(groups.len()));
    let s = client.session();
    for (path, text) in [
        ("/readyz", "ok"),
        ("/readyz/poststarthook/rbac/bootstrap-roles", "ok"),
        ("/livez?exclude=etcd&exclude=ping", "ok"),
        ("/livez/ping", "ok"),
        ("/healthz", "ok"),
    ] {
        assert_eq!(s.run(&["get", "--raw", path]).out(), text, "{path}");
    }
    for (path, first, last) in [
        (
            "/readyz?verbose",
            "[+]ping ok\n[+]etcd ok\n[+]etcd-readiness ok\n[+]informer-sync ok\n[+]poststarthook/start-apiserver-admission-initializer ok\n",
            "[+]poststarthook/apiservice-openapiv3-controller ok\n[+]shutdown ok\nreadyz check passed\n",
        ),
        (
            "/livez?verbose",
            "[+]ping ok\n[+]etcd ok\n[+]poststarthook/start-apiserver-admission-initializer ok\n",
            "[+]poststarthook/apiservice-openapiv3-controller ok\nlivez check passed\n",
        ),
    ] {
        let said = s.run(&["get", "--raw", path]).out();
        assert!(said.starts_with(first) && said.ends_with(last), "{said}");
        let listed = client.get("/").1["paths"].clone();
        let listed = listed.as_array().unwrap();
        let endpoint = path.split('?').next().unwrap();
        for name in said.lines().filter_map(|l| l.strip_prefix("[+]")) {
            let name = name.strip_suffix(" ok").unwrap();
            assert!(
                listed.iter().any(|p| *p == format!("{endpoint}/{name}")),
                "{name}"
            );
        }
    }
    s.run(&["get", "--raw", "/livez/shutdown"])
        .fails("the server could not find the requested resource");
}

#[test]
fn some_objects_are_there_from_the_start() {
    let s = Session::first();
    s.run(&["get", "priorityclasses"])
        .says("system-cluster-critical   2000000000   false")
        .says("system-node-critical      2000001000   false");
    s.run(&[
        "get",
        "flowschemas.flowcontrol.apiserver.k8s.io",
        "-o",
        "name",
    ])
    .says("flowschema.flowcontrol.apiserver.k8s.io/catch-all")
    .says("flowschema.flowcontrol.apiserver.k8s.io/system-nodes");
    s.run(&["get", "apiservices"])
        .says("v1.networking.k8s.io")
        .says("Local     True");
    s.run(&["api-versions"])
        .says("admissionregistration.k8s.io/v1")
        .says("flowcontrol.apiserver.k8s.io/v1");
    s.run(&["api-resources", "-o", "wide"])
        .says("netpol")
        .says("VolumeAttachment");
}

#[test]
fn every_kind_is_explained() {
    for kubectl in kubectls() {
        let s = Session::start(&kubectl);
        let listed = s
            .run(&["api-resources", "--no-headers", "--verbs=list"])
            .out();
        assert!(listed.lines().count() >= 35, "{listed}");
        for line in listed.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let version = words[words.len() - 3];
            // An old kubectl takes the kind from the name alone, and these
            // share theirs with nodes and pods.
            if version.starts_with("metrics.k8s.io/") {
                continue;
            }
            s.run(&["explain", words[0], "--api-version", version])
                .says("FIELDS:")
                .says("metadata");
        }
    }
}
