"""Objects by the typed client: made, read, listed in pages, changed by every
kind of patch, deleted; and the refusals."""

from ipaddress import ip_address, ip_network

from kubernetes import client

from session import (
    APPLY, JSON_PATCH, MERGE, STRATEGIC, config_map, core, refused, same,
)

NS = "default"


def life():
    made = core.create_namespaced_config_map(NS, config_map("a", {"k": "1"}))
    assert made.metadata.uid and made.metadata.creation_timestamp.tzinfo
    same(made.kind, "ConfigMap")
    with refused(409, "AlreadyExists", 'configmaps "a" already exists'):
        core.create_namespaced_config_map(NS, config_map("a"))
    read = core.read_namespaced_config_map("a", NS)
    same(read, made)
    read.data["k"] = "2"
    read = core.replace_namespaced_config_map("a", NS, read)
    same(read.data, {"k": "2"})
    with refused(409, "Conflict", "the object has been modified"):
        core.replace_namespaced_config_map("a", NS, made)
    with refused(404, "NotFound", 'configmaps "b" not found'):
        core.read_namespaced_config_map("b", NS)
    named = core.create_namespaced_config_map(
        NS, client.V1ConfigMap(metadata=client.V1ObjectMeta(generate_name="g-"))
    )
    same(len(named.metadata.name), len("g-") + 5)
    dry = core.create_namespaced_config_map(NS, config_map("dry"), dry_run="All")
    assert dry.metadata.uid
    with refused(404, "NotFound"):
        core.read_namespaced_config_map("dry", NS)
    gone = core.delete_namespaced_config_map(
        "a", NS, body=client.V1DeleteOptions(
            preconditions=client.V1Preconditions(uid=made.metadata.uid)
        ),
    )
    same((gone["kind"], gone["status"]), ("Status", "Success"))
    core.delete_namespaced_config_map(named.metadata.name, NS)


def patches():
    core.create_namespaced_config_map(
        NS, config_map("p", {"a": "1", "b": "1"}, labels={"x": "y"})
    )

    def patch(body, content_type, **more):
        return core.patch_namespaced_config_map(
            "p", NS, body, _content_type=content_type, **more
        )

    same(patch({"data": {"a": None, "c": "3"}}, MERGE).data, {"b": "1", "c": "3"})
    same(patch({"data": {"b": "2"}}, STRATEGIC).data, {"b": "2", "c": "3"})
    remove = [{"op": "test", "path": "/data/c", "value": "3"},
              {"op": "remove", "path": "/data/c"}]
    same(patch(remove, JSON_PATCH).data, {"b": "2"})
    with refused(422, "Invalid"):
        patch(remove, JSON_PATCH)
    # Without a content type the client decides by the body: a list, a dict.
    same(core.patch_namespaced_config_map("p", NS, {"data": {"d": "4"}}).data,
         {"b": "2", "d": "4"})
    same(core.patch_namespaced_config_map(
        "p", NS, [{"op": "remove", "path": "/data/d"}]).data, {"b": "2"})
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "p"},
              "data": {"e": "5"}}
    applied = patch(config, APPLY, field_manager="python")
    same(applied.data, {"b": "2", "e": "5"})
    owners = {(m.manager, m.operation) for m in applied.metadata.managed_fields}
    assert ("python", "Apply") in owners, owners
    config["data"] = {"b": "3"}
    with refused(409, "Conflict", "Apply failed with 1 conflict"):
        patch(config, APPLY, field_manager="python")
    same(patch(config, APPLY, field_manager="python", force=True).data, {"b": "3"})
    with refused(422, "Invalid", 'unknown field "datum"'):
        patch({"datum": 1}, MERGE, field_validation="Strict")


def pages():
    for i in range(7):
        core.create_namespaced_config_map(
            NS, config_map(f"m{i}", labels={"set": "pages", "odd": str(i % 2)})
        )
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map(
            NS, label_selector="set=pages", limit=3, _continue=token
        )
        names += [m.metadata.name for m in page.items]
        token = page.metadata._continue
        if not token:
            break
    same(names, [f"m{i}" for i in range(7)])
    same(len(core.list_config_map_for_all_namespaces(
        label_selector="set in (pages),odd!=1").items), 4)
    same([m.metadata.name for m in core.list_namespaced_config_map(
        NS, field_selector="metadata.name=m3").items], ["m3"])
    with refused(400, "BadRequest"):
        core.list_namespaced_config_map(NS, field_selector="data=x")
    core.delete_collection_namespaced_config_map(NS, label_selector="odd=1,set=pages")
    left = core.list_namespaced_config_map(NS, label_selector="set=pages").items
    same([m.metadata.name for m in left], ["m0", "m2", "m4", "m6"])


