"""What every session of Python's client starts with."""

import contextlib
import json

from kubernetes import client, config

config.load_kube_config()
core = client.CoreV1Api()
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"


def same(found, wanted):
    assert found == wanted, f"{found!r}, wanted {wanted!r}"


@contextlib.contextmanager
def refused(status, reason, message=""):
    """What is inside is refused, with this code, reason and part of the message."""
    try:
        yield
    except client.ApiException as error:
        body = json.loads(error.body)
        same((error.status, body["reason"]), (status, reason))
        assert message in body["message"], f"{body['message']!r}, wanted {message!r}"
    else:
        raise AssertionError(f"not refused; wanted {status} {reason}")


def config_map(name, data=None, **metadata):
    metadata = client.V1ObjectMeta(name=name, **metadata)
    return client.V1ConfigMap(metadata=metadata, data=data)
