"""`models` and `model.load`: the models that a stream may use."""

from __future__ import annotations

import logging
import threading
import time

from trackd.engine.outcome import CommandResult
from trackd.engine.stream_state import StreamState
from trackd.models.registry import Checkpoint
from trackd.server.control.call import READERS, Call
from trackd.server.stream_lifecycle import Streams
from trackd.server.unavailable import UnavailableStream
from trackd.store.remembered_models import RememberedModel, RememberedModels
from trackd_client.configuration import ConfigError
from trackd_client.protocol import ErrorCode, ProtocolError
from trackd_client.protocol import fields as read

logger = logging.getLogger(__name__)


def list_models(call: Call) -> None:
    """Answer with a row for each loaded model."""
    call.grant.require_any(READERS)
    call.answer(call.daemon.models.rows())


def load_model(call: Call) -> None:
    """Load a checkpoint; answer with its row.

    A thread of its own reads the file, so no stream waits for it, and tracks the stored frames again of the streams
    that waited for this model. The IO thread registers the model afterwards, and opens these streams.
    """
    call.grant.require_everywhere("model.load")
    models, outbox = call.daemon.models, call.daemon.outbox
    name, path = read.text(call.params, "name"), read.text(call.params, "path")
    try:
        models.reserve(name)
    except ConfigError as error:
        raise ProtocolError(ErrorCode.BAD_CONFIG, str(error)) from None

    daemon, waiting = call.daemon, call.daemon.streams.unavailable.waiting_for(name)
    restored: list[tuple[UnavailableStream, StreamState]] = []

    def done(checkpoint: Checkpoint | None, error: Exception | None) -> None:
        row = models.finish_loading(checkpoint)
        for stream, state in restored:
            daemon.streams.recovery.restore(stream, state, time.monotonic_ns())
        call.answer(row, error)

    def load() -> None:
        try:
            checkpoint = models.read(name, path)
            for stream in waiting:
                _rebuild(daemon.streams, stream, checkpoint, restored)
            if daemon.remembered is not None:
                _remember(daemon.remembered, checkpoint)
            result = CommandResult(done, checkpoint, None)
        except Exception as error:
            restored.clear()
            result = CommandResult(done, None, error)
        outbox.put([result])

    threading.Thread(target=load, name="load", daemon=True).start()


def _rebuild(
    streams: Streams,
    stream: UnavailableStream,
    checkpoint: Checkpoint,
    restored: list[tuple[UnavailableStream, StreamState]],
) -> None:
    """Track the stored frames of a stream again; a fault in it stays in it."""
    reason = checkpoint.fault(stream.session.model_digest)
    if reason is None:
        try:
            restored.append((stream, streams.recovery.rebuilt(stream, checkpoint.make_scorer)))
            return
        except (ValueError, LookupError, TypeError) as error:
            reason = str(error)
    stream.reason = reason
    logger.warning("stream=%s: still unavailable: %s", stream.session.name, reason)


def _remember(remembered: RememberedModels, checkpoint: Checkpoint) -> None:
    loaded = checkpoint.loaded
    try:
        remembered.add(RememberedModel(checkpoint.name, str(loaded.path.absolute()), loaded.digest))
    except OSError as error:
        raise ProtocolError(
            ErrorCode.INTERNAL,
            f"model {checkpoint.name!r} is not loaded: {remembered.path} cannot be written: {error.strerror}",
        ) from None
