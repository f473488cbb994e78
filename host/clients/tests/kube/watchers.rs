//! Watchers by list and by streamed list, reflectors, and what happens when
//! history is gone.

use crate::{refused, session, with};
use clients::Server;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt as _, reflector};
use kube::{Client, ResourceExt};
use serde_json::json;
use std::pin::pin;

fn map(name: &str) -> ConfigMap {
    let map = json!({"metadata": {"name": name, "labels": {"of": "watchers"}}});
    serde_json::from_value(map).unwrap()
}

fn maps(client: Client) -> Api<ConfigMap> {
    Api::default_namespaced(client)
}

async fn make(maps: &Api<ConfigMap>, name: &str) -> ConfigMap {
    maps.create(&PostParams::default(), &map(name))
        .await
        .unwrap()
}

/// An event as text.
fn shown(event: &Event<ConfigMap>) -> String {
    match event {
        Event::Init => "init".to_owned(),
        Event::InitApply(m) => format!("there {}", m.name_any()),
        Event::InitDone => "done".to_owned(),
        Event::Apply(m) => format!("apply {}", m.name_any()),
        Event::Delete(m) => format!("delete {}", m.name_any()),
    }
}

async fn next(
    stream: &mut (impl Stream<Item = watcher::Result<Event<ConfigMap>>> + Unpin),
) -> String {
    shown(&stream.next().await.unwrap().unwrap())
}

#[test]
fn a_watcher_sees_what_is_there_and_what_changes() {
    session(|client| async move {
        let maps = maps(client);
        make(&maps, "a").await;
        make(&maps, "b").await;
        let plain = watcher::Config::default().labels("of=watchers");
        for config in [
            plain.clone(),
            plain.clone().page_size(1),
            plain.streaming_lists(),
        ] {
            let mut events = pin!(watcher(maps.clone(), config));
            for wanted in ["init", "there a", "there b", "done"] {
                assert_eq!(next(&mut events).await, wanted);
            }
            make(&maps, "c").await;
            assert_eq!(next(&mut events).await, "apply c");
            maps.delete("c", &DeleteParams::default()).await.unwrap();
            assert_eq!(next(&mut events).await, "delete c");
        }
    });
}

#[test]
fn a_reflector_holds_what_the_server_has() {
    session(|client| async move {
        let maps = maps(client);
        make(&maps, "a").await;
        let (store, writer) = reflector::store();
        let config = watcher::Config::default()
            .labels("of=watchers")
            .streaming_lists();
        let stream = watcher(maps.clone(), config)
            .default_backoff()
            .reflect(writer);
        let mut touched = pin!(stream.applied_objects());
        assert_eq!(touched.try_next().await.unwrap().unwrap().name_any(), "a");
        make(&maps, "b").await;
        assert_eq!(touched.try_next().await.unwrap().unwrap().name_any(), "b");
        store.wait_until_ready().await.unwrap();
        let mut names: Vec<String> = store.state().iter().map(|m| m.name_any()).collect();
        names.sort();
        assert_eq!(names, ["a", "b"]);
        let key = reflector::ObjectRef::new("b").within("default");
        assert_eq!(store.get(&key).unwrap().name_any(), "b");
    });
}

#[test]
fn a_watch_from_before_history_is_gone_and_a_watcher_recovers() {
    let server = Server::start().unwrap();
    let mut old = String::new();
    with(&server, |client| async {
        let maps = maps(client);
        old = make(&maps, "a").await.resource_version().unwrap();
        make(&maps, "b").await;
    });
    server.compact().unwrap();
    with(&server, |client| async {
        let maps = maps(client);
        let params = WatchParams::default().labels("of=watchers");
        let mut stream = maps.watch(&params, &old).await.unwrap().boxed();
        match stream.next().await {
            Some(Ok(WatchEvent::Error(status))) => {
                assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
            }
            other => panic!("{other:?}"),
        }
        let exact = kube::api::ListParams::default().at(&old);
        let exact = exact.matching(kube::api::VersionMatch::Exact);
        refused(
            maps.list(&exact).await,
            410,
            "Expired",
            "the provided list is too old",
        );
        let config = watcher::Config::default().labels("of=watchers");
        let mut events = pin!(watcher(maps.clone(), config));
        for wanted in ["init", "there a", "there b", "done"] {
            assert_eq!(next(&mut events).await, wanted);
        }
    });
}
