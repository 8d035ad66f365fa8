"""`models` and `model.load`: the models that a stream may use."""

from __future__ import annotations

import threading

from trackd.engine.outcome import CommandResult
from trackd.models.registry import Checkpoint
from trackd.server.control.call import READERS, Call
from trackd_client.configuration import ConfigError
from trackd_client.protocol import ErrorCode, ProtocolError
from trackd_client.protocol import fields as read


def list_models(call: Call) -> None:
    """Answer with a row for each loaded model."""
    call.grant.require_any(READERS)
    call.answer(call.daemon.models.rows())


def load_model(call: Call) -> None:
    """Load a checkpoint; answer with its row.

    A thread of its own reads the file, so no stream waits for it. The IO thread registers the model afterwards.
    """
    call.grant.require_everywhere("model.load")
    models, outbox = call.daemon.models, call.daemon.outbox
    name, path = read.text(call.params, "name"), read.text(call.params, "path")
    try:
        models.reserve(name)
    except ConfigError as error:
        raise ProtocolError(ErrorCode.BAD_CONFIG, str(error)) from None

    def done(checkpoint: Checkpoint | None, error: Exception | None) -> None:
        call.answer(models.finish_loading(checkpoint), error)

    def load() -> None:
        try:
            result = CommandResult(done, models.read(name, path), None)
        except Exception as error:
            result = CommandResult(done, None, error)
        outbox.put([result])

    threading.Thread(target=load, name="load", daemon=True).start()
