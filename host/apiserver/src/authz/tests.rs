#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::query::Query;
use http::Method;
use serde_json::{Value, json};
use store::{Op, Options, Txn};

struct Fixture {
    authorizer: Authorizer,
    store: Store,
    _dir: tempfile::TempDir,
}

impl Fixture {
    /// A store that holds what every cluster has.
    async fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let fixture = Fixture {
            authorizer: Authorizer::new(&store),
            store,
            _dir: dir,
        };
        for object in bootstrap::objects() {
            fixture.put(&object).await;
        }
        fixture
    }

    async fn put(&self, object: &Value) {
        let plural = format!("{}s", object["kind"].as_str().unwrap().to_lowercase());
        let group = match object.get("apiVersion") {
            Some(v) if v == "v1" => "core",
            Some(v) if v == "storage.k8s.io/v1" => "storage.k8s.io",
            _ => "rbac.authorization.k8s.io",
        };
        let namespace = api::meta::namespace(object);
        let name = api::meta::name(object);
        let key = match namespace {
            "" => format!("/registry/{group}/{plural}/{name}"),
            ns => format!("/registry/{group}/{plural}/{ns}/{name}"),
        };
        let txn = Txn {
            compare: Vec::new(),
            then: vec![Op::Put {
                key: key.into(),
                value: object.to_string().into(),
            }],
        };
        self.store.txn(txn).await.unwrap();
    }

    fn check(&self, user: &User, method: &str, url: &str) -> Result<(), String> {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let query = Query::parse(query);
        let method: Method = method.parse().unwrap();
        let route = crate::route::route(&method, path, &query).unwrap();
        let selected = Selection::of(Some(&route), &query);
        let a = Attributes::of(&route, &selected);
        self.authorizer.authorize(user, &a).map_err(|s| s.message)
    }
}

#[tokio::test]
async fn everybody_may_what_the_bootstrap_roles_say() {
    let f = Fixture::new().await;
    let admin = User::new("root", [MASTERS.to_owned()]);
    let bob = User::new("bob", []);
    let nobody = User::anonymous();
    let scheduler = User::scheduler();
    let controllers = User::controllers();
    let robot = User::new("system:serviceaccount:kube-system:job-controller", []);
    for (user, method, url, allowed) in [
        (&admin, "DELETE", "/api/v1/nodes/n", true),
        (&bob, "GET", "/apis", true),
        (&bob, "GET", "/openapi/v3/api/v1", true),
        (
            &bob,
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            true,
        ),
        (
            &bob,
            "POST",
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            false,
        ),
        (&bob, "GET", "/metrics", false),
        (&nobody, "GET", "/apis", false),
        (&nobody, "GET", "/readyz", true),
        (&nobody, "GET", "/readyz/ping", false),
        (&nobody, "GET", "/version", true),
        (
            &scheduler,
            "POST",
            "/api/v1/namespaces/d/pods/p/binding",
            true,
        ),
        (&scheduler, "GET", "/api/v1/namespaces/d/secrets/s", false),
        (&controllers, "DELETE", "/api/v1/namespaces/d/pods", true),
        (&controllers, "PUT", "/api/v1/namespaces/d/finalize", true),
        (&controllers, "GET", "/apis/example.com/v1/things", true),
        (
            &controllers,
            "POST",
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            false,
        ),
        (&robot, "PATCH", "/apis/batch/v1/namespaces/d/jobs/j", true),
        (&robot, "GET", "/api/v1/namespaces/d/secrets/s", false),
    ] {
        let found = f.check(user, method, url);
        assert_eq!(
            found.is_ok(),
            allowed,
            "{} {method} {url}: {found:?}",
            user.name
        );
    }
}

