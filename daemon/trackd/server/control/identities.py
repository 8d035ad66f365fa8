"""`identities.save` and `identities.list`: the galleries, which hold what named animals look like."""

from __future__ import annotations

import re

from trackd.config import GALLERY_NAME
from trackd.identity.gallery import MAX_GALLERIES
from trackd.server.access.grants import Right
from trackd.server.control.call import READERS, Call
from trackd_client.excerpt import excerpt
from trackd_client.protocol import fields as read
from trackd_client.protocol.errors import bad_message


def save(call: Call) -> None:
    """Save what the named animals of a stream look like; answer with the names in the gallery."""
    session = call.session(Right.CONTROL)
    name = read.text(call.params, "gallery")
    if not re.fullmatch(GALLERY_NAME, name):
        raise bad_message(
            f"gallery must have 1 to 64 letters, digits or . _ -, and begin with a letter or digit; got {excerpt(name)}"
        )
    call.daemon.streams.requests.save_gallery(session, name, call.answer)


def list_galleries(call: Call) -> None:
    """Answer with the names of the first 1,024 galleries."""
    call.grant.require_any(READERS)
    call.answer(call.daemon.streams.galleries.names()[:MAX_GALLERIES])
