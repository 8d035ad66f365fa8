"""Identities over real sockets: exchanged ids are corrected and said, over a kill; animals are recognised later."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest
from daemon_process import DaemonProcess, fixed_ports
from meeting_animals import BACK, END, GONE, LEARNS, SHAPE, drawn, send

from trackd_client import Client, Detections, TrackdError
from trackd_client.protocol import EventName


def client_of(daemon: DaemonProcess) -> Client:
    at = daemon.addresses
    return Client(at["ingest"], at["tracks"], at["control"], timeout_s=60)


def test_exchanged_ids_are_corrected_and_stated_in_the_settlements_and_by_an_event():
    with DaemonProcess(*LEARNS) as daemon, client_of(daemon) as client:
        stream = client.open_stream("arena", reply="tracks", frame_shape=SHAPE)
        events = client.events("arena", timeout_s=30)
        found = send(stream, 0, END)
        assert found[BACK + 2][0] != found[0][0], "the tracker takes them for animals that have passed each other"
        assert found[-1][0] == found[0][0]
        (said,) = [each for _, tracks in found for each in tracks.identity_events if each["event"] == "swap_corrected"]
        (correction,) = [each for _, tracks in found for each in tracks.corrections]
        assert correction["author"] == "trackd"
        event = next(each for each in events if each.event is EventName.IDENTITY)
        while event.detail["event"] != "swap_corrected":
            event = next(each for each in events if each.event is EventName.IDENTITY)
        assert event.detail == said
        assert [each for row in client.history("arena") for each in row.identity_events][-1] == said
        assert 'trackd_identity_events_total{event="swap_corrected"} 1.0' in daemon.get("/metrics")[1]
        stream.close()


@pytest.mark.parametrize("after", [3, 40])
def test_a_daemon_that_is_killed_after_a_correction_continues_with_the_corrected_ids(tmp_path, after):
    ports = fixed_ports()
    state = f"daemon.state_dir={tmp_path}"
    with DaemonProcess(*LEARNS, *ports, state) as daemon, client_of(daemon) as client:
        stream = client.open_stream("arena", reply="tracks", frame_shape=SHAPE)
        found = send(stream, 0, BACK + 10)
        at = len(found)
        while not any(tracks.corrections for _, tracks in found[-1:]):
            found += send(stream, at, at + 1)
            at += 1
            assert at < END
        found += send(stream, at, at + after)
        daemon.stop(signal.SIGKILL)
        with DaemonProcess(*LEARNS, *ports, state):
            later = send(stream, at + after, at + after + 20)
            assert [ids for ids, _ in later] == [found[0][0]] * 20
            assert not [each for _, tracks in later for each in tracks.corrections]
            stream.close()


def test_named_animals_are_recognised_by_their_gallery_in_a_later_session(tmp_path):
    with DaemonProcess(*LEARNS, f"daemon.state_dir={tmp_path}") as daemon, client_of(daemon) as client:
        stream = client.open_stream("arena", reply="tracks", frame_shape=SHAPE)
        found = send(stream, 0, GONE - 5)
        with pytest.raises(TrackdError, match="Name tracks first"):
            client.save_gallery("arena", "cage-3")
        client.rename_track("arena", found[-1][0][0], "Ann")
        client.rename_track("arena", found[-1][0][2], "Ben")
        send(stream, GONE - 5, GONE)
        with pytest.raises(TrackdError, match="letters"):
            client.save_gallery("arena", "../cage")
        done = subprocess.run(
            [sys.executable, "-m", "trackd.cli", "identities", "save", "arena", "cage-3",
             "--endpoint", daemon.addresses["control"]],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert done.stdout == "cage-3: Ann, Ben\n"
        assert client.galleries() == ["cage-3"]
        stream.close()
        with pytest.raises(TrackdError, match="did you mean 'cage-3'"):
            client.open_stream("later", reply="tracks", frame_shape=SHAPE, config={"gallery": "cage-4"})
        settings = {"gallery": "cage-3", "learn_identities": False}
        again = client.open_stream("later", reply="tracks", frame_shape=SHAPE, config=settings)
        image, detections, _ = drawn(0, np.random.default_rng(0))
        order = [1, 2, 0]  # so that the ids differ from those of the first session
        again.track(image, Detections(boxes=detections.boxes[order]), frame_index=0, t_ns=0)
        later = send(again, 1, GONE)
        ids, tracks = later[-1]
        assert ids == {0: 2, 1: 0, 2: 1}
        assert tracks.names == ("Ann", None, "Ben")
        said = [each for _, tracks in later for each in tracks.identity_events]
        assert sorted((each["event"], each["name"]) for each in said) == [("recognised", "Ann"), ("recognised", "Ben")]
        again.close()


def test_a_gallery_is_not_saved_where_nothing_is_learnt():
    with DaemonProcess() as daemon, client_of(daemon) as client:
        stream = client.open_stream("plain")
        with pytest.raises(TrackdError, match="learn_identities"):
            client.save_gallery("plain", "cage")
        assert client.galleries() == []
        stream.close()


def test_it_can_be_switched_on_and_off_while_a_stream_runs():
    with DaemonProcess("tracker.use_vis_feats=false", "tracker.max_tracks=3") as daemon, client_of(daemon) as client:
        stream = client.open_stream("arena", reply="tracks", frame_shape=SHAPE)
        first = send(stream, 0, 5)
        client.configure("arena", {"learn_identities": True})
        found = send(stream, 5, END)
        assert found[-1][0] == first[0][0]
        assert [each for _, tracks in found for each in tracks.identity_events]
        client.configure("arena", {"learn_identities": False})
        assert send(stream, END, END + 3)[-1][0] == first[0][0]
        stream.close()
