//! A controller as operators are written: a kind derived from a struct, its
//! definition applied, objects reconciled with a finalizer, status written.

use crate::{refused, session};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Error as FinalizerError, Event, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher;
use kube::{Client, CustomResource, CustomResourceExt as _, Resource as _, ResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const FINALIZER: &str = "sea.example.com/moored";

/// A ship.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "sea.example.com", version = "v1", kind = "Ship", namespaced)]
#[kube(status = "ShipStatus", shortname = "sh")]
#[kube(scale(
    spec_replicas_path = ".spec.masts",
    status_replicas_path = ".status.masts"
))]
#[kube(printcolumn(name = "Masts", type_ = "integer", json_path = ".spec.masts"))]
struct ShipSpec {
    /// How many.
    #[schemars(range(min = 1, max = 5))]
    masts: i32,
    cargo: Option<String>,
    rig: Rig,
    #[serde(default)]
    crew: Vec<Sailor>,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
enum Rig {
    Square,
    ForeAndAft,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
struct Sailor {
    name: String,
    rank: Option<u8>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
struct ShipStatus {
    masts: i32,
}

fn ship(name: &str, masts: i32) -> Ship {
    let spec = ShipSpec {
        masts,
        cargo: None,
        rig: Rig::Square,
        crew: vec![Sailor {
            name: "x".to_owned(),
            rank: None,
        }],
    };
    Ship::new(name, spec)
}

async fn define(client: &Client) -> Api<Ship> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = Ship::crd_name();
    let params = PatchParams::apply("operator");
    let definition = Patch::Apply(Ship::crd());
    definitions.patch(name, &params, &definition).await.unwrap();
    await_condition(definitions.clone(), name, conditions::is_crd_established())
        .await
        .unwrap();
    // Applied again, as each start of an operator does: nothing changes.
    let before = definitions.get(name).await.unwrap().resource_version();
    let again = definitions.patch(name, &params, &definition).await.unwrap();
    assert_eq!(again.resource_version(), before);
    Api::default_namespaced(client.clone())
}

#[test]
fn a_derived_definition_checks_its_objects() {
    session(|client| async move {
        let ships = define(&client).await;
        let post = PostParams::default();
        let made = ships.create(&post, &ship("a", 2)).await.unwrap();
        assert_eq!(made.meta().generation, Some(1));
        let refusal = ships.create(&post, &ship("b", 9)).await;
        refused(
            refusal,
            422,
            "Invalid",
            "spec.masts in body should be less than or equal to 5",
        );
        let mut config = ship("a", 3);
        config.metadata.managed_fields = None;
        let params = PatchParams::apply("captain");
        let refusal = ships.patch("a", &params, &Patch::Apply(&config)).await;
        refused(refusal, 409, "Conflict", ".spec.masts");
        let forced = params.force();
        let applied = ships.patch("a", &forced, &Patch::Apply(&config)).await;
        assert_eq!(applied.unwrap().spec.masts, 3);
        let scale = ships.get_scale("a").await.unwrap();
        assert_eq!(scale.spec.unwrap().replicas, Some(3));
        let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"name": "a"}, "spec": {"replicas": 4}});
        ships
            .patch_scale("a", &forced, &Patch::Apply(&scale))
            .await
            .unwrap();
        let seen = ships.get("a").await.unwrap();
        assert_eq!(seen.spec.masts, 4);
        let entries = seen.managed_fields().iter();
        let owners = entries.filter(|e| e.subresource.as_deref() == Some("scale"));
        assert_eq!(owners.count(), 1, "{:?}", seen.managed_fields());
    });
}

type Failed = FinalizerError<kube::Error>;

/// A ConfigMap for each ship, gone before the ship is.
async fn reconcile(ship: Arc<Ship>, client: Arc<Client>) -> Result<Action, Failed> {
    let client = client.as_ref().clone();
    let ships: Api<Ship> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    finalizer(&ships.clone(), FINALIZER, ship, |event| async move {
        match event {
            Event::Apply(ship) => {
                let name = ship.name_any();
                let params = PatchParams::apply("controller");
                let config = json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {"name": name, "ownerReferences": [ship.controller_owner_ref(&())]},
                    "data": {"masts": ship.spec.masts.to_string()},
                });
                maps.patch(&name, &params, &Patch::Apply(&config)).await?;
                let status = json!({
                    "apiVersion": "sea.example.com/v1", "kind": "Ship",
                    "status": ShipStatus { masts: ship.spec.masts },
                });
                ships
                    .patch_status(&name, &params, &Patch::Apply(&status))
                    .await?;
                Ok(Action::await_change())
            }
            Event::Cleanup(ship) => {
                maps.delete(&ship.name_any(), &DeleteParams::default())
                    .await?;
                Ok(Action::await_change())
            }
        }
    })
    .await
}

#[test]
fn a_controller_reconciles_and_finalizes() {
    session(|client| async move {
        let ships = define(&client).await;
        let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
        let config = watcher::Config::default().streaming_lists();
        let retry =
            |_: Arc<Ship>, _: &Failed, _: Arc<Client>| Action::requeue(Duration::from_millis(50));
        let controller = Controller::new(ships.clone(), config.clone())
            .owns(maps.clone(), config)
            .run(reconcile, retry, Arc::new(client.clone()));
        let running = tokio::spawn(controller.for_each(|_| async {}));
        ships
            .create(&PostParams::default(), &ship("a", 2))
            .await
            .unwrap();
        let settled = |wanted: i32| {
            move |ship: Option<&Ship>| {
                let status = ship.and_then(|s| s.status.as_ref());
                status.is_some_and(|status| status.masts == wanted)
            }
        };
        let seen = await_condition(ships.clone(), "a", settled(2))
            .await
            .unwrap();
        assert_eq!(seen.unwrap().finalizers(), [FINALIZER]);
        let more = Patch::Merge(json!({"spec": {"masts": 3}}));
        ships
            .patch("a", &PatchParams::default(), &more)
            .await
            .unwrap();
        await_condition(ships.clone(), "a", settled(3))
            .await
            .unwrap();
        assert_eq!(maps.get("a").await.unwrap().data.unwrap()["masts"], "3");
        // What it owns is made again.
        maps.delete("a", &DeleteParams::default()).await.unwrap();
        await_condition(maps.clone(), "a", conditions::is_created())
            .await
            .unwrap();
        let uid = ships.get("a").await.unwrap().uid().unwrap();
        ships.delete("a", &DeleteParams::default()).await.unwrap();
        await_condition(ships.clone(), "a", conditions::is_deleted(&uid))
            .await
            .unwrap();
        assert!(maps.get_opt("a").await.unwrap().is_none());
        running.abort();
    });
}
