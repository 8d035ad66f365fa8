"""Key files: `trackd keygen` writes them, and the daemon's allow-list reads them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import zmq.auth

from trackd.commands.keygen import make_keys
from trackd.config import SecurityConfig, check_config
from trackd.observe.token import read_token
from trackd.server.access.grants import Right
from trackd.server.access.keyring import Keyring
from trackd_client.configuration import ConfigError
from trackd_client.transport.curve import KeyFileError, load_client_keys, load_server_key

ALL = ("publish", "subscribe", "control")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    make_keys(folder, "cam1", ["cam*"], ["publish"])
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keygen_makes_files_and_folders_that_only_their_owner_reads(keys):
    assert mode(keys) == mode(keys / "clients") == 0o700
    assert sorted(path.name for path in keys.rglob("*")) == [
        "cam1.key", "cam1.key_secret", "clients", "server.key", "server.key_secret",
    ]  # fmt: skip
    assert {mode(path) for path in keys.rglob("*.key_secret")} == {0o600}


def test_keygen_adds_clients_to_an_existing_server_and_overwrites_nothing(keys):
    before = {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()}
    made = make_keys(keys, "op", ["*"], ALL)
    assert [path.name for path in made] == ["op.key_secret", "op.key"]
    with pytest.raises(ConfigError, match="is there already"):
        make_keys(keys, "cam1", ["*"], ALL)
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize(
    ("name", "streams", "rights", "text"),
    [
        ("../x", ["*"], ALL, "--name"),
        ("server", ["*"], ALL, "--name"),
        ("a", ["*"], ["write"], "publish, subscribe, control"),
        ("a", ["x y"], ALL, "got 'x y'"),
        ("a", [], ALL, "--streams and --may"),
    ],
)
def test_keygen_refuses_invalid_arguments_and_makes_no_files(tmp_path, name, streams, rights, text):
    with pytest.raises(ConfigError) as caught:
        make_keys(tmp_path / "keys", name, streams, rights)
    assert text in str(caught.value)
    assert not (tmp_path / "keys").exists()


def test_keygen_puts_no_keys_into_a_folder_that_others_can_enter(tmp_path):
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigError, match="0700; got 0755"):
        make_keys(tmp_path, "a", ["*"], ALL)


def test_key_files_are_zeromq_certificates(keys):
    public, secret = zmq.auth.load_certificate(keys / "cam1.key_secret")
    assert load_client_keys(keys / "cam1.key_secret") == (public, secret)
    assert zmq.auth.load_certificate(keys / "clients/cam1.key") == (public, None)
    assert load_server_key(keys / "server.key") == zmq.auth.load_certificate(keys / "server.key_secret")[0]


def test_the_allow_list_follows_the_changes_of_its_folder(keys):
    ring = Keyring(keys / "clients")
    (cam,) = ring.grants.values()
    assert (cam.name, cam.streams, cam.rights) == ("cam1", ("cam*",), {Right.PUBLISH})
    assert not ring.refresh()
    make_keys(keys, "op", ["*"], ALL)
    assert ring.refresh()
    assert sorted(grant.name for grant in ring.grants.values()) == ["cam1", "op"]
    path = keys / "clients/cam1.key"
    path.write_text(path.read_text().replace('may = "publish"', 'may = "control"'))
    assert ring.refresh()
    assert ring.grants[cam.key].rights == {Right.CONTROL}
    path.unlink()
    assert ring.refresh()
    assert [grant.name for grant in ring.grants.values()] == ["op"]


def test_an_invalid_file_is_an_error_at_start_and_later_excludes_only_its_own_key(keys, caplog):
    ring = Keyring(keys / "clients")
    (keys / "clients/bad.key").write_text('curve\n    public-key = "short"\n')
    assert not ring.refresh()
    assert len(ring.grants) == 1
    assert "bad.key: a key must be 40 characters of Z85; got 5" in caplog.text
    with pytest.raises(KeyFileError, match=r"bad\.key"):
        Keyring(keys / "clients")


def test_a_key_in_two_files_is_refused(keys):
    (keys / "clients/again.key").write_text((keys / "clients/cam1.key").read_text())
    (keys / "clients/again.key").chmod(0o600)
    with pytest.raises(KeyFileError, match="the same key"):
        Keyring(keys / "clients")


def test_a_secret_in_the_allow_list_is_refused_and_not_shown(keys):
    secret = (keys / "cam1.key_secret").read_text()
    (keys / "clients/cam1.key").write_text(secret)
    with pytest.raises(KeyFileError, match="holds a secret key") as caught:
        Keyring(keys / "clients")
    assert load_client_keys(keys / "cam1.key_secret")[1].decode() not in str(caught.value)


def test_no_client_is_admitted_after_the_folder_is_moved_or_opened_to_others(keys):
    ring = Keyring(keys / "clients")
    (keys / "clients").chmod(0o777)
    assert ring.refresh()
    assert not ring.grants
    (keys / "clients").chmod(0o700)
    assert ring.refresh()
    assert len(ring.grants) == 1
    (keys / "clients").rename(keys / "away")
    assert ring.refresh()
    assert not ring.grants


def test_curve_needs_its_two_paths():
    with pytest.raises(ConfigError, match="server_secret_key_file must be given"):
        check_config({"security": {"curve": True}})
    with pytest.raises(ConfigError, match="authorized_clients_dir must be given"):
        check_config({"security": {"curve": True, "server_secret_key_file": "x"}})


@pytest.mark.parametrize(
    ("content", "bits", "text"),
    [
        ("short", 0o600, "16 ASCII characters"),
        ("x" * 32, 0o640, "0600; got 0640"),
        ("a b" * 10, 0o600, "without blanks"),
    ],
)
def test_a_token_that_others_could_read_or_guess_is_refused(tmp_path, content, bits, text):
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(bits)
    with pytest.raises(ConfigError, match="http_token_file") as caught:
        read_token(SecurityConfig(http_token_file=str(path)))
    assert text in str(caught.value)


def test_a_token_is_read_without_its_line_end_and_beside_the_configuration(tmp_path):
    (tmp_path / "token").write_text("x" * 32 + "\n")
    (tmp_path / "token").chmod(0o400)
    assert read_token(SecurityConfig(http_token_file="token"), tmp_path) == "x" * 32


def test_each_loss_of_a_right_to_read_is_counted(keys):
    ring = Keyring(keys / "clients")
    make_keys(keys, "reader", ["cam*"], ["subscribe"])
    path = keys / "clients/reader.key"
    text = path.read_text()
    for content, narrowed in ((text, 0), (text.replace("cam*", "*"), 0), (text, 1), (text.replace("cam*", "cam1"), 2)):
        path.write_text(content)
        ring.refresh()
        assert ring.narrowed == narrowed
    path.unlink()
    ring.refresh()
    assert ring.narrowed == 3
    (keys / "clients/cam1.key").unlink()  # it had no right to read
    ring.refresh()
    assert ring.narrowed == 3
