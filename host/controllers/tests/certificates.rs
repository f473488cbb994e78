//! CertificateSigningRequests on a real API server, decided on with the real
//! `kubectl`: `ATOLL_KUBECTLS`, or the one on the path.
#![expect(clippy::unwrap_used, reason = "tests")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use controllers::{Authority, Config};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use reconcile::{Client, Kubeconfig, ListOptions, Resource, TlsTransport};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

static REQUESTS: Resource =
    Resource::cluster("certificates.k8s.io", "v1", "certificatesigningrequests");
static ROLES: Resource = Resource::cluster("rbac.authorization.k8s.io", "v1", "clusterroles");
static BINDINGS: Resource =
    Resource::cluster("rbac.authorization.k8s.io", "v1", "clusterrolebindings");
const DEADLINE: Duration = Duration::from_secs(30);
const CLIENT: &str = "kube-apiserver-client";
const KUBELET: &str = "kube-apiserver-client-kubelet";

struct Cluster {
    client: Client,
    running: apiserver::Running,
    stop: tokio::sync::oneshot::Sender<()>,
    controllers: tokio::task::JoinHandle<()>,
    dir: tempfile::TempDir,
}

fn kubectls() -> Vec<PathBuf> {
    let listed = std::env::var_os("ATOLL_KUBECTLS").unwrap_or_default();
    let found: Vec<PathBuf> = std::env::split_paths(&listed)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if found.is_empty() {
        return vec![PathBuf::from("kubectl")];
    }
    found
}

impl Cluster {
    async fn start() -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"listen": ["127.0.0.1:0"], "dataDir": dir.path().join("data")});
        let running = apiserver::run(serde_json::from_value(config).unwrap())
            .await
            .unwrap();
        std::fs::write(dir.path().join("kubeconfig"), running.kubeconfig()).unwrap();
        let pki = |name: &str| std::fs::read_to_string(dir.path().join("data/pki").join(name));
        let (ca, key) = (pki("ca.crt").unwrap(), pki("ca.key").unwrap());
        let config = Config {
            authority: Some(Authority::open(&ca, &key).unwrap()),
            ..Config::new(ca)
        };
        let user = apiserver::User::controllers();
        let own = Client::new(running.server().local_transport(user));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let controllers = tokio::spawn(controllers::run(own, config, async {
            drop(stopped.await);
        }));
        Cluster {
            client: client(running.kubeconfig(), dir.path()),
            running,
            stop,
            controllers,
            dir,
        }
    }

    async fn end(self) {
        drop(self.stop);
        self.controllers.await.unwrap();
        self.running.stop().await.unwrap();
    }

    fn user(&self, user: apiserver::User) -> Client {
        Client::new(self.running.server().local_transport(user))
    }

    fn kubectl(&self, kubectl: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(kubectl);
        command.args(arguments).env("HOME", self.dir.path());
        command.env("KUBECONFIG", self.dir.path().join("kubeconfig"));
        tokio::task::block_in_place(|| command.output()).unwrap()
    }

    #[track_caller]
    fn says(&self, kubectl: &Path, arguments: &[&str], text: &str) {
        let output = self.kubectl(kubectl, arguments);
        let out = String::from_utf8_lossy(&output.stdout);
        let shown = format!("{kubectl:?} {arguments:?}: {output:?}");
        assert!(output.status.success() && out.contains(text), "{shown}");
    }

    async fn until(&self, name: &str, done: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let found = self.client.get(&REQUESTS, None, name).await.unwrap();
            if done(&found["status"]) {
                return found;
            }
            assert!(start.elapsed() < DEADLINE, "{found:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn issued(&self, name: &str) -> String {
        let is_issued = |status: &Value| status["certificate"].is_string();
        let csr = self.until(name, is_issued).await;
        let text = csr["status"]["certificate"].as_str().unwrap();
        String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
    }

    /// Whom the API takes the bearer of a certificate for.
    async fn whoami(&self, certificate: &str, key: &KeyPair) -> Value {
        let mut config: Value = serde_json::from_str(self.running.kubeconfig()).unwrap();
        config["users"][0]["user"] = json!({
            "client-certificate-data": STANDARD.encode(certificate),
            "client-key-data": STANDARD.encode(key.serialize_pem()),
        });
        let client = client(&config.to_string(), self.dir.path());
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let answer = client.post_path(path, &json!({})).await.unwrap();
        answer["status"]["userInfo"].clone()
    }
}

