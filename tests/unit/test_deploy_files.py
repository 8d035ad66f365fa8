"""The files of deploy/ are consistent with each other, with the metrics, and with the configuration."""

from __future__ import annotations

import json
import os
import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from trackd.commands.keygen import make_keys
from trackd.config import Config, load_config
from trackd.observe.token import read_token
from trackd.server.access.endpoints import check_addresses
from trackd.server.access.keyring import Keyring
from trackd_client.transport.curve import check_private

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
KUBERNETES_VERSION = "1.33"
DASHBOARD = json.loads((DEPLOY / "grafana/trackd.json").read_text())
COMPOSE = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())
KUSTOMIZATION = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
# The suffixes of a histogram's series.
SERIES = ("_bucket", "_sum", "_count")
# Labels that Prometheus itself adds, and that of a histogram's edges.
ADDED_LABELS = {"job", "instance", "le"}


def documented_metrics() -> dict[str, set[str]]:
    """The labels of each metric, from docs/deployment.md, whose table is compared with the daemon's registry."""
    text = (ROOT / "docs/deployment.md").read_text()
    rows = re.findall(r"^\| `(trackd_\w+)` \| \w+ \|([^|]*)\|", text, re.MULTILINE)
    # Behind a colon are the values of the last label.
    return {name: set(re.findall(r"`(\w+)`", labels.split(":")[0])) for name, labels in rows}


def queries() -> list[str]:
    variables = [entry["query"]["query"] for entry in DASHBOARD["templating"]["list"] if entry["type"] == "query"]
    return variables + [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def alerts() -> list[str]:
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def metric_of(series: str) -> str:
    for suffix in SERIES:
        if series.endswith(suffix):
            return series.removesuffix(suffix)
    return series


@pytest.mark.parametrize("query", [*queries(), *alerts()])
def test_a_query_uses_metrics_and_labels_that_the_daemon_has(query: str) -> None:
    metrics = documented_metrics()
    for series, matchers in re.findall(r"(trackd_\w+)(?:\{([^}]*)\})?", query):
        assert metric_of(series) in metrics, series
        labels = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", matchers))
        assert labels <= metrics[metric_of(series)] | ADDED_LABELS, f"{series}: {labels}"
    for names in re.findall(r"by \(([^)]*)\)", query):
        used = set().union(*(metrics[metric_of(name)] for name in re.findall(r"trackd_\w+", query)))
        assert {name.strip() for name in names.split(",")} <= used | ADDED_LABELS


def test_the_dashboard_shows_every_metric() -> None:
    shown = {metric_of(series) for query in queries() for series in re.findall(r"trackd_\w+", query)}
    assert set(documented_metrics()) - shown == set()


def test_no_two_panels_of_the_dashboard_overlap() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for a, b in combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"] or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )  # fmt: skip
        assert apart, (a, b)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)


