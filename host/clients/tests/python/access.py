"""Who may what, tokens, leases, and streams to a pod that no node runs."""

import threading
from concurrent.futures import ThreadPoolExecutor

from kubernetes import client, stream
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

from session import core, refused, same

NS = "default"


def reviews():
    auth, rbac = client.AuthorizationV1Api(), client.RbacAuthorizationV1Api()
    core.create_namespaced_service_account(
        NS, client.V1ServiceAccount(metadata=client.V1ObjectMeta(name="robot")))
    rbac.create_namespaced_role(NS, client.V1Role(
        metadata=client.V1ObjectMeta(name="r"),
        rules=[client.V1PolicyRule(api_groups=[""], resources=["pods"], verbs=["list"])]))
    rbac.create_namespaced_role_binding(NS, client.V1RoleBinding(
        metadata=client.V1ObjectMeta(name="r"),
        role_ref=client.V1RoleRef(
            api_group="rbac.authorization.k8s.io", kind="Role", name="r"),
        subjects=[client.RbacV1Subject(kind="ServiceAccount", name="robot", namespace=NS)]))
    user = f"system:serviceaccount:{NS}:robot"
    for verb, allowed in (("list", True), ("delete", False)):
        review = auth.create_subject_access_review(client.V1SubjectAccessReview(
            spec=client.V1SubjectAccessReviewSpec(
                user=user, resource_attributes=client.V1ResourceAttributes(
                    namespace=NS, verb=verb, resource="pods"))))
        same(bool(review.status.allowed), allowed)
    mine = auth.create_self_subject_access_review(client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(
            non_resource_attributes=client.V1NonResourceAttributes(path="/x", verb="get"))))
    same(mine.status.allowed, True)
    token = core.create_namespaced_service_account_token("robot", NS, client.AuthenticationV1TokenRequest(
        spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600))).status.token
    settings = client.Configuration.get_default_copy()
    settings.cert_file = settings.key_file = None
    settings.api_key = {"authorization": f"Bearer {token}"}
    robot = client.ApiClient(settings)
    who = client.AuthenticationV1Api(robot).create_self_subject_review(
        client.V1SelfSubjectReview())
    same(who.status.user_info.username, user)
    same(client.CoreV1Api(robot).list_namespaced_pod(NS).items, [])
    with refused(403, "Forbidden", f'User "{user}" cannot list resource "secrets"'):
        client.CoreV1Api(robot).list_namespaced_secret(NS)


def elected(lock):
    """A second candidate leads once the first stopped."""
    led = []
    for name in ("one", "two"):
        leading = threading.Event()
        candidate = leaderelection.LeaderElection(electionconfig.Config(
            lock("lock-" + lock.__name__.lower(), NS, name), lease_duration=3,
            renew_deadline=2.5, retry_period=1.1, onstopped_leading=None,
            onstarted_leading=leading.set))
        threading.Thread(target=candidate.run, daemon=True).start()
        assert leading.wait(30), f"{name} never led by {lock.__name__}"
        own = candidate.election_config.lock
        found, record = own.get(own.name, NS)
        same((found, record.holder_identity), (True, name))
        led.append(name)
        # As if cut off: it renews no more.
        own.update = lambda *_: False
    same(led, ["one", "two"])


def election():
    with ThreadPoolExecutor() as pool:
        list(pool.map(elected, (LeaseLock, ConfigMapLock)))


def streams():
    """A WebSocket is refused as other requests are."""
    core.create_namespaced_pod(NS, client.V1Pod(
        metadata=client.V1ObjectMeta(name="p"),
        spec=client.V1PodSpec(containers=[client.V1Container(name="c", image="i")])))
    for name, status in (("p", 400), ("none", 404)):
        try:
            stream.stream(core.connect_get_namespaced_pod_exec, name, NS, command=["true"],
                          stdout=True, stderr=True)
        except client.ApiException as error:
            assert f"{status} " in str(error.reason), error
        else:
            raise AssertionError("a pod without a node ran a command")


for part in (reviews, election, streams):
    part()
    print(part.__name__, "passed")
