"""An engineer who integrates: clients written from docs/protocol.md alone, in Python and in Node, without the SDK."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import msgpack
import numpy as np
import pytest
from daemon_process import DaemonProcess
from raw_client import RawClient, array

N_FRAMES = 80  # more than the credit of a queue


def boxes_of(seq: int) -> np.ndarray:
    return np.array([[10 + seq, 20, 50 + seq, 60], [300 - seq, 20, 340 - seq, 60]], "<f4")


def test_a_client_in_python_needs_only_the_protocol_page():
    begin_ns = time.time_ns() | 1  # odd and above 2^53, so no 64-bit float holds it
    with DaemonProcess() as daemon, RawClient(daemon.addresses, subscribe="python") as client:
        opened = client.open("python", reply="tracks", config={"max_gap": 10})
        credit, seq, acked, replies = opened["credit"], opened["next_seq"], -1, {}
        while acked < N_FRAMES - 1:
            while credit and seq < N_FRAMES:
                client.frame("python", seq, boxes_of(seq), t_ns=begin_ns + seq * 33_333_333)
                seq, credit = seq + 1, credit - 1
            raw, *parts = client.ingest.recv_multipart()
            header = msgpack.unpackb(raw)
            if header["kind"] == "tracks":
                replies[header["seq"]] = header["t_ns"], array(header, parts, "track_ids").tolist()
            else:
                assert header["kind"] == "ack"
                acked, credit = header["seq"], credit + header["credit"]
        assert replies == {seq: (begin_ns + seq * 33_333_333, [0, 1]) for seq in range(N_FRAMES)}
        rows = client.request("history", stream="python", from_seq=N_FRAMES - 5)["result"]
        assert [row["t_ns"] for row in rows] == [replies[row["seq"]][0] for row in rows]
        client.send({"kind": "close", "stream": "python"})
        assert client.recv_kind("closed")["last_seq"] == N_FRAMES - 1
        published = [client.next_tracks()[0] for _ in range(N_FRAMES)]
        assert [(row["seq"], row["t_ns"]) for row in published] == [(seq, replies[seq][0]) for seq in range(N_FRAMES)]
        assert client.next_event("closed")["last_seq"] == N_FRAMES - 1


def test_a_client_in_node_needs_only_the_protocol_page():
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; this test runs tests/roles/integrator_client.mjs with it")
    with DaemonProcess() as daemon:
        at = daemon.addresses
        client = Path(__file__).with_name("integrator_client.mjs")
        command = [node, str(client), at["ingest"], at["tracks"], at["control"]]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=90)
        assert ended.returncode == 0, ended.stderr
        found = json.loads(ended.stdout)
    sent = [int(t_ns) for t_ns in found["sent"]]
    assert all(t_ns > 2**53 and t_ns % 2 for t_ns in sent[::2])
    expected = [[seq, str(t_ns), "tracked", [0, 1]] for seq, t_ns in enumerate(sent)]
    expected[40] = [40, 0, "rejected", None]  # its t_ns was a float
    assert found["replies"] == expected
    assert found["published"][-5:] == expected[-5:]
    assert found["history"] == expected[-5:]
    assert found["errors"] == [["bad_message", 40]]
    assert (found["acked"], found["last_seq"]) == (N_FRAMES - 1, N_FRAMES - 1)
    assert found["events"][-1] == "closed"
