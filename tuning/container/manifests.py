#!/usr/bin/env python3
"""Checks that the resources of one rendered overlay fit together, which no schema can say.

usage: manifests.py RENDERED.yaml
"""
import json
import pathlib
import sys
import tomllib

import yaml

CONTAINER = pathlib.Path(__file__).parent


def problems(resources):
    """What does not fit, as sentences."""
    pods = [one["spec"]["template"] for one in resources if one["kind"] == "StatefulSet"]
    maps = {one["metadata"]["name"]: one for one in resources if one["kind"] == "ConfigMap"}
    if len(pods) != 1:
        yield f"there are {len(pods)} StatefulSets"
        return
    pod = pods[0]
    labels, spec = pod["metadata"]["labels"], pod["spec"]
    container = spec["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    for one in resources:
        selector = one["spec"].get("selector", {}) if one["kind"] != "ConfigMap" else None
        if selector is None:
            continue
        selector = selector.get("matchLabels", selector)
        if not selector or not selector.items() <= labels.items():
            yield f"{one['kind']} {one['metadata']['name']} selects {selector}, the pod has {labels}"
        for port in one["spec"].get("ports", []):
            if port["targetPort"] not in ports:
                yield f"Service {one['metadata']['name']} names the port {port['targetPort']}, the pod has {ports}"

    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    claims = [one["spec"].get("volumeClaimTemplates", []) for one in resources if one["kind"] == "StatefulSet"][0]
    claimed = [mounts[claim["metadata"]["name"]] for claim in claims if claim["metadata"]["name"] in mounts]
    for config in maps.values():
        data = pathlib.PurePath(tomllib.loads(config["data"]["dunlin.toml"]).get("storage", {}).get("data_dir", "/"))
        if not any(data.is_relative_to(path) for path in claimed):
            yield f"the broker keeps its data in {data}, which no volume that outlives the pod holds ({claimed})"

    for volume in spec["volumes"]:
        config = maps.get(volume["configMap"]["name"])
        if config is None:
            yield f"the volume {volume['name']} names a ConfigMap that is not there"
            continue
        listen = tomllib.loads(config["data"]["dunlin.toml"])["server"]["listen"]
        if [int(url.rsplit(":", 1)[1]) for url in listen] != list(ports.values()):
            yield f"the broker listens on {listen}, the pod opens {ports}"

    resources_ = container["resources"]
    if resources_["requests"] != resources_["limits"]:
        yield "requests and limits differ: the pod gets no processors of its own"
    whole, own = spec["securityContext"], container["securityContext"]
    if not (whole["runAsNonRoot"] and own["readOnlyRootFilesystem"] and own["capabilities"]["drop"] == ["ALL"]):
        yield "the pod may do more than it needs"
    if own["allowPrivilegeEscalation"]:
        yield "the pod may gain rights"
    if whole["seccompProfile"] != {"type": "Localhost", "localhostProfile": "profiles/dunlin.json"}:
        yield "the pod does not have the seccomp profile that allows io_uring"
    dockerfile = (CONTAINER / "Dockerfile").read_text(encoding="utf-8")
    if f"USER {whole['runAsUser']}:{whole['runAsGroup']}" not in dockerfile:
        yield "the pod's user is not the image's"
    if f"EXPOSE {ports['mqtt']}" not in dockerfile:
        yield "the pod's port is not the image's"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if container[probe]["exec"]["command"] != ["/usr/bin/healthcheck"]:
            yield f"{probe} does not call what the image has"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        found = list(problems(list(yaml.safe_load_all(file))))
    profile = json.loads((CONTAINER / "seccomp.json").read_text(encoding="utf-8"))
    allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    found += [f"seccomp.json does not allow {name}" for name in ("io_uring_enter", "io_uring_register", "io_uring_setup") if name not in allowed]
    if found:
        sys.exit("\n".join(f"error: {one}" for one in found))


main()
