"""The version of trackd and of its client, which are released together. Nothing else holds it."""

from __future__ import annotations

VERSION = "0.1.0"
