#!/usr/bin/env python3
"""Writes facts.txt: what is known of each field of each Kubernetes type.

Source: PyPI package kubernetes-validate 1.37.0 (Apache-2.0), file
kubernetes_validate/kubernetes-json-schema/v1.36.0-local/_definitions.json,
itself generated from Kubernetes v1.36.0's OpenAPI document (Apache-2.0).
Protobuf numbers come from generated.proto, and which scalars are pointers and
which structs aren't from types.go, of the repositories kubernetes/api, kubernetes/apimachinery,
kubernetes/apiextensions-apiserver, kubernetes/kube-aggregator and
kubernetes/metrics at v0.36.0
(Apache-2.0). Only names and structure are taken, no descriptions.

Usage: pip download --no-deps kubernetes-validate==1.37.0
       unzip -d PACKAGE kubernetes_validate-*.whl
       generate.py PACKAGE/kubernetes_validate/kubernetes-json-schema/v1.36.0-local/_definitions.json \\
           API APIMACHINERY APIEXTENSIONS AGGREGATOR METRICS > facts.txt (checkouts)

The format is described in ../src/facts.rs, which reads it.
"""
import json
import os
import re
import sys

SPECIAL = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "q",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "x",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "t",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "u",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Duration": "o",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "a",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "a",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON": "a",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool": "a",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray": "a",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": "a",
}


META = "io.k8s.apimachinery.pkg.apis.meta.v1."
# Served in protobuf, and in no OpenAPI document.
PARTIAL = {
    META + "PartialObjectMetadata": {"metadata": META + "ObjectMeta"},
    META + "PartialObjectMetadataList": {"metadata": META + "ListMeta", "items": [META + "PartialObjectMetadata"]},
}


def partial_types():
    """Definitions of PARTIAL, as the OpenAPI document would hold them."""
    out = {}
    for name, members in PARTIAL.items():
        properties = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
        for key, kind in members.items():
            many = isinstance(kind, list)
            reference = {"$ref": "/" + (kind[0] if many else kind)}
            properties[key] = {"type": "array", "items": reference} if many else reference
        gvk = {"group": "meta.k8s.io", "version": "v1", "kind": name.rsplit(".", 1)[1]}
        required = ["items"] if "items" in members else []
        out[name] = {"properties": properties, "required": required, "x-kubernetes-group-version-kind": [gvk]}
    return out


METRICS = "io.k8s.metrics.pkg.apis.metrics.v1beta1."


def metrics_types():
    """Definitions of metrics.k8s.io/v1beta1, which upstream's own API server
    doesn't serve: as metrics-server's OpenAPI document holds them."""
    reference = lambda name: {"$ref": "/" + name}
    usage = {"type": "object", "additionalProperties": reference("io.k8s.apimachinery.pkg.api.resource.Quantity")}
    out = {METRICS + "ContainerMetrics": {
        "properties": {"name": {"type": "string"}, "usage": usage}, "required": ["name", "usage"]}}
    of = {"NodeMetrics": {"usage": usage},
          "PodMetrics": {"containers": {"type": "array", "items": reference(METRICS + "ContainerMetrics")}}}
    for name, own in of.items():
        both = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
        gvk = lambda kind: [{"group": "metrics.k8s.io", "version": "v1beta1", "kind": kind}]
        own = own | {"timestamp": reference(META + "Time"), "window": reference(META + "Duration")}
        out[METRICS + name] = {"properties": both | own | {"metadata": reference(META + "ObjectMeta")},
                               "required": list(own), "x-kubernetes-group-version-kind": gvk(name)}
        items = {"type": "array", "items": reference(METRICS + name)}
        out[METRICS + name + "List"] = {
            "properties": both | {"items": items, "metadata": reference(META + "ListMeta")},
            "required": ["items"], "x-kubernetes-group-version-kind": gvk(name + "List")}
    return out


def shape(schema):
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return SPECIAL.get(name, "@" + name)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    kind = next((k for k in kinds if k != "null"), None)
    form = schema.get("format")
    if kind == "string":
        return "y" if form == "byte" else "s"
    if kind == "integer":
        return "l" if form == "int64" else "i"
    if kind == "boolean":
        return "b"
    if kind == "number":
        return "d"
    if kind == "array":
        return "[]" + shape(schema["items"])
    if kind == "object" and "additionalProperties" in schema:
        return "{}" + shape(schema["additionalProperties"])
    return "a"


def protos(roots):
    """Type -> [(field, number, type)], by the types' full names."""
    messages = {}
    for root in roots:
        for directory, _, files in os.walk(root):
            if "generated.proto" not in files:
                continue
            with open(os.path.join(directory, "generated.proto"), encoding="utf-8") as source:
                text = source.read()
            package = re.search(r"^package (\S+);", text, re.M).group(1).replace("k8s.io.", "io.k8s.", 1)
            package = package.replace("_", "-")
            for name, body in re.findall(r"^message (\w+) \{\n(.*?)^\}", text, re.M | re.S):
                fields = re.findall(
                    r"^  (?:optional |repeated |required )?(map<[^>]+>|[\w.]+) (\w+) = (\d+);", body, re.M)
                messages[package + "." + name] = [
                    (field, int(number), full_type(kind, package)) for kind, field, number in fields]
    return messages


