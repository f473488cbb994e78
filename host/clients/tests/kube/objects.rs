//! Objects, typed and not: verbs, patches, dry runs, subresources, discovery,
//! leases.

use crate::{refused, session};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{
    Api, DeleteParams, DynamicObject, EvictParams, GroupVersionKind, ListParams, LogParams, Patch,
    PatchParams, PostParams, ValidationDirective,
};
use kube::discovery::{Discovery, Scope, pinned_kind};
use kube::{Client, ResourceExt};
use serde_json::json;

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": "1"}})).unwrap()
}

#[test]
fn typed_objects_are_made_changed_and_deleted() {
    session(|client| async move {
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        let post = PostParams::default();
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        assert!(maps.create(&dry, &map("a")).await.unwrap().uid().is_some());
        assert!(maps.get_opt("a").await.unwrap().is_none());
        let mut made = maps.create(&post, &map("a")).await.unwrap();
        refused(
            maps.create(&post, &map("a")).await,
            409,
            "AlreadyExists",
            "configmaps \"a\" already exists",
        );
        made.data
            .get_or_insert_default()
            .insert("k".into(), "2".into());
        let newer = maps.replace("a", &post, &made).await.unwrap();
        assert_eq!(newer.data.unwrap()["k"], "2");
        refused(
            maps.replace("a", &post, &made).await,
            409,
            "Conflict",
            "the object has been modified",
        );
        let metadata = maps.get_metadata("a").await.unwrap();
        assert_eq!(metadata.types.unwrap().kind, "PartialObjectMetadata");
        for i in 0..5 {
            maps.create(&post, &map(&format!("m{i}"))).await.unwrap();
        }
        let mut names = Vec::new();
        let mut page = ListParams::default().limit(2);
        loop {
            let list = maps.list(&page).await.unwrap();
            names.extend(list.items.iter().map(ResourceExt::name_any));
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => break,
            }
        }
        assert!(names.is_sorted() && names.len() >= 6, "{names:?}");
        let gone = maps.delete("a", &DeleteParams::default()).await.unwrap();
        assert!(gone.right().is_some_and(|status| status.is_success()));
        let left = ListParams::default().fields("metadata.name!=m0");
        maps.delete_collection(&DeleteParams::default(), &left)
            .await
            .unwrap();
        let names = maps.list(&ListParams::default()).await.unwrap();
        assert!(names.iter().all(|m| m.name_any() == "m0"));
    });
}

#[test]
fn patches_of_every_kind_are_applied() {
    session(|client| async move {
        let deployments: Api<Deployment> = Api::default_namespaced(client);
        let apply = PatchParams::apply("one");
        let config = |image: &str| {
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
                "spec": {
                    "selector": {"matchLabels": {"a": "b"}},
                    "template": {
                        "metadata": {"labels": {"a": "b"}},
                        "spec": {"containers": [{"name": "c", "image": image}]}}},
            })
        };
        let made = deployments
            .patch("d", &apply, &Patch::Apply(config("i:1")))
            .await;
        assert_eq!(made.unwrap().spec.unwrap().replicas, Some(1));
        let other = PatchParams::apply("two");
        refused(
            deployments
                .patch("d", &other, &Patch::Apply(config("i:2")))
                .await,
            409,
            "Conflict",
            "conflict with \"one\": .spec.template.spec.containers[name=\"c\"].image",
        );
        let forced = other.force();
        let taken = deployments
            .patch("d", &forced, &Patch::Apply(config("i:2")))
            .await;
        assert_eq!(taken.unwrap().managed_fields().len(), 2);
        let plain = PatchParams::default();
        let merge = Patch::Merge(json!({"spec": {"replicas": 3}}));
        let merged = deployments.patch("d", &plain, &merge).await.unwrap();
        assert_eq!(merged.spec.unwrap().replicas, Some(3));
        let containers = json!([{"name": "side", "image": "s"}]);
        let strategic =
            Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": containers}}}}));
        let both = deployments.patch("d", &plain, &strategic).await.unwrap();
        let template = both.spec.unwrap().template.spec.unwrap();
        assert_eq!(template.containers.len(), 2);
        let scale = deployments.get_scale("d").await.unwrap();
        assert_eq!(scale.spec.unwrap().replicas, Some(3));
        let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"name": "d"}, "spec": {"replicas": 4}});
        let scaler = PatchParams::apply("scaler");
        refused(
            deployments
                .patch_scale("d", &scaler, &Patch::Apply(&scale))
                .await,
            409,
            "Conflict",
            ".spec.replicas",
        );
        let scaled = deployments
            .patch_scale("d", &scaler.force(), &Patch::Apply(&scale))
            .await;
        assert_eq!(scaled.unwrap().spec.unwrap().replicas, Some(4));
        let status = Patch::Merge(json!({"status": {"replicas": 2}}));
        let shown = deployments
            .patch_status("d", &plain, &status)
            .await
            .unwrap();
        assert_eq!(shown.status.unwrap().replicas, Some(2));
        let strict = PatchParams {
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::default()
        };
        let unknown = Patch::Merge(json!({"spec": {"replica": 3}}));
        refused(
            deployments.patch("d", &strict, &unknown).await,
            422,
            "Invalid",
            "unknown field \"spec.replica\"",
        );
    });
}