fn client(kubeconfig: &str, dir: &Path) -> Client {
    let kubeconfig = Kubeconfig::parse(kubeconfig, dir).unwrap();
    Client::new(Arc::new(TlsTransport::new(&kubeconfig).unwrap()))
}

/// A request and its key; of at most two groups.
fn asked(name: &str, signer: &str, user: &str, groups: &[&str]) -> (Value, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user);
    let kinds = [
        DnType::OrganizationName,
        DnType::CustomDnType(vec![2, 5, 4, 10]),
    ];
    for (kind, group) in kinds.into_iter().zip(groups) {
        params.distinguished_name.push(kind, *group);
    }
    if signer == "kubelet-serving" {
        let name = "n1.example".try_into().unwrap();
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let purpose = match signer {
        "kubelet-serving" => "server auth",
        _ => "client auth",
    };
    let object = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": name}, "spec": {
            "request": STANDARD.encode(pem), "signerName": format!("kubernetes.io/{signer}"),
            "usages": [purpose, "digital signature"], "expirationSeconds": 3600}});
    (object, key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approved_request_logs_in_and_a_denied_one_gets_nothing() {
    let cluster = Cluster::start().await;
    for (round, kubectl) in kubectls().iter().enumerate() {
        let (yes, no) = (format!("yes{round}"), format!("no{round}"));
        let (object, key) = asked(&yes, CLIENT, "jane", &["devs", "ops"]);
        cluster
            .client
            .create(&REQUESTS, None, &object)
            .await
            .unwrap();
        cluster.says(kubectl, &["get", "csr", &yes], "Pending");
        let said = "certificatesigningrequest.certificates.k8s.io";
        let approved = format!("{said}/{yes} approved");
        cluster.says(kubectl, &["certificate", "approve", &yes], &approved);
        let certificate = cluster.issued(&yes).await;
        cluster.says(kubectl, &["get", "csr", &yes], "Approved,Issued");
        let user = cluster.whoami(&certificate, &key).await;
        assert_eq!(user["username"], "jane", "{user}");
        // In the order that DER gives sets.
        let groups = json!(["ops", "devs", "system:authenticated"]);
        assert_eq!(user["groups"], groups, "{user}");
        let (_, block) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).unwrap();
        let validity = block.parse_x509().unwrap().validity().clone();
        let life = validity.not_after.timestamp() - validity.not_before.timestamp();
        assert_eq!(life, 3600 + 300);

        let (object, _) = asked(&no, CLIENT, "jane", &[]);
        cluster
            .client
            .create(&REQUESTS, None, &object)
            .await
            .unwrap();
        let denied = format!("{said}/{no} denied");
        cluster.says(kubectl, &["certificate", "deny", &no], &denied);
        cluster.says(kubectl, &["get", "csr", &no], "Denied");
        let again = cluster.kubectl(kubectl, &["certificate", "approve", &no]);
        assert!(!again.status.success(), "{again:?}");
        let found = cluster.client.get(&REQUESTS, None, &no).await.unwrap();
        assert_eq!(found["status"].get("certificate"), None);
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kubelet_renews_by_itself_once_it_may() {
    let cluster = Cluster::start().await;
    let node = cluster.user(apiserver::User::node("n1"));
    let (other, _) = asked("other", KUBELET, "system:node:n2", &["system:nodes"]);
    let refused = node.create(&REQUESTS, None, &other).await.unwrap_err();
    let why = "can only create a node CSR with CN=system:node:n1";
    assert!(refused.to_string().contains(why), "{refused}");
    let role = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient";
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "renewal"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}]});
    cluster
        .client
        .create(&BINDINGS, None, &binding)
        .await
        .unwrap();
    let (object, key) = asked("own", KUBELET, "system:node:n1", &["system:nodes"]);
    node.create(&REQUESTS, None, &object).await.unwrap();
    let certificate = cluster.issued("own").await;
    let user = cluster.whoami(&certificate, &key).await;
    assert_eq!(user["username"], "system:node:n1");
    let found = cluster.client.get(&REQUESTS, None, "own").await.unwrap();
    let condition = &found["status"]["conditions"][0];
    assert_eq!(condition["reason"], "AutoApproved", "{found:#}");
    assert!(
        condition["message"]
            .as_str()
            .unwrap()
            .starts_with("Auto approving self")
    );

    // Serving certificates somebody has to approve; wrong ones fail.
    let kubectl = &kubectls()[0];
    let (serving, _) = asked(
        "serving",
        "kubelet-serving",
        "system:node:n1",
        &["system:nodes"],
    );
    node.create(&REQUESTS, None, &serving).await.unwrap();
    let (wrong, _) = asked(
        "wrong",
        "kubelet-serving",
        "system:node:n1",
        &["system:masters"],
    );
    cluster
        .client
        .create(&REQUESTS, None, &wrong)
        .await
        .unwrap();
    cluster.says(
        kubectl,
        &["certificate", "approve", "serving", "wrong"],
        "approved",
    );
    let certificate = cluster.issued("serving").await;
    assert!(certificate.starts_with("-----BEGIN CERTIFICATE-----\n"));
    let failed = |status: &Value| status["conditions"][1]["type"] == "Failed";
    let found = cluster.until("wrong", failed).await;
    let condition = &found["status"]["conditions"][1];
    assert_eq!(condition["reason"], "SignerValidationFailure");
    assert_eq!(
        condition["message"],
        "subject organization is not system:nodes"
    );
    let all = cluster
        .client
        .list(&REQUESTS, None, &ListOptions::default())
        .await;
    assert_eq!(all.unwrap().items.len(), 3);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_decides_needs_the_right_on_the_signer() {
    let cluster = Cluster::start().await;
    let role = |signers: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "decider"}, "rules": [
                {"apiGroups": ["certificates.k8s.io"], "verbs": ["get", "update"], "resources":
                    ["certificatesigningrequests/approval", "certificatesigningrequests/status"]},
                {"apiGroups": ["certificates.k8s.io"], "verbs": ["approve"], "resources": ["signers"],
                    "resourceNames": signers}]})
    };
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "decider"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "decider"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]});
    let admin = &cluster.client;
    let none = role(json!(["example.com/s"]));
    admin.create(&ROLES, None, &none).await.unwrap();
    admin.create(&BINDINGS, None, &binding).await.unwrap();
    let (object, _) = asked("c", CLIENT, "jane", &[]);
    let mut made = admin.create(&REQUESTS, None, &object).await.unwrap();
    made["status"]["conditions"] = json!([{"type": "Approved", "status": "True"}]);
    let bob = cluster.user(apiserver::User::new("bob", []));
    let approve = || bob.update_subresource(&REQUESTS, None, "approval", &made);
    let refused = approve().await.unwrap_err().to_string();
    let why = "user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\"";
    assert!(refused.contains(why), "{refused}");
    admin
        .update(&ROLES, None, &role(json!(["kubernetes.io/*"])))
        .await
        .unwrap();
    approve().await.unwrap();
    let mut issued = admin.get(&REQUESTS, None, "c").await.unwrap();
    issued["status"]["conditions"] = json!([{"type": "Approved", "status": "True"},
        {"type": "Failed", "status": "True"}]);
    let refused = bob
        .update_status(&REQUESTS, None, &issued)
        .await
        .unwrap_err();
    let why = "user not permitted to sign requests with signerName";
    // Or the certificate was there first: then it's a conflict.
    assert!(
        refused.to_string().contains(why) || refused.is_conflict(),
        "{refused}"
    );

    let (masters, _) = asked("m", CLIENT, "jane", &["system:masters"]);
    let refused = admin.create(&REQUESTS, None, &masters).await.unwrap_err();
    let why = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
    assert!(refused.to_string().contains(why), "{refused}");
    cluster.end().await;
}