def full_type(kind, package):
    if kind.startswith(".k8s.io."):
        return "io.k8s." + kind[len(".k8s.io."):]
    return package + "." + kind


def go_structs(roots):
    """(directory's last two parts, struct, its body) of every Go struct."""
    for root in roots:
        for directory, _, files in os.walk(root):
            for name in files:
                if not name.endswith(".go"):
                    continue
                with open(os.path.join(directory, name), encoding="utf-8") as source:
                    text = source.read()
                group = tuple(directory.split(os.sep)[-2:])
                for struct, body in re.findall(r"^type (\w+) struct \{\n(.*?)^\}", text, re.M | re.S):
                    yield group, struct, body


def pointers(roots):
    """(directory's last two parts, struct, JSON name) of fields that are pointers."""
    found = set()
    for group, struct, body in go_structs(roots):
        for key in re.findall(r"^\t\w+\s+\*\S+\s+`json:\"(\w+)", body, re.M):
            found.add(group + (struct, key))
    return found


def plains(roots):
    """The same of fields that are neither pointers nor lists nor maps, also
    those of embedded structs."""
    found, embedded = set(), []
    for group, struct, body in go_structs(roots):
        for key in re.findall(r"^\t\w+\s+[A-Za-z][\w.]*\s+`json:\"(\w+)", body, re.M):
            found.add(group + (struct, key))
        for inner in re.findall(r"^\t(?:\w+\.)?(\w+)\s+`json:\"(?:,inline|,omitempty,inline)?[\" ]", body, re.M):
            embedded.append((group, struct, inner))
    for group, struct, inner in embedded:
        found |= {group + (struct, f[3]) for f in found if f[:3] == group + (inner,)}
    return found


def plain(key):
    """A name as JSON and protobuf agree on it: `$ref` is ref, `uid` is uID."""
    return re.sub(r"[^a-z0-9]", "", key.lower())


def numbers(name, properties, messages):
    """JSON name -> (path of protobuf numbers, the message that declares it)."""
    out = {}
    keys = {plain(key): key for key in properties}
    for key, number, kind in messages.get(name, []):
        if plain(key) in keys:
            out[keys[plain(key)]] = (str(number), name)
        elif kind in messages:
            for inner, (path, owner) in numbers(kind, properties, messages).items():
                out.setdefault(inner, (str(number) + "." + path, owner))
    return out


def field(name, schema, required, number, pointer, plain):
    words = [" " + name, shape(schema)]
    if required:
        words.append("!")
    if number:
        words.append("n=" + number)
    if pointer and words[1] in ("s", "i", "l", "b", "d"):
        words.append("*")
    if plain and words[1].startswith("@"):
        words.append("&")
    for key, mark in (
        ("x-kubernetes-list-type", "lt"),
        ("x-kubernetes-map-type", "mt"),
        ("x-kubernetes-patch-strategy", "ps"),
        ("x-kubernetes-patch-merge-key", "pk"),
    ):
        if key in schema:
            words.append(mark + "=" + schema[key])
    if "x-kubernetes-list-map-keys" in schema:
        words.append("k=" + ",".join(schema["x-kubernetes-list-map-keys"]))
    return " ".join(words)


def main():
    with open(sys.argv[1], encoding="utf-8") as source:
        types = json.load(source)["$defs"] | partial_types() | metrics_types()
    messages, pointing, plain = protos(sys.argv[2:]), pointers(sys.argv[2:]), plains(sys.argv[2:])
    print("# Generated by generate.py from kubernetes-validate 1.37.0, kubernetes/api and apimachinery v0.36.0 (Apache-2.0).")
    for name in sorted(types):
        if name in SPECIAL:
            continue
        if re.search(r"\.v\d+(alpha|beta)\d+\.", name) and not name.startswith(METRICS):
            continue
        schema = types[name]
        words = [name]
        if schema.get("x-kubernetes-map-type"):
            words.append("mt=" + schema["x-kubernetes-map-type"])
        gvks = schema.get("x-kubernetes-group-version-kind", [])
        if len(gvks) == 1:
            words.append("gvk=%(group)s/%(version)s/%(kind)s" % gvks[0])
        print(" ".join(words))
        required = set(schema.get("required", []))
        properties = schema.get("properties", {})
        by_key = numbers(name, properties, messages)
        for key in sorted(properties):
            number, owner = by_key.get(key, ("", name))
            go = tuple(owner.split(".")[-3:]) + (key,)
            whole = tuple(name.split(".")[-3:]) + (key,)
            print(field(key, properties[key], key in required, number, go in pointing, whole in plain))


main()