#[test]
fn pods_without_a_node_answer_as_upstream() {
    session(|client| async move {
        let pods: Api<Pod> = Api::default_namespaced(client);
        let pod = json!({"metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let made = pods.create(&PostParams::default(), &pod).await.unwrap();
        assert_eq!(made.status.unwrap().phase.as_deref(), Some("Pending"));
        let logs = pods.logs("p", &LogParams::default()).await;
        refused(
            logs,
            400,
            "BadRequest",
            "pod p does not have a host assigned",
        );
        let ran = pods
            .exec("p", ["true"], &kube::api::AttachParams::default())
            .await;
        assert!(ran.is_err());
        let resized = pods.get_resize("p").await.unwrap();
        assert_eq!(resized.name_any(), "p");
        let evicted = pods.evict("p", &EvictParams::default()).await.unwrap();
        assert!(evicted.is_success());
    });
}

async fn dynamic(client: Client, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk(group, version, kind);
    let (resource, capabilities) = pinned_kind(&client, &gvk).await.unwrap();
    match capabilities.scope {
        Scope::Cluster => Api::all_with(client, &resource),
        Scope::Namespaced => Api::default_namespaced_with(client, &resource),
    }
}

#[test]
fn discovery_finds_what_dynamic_objects_need() {
    session(|client| async move {
        for found in [
            Discovery::new(client.clone()).run().await.unwrap(),
            Discovery::new(client.clone())
                .run_aggregated()
                .await
                .unwrap(),
        ] {
            let gvk = GroupVersionKind::gvk("apps", "v1", "Deployment");
            let (resource, capabilities) = found.resolve_gvk(&gvk).unwrap();
            assert_eq!(resource.plural, "deployments");
            assert!(capabilities.supports_operation("deletecollection"));
            assert!(found.groups().count() > 15);
        }
        let all = dynamic(client.clone(), "", "v1", "Namespace").await;
        let seen = all.list(&ListParams::default()).await.unwrap();
        assert!(seen.iter().any(|n| n.name_any() == "kube-system"));
        let policies = dynamic(client, "networking.k8s.io", "v1", "NetworkPolicy").await;
        let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "n"}, "spec": {"podSelector": {}}});
        let apply = PatchParams::apply("dynamic");
        let made = policies
            .patch("n", &apply, &Patch::Apply(&policy))
            .await
            .unwrap();
        assert_eq!(made.data["spec"]["policyTypes"], json!(["Ingress"]));
    });
}

#[test]
fn a_lease_has_one_holder() {
    session(|client| async move {
        let leases: Api<Lease> = Api::default_namespaced(client);
        let now = || serde_json::to_value(MicroTime(k8s_openapi::jiff::Timestamp::now())).unwrap();
        let held = |by: &str| {
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": "l"},
                "spec": {"holderIdentity": by, "leaseDurationSeconds": 5, "renewTime": now()}})
        };
        let take = |by: &'static str| {
            let (leases, config) = (leases.clone(), held(by));
            async move {
                let params = PatchParams::apply(by);
                leases.patch("l", &params, &Patch::Apply(&config)).await
            }
        };
        let first = take("one").await.unwrap();
        refused(take("two").await, 409, "Conflict", ".spec.holderIdentity");
        let renewed = take("one").await.unwrap();
        assert_ne!(first.resource_version(), renewed.resource_version());
        assert_eq!(
            renewed.spec.unwrap().holder_identity.as_deref(),
            Some("one")
        );
    });
}
