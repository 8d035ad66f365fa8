"""Frames that worker processes decode ahead, in order, with only a few of them in memory."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from trackd_client.recordings.images.source import MissingImages
from trackd_client.recordings.recording import Clip, DerivedRecording, RecordedFrame, Recording, RecordingError
from trackd_client.recordings.transforms.prefetch_worker import BLOCK_FRAMES, Failed, blocks_of, work

logger = logging.getLogger(__name__)

JOIN_S = 2.0


class PrefetchedRecording(DerivedRecording):
    """Another recording, whose frames `num_workers` processes read, decode and augment ahead.

    The frames are divided into short blocks, which are assigned to the workers in turn. So the stream is the same for
    any number of workers. Each worker queues at most `prefetch_worker.AHEAD_FRAMES` decoded frames. A worker also
    decodes the other workers' frames of a video, but does not convert them. So the gain is largest for augmentations,
    large TIFF images and label images.

    Args:
        recording: the other recording. It is pickled, with the labels that it has read.
        num_workers: the number of processes, at least 1.
    """

    def __init__(self, recording: Recording, num_workers: int) -> None:
        super().__init__(recording)
        self._num_workers = num_workers

    def frames(self, clips: Iterable[Clip] | None = None) -> Iterator[RecordedFrame]:
        """Every frame of the clips. The workers run until the iterator ends or is closed.

        Raises:
            RecordingError: reading a frame failed, or a worker process has ended.
        """
        # These properties read the labels. So the labels are read once, and are pickled for the workers.
        clips, _ = self.clips if clips is None else list(clips), self.lineage
        # Only as many blocks as workers are counted: a recording may have millions.
        n_workers = len(list(islice(blocks_of(clips, BLOCK_FRAMES), self._num_workers)))
        source = self.source
        missing = None if source is None else MissingImages(source)
        workers = [_Worker.start(self._recording, clips, self.name, i, n_workers) for i in range(n_workers)]
        try:
            for number, block in enumerate(blocks_of(clips, BLOCK_FRAMES)):
                for index in range(block.start, block.stop):
                    frame = workers[number % n_workers].receive(index)
                    if missing is not None and frame.image is None:
                        missing.add(index)
                    yield frame
        finally:
            if missing is not None:
                missing.log()
            for worker in workers:
                worker.stop()


@dataclass(frozen=True, slots=True)
class _Worker:
    """One process, and the pipe from which its frames are received."""

    process: BaseProcess
    frames: Connection
    name: str

    @classmethod
    def start(cls, recording: Recording, clips: Sequence[Clip], name: str, number: int, n_workers: int) -> _Worker:
        # Not fork: a forked child would share the threads and sockets of the replaying process.
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=work,
            args=(recording, clips, number, n_workers, sender),
            name=f"decode {name} {number}",
            daemon=True,
        )
        process.start()
        # Then only the child has this end open, and `recv` fails when the child ends, instead of waiting forever.
        sender.close()
        return cls(process, receiver, name)

    def receive(self, frame_index: int) -> RecordedFrame:
        try:
            received = self.frames.recv()
        except (EOFError, OSError):
            self.process.join(JOIN_S)
            raise RecordingError(
                f"{self.name}: worker process {self.process.pid} ended before frame {frame_index} "
                f"(exit code {self.process.exitcode}); dataloader.test_dataloader.num_workers: 0 uses no workers"
            ) from None
        if isinstance(received, Failed):
            raise received.error
        assert isinstance(received, RecordedFrame)
        return received

    def stop(self) -> None:
        self.frames.close()  # a worker's next `send` fails, and the worker ends
        self.process.terminate()
        self.process.join(JOIN_S)
        if self.process.is_alive():
            logger.warning("worker process does not end: killing it pid=%d", self.process.pid or -1)
            self.process.kill()
            self.process.join(JOIN_S)
        self.process.close()
