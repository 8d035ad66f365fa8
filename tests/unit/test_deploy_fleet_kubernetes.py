"""The manifests of deploy/fleet match their schemas, each other, the credentials and the configuration."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from trackd.config import Config, load_config
from trackd.server.access.endpoints import check_addresses

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FLEET = DEPLOY / "fleet"
KUBERNETES = FLEET / "kubernetes"
KUBERNETES_VERSION = "1.33"
KUSTOMIZATION = yaml.safe_load((FLEET / "kustomization.yaml").read_text())
NATS_CONF = (FLEET / "nats.conf").read_text()


def manifest(name: str) -> dict[str, Any]:
    return yaml.safe_load((KUBERNETES / f"{name}.yaml").read_text())


def container_of(name: str) -> dict[str, Any]:
    (container,) = manifest(name)["spec"]["template"]["spec"]["containers"]
    return container


def test_kustomize_has_every_manifest_and_patch() -> None:
    named = {*KUSTOMIZATION["resources"], *(patch["path"] for patch in KUSTOMIZATION["patches"])}
    others = {"kubernetes/daemon.yaml"}  # of the config map
    assert named == {f"kubernetes/{path.name}" for path in KUBERNETES.glob("*.yaml")} - others | {"../kubernetes"}


@pytest.mark.parametrize("name", [Path(name).stem for name in KUSTOMIZATION["resources"] if name != "../kubernetes"])
def test_a_manifest_matches_the_schema_of_its_kind(name: str) -> None:
    kubernetes_validate.validate(manifest(name), KUBERNETES_VERSION, strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which has kustomize, is not installed")
def test_what_kustomize_renders_matches_the_schemas_and_has_all_patches() -> None:
    done = subprocess.run(["kubectl", "kustomize", str(FLEET)], check=True, capture_output=True, text=True, timeout=60)
    bodies = list(yaml.safe_load_all(done.stdout))
    for body in bodies:
        if body["kind"] != "PodMonitor":  # no kind of Kubernetes itself
            kubernetes_validate.validate(body, KUBERNETES_VERSION, strict=True)
    found = {(body["kind"], body["metadata"]["name"]): body for body in bodies}
    daemon = found["StatefulSet", "trackd"]["spec"]
    (container,) = daemon["template"]["spec"]["containers"]
    assert daemon["replicas"] == 3
    assert {"NUMBA_CACHE_DIR", "POD_NAME"} <= {entry["name"] for entry in container["env"]}
    assert {"keys", "clients", "members", "run"} <= {volume["name"] for volume in daemon["template"]["spec"]["volumes"]}
    assert "members" not in {mount["name"] for mount in container["volumeMounts"]}
    assert found["Service", "trackd"]["spec"]["publishNotReadyAddresses"] is True
    policy = found["NetworkPolicy", "trackd"]["spec"]
    assert len(policy["ingress"]) == 3
    assert {port["port"] for port in policy["egress"][0]["ports"]} == {4222, 8222}
    (name,) = [name for kind, name in found if kind == "ConfigMap" and name.startswith("trackd-config-")]
    assert "fleet:" in found["ConfigMap", name]["data"]["daemon.yaml"]


def pod_config(pod: str) -> Config:
    environment = {
        entry["name"]: entry["value"].replace("$(POD_NAME)", pod)
        for entry in container_of("trackd-statefulset")["env"]
        if "value" in entry
    }
    return load_config(KUBERNETES / "daemon.yaml", [], environment)


def test_each_pod_is_a_member_that_clients_reach_by_its_own_name() -> None:
    config = pod_config("trackd-2")
    check_addresses(config)
    fleet = config.daemon.fleet
    assert fleet is not None
    assert fleet.member == "trackd-2"
    assert fleet.endpoints is not None
    service = yaml.safe_load((DEPLOY / "kubernetes/service.yaml").read_text())
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    namespace = KUSTOMIZATION["namespace"]
    for name in ("ingest", "tracks", "control"):
        expected = f"tcp://trackd-2.{service['metadata']['name']}.{namespace}.svc:{ports[name]}"
        assert getattr(fleet.endpoints, name) == expected
    spec = manifest("trackd-statefulset")["spec"]["template"]["spec"]
    assert config.daemon.drain_s < spec["terminationGracePeriodSeconds"]
    assert config.daemon.drain_s >= fleet.capacity


def test_the_pods_reach_the_servers_by_names_that_the_certificates_have() -> None:
    fleet = pod_config("trackd-0").daemon.fleet
    assert fleet is not None
    service, servers = manifest("nats-service"), manifest("nats-statefulset")
    names = [f"nats-{index}.{service['metadata']['name']}" for index in range(servers["spec"]["replicas"])]
    assert fleet.servers == [f"tls://{name}:4222" for name in names]
    made = re.search(r'make_credentials\.sh keys/fleet (\w+) "([^"]*)"', (FLEET / "kustomization.yaml").read_text())
    assert made is not None
    assert (made[1], made[2].split()) == (fleet.name, names)
    assert servers["spec"]["serviceName"] == service["metadata"]["name"]


def test_the_servers_pods_listen_on_the_ports_of_their_configuration_and_end_in_time() -> None:
    container = container_of("nats-statefulset")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["name"]: port["port"] for port in manifest("nats-service")["spec"]["ports"]} == ports
    listening = re.findall(r"listen: 0\.0\.0\.0:(\d+)", NATS_CONF)
    environment = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    assert [*map(int, listening), int(environment["NATS_MONITORING"].split(":")[1])] == list(ports.values())
    assert set(re.findall(r"\$(NATS_\w+)", NATS_CONF)) == set(environment)
    pod = manifest("nats-statefulset")["spec"]["template"]["spec"]
    lame_duck_s = sum(map(int, re.findall(r"^lame_duck_\w+: (\d+)s", NATS_CONF, re.MULTILINE)))
    assert pod["terminationGracePeriodSeconds"] > lame_duck_s
    pid_file = container["args"][container["args"].index("-P") + 1]
    assert f"ldm={pid_file}" in container["lifecycle"]["preStop"]["exec"]["command"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {environment["NATS_STORE"], "/etc/nats/fleet", str(Path(pid_file).parent)} <= mounted


def test_the_network_policies_let_the_members_reach_the_servers_and_nobody_else() -> None:
    rules = manifest("nats-networkpolicy")["spec"]["ingress"]
    clients = [rule["from"] for rule in rules if {"port": 4222} in rule["ports"]]
    assert clients == [[{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "trackd"}}}]]
    for name in ("nats", "trackd"):
        budget = manifest(f"{name}-disruptions")["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"]["matchLabels"] == {"app.kubernetes.io/name": name}


def test_a_pod_gets_its_own_certificate_and_no_other(tmp_path: Path) -> None:
    (init,) = manifest("trackd-statefulset")["spec"]["template"]["spec"]["initContainers"]
    base = yaml.safe_load((DEPLOY / "kubernetes/statefulset.yaml").read_text())
    (base_init,) = base["spec"]["template"]["spec"]["initContainers"]
    members = tmp_path / "mnt/members"
    members.mkdir(parents=True)
    for name in ("trackd-0.crt", "trackd-0.key", "trackd-1.crt", "trackd-1.key", "servers-ca.pem"):
        (members / name).write_text(name)
    for name in ("keys/server.key_secret", "keys/http-token", "clients/camera.key"):
        (tmp_path / "mnt" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mnt" / name).write_text(name)
    script = init["args"][0].replace("/mnt/", f"{tmp_path}/mnt/").replace("/run/trackd", f"{tmp_path}/run")
    environment = {"PATH": os.environ["PATH"], "POD_NAME": "trackd-1"}
    subprocess.run([*base_init["command"], script], check=True, timeout=30, env=environment)
    made = {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert made == {
        "server.key_secret", "http-token", "clients/camera.key", "member.crt", "member.key", "servers-ca.pem",
    }  # fmt: skip
    assert (tmp_path / "run/member.key").read_text() == "trackd-1.key"
    assert (tmp_path / "run/member.crt").read_text() == "trackd-1.crt"
    config = pod_config("trackd-0").daemon.fleet
    assert config is not None
    for path in (config.tls_ca, config.tls_cert, config.tls_key):
        assert Path(str(path)).name in made
    lines = set(map(str.strip, base_init["args"][0].splitlines()))
    assert lines <= set(map(str.strip, init["args"][0].splitlines()))  # what deploy/kubernetes copies too
