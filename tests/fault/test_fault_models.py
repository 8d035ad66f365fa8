"""Models that clients loaded, over restarts: where one is gone, only its own streams are unavailable."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import msgpack
from checkpoint_files import DESCRIPTOR, write_checkpoint
from daemon_process import fixed_ports, wait_until
from fault_tools import FaultDaemon, within
from raw_client import RawClient, array, walking_boxes

CONFIG = {"use_vis_feats": False, "overlap_thresh": 0.0}
STREAMS = {"gone": "late", "changed": "other", "plain": "motion"}  # with their models


def track(client: RawClient, stream: str, first: int, frames: int) -> list[list[int]]:
    """Send frames from seq `first` on; return the ids of each."""
    ids = []
    for seq in range(first, first + frames):
        client.frame(stream, seq, walking_boxes(seq))
        while True:
            head, *parts = client.ingest.recv_multipart()
            header = msgpack.unpackb(head)
            if header["kind"] == "tracks":
                break
            assert header["kind"] == "ack", header
        assert header["status"] == "tracked", header
        ids.append(array(header, parts, "track_ids").tolist())
    return ids


def rows(client: RawClient) -> dict[str, dict]:
    """The rows of `status` by stream."""
    return {row["stream"]: row for row in client.request("status")["result"]["streams"]}


@within(170, 170)
def test_a_model_that_is_gone_makes_its_stream_alone_unavailable(tmp_path: Path):
    late, other = (write_checkpoint(tmp_path / f"{name}.ckpt") for name in ("late", "other"))
    arguments = (*fixed_ports(), f"daemon.state_dir={tmp_path / 'state'}", "daemon.device=cpu")
    epochs, ids = {}, {}
    with FaultDaemon(*arguments) as daemon, RawClient(daemon.addresses) as client:
        client.control.rcvtimeo = client.ingest.rcvtimeo = 60_000
        for path in (late, other):
            assert "result" in client.request("model.load", name=path.stem, path=str(path))
        for stream, model in STREAMS.items():
            opened = client.open(stream, model=model, config=CONFIG, frame_shape=[720, 1280], reply="tracks")
            epochs[stream] = opened["epoch"]
            ids[stream] = track(client, stream, 0, 6)
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait(10)

    shutil.move(late, tmp_path / "moved.ckpt")
    write_checkpoint(other, {**DESCRIPTOR, "num_encoder_layers": 2})
    with FaultDaemon(*arguments) as daemon, RawClient(daemon.addresses) as client:
        client.control.rcvtimeo = client.ingest.rcvtimeo = 60_000
        assert daemon.get("/readyz")[0] == 200
        found = rows(client)
        assert set(found) == set(STREAMS)
        assert f"no such file: {late}" in found["gone"]["unavailable"]
        assert f"{other} has changed since it was loaded" in found["changed"]["unavailable"]
        assert "unavailable" not in found["plain"]
        assert all((row["epoch"], row["next_seq"]) == (epochs[stream], 6) for stream, row in found.items())
        for stream in ("gone", "changed"):
            error = client.open(stream, takeover=True)
            assert (error["kind"], error["code"], error["stream"]) == ("error", "unknown_model", stream)
            assert f"stream {stream!r} is unavailable: model" in error["message"]
            client.frame(stream, 6, walking_boxes(6))
            error = client.recv_kind("error")
            assert (error["code"], error["stream"], error["seq"]) == ("unknown_model", stream, 6)
            assert client.request("stream.reset", stream=stream)["error"]["code"] == "unknown_model"
            assert len(client.request("history", stream=stream)["result"]) == 6
            wait_until(lambda stream=stream: any(f"stream={stream} " in line for line in daemon.log), 5, "a log line")
        assert client.open("new", model="late")["code"] == "unknown_model"
        # The other stream continues.
        assert client.open("plain", reply="tracks")["next_seq"] == 6
        assert track(client, "plain", 6, 2)[0] == ids["plain"][-1]

        # The file is back: its stream continues where it was.
        shutil.move(tmp_path / "moved.ckpt", late)
        assert "result" in client.request("model.load", name="late", path=str(late))
        assert "unavailable" not in rows(client)["gone"]
        opened = client.open("gone", reply="tracks")
        assert (opened["kind"], opened["epoch"], opened["next_seq"]) == ("opened", epochs["gone"], 6)
        assert track(client, "gone", 6, 2)[0] == ids["gone"][-1]

        # Another file under the name of the changed one is a new model, and not that of the stream.
        assert "result" in client.request("model.load", name="other", path=str(other))
        assert "is another file: its SHA-256" in rows(client)["changed"]["unavailable"]
        closed = client.request("stream.close", stream="changed")["result"]
        assert closed == {"stream": "changed", "epoch": epochs["changed"], "last_seq": 5}
        assert "changed" not in rows(client)
        opened = client.open("changed", model="other", config=CONFIG, frame_shape=[720, 1280])
        assert (opened["next_seq"], opened["epoch"] > epochs["changed"]) == (0, True)
        assert "result" in client.request("stream.close", stream="changed")
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait(10)

    with FaultDaemon(*arguments) as daemon, RawClient(daemon.addresses) as client:
        found = rows(client)
        assert {stream: row["next_seq"] for stream, row in found.items()} == {"gone": 8, "plain": 8}
        assert not any("unavailable" in row for row in found.values())
        assert {row["name"] for row in client.request("models")["result"]} == {"late", "other", "motion"}
        assert client.open("gone", reply="tracks")["epoch"] == epochs["gone"]
        assert track(client, "gone", 8, 1)[0] == ids["gone"][-1]
