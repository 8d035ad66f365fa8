"""The files of deploy/fleet are consistent with each other, with the page, and with the configuration."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from trackd.config import Config, check_config, load_config
from trackd.server.access.endpoints import check_addresses
from trackd_client.configuration import environment_overrides, with_overrides

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FLEET = DEPLOY / "fleet"
COMPOSE = yaml.safe_load((FLEET / "compose.yaml").read_text())
PAGE = (ROOT / "docs/fleet.md").read_text()
MEMBERS = ("daemon-0", "daemon-1", "daemon-2")
SERVERS = ("nats-0", "nats-1", "nats-2")
NEEDED = {
    "fleet_streams_owned", "fleet_claims_total", "fleet_takeovers_total", "fleet_fence_refusals_total",
    "fleet_append_seconds", "fleet_lease_age_seconds", "fleet_log_bytes_total",
}  # fmt: skip


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def alerts() -> dict[str, str]:
    groups = yaml.safe_load((DEPLOY / "prometheus/fleet.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def page_metrics() -> set[str]:
    return set(re.findall(r"^\| `trackd_(\w+)` \|", PAGE, re.MULTILINE))


# --- the servers' configuration and the credentials ---


def nats_setting(key: str) -> str:
    found = re.search(rf"^\s*{key}: ([^#\n]*)", (FLEET / "nats.conf").read_text(), re.MULTILINE)
    assert found is not None, key
    return found[1].strip()


def test_the_servers_write_every_append_to_the_disk() -> None:
    assert nats_setting("sync_interval") == "always"


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("credentials")
    command = [str(FLEET / "make_credentials.sh"), str(folder), "plant", " ".join(SERVERS), " ".join(MEMBERS)]
    subprocess.run(command, check=True, timeout=60)
    return folder


def test_the_script_writes_every_file_that_a_server_reads_and_none_for_others_to_read(credentials: Path) -> None:
    text = (FLEET / "nats.conf").read_text()
    read = set(re.findall(r"fleet/([\w.-]+)", text))
    assert {path.name for path in (credentials / "server").iterdir()} == read
    assert {path.name for path in (credentials / "members").glob("*.key")} == {f"{name}.key" for name in MEMBERS}
    assert all(path.stat().st_mode & 0o077 == 0 for path in credentials.rglob("*"))


def openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], check=True, timeout=30, capture_output=True, text=True).stdout


def test_the_certificates_name_the_servers_and_the_members(credentials: Path) -> None:
    server = openssl("x509", "-in", str(credentials / "server/server.crt"), "-noout", "-ext", "subjectAltName")
    assert re.findall(r"DNS:([\w.-]+)", server) == list(SERVERS)
    for name in MEMBERS:
        path = str(credentials / f"members/{name}.crt")
        assert f"email:{name}@plant" in openssl("x509", "-in", path, "-noout", "-ext", "subjectAltName")
        verified = openssl("verify", "-CAfile", str(credentials / "authority/members.pem"), path)
        assert verified.strip().endswith(": OK")


@pytest.mark.parametrize(
    "arguments",
    [
        ["plant"],
        ["two words", "nats-0", "daemon-0"],
        ["plant", "", "daemon-0"],
        ["plant", "nats-0", "../daemon"],
        ["plant", "nats-0", "admin"],
        ["plant", "nats-0,DNS:other", "daemon-0"],
    ],
)
def test_the_script_refuses_names_that_the_configuration_would_refuse(tmp_path: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [str(FLEET / "make_credentials.sh"), str(tmp_path / "made"), *arguments],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip()
    assert not (tmp_path / "made").exists()


# --- compose ---


def compose_config(name: str) -> Config:
    overrides = environment_overrides(COMPOSE["services"][name]["environment"])
    return check_config(with_overrides({}, overrides))


def test_each_daemon_of_compose_is_a_member_with_addresses_of_its_own() -> None:
    addresses = set()
    for name in MEMBERS:
        config = compose_config(name)
        check_addresses(config)
        assert config.daemon.fleet is not None
        assert config.daemon.fleet.member == name
        assert config.daemon.durability == "fleet"
        addresses |= {*dict(config.daemon.endpoints).values(), config.daemon.http}
        assert config.daemon.drain_s < seconds(COMPOSE["services"][name]["stop_grace_period"])
        assert config.daemon.drain_s >= config.daemon.fleet.capacity
        assert str(config.daemon.http) in COMPOSE["services"][name]["healthcheck"]["test"][-1]
    assert len(addresses) == 4 * len(MEMBERS)


def test_the_daemons_of_compose_know_the_servers_ports_which_are_on_loopback() -> None:
    published = [port for name in SERVERS for port in COMPOSE["services"][name]["ports"]]
    assert all(port.startswith("127.0.0.1:") for port in published)
    clients = [port.rsplit(":", 1)[0] for port in published if port.endswith(":4222")]
    for name in MEMBERS:
        fleet = compose_config(name).daemon.fleet
        assert fleet is not None
        assert [server.removeprefix("tls://") for server in fleet.servers] == clients


def test_the_credentials_of_compose_are_made_for_its_servers_and_daemons() -> None:
    (script,) = COMPOSE["services"]["credentials"]["command"]
    made = re.search(r'make_credentials\.sh /credentials (\w+) "([^"]*)" "([^"]*)"', script)
    assert made is not None
    fleet = compose_config("daemon-0").daemon.fleet
    assert fleet is not None
    assert made[1] == fleet.name
    assert set(made[2].split()) == {*SERVERS, "127.0.0.1"}  # 127.0.0.1: as the daemons on the host's network reach them
    assert tuple(made[3].split()) == MEMBERS
    for name in SERVERS:
        assert COMPOSE["services"][name]["environment"]["NATS_NAME"] == name
        assert "server:/etc/nats/fleet:ro" in COMPOSE["services"][name]["volumes"]


def test_the_services_of_compose_are_confined_and_their_volumes_exist() -> None:
    assert set(COMPOSE["services"]) == {"credentials", *SERVERS, *MEMBERS}
    for service in COMPOSE["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (FLEET / source).exists(), source
    lame_duck_s = seconds(nats_setting("lame_duck_duration")) + seconds(nats_setting("lame_duck_grace_period"))
    for name in SERVERS:
        assert seconds(COMPOSE["services"][name]["stop_grace_period"]) > lame_duck_s
        assert COMPOSE["services"][name]["stop_signal"] == "SIGUSR2"


# --- systemd, the example, and the metrics ---


def test_the_units_end_after_the_drains_and_read_what_the_page_installs() -> None:
    unit = (FLEET / "systemd/nats-server.service").read_text()
    lame_duck_s = seconds(nats_setting("lame_duck_duration")) + seconds(nats_setting("lame_duck_grace_period"))
    assert int(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0]) > lame_duck_s
    assert "KillSignal=SIGUSR2" in unit
    environment = dict(re.findall(r"(NATS_\w+)=(\S+)", unit.split("[Service]")[1]))
    assert set(re.findall(r"\$(NATS_\w+)", (FLEET / "nats.conf").read_text())) <= set(environment)
    assert environment["NATS_STORE"] == "/var/lib/" + re.findall(r"^StateDirectory=(\S+)$", unit, re.MULTILINE)[0]
    drop_in = (FLEET / "systemd/trackd.service.d/fleet.conf").read_text()
    config = load_config(ROOT / "configs/fleet.yaml", [], {})
    assert int(re.findall(r"^TimeoutStopSec=(\d+)$", drop_in, re.MULTILINE)[0]) > config.daemon.drain_s
    for path in ("/etc/nats/server.env", "/etc/nats/nats.conf", "/etc/trackd/daemon.yaml"):
        assert path in PAGE


def test_the_example_has_every_key_of_the_fleet_and_binds_what_it_announces() -> None:
    config = load_config(ROOT / "configs/fleet.yaml", [], {})
    check_addresses(config)
    fleet = config.daemon.fleet
    assert fleet is not None
    written = yaml.safe_load((ROOT / "configs/fleet.yaml").read_text())["daemon"]["fleet"]
    assert set(written) == set(type(fleet).model_fields)
    assert {key for key in written if f"`{key}`" not in PAGE} == set()
    assert fleet.endpoints is not None
    for name in ("ingest", "tracks", "control"):
        announced, bound = getattr(fleet.endpoints, name), getattr(config.daemon.endpoints, name)
        assert announced.rsplit(":", 1)[1] == bound.rsplit(":", 1)[1]


@pytest.mark.parametrize(("alert", "expression"), alerts().items())
def test_an_alert_uses_metrics_that_a_page_lists_and_the_page_explains_it(alert: str, expression: str) -> None:
    listed = page_metrics() | set(
        re.findall(r"^\| `trackd_(\w+)` \|", (ROOT / "docs/deployment.md").read_text(), re.MULTILINE)
    )
    used = {re.sub(r"_bucket$", "", name) for name in re.findall(r"trackd_(\w+)", expression)}
    assert used
    assert used <= listed
    assert f"\n| `{alert}` | " in PAGE


def test_the_page_and_the_alerts_have_every_metric_of_a_fleet() -> None:
    assert page_metrics() == NEEDED
    used = {
        re.sub(r"_bucket$", "", name) for text in alerts().values() for name in re.findall(r"trackd_(fleet_\w+)", text)
    }
    assert used == NEEDED


def test_prometheus_scrapes_the_daemons_of_compose_with_both_files_of_alerts() -> None:
    config = yaml.safe_load((FLEET / "prometheus.yml").read_text())
    (scrape,) = config["scrape_configs"]
    assert scrape["static_configs"][0]["targets"] == [str(compose_config(name).daemon.http) for name in MEMBERS]
    assert all((FLEET / name).exists() for name in config["rule_files"])
