//! What the server says of itself while it ends.

use crate::api::Api;
use serde_json::json;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn a_server_that_ends_is_not_ready_and_serves_on() {
    let mut api = Api::with(&json!({"shutdownDelaySeconds": 3}));
    assert_eq!(api.text("/readyz/shutdown"), (200, "ok".to_owned()));
    api.begin_to_end();
    let start = Instant::now();
    while api.text("/readyz/shutdown").0 == 200 {
        assert!(start.elapsed() < DEADLINE, "{:?}", api.text("/readyz"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let why = "internal server error: process is shutting down\n";
    assert_eq!(api.text("/readyz/shutdown"), (500, why.to_owned()));
    let (code, all) = api.text("/readyz?exclude=etcd");
    assert_eq!(code, 500);
    assert!(
        all.contains("[-]shutdown failed: reason withheld\n"),
        "{all}"
    );
    assert_eq!(api.text("/livez/ping"), (200, "ok".to_owned()));
}
