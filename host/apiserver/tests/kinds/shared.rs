//! API servers on an etcd: two see at once what the other did; one says what is
//! wrong while the etcd is away.

use crate::api::{Api, MERGE, request};
use crate::etcd::Etcd;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

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

#[test]
fn an_etcd_that_is_away_is_told_of_until_it_is_back() {
    let mut etcd = Etcd::start();
    let api = Api::on_etcd(&etcd.url());
    let map = |name: &str| json!({"metadata": {"name": name}});
    api.create(MAPS, &map("a"));
    assert_eq!(api.text("/readyz"), (200, "ok".to_owned()));
    etcd.kill();
    let path = format!("{MAPS}/a");
    let answers = api.together(vec![
        request("GET", &path, "", &Value::Null),
        request("GET", MAPS, "", &Value::Null),
        request("POST", MAPS, "application/json", &map("b")),
        request("PATCH", &path, MERGE, &json!({"data": {"a": "b"}})),
        request("DELETE", &path, "", &Value::Null),
    ]);
    for answer in answers {
        assert_eq!(
            (answer.0, &answer.1["reason"]),
            (504, &json!("Timeout")),
            "{}",
            answer.1
        );
        assert_eq!(
            answer.1["message"],
            "Timeout: request did not complete within requested timeout - context deadline exceeded"
        );
    }
    for endpoint in ["healthz", "livez", "readyz"] {
        let (code, body) = api.text(&format!("/{endpoint}"));
        let (first, last) = (
            "[+]ping ok\n[-]etcd failed: reason withheld\n",
            format!("{endpoint} check failed\n"),
        );
        assert_eq!(code, 500, "{body}");
        assert!(body.starts_with(first) && body.ends_with(&last), "{body}");
        // Ready is only who can write.
        let ready = body.contains("[-]etcd-readiness failed");
        assert_eq!(ready, endpoint == "readyz", "{body}");
    }
    let (code, body) = api.text("/readyz/etcd");
    assert_eq!(code, 500);
    let wanted = "internal server error: error getting data from etcd: ";
    assert!(body.starts_with(wanted), "{body}");
    assert_eq!(api.text("/livez?exclude=etcd"), (200, "ok".to_owned()));
    etcd.start_again();
    let deadline = Instant::now() + Duration::from_secs(60);
    while api.text("/readyz").0 != 200 {
        assert!(Instant::now() < deadline, "{:?}", api.text("/readyz"));
    }
    api.create(MAPS, &map("c"));
    assert_eq!(api.get(&path)["metadata"]["name"], "a");
}