#[tokio::test]
async fn a_binding_counts_as_soon_as_it_is_written() {
    let f = Fixture::new().await;
    let bob = User::new("bob", []);
    let list = "/api/v1/namespaces/d/pods";
    assert_eq!(
        f.check(&bob, "GET", list).unwrap_err(),
        "pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"d\""
    );
    let role = json!({"kind": "Role", "metadata": {"name": "r", "namespace": "d"},
        "rules": [{"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}]});
    let binding = json!({"kind": "RoleBinding", "metadata": {"name": "b", "namespace": "d"},
        "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "bob"}]});
    f.put(&binding).await;
    assert_eq!(
        f.check(&bob, "GET", list).unwrap_err(),
        "pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"d\": RBAC: role.rbac.authorization.k8s.io \"r\" not found"
    );
    f.put(&role).await;
    assert_eq!(f.check(&bob, "GET", list), Ok(()));
    f.check(&bob, "GET", "/api/v1/namespaces/e/pods")
        .unwrap_err();
    f.check(&bob, "GET", "/api/v1/pods").unwrap_err();
    let Decision::Allowed(why) = f.authorizer.decide(
        &bob,
        &Attributes {
            verb: "list",
            resource: "pods",
            namespace: "d",
            ..Attributes::default()
        },
    ) else {
        panic!("not allowed");
    };
    assert_eq!(
        why,
        "RBAC: allowed by RoleBinding \"b/d\" of Role \"r\" to User \"bob\""
    );
    assert_eq!(
        f.check(&User::anonymous(), "GET", "/").unwrap_err(),
        "forbidden: User \"system:anonymous\" cannot get path \"/\""
    );
}

#[tokio::test]
async fn a_node_may_what_its_pods_need() {
    let f = Fixture::new().await;
    let node = User::node("n");
    f.put(
        &json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "namespace": "d"},
        "spec": {"nodeName": "n", "serviceAccountName": "default",
            "volumes": [{"name": "v", "secret": {"secretName": "s"}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}}]}}),
    )
    .await;
    f.put(&json!({"kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": "other", "namespace": "d"}, "spec": {"nodeName": "m"}}))
        .await;
    for (name, claim) in [("v", "claim"), ("w", "another")] {
        f.put(
            &json!({"kind": "PersistentVolume", "apiVersion": "v1", "metadata": {"name": name},
            "spec": {"claimRef": {"namespace": "d", "name": claim}}}),
        )
        .await;
    }
    for (name, node) in [("mine", "n"), ("theirs", "m")] {
        f.put(
            &json!({"kind": "VolumeAttachment", "apiVersion": "storage.k8s.io/v1",
            "metadata": {"name": name}, "spec": {"nodeName": node}}),
        )
        .await;
    }
    for (method, url, allowed) in [
        ("GET", "/api/v1/namespaces/d/secrets/s", true),
        (
            "GET",
            "/api/v1/namespaces/d/secrets?watch=1&fieldSelector=metadata.name%3Ds",
            true,
        ),
        ("GET", "/api/v1/namespaces/d/secrets", false),
        (
            "GET",
            "/api/v1/secrets?fieldSelector=metadata.name%3Ds",
            false,
        ),
        ("GET", "/api/v1/namespaces/d/secrets/other", false),
        (
            "POST",
            "/api/v1/namespaces/d/serviceaccounts/default/token",
            true,
        ),
        (
            "POST",
            "/api/v1/namespaces/d/serviceaccounts/other/token",
            false,
        ),
        (
            "GET",
            "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn",
            true,
        ),
        (
            "GET",
            "/api/v1/namespaces/d/pods?fieldSelector=spec.nodeName%3Dn,status.phase%3DRunning",
            true,
        ),
        (
            "GET",
            "/api/v1/pods?fieldSelector=spec.nodeName!%3Dn",
            false,
        ),
        ("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dm", false),
        ("GET", "/api/v1/pods?watch=1", false),
        ("GET", "/api/v1/namespaces/d/pods", false),
        (
            "DELETE",
            "/api/v1/namespaces/d/pods?fieldSelector=spec.nodeName%3Dn",
            false,
        ),
        ("GET", "/api/v1/namespaces/d/pods/p", true),
        ("GET", "/api/v1/namespaces/d/pods/other", false),
        (
            "GET",
            "/api/v1/namespaces/d/pods?fieldSelector=metadata.name%3Dp",
            true,
        ),
        ("GET", "/api/v1/namespaces/d/pods/p/log", false),
        ("PATCH", "/api/v1/namespaces/d/pods/p/status", true),
        ("PATCH", "/api/v1/namespaces/d/pods/p", false),
        ("GET", "/api/v1/nodes/n", true),
        (
            "GET",
            "/api/v1/nodes?watch=1&fieldSelector=metadata.name%3Dn",
            true,
        ),
        ("GET", "/api/v1/nodes", false),
        ("GET", "/api/v1/nodes/m", false),
        ("PUT", "/api/v1/nodes/n/status", true),
        // Whose it is, admission says.
        ("PUT", "/api/v1/nodes/m/status", true),
        ("GET", "/api/v1/persistentvolumes/v", true),
        ("GET", "/api/v1/persistentvolumes/w", false),
        ("GET", "/api/v1/persistentvolumes", false),
        (
            "GET",
            "/apis/storage.k8s.io/v1/volumeattachments/mine",
            true,
        ),
        (
            "GET",
            "/apis/storage.k8s.io/v1/volumeattachments/theirs",
            false,
        ),
        ("POST", "/api/v1/nodes", true),
        ("DELETE", "/api/v1/nodes/n", false),
        (
            "PUT",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n",
            true,
        ),
        (
            "PUT",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/m",
            false,
        ),
        ("GET", "/api/v1/namespaces", false),
        ("GET", "/apis", true),
    ] {
        let found = f.check(&node, method, url);
        assert_eq!(found.is_ok(), allowed, "{method} {url}: {found:?}");
    }
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let f = Fixture::new().await;
    let bob = User::new("bob", []);
    f.put(&json!({"kind": "ClusterRole", "metadata": {"name": "some"}, "rules": [
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["view"]},
    ]}))
        .await;
    f.put(
        &json!({"kind": "ClusterRoleBinding", "metadata": {"name": "some"},
        "roleRef": {"kind": "ClusterRole", "name": "some"},
        "subjects": [{"kind": "User", "name": "bob"}]}),
    )
    .await;
    let role = |verb: &str| {
        json!({"metadata": {"name": "x", "namespace": "d"},
        "rules": [{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]})
    };
    let bind = |name: &str| {
        json!({"metadata": {"name": "x", "namespace": "d"},
        "roleRef": {"kind": "ClusterRole", "name": name}})
    };
    let group = "rbac.authorization.k8s.io";
    for (plural, object, why) in [
        ("roles", role("get"), None),
        (
            "roles",
            role("list"),
            Some(
                "roles.rbac.authorization.k8s.io \"x\" is forbidden: user \"bob\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\"]}",
            ),
        ),
        ("rolebindings", bind("view"), None),
        ("rolebindings", bind("some"), None),
        (
            "rolebindings",
            bind("absent"),
            Some("clusterroles.rbac.authorization.k8s.io \"absent\" not found"),
        ),
    ] {
        let found = escalation::check(&f.authorizer, &bob, (group, plural), &object, None);
        assert_eq!(found.err().map(|s| s.message).as_deref(), why, "{object}");
    }
    let admin = bind("cluster-admin");
    let refused = escalation::check(&f.authorizer, &bob, (group, "rolebindings"), &admin, None);
    assert_eq!(refused.unwrap_err().code, 403);
    let same = escalation::check(
        &f.authorizer,
        &bob,
        (group, "rolebindings"),
        &admin,
        Some(&admin),
    );
    assert_eq!(same, Ok(()));
}
