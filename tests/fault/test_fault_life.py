"""Drains, signals and pauses (SIGSTOP) of the daemon under load."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from checkpoint_files import bad_file, write_checkpoint
from daemon_process import fixed_ports, wait_until
from fault_tools import FaultDaemon, GoodClient, crowd, imbalances, long_form, progress, rounds, sdk
from raw_client import RawClient, array, walking_boxes

from trackd_client import Detections

POLICIES = ("block", "drop_oldest", "drop_newest")


@pytest.mark.parametrize("how", ["SIGTERM", pytest.param("drain", marks=long_form)])
def test_a_drain_under_load_settles_and_publishes_every_accepted_frame(how):
    with FaultDaemon() as daemon:
        clients = {policy: RawClient(daemon.addresses, subscribe=policy) for policy in POLICIES}
        stop = threading.Event()

        def feed(policy: str, client: RawClient) -> None:
            seq = 0
            while not stop.is_set():
                client.frame(policy, seq, crowd(seq, 1000))  # slow enough that frames arrive during the drain
                seq += 1
                time.sleep(0.002)

        feeders = []
        for policy, client in clients.items():
            client.open(policy, config={"on_overload": policy, "queue_depth": 8})
            feeders.append(threading.Thread(target=feed, args=(policy, client)))
        for feeder in feeders:
            feeder.start()
        time.sleep(0.5)
        if how == "SIGTERM":
            daemon.process.send_signal(signal.SIGTERM)
        else:
            with RawClient(daemon.addresses) as control:
                assert control.request("drain")["result"]["draining"] is True
        code = daemon.process.wait(15)
        stop.set()
        for feeder in feeders:
            feeder.join(5)
        assert code == 0, list(daemon.log)[-5:]
        for policy, client in clients.items():
            replies = []
            while client.ingest.poll(80):
                replies.append(client.recv())
            acked = max(m["seq"] for m in replies if m["kind"] == "ack")
            seqs = []
            while client.tracks.poll(80):
                topic, header, _ = client.recv_tracks()
                if topic.startswith(b"tracks/"):
                    seqs.append(header["seq"])
                else:
                    last_event = header
            assert seqs == list(range(len(seqs))), policy
            assert acked == seqs[-1] == last_event["last_seq"], policy
            assert last_event["event"] == "closed", policy
            assert any(m["kind"] == "error" and m["code"] == "draining" for m in replies), policy
            client.close()


def test_a_second_sigterm_ends_a_drain_that_takes_long():
    with FaultDaemon() as daemon, RawClient(daemon.addresses) as client:
        client.open("cam", config={"queue_depth": 2000, "on_overload": "drop_newest"})
        for seq in range(600):
            client.frame("cam", seq, crowd(seq, 2000))
        time.sleep(0.3)
        daemon.process.send_signal(signal.SIGTERM)
        wait_until(lambda: daemon.get("/readyz")[0] == 503, 5)
        assert daemon.alive
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(5) == 1


@long_form
@pytest.mark.parametrize("delay_s", [0.02])
def test_two_sigterms_to_an_idle_daemon_leave_no_traceback(delay_s):
    with FaultDaemon() as daemon:
        daemon.process.send_signal(signal.SIGTERM)
        time.sleep(delay_s)
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(10) in (0, 1)
    assert not any("Traceback" in line for line in daemon.log), list(daemon.log)


def test_after_a_pause_health_recovers_and_streams_continue():
    with FaultDaemon("daemon.stall_s=2") as daemon, GoodClient(daemon.addresses) as witness, sdk(daemon) as client:
        stream = client.open_stream("cam")
        stream.send(None, Detections(boxes=walking_boxes(0)))
        with daemon.paused():
            time.sleep(3)
        wait_until(lambda: daemon.healthy()[0] == 200, 2, "health")
        frames = witness.frames
        wait_until(lambda: witness.frames > frames + 10, 5)
        epoch = stream.epoch
        for seq in range(1, 20):
            stream.send(None, Detections(boxes=walking_boxes(seq)))
        stream.flush()
        assert (stream.epoch, stream.next_seq) == (epoch, 20)
        assert imbalances(daemon.metrics()) == []


@pytest.mark.parametrize("n_streams", [40])
def test_a_pause_longer_than_the_idle_timeout_closes_no_stream(n_streams):
    with FaultDaemon() as daemon, RawClient(daemon.addresses) as client:
        for i in range(n_streams):
            client.open(f"cam{i}", config={"idle_timeout_s": 1.5})
        clients = [client]
        for _ in range(rounds(3, 20)):
            with daemon.paused():
                time.sleep(2.0)  # the owner's messages arrive with the first poll of the socket, or just after it
            time.sleep(0.01)
            clients[0].send({"kind": "ping", "t_ns": 1})
            time.sleep(1.2)
        kinds = []
        while client.ingest.poll(100):
            kinds.append(client.recv()["kind"])
        assert "closed" not in kinds


def test_clients_reconnect_to_a_daemon_that_was_killed_and_started_again():
    fixed = fixed_ports()
    with FaultDaemon(*fixed) as daemon, sdk(daemon) as client:
        stream = client.open_stream("cam")
        for seq in range(10):
            stream.send(None, Detections(boxes=walking_boxes(seq)))
        stream.flush()
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait(5)
        with FaultDaemon(*fixed) as again:
            for seq in range(10, 30):
                stream.send(None, Detections(boxes=walking_boxes(seq)))
            stream.flush()
            assert again.metrics()['trackd_frames_tracked_total{stream="cam"}'] == 20


def test_a_model_that_cannot_be_loaded_changes_nothing_in_the_daemon(tmp_path):
    """Load it at runtime, at `open` and by `stream.configure`, beside a camera and a stream that must keep its ids."""

    def track(client: RawClient, seq: int) -> list[int]:
        client.frame("cam", seq, walking_boxes(seq))
        while client.recv_kind("tracks", "ack")["kind"] != "tracks":
            pass
        header, parts = client.next_tracks()
        assert header["seq"] == seq
        return array(header, parts, "track_ids").tolist()

    folder = tmp_path / "folder.ckpt"
    folder.mkdir()
    (tmp_path / "empty.ckpt").touch()
    bad = [bad_file(kind, tmp_path) for kind in ("corrupt", "truncated", "wrong_architecture", "malicious", "missing")]
    with (
        FaultDaemon("daemon.device=cpu") as daemon,
        GoodClient(daemon.addresses, patience_s=30) as witness,
        RawClient(daemon.addresses, subscribe="cam") as client,
    ):
        # The first load imports torch, which takes several seconds on a busy machine.
        client.control.rcvtimeo = client.ingest.rcvtimeo = client.tracks.rcvtimeo = 60_000
        epoch = client.open("cam", reply="tracks")["epoch"]
        assert track(client, 0) == [0, 1, 2]

        def state() -> tuple:
            status = client.request("status")["result"]
            rows = [(row["stream"], row["epoch"], row["model"]) for row in status["streams"]]
            return client.request("models")["result"], status["models"], status["ready"], rows

        before = state()
        seq = 0
        for path in [*bad, folder, tmp_path / "empty.ckpt"]:
            refusals = [
                client.request("model.load", name=path.stem, path=str(path))["error"],
                client.request("stream.configure", stream="cam", config={"model": path.stem})["error"],
                client.request("stream.configure", stream="cam", config={"ckpt_path": str(path)})["error"],
                client.open("other", model=path.stem),
            ]
            codes = [refusal["code"] for refusal in refusals]
            assert codes == ["bad_config", "bad_config", "bad_config", "unknown_model"], refusals
            assert str(path) in refusals[0]["message"]
            assert "\n" not in refusals[0]["message"]
            assert state() == before, path
            seq += 1
            assert track(client, seq) == [0, 1, 2], path
        assert not (tmp_path / "it_ran").exists()
        threads = daemon.ps.num_threads()
        client.request("model.load", name="corrupt", path=str(bad[0]))
        wait_until(lambda: daemon.ps.num_threads() <= threads, 5, "the loader's thread ends")
        # The name of a failed load is free for a good file.
        good = client.request("model.load", name="corrupt", path=str(write_checkpoint(tmp_path / "good.ckpt")))
        assert good["result"]["name"] == "corrupt"
        assert client.open("other", model="corrupt", frame_shape=[720, 1280])["kind"] == "opened"
        assert track(client, seq + 1) == [0, 1, 2]
        assert client.request("stream.configure", stream="cam", config={"max_gap": 9})["result"]
        assert state()[3][0][1:] == before[3][0][1:]
        assert [row["epoch"] for row in client.request("status")["result"]["streams"] if row["stream"] == "cam"] == [
            epoch
        ]
        assert imbalances(daemon.metrics()) == []
        frames = witness.frames
        wait_until(lambda: witness.frames > frames + 5 or witness.fault is not None, 40)
        assert witness.fault is None, witness.fault


@long_form
def test_repeated_failed_loads_do_not_delay_a_camera(tmp_path):
    """Fail 400 loads beside a camera; memory and threads stay at those of the first hundred."""
    paths = [bad_file(kind, tmp_path) for kind in ("corrupt", "truncated", "wrong_architecture", "malicious")]
    with (
        FaultDaemon("daemon.device=cpu") as daemon,
        GoodClient(daemon.addresses, pace_s=1 / 60, patience_s=30) as witness,
        RawClient(daemon.addresses) as client,
    ):
        client.control.rcvtimeo = 60_000
        for turn in range(400):
            if turn == 100:
                first, threads, rss_mb = len(witness.latencies), daemon.ps.num_threads(), daemon.rss_mb
            reply = client.request("model.load", name=f"m{turn}", path=str(paths[turn % len(paths)]))
            assert reply["error"]["code"] == "bad_config"
        worst_s, import_s = max(witness.latencies[first:]), max(witness.latencies[:first])
        progress(
            f"loads: the camera's longest round trip {worst_s * 1000:.0f} ms, {import_s * 1000:.0f} ms with the import "
            f"of torch; RSS {rss_mb:.0f} MB after 100, {daemon.rss_mb:.0f} MB after 400"
        )
        assert daemon.ps.num_threads() <= threads + 1
        assert daemon.rss_mb <= rss_mb + 10
        assert worst_s < 1.0