def pods():
    pod = client.V1Pod(
        metadata=client.V1ObjectMeta(name="web", labels={"app": "web"}),
        spec=client.V1PodSpec(containers=[client.V1Container(
            name="main", image="nginx:1.25",
            ports=[client.V1ContainerPort(container_port=80)],
            resources=client.V1ResourceRequirements(requests={"cpu": "0.5"}),
        )]),
    )
    made = core.create_namespaced_pod(NS, pod)
    same(made.status.phase, "Pending")
    same(made.spec.containers[0].resources.requests, {"cpu": "500m"})
    same(made.spec.containers[0].ports[0].protocol, "TCP")
    patch = {"spec": {"containers": [{"name": "main", "image": "nginx:1.26"}]}}
    patched = core.patch_namespaced_pod("web", NS, patch, _content_type=STRATEGIC)
    same([c.image for c in patched.spec.containers], ["nginx:1.26"])
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    patched = core.patch_namespaced_pod_status("web", NS, status, _content_type=STRATEGIC)
    assert "Ready" in [c.type for c in patched.status.conditions]
    with refused(422, "Invalid", "pod updates may not change fields"):
        patch = {"spec": {"hostname": "other"}}
        core.patch_namespaced_pod("web", NS, patch, _content_type=STRATEGIC)
    with refused(422, "Invalid", "spec.containers: Required value"):
        core.create_namespaced_pod(NS, client.V1Pod(
            metadata=client.V1ObjectMeta(name="none"), spec=client.V1PodSpec(containers=[])))
    # There is no node to ask.
    with refused(400, "BadRequest"):
        core.read_namespaced_pod_log("web", NS)
    core.delete_namespaced_pod("web", NS, grace_period_seconds=0)


def groups():
    """Other groups; what a client has of times, bytes, numbers, maps."""
    apps, batch = client.AppsV1Api(), client.BatchV1Api()
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels={"a": "b"}),
        spec=client.V1PodSpec(containers=[client.V1Container(name="c", image="i")]),
    )
    deployment = client.V1Deployment(
        metadata=client.V1ObjectMeta(name="d"),
        spec=client.V1DeploymentSpec(
            replicas=2, template=template,
            selector=client.V1LabelSelector(match_labels={"a": "b"}),
        ),
    )
    made = apps.create_namespaced_deployment(NS, deployment)
    same(made.spec.strategy.rolling_update.max_surge, "25%")
    scale = apps.read_namespaced_deployment_scale("d", NS)
    same((scale.spec.replicas, scale.status.selector), (2, "a=b"))
    apps.patch_namespaced_deployment_scale("d", NS, {"spec": {"replicas": 5}})
    same(apps.read_namespaced_deployment("d", NS).spec.replicas, 5)
    job = client.V1Job(
        metadata=client.V1ObjectMeta(name="j"),
        spec=client.V1JobSpec(template=client.V1PodTemplateSpec(spec=client.V1PodSpec(
            restart_policy="Never",
            containers=[client.V1Container(name="c", image="i")]))),
    )
    same(batch.create_namespaced_job(NS, job).spec.completions, 1)
    secret = core.create_namespaced_secret(NS, client.V1Secret(
        metadata=client.V1ObjectMeta(name="s"), string_data={"k": "v"}))
    same((secret.data, secret.type), ({"k": "dg=="}, "Opaque"))
    service = core.create_namespaced_service(NS, client.V1Service(
        metadata=client.V1ObjectMeta(name="s"),
        spec=client.V1ServiceSpec(selector={"a": "b"}, ports=[client.V1ServicePort(port=80)])))
    same(service.spec.ports[0].target_port, 80)
    assert ip_address(service.spec.cluster_ip) in ip_network("10.96.0.0/12")
    same(client.VersionApi().get_code().minor, "36")
    assert any(g.name == "apps" for g in client.ApisApi().get_api_versions().groups)


for part in (life, patches, pages, pods, groups):
    part()
    print(part.__name__, "passed")
