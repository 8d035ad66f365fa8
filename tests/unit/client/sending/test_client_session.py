"""A stream's session without sockets and clocks: the sent messages after each received one."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackd_client.detections import Detections
from trackd_client.protocol import (
    Ack,
    Close,
    Closed,
    Error,
    ErrorCode,
    Frame,
    Message,
    Open,
    Opened,
    ProtocolError,
    Status,
    Tracks,
    decode,
)
from trackd_client.sending.session import PendingFrame, SessionState, StreamSession

BLOCK = {"stream": {"on_overload": "block"}}
DROP = {"stream": {"on_overload": "drop_oldest"}}


def session(
    *, credit: int = 4, next_seq: int = 0, epoch: int = 1, config: dict = BLOCK, **limits: int
) -> StreamSession:
    made = StreamSession(Open("cam"), **limits)
    sent(made)
    made.receive(Opened("cam", epoch, next_seq, credit, config))
    return made


def submit(to: StreamSession, index: int | None = None, *, wants_tracks: bool = False) -> PendingFrame:
    number = to.next_seq if index is None else index
    return to.submit(None, Detections.empty(), number, number, wants_tracks=wants_tracks)


def sent(from_: StreamSession) -> list[Message]:
    return [decode(parts) for parts in from_.outgoing()]


def seqs(messages: list[Message]) -> list[int]:
    return [message.seq for message in messages if isinstance(message, Frame)]


def tracks(seq: int, epoch: int = 1, status: Status = Status.DROPPED) -> Tracks:
    return Tracks("cam", epoch, seq, seq, seq, status, reason="overload")


# --- opening ---


def test_open_is_sent_first_and_once():
    made = StreamSession(Open("cam", model="m"))
    assert sent(made) == [Open("cam", model="m")]
    assert sent(made) == []


def test_no_frame_can_be_submitted_before_the_stream_is_open():
    made = StreamSession(Open("cam"))
    sent(made)
    assert not made.can_submit
    made.receive(Opened("cam", 1, 0, 1))
    assert made.can_submit


def test_seq_begins_at_the_next_seq_of_opened():
    made = session(next_seq=17)
    assert submit(made).frame.seq == 17
    assert made.next_seq == 18


def test_a_refused_open_ends_the_session_with_the_daemons_error():
    made = StreamSession(Open("cam"))
    sent(made)
    made.receive(Error(ErrorCode.BAD_CONFIG, "tracker.iou must be …", "cam"))
    assert made.state is SessionState.LOST
    assert made.error is not None
    assert made.error.code is ErrorCode.BAD_CONFIG
    assert sent(made) == []


def test_an_array_that_cannot_be_encoded_uses_no_seq():
    made = session()
    with pytest.raises(ProtocolError, match="dtype must be one of"):
        made.submit(np.zeros((2, 2), np.float16), Detections.empty(), 0, 0)
    assert (made.next_seq, made.unacked) == (0, 0)


# --- credit ---


def test_frames_use_credit_and_acks_grant_it():
    made = session(credit=2)
    submit(made)
    assert made.can_submit
    submit(made)
    assert not made.can_submit
    assert seqs(sent(made)) == [0, 1]
    made.receive(Ack("cam", 0, 1))
    assert made.can_submit
    submit(made)
    assert seqs(sent(made)) == [2]
    assert not made.can_submit


def test_submitted_but_unsent_frames_count_against_the_credit():
    made = session(credit=1)
    submit(made)
    assert not made.can_submit


def test_an_ack_is_cumulative():
    made = session(credit=4)
    pending = [submit(made) for _ in range(4)]
    sent(made)
    made.receive(Ack("cam", 2, 3))
    assert [frame.settled for frame in pending] == [True, True, True, False]
    assert made.unacked == 1


def test_a_repeated_ack_adds_only_its_credit():
    made = session(credit=4)
    for _ in range(4):
        submit(made)
    sent(made)
    made.receive(Ack("cam", 1, 2))
    made.receive(Ack("cam", 1, 0))
    made.receive(Ack("cam", 0, 0))
    assert (made.unacked, made.credit) == (2, 2)


def test_an_ack_of_an_unsent_seq_settles_only_the_sent_frames():
    made = session()
    submit(made)
    sent(made)
    made.receive(Ack("cam", 100, 1))
    assert (made.unacked, made.next_seq) == (0, 1)


def test_under_a_drop_policy_credit_does_not_block():
    made = session(credit=1, config=DROP)
    for _ in range(10):
        assert made.can_submit
        submit(made)
    assert seqs(sent(made)) == list(range(10))


def test_under_a_drop_policy_the_unacked_frames_are_bounded():
    made = session(credit=1, config=DROP, max_unacked=3)
    for _ in range(3):
        submit(made)
    sent(made)
    assert not made.can_submit
    made.receive(Ack("cam", 0, 1))
    assert made.can_submit


def test_unacked_bytes_are_bounded_but_one_frame_is_always_sent():
    made = session(credit=10, max_unacked_bytes=100)
    assert made.can_submit
    made.submit(np.zeros((50, 50), np.uint8), Detections.empty(), 0, 0)
    sent(made)
    assert not made.can_submit
    made.receive(Ack("cam", 0, 1))
    assert made.can_submit


def test_a_policy_change_of_an_open_stream_changes_whether_credit_binds():
    made = session(credit=0)
    assert not made.can_submit
    made.configured(DROP)
    assert made.can_submit


# --- frames refused for missing credit or wrong order ---


def test_a_frame_without_credit_is_resent_after_an_ack_with_the_frames_behind_it():
    made = session(credit=4)
    for _ in range(4):
        submit(made)
    assert seqs(sent(made)) == [0, 1, 2, 3]
    made.receive(Error(ErrorCode.NO_CREDIT, "", "cam", 2))
    made.receive(Error(ErrorCode.SEQ_GAP, "", "cam", 3, expected=2))
    assert seqs(sent(made)) == []
    made.receive(Ack("cam", 0, 1))
    assert seqs(sent(made)) == [2]
    made.receive(Ack("cam", 1, 1))
    assert seqs(sent(made)) == [3]


def test_withheld_credit_is_restored_once_all_frames_are_acked():
    made = session(credit=8)
    for _ in range(3):
        submit(made)
    sent(made)
    made.receive(Error(ErrorCode.NO_CREDIT, "", "cam", 2))
    made.receive(Ack("cam", 1, 2))
    assert seqs(sent(made)) == [2]
    made.receive(Ack("cam", 2, 1))
    assert made.credit == 8


def test_a_late_refusal_of_the_first_copy_does_not_affect_the_second():
    made = session(credit=4)
    for _ in range(3):
        submit(made)
    sent(made)
    made.receive(Error(ErrorCode.NO_CREDIT, "", "cam", 1))
    made.receive(Ack("cam", 0, 4))
    assert seqs(sent(made)) == [1, 2]
    made.receive(Error(ErrorCode.NO_CREDIT, "", "cam", 2))  # of the first copy
    assert seqs(sent(made)) == []
    made.receive(Ack("cam", 2, 2))
    assert made.unacked == 0


def test_a_frame_refused_while_no_ack_can_arrive_is_retried_later():
    made = session(credit=1)
    submit(made)
    sent(made)
    made.receive(Error(ErrorCode.NO_CREDIT, "", "cam", 0))
    assert made.retry_due
    assert seqs(sent(made)) == []
    made.retry()
    assert seqs(sent(made)) == [0]


def test_a_gap_is_filled_from_the_expected_seq():
    made = session(credit=5)
    for _ in range(5):
        submit(made)
    sent(made)
    made.receive(Error(ErrorCode.SEQ_GAP, "", "cam", 3, expected=1))
    assert seqs(sent(made)) == [1, 2, 3, 4]
    made.receive(Error(ErrorCode.SEQ_GAP, "", "cam", 4, expected=1))  # of the first copy
    assert seqs(sent(made)) == []


def test_a_gap_that_cannot_be_filled_loses_the_stream():
    made = session(credit=4)
    for _ in range(3):
        submit(made)
    sent(made)
    made.receive(Ack("cam", 1, 2))
    made.receive(Error(ErrorCode.SEQ_GAP, "", "cam", 2, expected=0))
    assert made.state is SessionState.LOST


# --- reconnects ---


def test_after_a_reconnect_the_stream_is_taken_over_and_the_rest_is_resent():
    made = session(credit=4)
    pending = [submit(made) for _ in range(4)]
    sent(made)
    made.disconnected()
    assert not made.can_submit
    assert sent(made) == [Open("cam", takeover=True)]
    made.receive(Opened("cam", 1, 2, 4, BLOCK))
    # Frame 1 is resent only to get the ack that was lost with the connection. Frames 2 and 3 were never accepted.
    assert seqs(sent(made)) == [1, 2, 3]
    made.receive(Ack("cam", 1, 0))
    assert [frame.settled for frame in pending] == [True, True, False, False]


def test_accepted_frames_without_an_ack_are_kept_over_a_second_loss():
    made = session(credit=4)
    for _ in range(3):
        submit(made)
    sent(made)
    made.disconnected()
    sent(made)
    made.receive(Opened("cam", 1, 3, 1, BLOCK))  # accepted, still in the daemon's queue
    assert seqs(sent(made)) == [2]
    made.disconnected()  # the daemon is killed
    sent(made)
    made.receive(Opened("cam", 1, 0, 4, BLOCK))
    assert seqs(sent(made)) == [0, 1, 2]


def test_the_frame_resent_for_its_ack_uses_no_credit():
    made = session(credit=4)
    for _ in range(2):
        submit(made)
    sent(made)
    made.disconnected()
    sent(made)
    made.receive(Opened("cam", 1, 2, 4, BLOCK))
    sent(made)
    assert made.credit == 4


def test_a_frame_that_settled_during_a_disconnection_has_lost_its_reply():
    made = session(credit=4)
    pending = submit(made, wants_tracks=True)
    sent(made)
    made.disconnected()
    sent(made)
    made.receive(Opened("cam", 1, 1, 4, BLOCK))
    assert not pending.reply_lost
    made.receive(Ack("cam", 0, 0))
    assert pending.reply_lost


def test_a_daemon_with_a_new_epoch_gets_the_unacked_frames_with_new_seqs(caplog):
    made = session(credit=8)
    for index in range(5):
        submit(made, index)
    sent(made)
    made.receive(Ack("cam", 2, 3))
    made.disconnected()
    sent(made)
    with caplog.at_level(logging.WARNING):
        made.receive(Opened("cam", 2, 0, 8, BLOCK))
    assert "begins a new epoch" in caplog.text
    again = [message for message in sent(made) if isinstance(message, Frame)]
    assert [(frame.seq, frame.frame_index) for frame in again] == [(0, 3), (1, 4)]
    assert (made.epoch, made.next_seq) == (2, 2)


def test_a_session_is_opened_again_with_its_token_and_the_log_names_the_first_track_id(caplog):
    made = StreamSession(Open("cam", session="token"))
    assert sent(made) == [Open("cam", session="token")]
    made.receive(Opened("cam", 1, 0, 8, BLOCK))
    made.disconnected()
    assert sent(made) == [Open("cam", session="token", takeover=True)]
    with caplog.at_level(logging.WARNING):
        made.receive(Opened("cam", 2, 0, 8, BLOCK, first_track_id=7))
    assert "begins a new epoch (its last one was 1), with track ids from 7" in caplog.text


def test_a_frame_gets_its_reply_after_its_seq_changed():
    made = session(credit=8, next_seq=10)
    first, second = submit(made, wants_tracks=True), submit(made, wants_tracks=True)
    sent(made)
    made.disconnected()
    sent(made)
    made.receive(Opened("cam", 2, 0, 8, BLOCK))
    sent(made)
    made.receive(tracks(1, epoch=2))
    assert first.tracks is None
    assert second.tracks is not None
    assert second.tracks.seq == 1


def test_a_reset_by_another_client_keeps_the_seqs():
    made = session(credit=8)
    for _ in range(4):
        submit(made)
    sent(made)
    made.disconnected()
    sent(made)
    made.receive(Opened("cam", 2, 4, 8, BLOCK))
    assert made.next_seq == 4
    assert seqs(sent(made)) == [3]


def test_while_the_daemon_drains_frames_wait_for_the_next_daemon():
    made = session(credit=4)
    submit(made)
    sent(made)
    made.receive(Error(ErrorCode.DRAINING, "", "cam", 0))
    assert (made.state, made.can_submit, made.retry_due) == (SessionState.OPENING, False, True)
    assert sent(made) == [Open("cam", takeover=True)]
    made.receive(Error(ErrorCode.DRAINING, "", "cam"))
    assert made.retry_due
    sent(made)
    made.receive(Opened("cam", 1, 0, 4, BLOCK))
    assert seqs(sent(made)) == [0]


def test_acks_still_count_while_the_daemon_drains():
    made = session(credit=4)
    submit(made)
    sent(made)
    made.receive(Error(ErrorCode.DRAINING, "", "cam", 1))
    made.receive(Ack("cam", 0, 0))
    assert made.unacked == 0


def test_a_stream_that_the_daemon_does_not_have_is_opened_again():
    made = session(credit=4)
    submit(made)
    sent(made)
    made.receive(Error(ErrorCode.UNKNOWN_STREAM, "", "cam", 0))
    assert sent(made) == [Open("cam", takeover=True)]


# --- the end ---


@pytest.mark.parametrize("fatal", [True, False])
def test_a_takeover_by_another_client_loses_the_stream(fatal):
    made = session()
    submit(made)
    sent(made)
    made.receive(Error(ErrorCode.STREAM_BUSY, "taken over", "cam", fatal=fatal))
    assert made.state is SessionState.LOST
    made.disconnected()
    assert sent(made) == []


def test_close_waits_for_the_last_ack():
    made = session()
    submit(made)
    sent(made)
    made.close()
    assert not made.can_submit
    assert sent(made) == []
    made.receive(Ack("cam", 0, 1))
    assert sent(made) == [Close("cam")]
    made.receive(Closed("cam", 1, 0))
    assert made.state is SessionState.CLOSED


def test_a_close_lost_with_the_connection_is_sent_again():
    made = session()
    made.close()
    assert sent(made) == [Close("cam")]
    made.disconnected()
    assert sent(made) == [Open("cam", takeover=True)]
    made.receive(Opened("cam", 2, 0, 4, BLOCK))
    assert sent(made) == [Close("cam")]


def test_a_stream_closed_by_others_is_lost():
    made = session()
    made.receive(Closed("cam", 1, 5))
    assert made.state is SessionState.LOST
    assert made.error is not None
    assert "idle_timeout_s" in made.error.message


@pytest.mark.parametrize("seq", [None, 3])
def test_forbidden_ends_the_stream(seq):
    session = StreamSession(Open("cam"))
    session.receive(Error(ErrorCode.FORBIDDEN, "this key may no longer publish", "cam", seq))
    assert session.state is SessionState.LOST
    assert session.error is not None
    assert session.error.code is ErrorCode.FORBIDDEN


# --- rejected frames ---


def test_a_rejected_frame_is_recorded_and_still_waits_for_its_ack():
    made = session()
    pending = submit(made)
    sent(made)
    error = Error(ErrorCode.INVALID_FRAME, "frame_index must rise", "cam", 0)
    made.receive(error)
    assert pending.error == error
    assert list(made.rejected) == [error]
    assert made.unacked == 1
    made.receive(Ack("cam", 0, 1))
    assert made.unacked == 0


def test_the_recorded_rejections_are_bounded():
    made = session()
    for seq in range(1000):
        made.receive(Error(ErrorCode.INVALID_FRAME, "", "cam", seq))
    assert len(made.rejected) == 256
    assert made.n_rejected == 1000


def test_the_1st_10th_and_100th_rejection_of_a_cause_are_logged_and_none_if_the_caller_reports_them(caplog):
    made, quiet = session(), session()
    quiet.logs_rejections = False
    for seq in range(500):
        error = Error(ErrorCode.INVALID_FRAME, f"frame_index must rise; got {seq}", "cam", seq)
        made.receive(error)
        quiet.receive(error)
    assert [line.split(": ", 1)[1] for line in caplog.messages] == [
        "invalid_frame: frame_index must rise; got 0",
        "invalid_frame: frame_index must rise; got 9 (so far 10 times)",
        "invalid_frame: frame_index must rise; got 99 (so far 100 times)",
    ]
    assert quiet.rejection_causes == ["500 frames (0 to 499): invalid_frame: frame_index must rise; got 0"]


def test_a_frame_that_the_daemon_refused_and_did_not_settle_is_not_sent_again():
    made = session()
    pending = [submit(made, index) for index in range(4)]
    assert seqs(sent(made)) == [0, 1, 2, 3]
    made.receive(Ack("cam", 0, 1))
    made.receive(Error(ErrorCode.BAD_MESSAGE, "t_ns must be an integer", "cam", 1))
    made.receive(Error(ErrorCode.SEQ_GAP, "", "cam", 2, expected=1))
    made.receive(Error(ErrorCode.SEQ_GAP, "", "cam", 3, expected=1))
    assert pending[1].answered
    assert made.rejected[0].seq == 1
    again = [message for message in sent(made) if isinstance(message, Frame)]
    assert [(frame.seq, frame.frame_index) for frame in again] == [(1, 2), (2, 3)]
    made.receive(Ack("cam", 2, 2))
    assert made.unacked == 0
    assert made.next_seq == 3


def test_a_frame_longer_than_the_daemon_accepts_uses_no_seq():
    made = StreamSession(Open("cam"))
    sent(made)
    made.receive(Opened("cam", 1, 0, 4, BLOCK, message_bytes=1000))
    with pytest.raises(ProtocolError, match=r"at most 1000 bytes \(limits.message_bytes of the daemon\); got 1"):
        made.submit(np.zeros((40, 40), np.uint8), Detections.empty(), 0, 0)
    assert (made.next_seq, made.unacked) == (0, 0)


# --- every frame settles once ---


class _Daemon:
    """A daemon as defined by the protocol. Hypothesis chooses when the connection is lost."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.accepted: list[int] = []  # frame indices, by seq
        self.settled = 0
        self.credit = 0
        self.inbox: list[Message] = []  # messages on the way to the daemon
        self.outbox: list[Message] = []  # messages on the way to the client

    def receive(self) -> None:
        if not self.inbox:
            return
        message = self.inbox.pop(0)
        if isinstance(message, Open):
            self.credit = self.depth - (len(self.accepted) - self.settled)
            self.outbox.append(Opened("cam", 1, len(self.accepted), self.credit, BLOCK))
        elif isinstance(message, Frame):
            if message.seq < len(self.accepted):
                if message.seq < self.settled:
                    self.outbox.append(Ack("cam", self.settled - 1, 0))
            elif message.seq > len(self.accepted):
                gap = Error(ErrorCode.SEQ_GAP, "", "cam", message.seq, expected=len(self.accepted))
                self.outbox.append(gap)
            elif self.credit <= 0 and self.settled < len(self.accepted):
                # If all accepted frames are settled, accept one frame: otherwise no ack would ever be sent.
                self.outbox.append(Error(ErrorCode.NO_CREDIT, "", "cam", message.seq))
            else:
                self.credit -= 1
                self.accepted.append(message.frame_index)

    def settle(self) -> None:
        if self.settled < len(self.accepted):
            self.settled += 1
            self.credit += 1
            self.outbox.append(Ack("cam", self.settled - 1, 1))

    def kill(self) -> None:
        """Kill and restart from the journal: accepted frames that are not settled are lost."""
        del self.accepted[self.settled :]
        self.cut()

    def cut(self) -> None:
        self.inbox.clear()
        self.outbox.clear()


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from(["exchange", "submit", "send", "daemon_receive", "settle", "receive", "cut", "kill", "shrink"]),
        min_size=20,
        max_size=200,
    ),
    st.integers(1, 4),
)
def test_every_frame_settles_once_and_in_order_after_any_failures(steps, depth):
    made, daemon = StreamSession(Open("cam")), _Daemon(depth)
    submitted = 0
    exchange = ["send", "daemon_receive", "daemon_receive", "daemon_receive", "receive", "receive", "receive"]
    steps = [small for step in steps for small in (exchange if step == "exchange" else [step])]
    for step in (
        steps
        + ["send", "daemon_receive", "daemon_receive", "daemon_receive", "settle", "receive", "receive", "receive"]
        * 100
    ):
        if step == "submit" and made.can_submit:
            submit(made, submitted)
            submitted += 1
        elif step == "send":
            made.retry()
            daemon.inbox += sent(made)
        elif step == "daemon_receive":
            daemon.receive()
        elif step == "settle":
            daemon.settle()
        elif step == "receive" and daemon.outbox:
            made.receive(daemon.outbox.pop(0))
        elif step in ("cut", "kill"):
            getattr(daemon, step)()
            made.disconnected()
        elif step == "shrink":
            daemon.credit = max(0, daemon.credit - 1)  # short of memory, the daemon refuses frames that it had granted
    assert made.state is SessionState.OPEN
    assert daemon.accepted == list(range(submitted))
    assert made.unacked == 0
