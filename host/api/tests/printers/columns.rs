//! The columns of every kind that can be listed.

use crate::kind;
use api::kinds::KINDS;
use serde_json::Value;

/// As metrics-server has them.
const USED: &str = "Name:name, cpu, memory, Window";

/// Kinds and their columns: `NAME[:TYPE][+]`, where `name` is a string whose
/// cells are names, and `+` is for `-o wide` alone.
const COLUMNS: &[(&str, &str)] = &[
    ("v1/configmaps", "Name:name, Data, Age"),
    ("v1/events", EVENT),
    ("events.k8s.io/v1/events", EVENT),
    ("v1/namespaces", "Name:name, Status, Age"),
    (
        "v1/nodes",
        "Name:name, Status, Roles, Age, Version, Internal-IP+, External-IP+, OS-Image+, Kernel-Version+, Container-Runtime+",
    ),
    (
        "v1/pods",
        "Name:name, Ready, Status, Restarts, Age, IP+, Node+, Nominated Node+, Readiness Gates+",
    ),
    ("v1/secrets", "Name:name, Type, Data, Age"),
    ("v1/serviceaccounts", "Name:name, Age"),
    ("v1/endpoints", "Name:name, Endpoints, Age"),
    ("v1/limitranges", PLAIN),
    (
        "v1/persistentvolumes",
        "Name:name, Capacity, Access Modes, Reclaim Policy, Status, Claim, StorageClass, VolumeAttributesClass, Reason, Age, VolumeMode+",
    ),
    (
        "v1/persistentvolumeclaims",
        "Name:name, Status, Volume, Capacity, Access Modes, StorageClass, VolumeAttributesClass, Age, VolumeMode+",
    ),
    (
        "v1/podtemplates",
        "Name:name, Containers, Images, Pod Labels",
    ),
    ("v1/replicationcontrollers", REPLICAS),
    ("v1/resourcequotas", "Name:name, Request, Limit, Age"),
    (
        "v1/services",
        "Name:name, Type, Cluster-IP, External-IP, Port(s), Age, Selector+",
    ),
    (
        "apps/v1/controllerrevisions",
        "Name:name, Controller, Revision, Age",
    ),
    (
        "apps/v1/daemonsets",
        "Name:name, Desired:integer, Current:integer, Ready:integer, Up-to-date:integer, Available:integer, Node Selector, Age, Containers+, Images+, Selector+",
    ),
    (
        "apps/v1/deployments",
        "Name:name, Ready, Up-to-date, Available, Age, Containers+, Images+, Selector+",
    ),
    ("apps/v1/replicasets", REPLICAS),
    (
        "apps/v1/statefulsets",
        "Name:name, Ready, Age, Containers+, Images+",
    ),
    (
        "batch/v1/cronjobs",
        "Name:name, Schedule, Timezone, Suspend:boolean, Active:integer, Last Schedule, Age, Containers+, Images+, Selector+",
    ),
    (
        "batch/v1/jobs",
        "Name:name, Status, Completions, Duration, Age, Containers+, Images+, Selector+",
    ),
    ("autoscaling/v1/horizontalpodautoscalers", AUTOSCALER),
    ("autoscaling/v2/horizontalpodautoscalers", AUTOSCALER),
    (
        "policy/v1/poddisruptionbudgets",
        "Name:name, Min Available, Max Unavailable, Allowed Disruptions:integer, Age",
    ),
    (
        "admissionregistration.k8s.io/v1/mutatingadmissionpolicies",
        "Name:name, Mutations:integer, ParamKind, Age",
    ),
    (
        "admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings",
        "Name:name, PolicyName, ParamRef, Age",
    ),
    (
        "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
        "Name:name, Webhooks:integer, Age",
    ),
    (
        "admissionregistration.k8s.io/v1/validatingadmissionpolicies",
        "Name:name, Validations:integer, ParamKind, Age",
    ),
    (
        "admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
        "Name:name, PolicyName, ParamRef, Age",
    ),
    (
        "admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
        "Name:name, Webhooks:integer, Age",
    ),
    (
        "apiregistration.k8s.io/v1/apiservices",
        "Name:name, Service, Available, Age",
    ),
    (
        "certificates.k8s.io/v1/certificatesigningrequests",
        "Name:name, Age, SignerName, Requestor, RequestedDuration, Condition",
    ),
    ("coordination.k8s.io/v1/leases", "Name:name, Holder, Age"),
    (
        "discovery.k8s.io/v1/endpointslices",
        "Name:name, AddressType, Ports, Endpoints, Age",
    ),
    (
        "flowcontrol.apiserver.k8s.io/v1/flowschemas",
        "Name:name, PriorityLevel, MatchingPrecedence, DistinguisherMethod, Age, MissingPL",
    ),
    (
        "flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations",
        "Name:name, Type, NominalConcurrencyShares, Queues, HandSize, QueueLengthLimit, Age",
    ),
    (
        "networking.k8s.io/v1/ingresses",
        "Name:name, Class, Hosts, Address, Ports, Age",
    ),
    (
        "networking.k8s.io/v1/ingressclasses",
        "Name:name, Controller, Parameters, Age",
    ),
    ("networking.k8s.io/v1/ipaddresses", "Name:name, ParentRef"),
    (
        "networking.k8s.io/v1/networkpolicies",
        "Name:name, Pod-Selector, Age",
    ),
    ("networking.k8s.io/v1/servicecidrs", "Name:name, CIDRs, Age"),
    ("node.k8s.io/v1/runtimeclasses", "Name:name, Handler, Age"),
    ("rbac.authorization.k8s.io/v1/clusterrolebindings", BINDING),
    ("rbac.authorization.k8s.io/v1/clusterroles", PLAIN),
    ("rbac.authorization.k8s.io/v1/rolebindings", BINDING),
    ("rbac.authorization.k8s.io/v1/roles", PLAIN),
    (
        "scheduling.k8s.io/v1/priorityclasses",
        "Name:name, Value:integer, Global-Default:boolean, Age, PreemptionPolicy",
    ),
    (
        "storage.k8s.io/v1/csidrivers",
        "Name:name, AttachRequired:boolean, PodInfoOnMount:boolean, StorageCapacity:boolean, TokenRequests, RequiresRepublish:boolean, Modes, Age",
    ),
    (
        "storage.k8s.io/v1/csinodes",
        "Name:name, Drivers:integer, Age",
    ),
    (
        "storage.k8s.io/v1/csistoragecapacities",
        "Name:name, StorageClassName, Capacity",
    ),
    (
        "storage.k8s.io/v1/storageclasses",
        "Name:name, Provisioner, ReclaimPolicy, VolumeBindingMode, AllowVolumeExpansion, Age",
    ),
    (
        "storage.k8s.io/v1/volumeattachments",
        "Name:name, Attacher:name, PV, Node, Attached:boolean, Age",
    ),
    (
        "storage.k8s.io/v1/volumeattributesclasses",
        "Name:name, DriverName, Age",
    ),
    ("apiextensions.k8s.io/v1/customresourcedefinitions", PLAIN),
    ("metrics.k8s.io/v1beta1/nodes", USED),
    ("metrics.k8s.io/v1beta1/pods", USED),
];
const PLAIN: &str = "Name:name, Created At:date";
const BINDING: &str = "Name:name, Role, Age, Users+, Groups+, ServiceAccounts+";
const EVENT: &str = "Last Seen, Type, Reason, Object, Subobject+, Source+, Message, First Seen+, Count+, Name:name+";
const REPLICAS: &str = "Name:name, Desired:integer, Current:integer, Ready:integer, Age, Containers+, Images+, Selector+";
const AUTOSCALER: &str = "Name:name, Reference, Targets, MinPods, MaxPods, Replicas, Age";

fn shown(column: &Value) -> String {
    let text = |key: &str| column[key].as_str().unwrap();
    let kind = match (text("type"), text("format")) {
        ("string", "") => String::new(),
        ("string", format) => format!(":{format}"),
        (kind, _) => format!(":{kind}"),
    };
    assert!(!text("description").is_empty(), "{column}");
    let wide = if column["priority"] == 0 { "" } else { "+" };
    format!("{}{kind}{wide}", text("name"))
}

#[test]
fn columns_are_upstreams() {
    for (path, wanted) in COLUMNS {
        let columns = kind(path).column_definitions();
        let columns: Vec<String> = columns.as_array().unwrap().iter().map(shown).collect();
        assert_eq!(columns.join(", "), *wanted, "{path}");
    }
}

#[test]
fn no_kind_is_left_out() {
    for row in KINDS.iter().filter(|k| k.verbs.contains(&"list")) {
        let path = match row.group {
            "" => format!("{}/{}", row.version, row.plural),
            group => format!("{group}/{}/{}", row.version, row.plural),
        };
        assert!(COLUMNS.iter().any(|(known, _)| *known == path), "{path}");
    }
}
