"""A client's keys against a socket that uses CURVE."""

from __future__ import annotations

import pytest
import zmq

from trackd_client import Client, Timeout

PUBLIC, SECRET = zmq.curve_keypair()
OTHER, OTHER_SECRET = zmq.curve_keypair()


def test_a_client_reports_why_the_daemon_refused_its_connection(tmp_path):
    """A client without keys and one with another server's key connect to a socket with CURVE."""
    with zmq.Context() as context:
        router = context.socket(zmq.ROUTER)
        router.linger = 0
        router.curve_server = 1
        router.curve_secretkey = SECRET
        port = router.bind_to_random_port("tcp://127.0.0.1")
        address = f"tcp://127.0.0.1:{port}"
        with Client(ingest=address, control=address, context=context, timeout_s=0.5) as client:
            with pytest.raises(Timeout, match="wants CURVE keys"):
                client.open_stream("cam")
            with pytest.raises(Timeout, match="wants CURVE keys"):
                client.status()
        keys = {"server_key": OTHER, "client_keys": (PUBLIC, SECRET)}
        with (
            Client(ingest=address, context=context, timeout_s=0.5, **keys) as client,
            pytest.raises(Timeout, match="does not have this server_key"),
        ):
            client.open_stream("cam")
        assert not router.poll(0)
        router.close()
