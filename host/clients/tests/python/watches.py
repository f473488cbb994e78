"""Watches: resumed from a list, from a bookmark, and after history went."""

import sys

from kubernetes import client, watch

from session import MERGE, config_map, core, refused, same

NS = "default"


def changes():
    start = core.list_namespaced_config_map(NS).metadata.resource_version
    core.create_namespaced_config_map(NS, config_map("a"))
    core.patch_namespaced_config_map("a", NS, {"data": {"k": "v"}}, _content_type=MERGE)
    core.delete_namespaced_config_map("a", NS)
    seen = []
    watcher = watch.Watch()
    for event in watcher.stream(core.list_namespaced_config_map, NS,
                                resource_version=start, timeout_seconds=30):
        seen.append((event["type"], event["object"].metadata.name, event["object"].data))
        if event["type"] == "DELETED":
            watcher.stop()
    same(seen, [("ADDED", "a", None), ("MODIFIED", "a", {"k": "v"}),
                ("DELETED", "a", {"k": "v"})])
    # On from the last that was seen: nothing is doubled.
    core.create_namespaced_config_map(NS, config_map("b"))
    again = watch.Watch()
    for event in again.stream(core.list_namespaced_config_map, NS,
                              resource_version=watcher.resource_version, timeout_seconds=30):
        same((event["type"], event["object"].metadata.name), ("ADDED", "b"))
        again.stop()


def selected():
    """What a selector no longer matches is deleted for its watcher."""
    start = core.create_namespaced_config_map(
        NS, config_map("s", labels={"on": "yes"})).metadata.resource_version
    core.patch_namespaced_config_map(
        "s", NS, {"metadata": {"labels": {"on": "no"}}}, _content_type=MERGE)
    watcher = watch.Watch()
    for event in watcher.stream(core.list_namespaced_config_map, NS, label_selector="on=yes",
                                resource_version=start, timeout_seconds=30):
        same((event["type"], event["object"].metadata.name), ("DELETED", "s"))
        watcher.stop()


def initial():
    """The list as a stream of events, ended by a bookmark."""
    watcher = watch.Watch()
    names = set()
    for event in watcher.stream(
            core.list_namespaced_config_map, NS, send_initial_events=True,
            allow_watch_bookmarks=True, timeout_seconds=30,
            resource_version_match="NotOlderThan"):
        if event["type"] == "BOOKMARK":
            marks = event["raw_object"]["metadata"]["annotations"]
            same(marks, {"k8s.io/initial-events-end": "true"})
            watcher.stop()
        else:
            same(event["type"], "ADDED")
            names.add(event["object"].metadata.name)
    assert {"b", "s"} <= names, names
    assert watcher.resource_version


def ends():
    """A watch ends when its time is over, and says nothing."""
    seen = list(watch.Watch().stream(core.list_namespaced_pod, NS, timeout_seconds=1))
    same(seen, [])


def old():
    """History is gone: 410, and a new list helps."""
    start = core.list_namespaced_config_map(NS).metadata.resource_version
    core.create_namespaced_config_map(NS, config_map("late"))
    # The test compacts the store at this line, and answers.
    print("compact", flush=True)
    same(sys.stdin.readline(), "done\n")
    try:
        for event in watch.Watch().stream(core.list_namespaced_config_map, NS,
                                          resource_version=start, timeout_seconds=30):
            raise AssertionError(event)
    except client.ApiException as error:
        same(error.status, 410)
        assert "too old resource version" in str(error), error
    with refused(410, "Expired"):
        core.list_namespaced_config_map(
            NS, resource_version=start, resource_version_match="Exact")
    fresh = core.list_namespaced_config_map(NS)
    watcher = watch.Watch()
    core.delete_namespaced_config_map("late", NS)
    for event in watcher.stream(core.list_namespaced_config_map, NS,
                                resource_version=fresh.metadata.resource_version,
                                timeout_seconds=30):
        same((event["type"], event["object"].metadata.name), ("DELETED", "late"))
        watcher.stop()


for part in (changes, selected, initial, ends, old):
    part()
    print(part.__name__, "passed")
