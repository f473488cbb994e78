"""A definition and its objects, by the dynamic client and the one for custom
objects; manifests by create_from_yaml."""

import time

from kubernetes import client, dynamic, utils

from session import APPLY, MERGE, core, refused, same

NS = "default"
MANIFESTS = [
    {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "boats.sea.example.com"},
        "spec": {
            "group": "sea.example.com",
            "scope": "Namespaced",
            "names": {"plural": "boats", "singular": "boat", "kind": "Boat", "shortNames": ["bt"]},
            "versions": [{
                "name": "v1", "served": True, "storage": True,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.masts",
                              "statusReplicasPath": ".status.masts"},
                },
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "masts": {"type": "integer", "minimum": 1, "default": 1},
                        "crew": {
                            "type": "array", "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["name"],
                            "items": {"type": "object", "required": ["name"], "properties": {
                                "name": {"type": "string"}, "rank": {"type": "string"}}},
                        },
                    }},
                    "status": {"type": "object", "properties": {"masts": {"type": "integer"}}},
                }}},
            }],
        },
    },
    {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sailor"}},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
             "metadata": {"name": "sail"},
             "rules": [{"apiGroups": ["sea.example.com"], "resources": ["boats"],
                        "verbs": ["get"]}]},
        ],
    },
]


def boat(name, **spec):
    return {"apiVersion": "sea.example.com/v1", "kind": "Boat",
            "metadata": {"name": name}, "spec": spec}


def definition():
    utils.create_from_yaml(client.ApiClient(), yaml_objects=MANIFESTS, namespace=NS)
    with_status = client.ApiextensionsV1Api().read_custom_resource_definition_status
    deadline = time.monotonic() + 30
    while True:
        status = with_status("boats.sea.example.com").status
        true = {c.type for c in status.conditions or [] if c.status == "True"}
        if {"Established", "NamesAccepted"} <= true:
            break
        assert time.monotonic() < deadline, status
        time.sleep(0.05)
    try:
        utils.create_from_yaml(client.ApiClient(), yaml_objects=MANIFESTS[:1])
    except utils.FailToCreateError as error:
        same([e.status for e in error.api_exceptions], [409])
    else:
        raise AssertionError("made twice")


def by_dynamic_client():
    boats = dynamic.DynamicClient(client.ApiClient()).resources.get(
        api_version="sea.example.com/v1", kind="Boat")
    same((boats.name, boats.namespaced, boats.short_names), ("boats", True, ["bt"]))
    made = boats.create(boat("a", crew=[{"name": "x"}]), namespace=NS)
    same(made.spec.masts, 1)
    patched = boats.patch(
        {"metadata": {"name": "a"}, "spec": {"masts": 3}}, namespace=NS, content_type=MERGE)
    same((patched.spec.masts, patched.metadata.generation), (3, 2))
    applied = boats.server_side_apply(
        body=boat("a", crew=[{"name": "y", "rank": "mate"}]), namespace=NS,
        field_manager="python")
    same([c.name for c in applied.spec.crew], ["x", "y"])
    same(boats.status.patch({"metadata": {"name": "a"}, "status": {"masts": 3}}, name="a",
                            namespace=NS, content_type=MERGE).status.masts, 3)
    same(boats.get(name="a", namespace=NS).status.masts, 3)
    seen = []
    for event in boats.watch(namespace=NS, resource_version=made.metadata.resourceVersion,
                             timeout=2):
        seen.append(event["type"])
    same(seen, ["MODIFIED"] * 3)
    same([b.metadata.name for b in boats.get(namespace=NS).items], ["a"])
    maps = dynamic.DynamicClient(client.ApiClient()).resources.get(
        api_version="v1", kind="ConfigMap")
    same(maps.create(body={"metadata": {"name": "dyn"}}, namespace=NS).metadata.name, "dyn")


def by_custom_objects():
    api = client.CustomObjectsApi()
    place = ("sea.example.com", "v1", NS, "boats")
    with refused(422, "Invalid", "spec.masts: Invalid value: 0"):
        api.create_namespaced_custom_object(*place, boat("bad", masts=0))
    with refused(422, "Invalid", 'spec.masts in body must be of type integer: "string"'):
        api.create_namespaced_custom_object(*place, boat("bad", masts="many"))
    api.create_namespaced_custom_object(*place, boat("b", masts=2))
    scale = api.get_namespaced_custom_object_scale(*place, "b")
    same((scale["kind"], scale["spec"]["replicas"]), ("Scale", 2))
    api.patch_namespaced_custom_object_scale(*place, "b", {"spec": {"replicas": 4}},
                                             _content_type=MERGE)
    same(api.get_namespaced_custom_object(*place, "b")["spec"]["masts"], 4)
    config = boat("b", masts=4)
    applied = api.patch_namespaced_custom_object(
        *place, "b", config, field_manager="python", _content_type=APPLY, force=True)
    same(applied["spec"], {"masts": 4})
    same(len(api.list_namespaced_custom_object(*place)["items"]), 2)
    api.delete_collection_namespaced_custom_object(*place)
    same(api.list_namespaced_custom_object(*place)["items"], [])


def gone():
    extensions = client.ApiextensionsV1Api()
    extensions.delete_custom_resource_definition("boats.sea.example.com")
    same(core.read_namespaced_service_account("sailor", NS).metadata.name, "sailor")


for part in (definition, by_dynamic_client, by_custom_objects, gone):
    part()
    print(part.__name__, "passed")
