"""The client's keys and their files."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq

from trackd_client import Client, KeyFileError, load_client_keys, load_server_key
from trackd_client.transport.curve import CurveKeys, curve_keys, load_keys

PUBLIC, SECRET = zmq.curve_keypair()
OTHER, OTHER_SECRET = zmq.curve_keypair()


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def pair(public: bytes = PUBLIC, secret: bytes = SECRET) -> str:
    curve = f'  public-key = "{public.decode()}"\n  secret-key = "{secret.decode()}"\n'
    return f'# a comment\nmetadata\n  name = "x"\ncurve\n{curve}'


def test_keys_are_read_from_a_file_that_only_its_owner_can_access(tmp_path):
    path = write(tmp_path / "a.key_secret", pair())
    assert load_client_keys(path) == (PUBLIC, SECRET)
    assert load_server_key(path) == PUBLIC


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        (pair(), 0o644, "mode 0600; got 0644"),
        (pair(), 0o660, "mode 0600; got 0660"),
        (pair(OTHER), 0o600, "not a pair"),
        (f'curve\n public-key = "{PUBLIC.decode()}"\n', 0o600, "no secret key"),
        ("curve\n", 0o600, "no public-key"),
        ("hello\n", 0o600, "line 1"),
        ('curve\n public-key = "short"\n', 0o600, "got 5"),
        ('curve\n public-key = "' + "~" * 40 + '"\n', 0o600, "40 characters of Z85"),
        ("\udcff", 0o600, ""),
    ],
    ids=lambda value: "" if isinstance(value, str) and "public-key =" in value else None,  # without the random keys
)
def test_the_error_of_an_unusable_key_file_names_file_and_reason_but_not_the_secret(tmp_path, text, mode, expected):
    path = tmp_path / "a.key_secret"
    path.write_bytes(text.encode(errors="surrogateescape"))
    path.chmod(mode)
    with pytest.raises(KeyFileError) as caught:
        load_client_keys(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)
    assert SECRET.decode() not in str(caught.value)


def test_the_error_of_a_missing_key_file_names_it(tmp_path):
    with pytest.raises(KeyFileError, match="No such file"):
        load_client_keys(tmp_path / "none")


def test_a_client_takes_both_keys_or_none():
    assert curve_keys(None, None) is None
    for given in ({"server_key": OTHER}, {"client_keys": (PUBLIC, SECRET)}):
        with pytest.raises(ValueError, match="is missing"):
            Client(**given)
    with pytest.raises(ValueError, match="not a pair"):
        Client(server_key=OTHER, client_keys=(OTHER, SECRET))
    with pytest.raises(KeyFileError, match="--client-key is missing"):
        load_keys(Path("server.key"), None)


def test_a_secret_key_is_not_shown():
    assert SECRET.decode() not in repr(CurveKeys(OTHER, PUBLIC, SECRET))
