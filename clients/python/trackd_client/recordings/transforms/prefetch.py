"""Frames decoded ahead by worker processes, in order, and never more than a few of them in memory."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from trackd_client.recordings.recording import Clip, DerivedRecording, RecordedFrame, Recording, RecordingError
from trackd_client.recordings.transforms.prefetch_worker import BLOCK_FRAMES, Failed, blocks_of, work

logger = logging.getLogger(__name__)

JOIN_S = 2.0


class PrefetchedRecording(DerivedRecording):
    """Another recording whose frames `num_workers` processes read, decode and augment ahead.

    The frames are cut into short blocks that the workers take in turn, so that the stream is the same whatever
    their number. Each has at most `prefetch_worker.AHEAD_FRAMES` decoded frames waiting. Of a video each worker
    decodes what the others deliver as well, only without converting it: what gains most is augmentation, large
    TIFF images and label images.

    Args:
        recording: the other; it is pickled, with the labels that it has read.
        num_workers: processes, at least 1.
    """

    def __init__(self, recording: Recording, num_workers: int) -> None:
        super().__init__(recording)
        self._num_workers = num_workers

    def frames(self, clips: Sequence[Clip] | None = None) -> Iterator[RecordedFrame]:
        """Every frame of the clips. The workers live until the iterator ends or is closed.

        Raises:
            RecordingError: what reading a frame raised, or a worker that is gone.
        """
        # What is asked of the recording here is read once, and goes to the workers with it.
        clips, _ = list(self.clips if clips is None else clips), self.lineage
        blocks = blocks_of(clips, BLOCK_FRAMES)
        n_workers = min(self._num_workers, len(blocks))
        workers = [_Worker.start(self._recording, blocks[i::n_workers], self.name, i) for i in range(n_workers)]
        try:
            for number, block in enumerate(blocks):
                for index in range(block.start, block.stop):
                    yield workers[number % n_workers].receive(index)
        finally:
            for worker in workers:
                worker.stop()


@dataclass(frozen=True, slots=True)
class _Worker:
    """One process and the pipe that its frames come through."""

    process: BaseProcess
    frames: Connection
    name: str

    @classmethod
    def start(cls, recording: Recording, blocks: list[Clip], name: str, number: int) -> _Worker:
        # Not fork: the replaying process has threads and sockets, which a forked child would share.
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=work, args=(recording, blocks, sender), name=f"decode {name} {number}", daemon=True
        )
        process.start()
        # The child holds the only other end, so that its death is the end of the pipe, not a wait for ever.
        sender.close()
        return cls(process, receiver, name)

    def receive(self, frame_index: int) -> RecordedFrame:
        try:
            received = self.frames.recv()
        except (EOFError, OSError):
            self.process.join(JOIN_S)
            raise RecordingError(
                f"{self.name}: worker process {self.process.pid} ended before frame {frame_index} "
                f"(exit code {self.process.exitcode}); dataloader.test_dataloader.num_workers: 0 reads without workers"
            ) from None
        if isinstance(received, Failed):
            raise received.error
        assert isinstance(received, RecordedFrame)
        return received

    def stop(self) -> None:
        self.frames.close()  # a worker that is about to send finds the pipe closed and ends
        self.process.terminate()
        self.process.join(JOIN_S)
        if self.process.is_alive():
            logger.warning("worker process does not end and is killed pid=%d", self.process.pid or -1)
            self.process.kill()
            self.process.join(JOIN_S)
        self.process.close()
