//! Two API servers on one etcd: each sees at once what the other did.

use crate::api::{Api, MERGE};
use crate::etcd::Etcd;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[test]
fn what_one_server_writes_the_other_reads_updates_and_deletes() {
    let etcd = Etcd::start();
    let (a, b) = (Api::on_etcd(&etcd.url()), Api::on_etcd(&etcd.url()));
    for round in 0..20 {
        let name = format!("map-{round}");
        let path = format!("{MAPS}/{name}");
        let map = json!({"metadata": {"name": name}, "data": {"key": "1"}});
        let mut made = a.create(MAPS, &map);
        assert_eq!(b.get(&path), made);
        let listed = b.get(MAPS);
        let of_map = |item: &&Value| item["metadata"]["name"] == *name;
        assert!(
            listed["items"]
                .as_array()
                .unwrap()
                .iter()
                .any(|item| of_map(&item))
        );
        made["data"]["key"] = json!("2");
        let updated = b.update(&path, &made);
        // From what is no longer so.
        a.refuses("PUT", &path, &made, 409, "the object has been modified");
        let patched = a.patch(&path, MERGE, &json!({"data": {"other": "3"}}));
        assert_eq!(patched["data"], json!({"key": "2", "other": "3"}));
        let version = |object: &Value| -> u64 {
            let text = object["metadata"]["resourceVersion"].as_str().unwrap();
            text.parse().unwrap()
        };
        assert!(version(&patched) > version(&updated));
        b.delete(&path);
        a.refuses("GET", &path, &Value::Null, 404, "not found");
    }
}
