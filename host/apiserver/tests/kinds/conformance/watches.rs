//! Watches by label and revision.

use super::{events, names, namespace, version};
use crate::api::Api;
use serde_json::{Value, json};

/// A ConfigMap that says for whom it is.
fn map(name: &str, label: &str, mutation: Option<u32>) -> Value {
    let mut map = json!({"metadata": {"name": name, "labels": {"for": label}}});
    if let Some(mutation) = mutation {
        map["data"] = json!({"mutation": mutation.to_string()});
    }
    map
}

#[test]
fn watches_see_what_they_select_and_nothing_else() {
    let api = Api::start();
    let maps = namespace(&api, "watched") + "/configmaps";
    let start = api.get(&maps);
    let start = version(&start);
    api.create(&maps, &map("a", "A", None));
    let first = api.update(&format!("{maps}/a"), &map("a", "A", Some(1)));
    api.update(&format!("{maps}/a"), &map("a", "A", Some(2)));
    api.delete(&format!("{maps}/a"));
    api.create(&maps, &map("b", "B", None));
    api.delete(&format!("{maps}/b"));
    for (selector, since, wanted) in [
        (
            "for%3DA",
            start,
            &["ADDED", "MODIFIED", "MODIFIED", "DELETED"][..],
        ),
        ("for%3DB", start, &["ADDED", "DELETED"]),
        (
            "for+in+%28A%2CB%29",
            start,
            &[
                "ADDED", "MODIFIED", "MODIFIED", "DELETED", "ADDED", "DELETED",
            ],
        ),
        // Only what came after the first change.
        ("for%3DA", version(&first), &["MODIFIED", "DELETED"]),
    ] {
        let seen = events(&api, &format!("{maps}?labelSelector={selector}"), since);
        assert_eq!(names(&seen), wanted, "{selector}");
    }
    let seen = events(&api, &format!("{maps}?labelSelector=for%3DA"), start);
    // The last state goes with the deletion, at the deletion's revision.
    assert_eq!(seen[3].1["data"]["mutation"], "2");
    let all = events(&api, &maps, start);
    // Each event is the beginning of a watch that sees the rest.
    for (i, (_, object)) in all.iter().enumerate().step_by(3) {
        assert_eq!(events(&api, &maps, version(object)), all[i + 1..]);
    }
}

#[test]
fn an_object_that_stops_matching_is_deleted_for_the_watch() {
    let api = Api::start();
    let maps = namespace(&api, "labels") + "/configmaps";
    let start = api.get(&maps);
    let one = format!("{maps}/a");
    api.create(&maps, &map("a", "here", None));
    api.update(&one, &map("a", "gone", None));
    api.update(&one, &map("a", "gone", Some(1)));
    api.update(&one, &map("a", "here", Some(1)));
    api.update(&one, &map("a", "here", Some(2)));
    api.delete(&one);
    let seen = events(
        &api,
        &format!("{maps}?labelSelector=for%3Dhere"),
        version(&start),
    );
    assert_eq!(
        names(&seen),
        ["ADDED", "DELETED", "ADDED", "MODIFIED", "DELETED"]
    );
    assert_eq!(seen[2].1["data"]["mutation"], "1");
    assert_eq!(seen[4].1["data"]["mutation"], "2");
}
