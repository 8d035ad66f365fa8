"""Checks of what a client asks of a stream. Each check is one function, and each fault one `ProtocolError`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from trackd.config import StreamSettings
from trackd.server.session import Session
from trackd_client.configuration import ConfigError
from trackd_client.detections import Skeleton
from trackd_client.excerpt import excerpt
from trackd_client.protocol import ErrorCode, Open, ProtocolError

logger = logging.getLogger(__name__)


def changed_settings(settings: StreamSettings, changes: Mapping[str, Any], stream: str) -> StreamSettings:
    """Return a stream's settings with a client's changes.

    Raises:
        ProtocolError: an invalid change (`bad_config`).
    """
    try:
        return settings.changed(changes)
    except ConfigError as error:
        raise ProtocolError(ErrorCode.BAD_CONFIG, str(error), stream=stream) from None


def check_fixed_fields(session: Session, message: Open) -> None:
    """Check that a second `open` repeats the fields that cannot change while a stream is open, or leaves them out.

    Raises:
        ProtocolError: it gives another value (`bad_config`).
    """
    for name in ("skeleton", "frame_shape", "model"):
        asked, known = getattr(message, name), getattr(session, name)
        if asked is not None and asked != known:
            raise ProtocolError(
                ErrorCode.BAD_CONFIG,
                f"{name} cannot change while a stream is open: it is {excerpt(known, 200)}; close it first",
                stream=session.name,
            )


def check_nodes(settings: StreamSettings, skeleton: Skeleton | None, stream: str) -> None:
    """Check at `open`, rather than at every frame, that the node names in the settings are in the skeleton.

    Raises:
        ProtocolError: one is not (`bad_config`).
    """
    anchors = settings.dataset.anchors
    names = {"anchors": anchors if isinstance(anchors, list) else [anchors] if isinstance(anchors, str) else []}
    names["front_nodes"] = settings.tracker.front_nodes or []
    names["back_nodes"] = settings.tracker.back_nodes or []
    nodes = set(skeleton.nodes) if skeleton is not None else set()
    if isinstance(anchors, int) and skeleton is not None and anchors > len(nodes):
        raise ProtocolError(
            ErrorCode.BAD_CONFIG,
            f"anchors must be at most the skeleton's {len(nodes)} nodes; got {anchors}",
            stream=stream,
        )
    for key, wanted in names.items():
        for node in wanted:
            if node in nodes or (key == "anchors" and node in ("", "centroid", "midpoint")):
                continue
            known = ", ".join(skeleton.nodes)[:500] if skeleton is not None else "none, since open gave no skeleton"
            raise ProtocolError(
                ErrorCode.BAD_CONFIG, f"{key} must name nodes of the skeleton ({known}); got {node!r}", stream=stream
            )


def check_output_files(n_new: int, n_open: int, limit: int, stream: str) -> None:
    """Check that so many more output files may be open.

    Raises:
        ProtocolError: they may not (`too_large`).
    """
    if n_new and n_open + n_new > limit:
        raise ProtocolError(
            ErrorCode.TOO_LARGE,
            f"at most {limit} output files may be open over all streams; {n_open} are, and outputs asks for {n_new}; "
            "close a stream, or ask for fewer",
            stream=stream,
        )


def as_protocol_error(error: Exception, stream: str) -> ProtocolError:
    """Return the error that a client gets for a command that failed."""
    if isinstance(error, ProtocolError):
        error.stream = stream
        return error
    if isinstance(error, ValueError):
        return ProtocolError(ErrorCode.BAD_CONFIG, str(error), stream=stream)
    logger.error("stream=%s: a command failed", stream, exc_info=error)
    return ProtocolError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}", stream=stream)