def test_the_files_that_compose_mounts_exist_and_all_its_ports_are_on_loopback() -> None:
    for service in COMPOSE["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / "docker" / source).exists(), source
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["cap_drop"] == ["ALL"]


def test_the_daemon_of_compose_starts_with_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = COMPOSE["services"]["daemon"]
    for name, value in daemon["environment"].items():
        monkeypatch.setenv(name, value)
    config = load_config(ROOT / "configs/daemon.yaml", [])
    check_addresses(config)
    assert config.daemon.endpoints.ingest == "tcp://0.0.0.0:5570"
    assert daemon["read_only"] is True
    assert int(daemon["stop_grace_period"].removesuffix("s")) > config.daemon.drain_s
    writable = [volume.split(":")[1] for volume in daemon["volumes"]]
    assert str(config.daemon.state_dir).startswith(tuple(writable))


def test_prometheus_of_compose_has_the_alerts_and_the_name_of_the_daemon() -> None:
    config = yaml.safe_load((DEPLOY / "docker/prometheus.yml").read_text())
    (target,) = config["scrape_configs"][0]["static_configs"][0]["targets"]
    service, port = target.split(":")
    assert service in COMPOSE["services"]
    assert COMPOSE["services"][service]["environment"]["TRACKD__DAEMON__HTTP"].endswith(f":{port}")
    mounted = [volume.split(":")[1] for volume in COMPOSE["services"]["prometheus"]["volumes"]]
    assert all(f"/etc/prometheus/{name}" in mounted for name in config["rule_files"])


def test_grafana_of_compose_finds_its_data_source_and_dashboard() -> None:
    provisioning = DEPLOY / "grafana/provisioning"
    source = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"][0]
    assert source["url"].startswith("http://prometheus:")
    assert DASHBOARD["templating"]["list"][0]["current"]["value"] == source["uid"]
    folder = yaml.safe_load((provisioning / "dashboards/trackd.yml").read_text())["providers"][0]["options"]["path"]
    mounts = COMPOSE["services"]["grafana"]["volumes"]
    assert f"../grafana/trackd.json:{folder}/trackd.json:ro" in mounts


def manifests() -> list[Path]:
    return [path for path in sorted(KUBERNETES.glob("*.yaml")) if "kind:" in path.read_text()]


def manifest(name: str) -> dict[str, Any]:
    return yaml.safe_load((KUBERNETES / f"{name}.yaml").read_text())


@pytest.mark.parametrize("path", manifests(), ids=lambda path: path.name)
def test_a_manifest_matches_the_schema_of_its_kind(path: Path) -> None:
    body = yaml.safe_load(path.read_text())
    if body["kind"] in ("Kustomization", "PodMonitor"):  # no kinds of Kubernetes itself
        return
    kubernetes_validate.validate(body, KUBERNETES_VERSION, strict=True)


def test_kustomize_has_every_manifest_but_the_job() -> None:
    others = {"kustomization.yaml", "track-job.yaml"}
    assert set(KUSTOMIZATION["resources"]) == {path.name for path in manifests()} - others
    assert KUSTOMIZATION["configMapGenerator"][0]["files"] == ["daemon.yaml"]
    pod = manifest("statefulset")["spec"]["template"]["spec"]
    images = {container["image"] for container in [*pod["initContainers"], *pod["containers"]]}
    assert images == {entry["name"] for entry in KUSTOMIZATION["images"]}


def test_service_policy_and_monitor_select_the_pods_and_their_ports() -> None:
    template = manifest("statefulset")["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert manifest("service")["spec"]["selector"] == labels
    assert manifest("networkpolicy")["spec"]["podSelector"]["matchLabels"] == labels
    assert manifest("podmonitor")["spec"]["selector"]["matchLabels"] == labels
    ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
    assert {port["name"]: port["port"] for port in manifest("service")["spec"]["ports"]} == ports
    allowed = {port["port"] for rule in manifest("networkpolicy")["spec"]["ingress"] for port in rule["ports"]}
    assert allowed == set(ports.values())
    assert manifest("podmonitor")["spec"]["podMetricsEndpoints"][0]["port"] in ports


def test_the_pods_volumes_are_mounted_and_its_root_is_read_only() -> None:
    for spec in (manifest("statefulset")["spec"], manifest("track-job")["spec"]):
        pod = spec["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
        containers = [*pod.get("initContainers", []), *pod["containers"]]
        assert {mount["name"] for container in containers for mount in container["volumeMounts"]} == volumes
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in containers)
        assert pod["securityContext"]["runAsNonRoot"] is True


def pod_config() -> Config:
    return load_config(KUBERNETES / "daemon.yaml", [])


def test_the_configuration_of_the_cluster_may_bind_its_addresses_and_writes_to_volumes_only() -> None:
    config = pod_config()
    check_addresses(config)
    spec = manifest("statefulset")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
    for path in (config.out_dir, config.daemon.state_dir, config.security.server_secret_key_file):
        assert str(path).startswith(tuple(mounted))
    assert spec["terminationGracePeriodSeconds"] > config.daemon.drain_s
    ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    for name in ("ingest", "tracks", "control"):
        assert getattr(config.daemon.endpoints, name).endswith(f":{ports[name]}")
    assert str(config.daemon.http).endswith(f":{ports['http']}")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
        assert container[probe]["httpGet"]["path"] in ("/healthz", "/readyz")


def test_the_keys_that_the_init_container_copies_are_accepted_by_the_daemon(tmp_path: Path) -> None:
    make_keys(tmp_path / "mnt/keys", "camera", ["*"], ["publish"])
    (tmp_path / "mnt/keys/http-token").write_text("0123456789abcdef0123\n")
    (tmp_path / "mnt/keys/clients").rename(tmp_path / "mnt/clients")
    for path in (tmp_path / "mnt").rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o444)  # as Kubernetes mounts them
    (init,) = manifest("statefulset")["spec"]["template"]["spec"]["initContainers"]
    script = init["args"][0].replace("/mnt/", f"{tmp_path}/mnt/").replace("/run/trackd", f"{tmp_path}/run")
    subprocess.run([*init["command"], script], check=True, timeout=30)
    config = pod_config()
    here = tmp_path / "run"
    check_private(here / Path(str(config.security.server_secret_key_file)).name)
    assert len(Keyring(here / Path(str(config.security.authorized_clients_dir)).name).grants) == 1
    token = here / Path(str(config.security.http_token_file)).name
    assert read_token(config.security.model_copy(update={"http_token_file": str(token)})) == "0123456789abcdef0123"


def test_each_pod_of_the_job_takes_its_own_checkpoint(tmp_path: Path) -> None:
    spec = manifest("track-job")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    checkpoints = next(entry["value"] for entry in container["env"] if entry["name"] == "CHECKPOINTS")
    fake = tmp_path / "trackd"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    taken = []
    for index in range(spec["completions"]):
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CHECKPOINTS": checkpoints}
        env["JOB_COMPLETION_INDEX"] = str(index)
        done = subprocess.run(
            [*container["command"], *container["args"]], env=env, check=True, timeout=30, capture_output=True, text=True
        )
        words = done.stdout.split()
        assert words[:2] == ["track", "/etc/trackd/inference.yaml"]
        settings = dict(word.split("=") for word in words if "=" in word)
        assert Path(settings["out_dir"]).name == Path(settings["ckpt_path"]).stem
        taken.append(settings["ckpt_path"])
    assert taken == checkpoints.split()
