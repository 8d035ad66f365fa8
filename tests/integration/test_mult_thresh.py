"""`mult_thresh` that is not set, true or false: over the wire, in the SDK, and over a kill of the daemon."""

from __future__ import annotations

import numpy as np
from daemon_process import DaemonProcess
from raw_client import RawClient, array

from trackd_client import Client, Detections

CHOICES = {"unset": None, "true": True, "false": False}
FRAMES, CUT = 60, 31


def walk(frames: int) -> list[np.ndarray]:
    """Animals that turn abruptly and become more, of which a part is missed: with true, more tracks begin."""
    rng = np.random.default_rng(5)
    n = 12 + frames // 4
    places, speeds, found = rng.uniform(0, 200, (n, 2)), np.zeros((n, 2)), []
    for number in range(frames):
        speeds = 0.5 * speeds + rng.normal(0, 8, speeds.shape)
        places = places + speeds
        there = places[: 12 + number // 4]
        seen = there[rng.random(len(there)) < 0.8]
        found.append(np.concatenate([seen - 9, seen + 9], axis=1).astype(np.float32))
    return found


def mult_thresh(opened: dict) -> bool | None:
    return opened["config"]["tracker"]["mult_thresh"]


def send(client: RawClient, stream: str, first: int, frames: list[np.ndarray]) -> list[list[int]]:
    ids = []
    for seq, boxes in enumerate(frames, first):
        client.frame(stream, seq, boxes)
        header, parts = client.next_tracks()
        assert (header["stream"], header["seq"]) == (stream, seq)
        ids.append(array(header, parts, "track_ids").tolist())
    return ids


def test_a_stream_sets_it_changes_it_and_takes_it_back():
    with DaemonProcess("tracker.mult_thresh=true", "daemon.http=null") as daemon:
        with RawClient(daemon.addresses) as client:
            assert mult_thresh(client.open("daemons")) is True  # of the daemon's configuration
            assert mult_thresh(client.open("own", config={"tracker": {"mult_thresh": None}})) is None
            for value in (False, True, None):
                found = client.request("stream.configure", stream="own", config={"mult_thresh": value})["result"]
                assert found["tracker"]["mult_thresh"] is value
            found = client.request("stream.configure", stream="own", config={"max_gap": 9})["result"]
            assert found["tracker"]["mult_thresh"] is None
            error = client.request("stream.configure", stream="own", config={"mult_thresh": "yes"})["error"]
            assert error["code"] == "bad_config"
            assert "mult_thresh should be a valid boolean; got 'yes'" in error["message"]
        at = daemon.addresses
        with Client(at["ingest"], at["tracks"], at["control"]) as sdk:
            ids = {}
            for name, value in CHOICES.items():
                with sdk.open_stream(f"sdk-{name}", config={"mult_thresh": value}, reply="tracks") as stream:
                    ids[name] = [stream.track(None, Detections(boxes=each)).track_ids.tolist() for each in walk(FRAMES)]
    assert ids["unset"] == ids["false"] != ids["true"]


def test_a_kill_keeps_what_was_set_and_the_ids(tmp_path):
    options = (f"daemon.state_dir={tmp_path}", "daemon.http=null")
    frames = walk(FRAMES)
    ids: dict[str, list[list[int]]] = {}
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses, subscribe="whole") as client:
        client.open("whole", config={"mult_thresh": True})
        whole = send(client, "whole", 0, frames)
        for name, value in CHOICES.items():
            with RawClient(daemon.addresses, subscribe=name) as own:
                opened = own.open(name, config={} if value is None else {"mult_thresh": value})
                assert mult_thresh(opened) is value
                ids[name] = send(own, name, 0, frames[:CUT])
        daemon.process.kill()
        daemon.process.wait(10)
    with DaemonProcess(*options) as daemon:
        for name, value in CHOICES.items():
            with RawClient(daemon.addresses, subscribe=name) as own:
                opened = own.open(name, takeover=True)  # with no settings of its own
                assert (mult_thresh(opened), opened["next_seq"]) == (value, CUT)
                ids[name] += send(own, name, CUT, frames[CUT:])
    assert ids["true"] == whole
    assert ids["unset"] == ids["false"] != whole
