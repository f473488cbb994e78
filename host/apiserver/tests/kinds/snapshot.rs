//! A backup through the API.

use crate::api::Api;
use apiserver::User;
use serde_json::json;
use store::{Options, Range, Store};

const PATH: &str = "/atoll/store/snapshot";

#[test]
fn an_administrator_and_nobody_else_gets_a_snapshot_that_restores() {
    let api = Api::start();
    let map = json!({"metadata": {"name": "saved"}, "data": {"key": "value"}});
    api.create("/api/v1/namespaces/default/configmaps", &map);
    let (code, _) = api.raw(User::new("somebody", []), PATH);
    assert_eq!(code, 403);
    let root = User::new("root", ["system:masters".to_owned()]);
    let (code, bytes) = api.raw(root, PATH);
    assert_eq!(code, 200);

    let dir = tempfile::tempdir().unwrap();
    let (file, place) = (dir.path().join("file"), dir.path().join("store"));
    std::fs::write(&file, bytes).unwrap();
    store::restore(&file, &place, 1).unwrap();
    let restored = Store::open(&place, Options::default()).unwrap();
    let key = "/registry/core/configmaps/default/saved";
    assert_eq!(restored.range(&Range::key(key)).unwrap().items.len(), 1);
}
