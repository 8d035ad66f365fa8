"""The control socket's requests: `control.py` dispatches them, and each other file holds the methods of one noun."""

from trackd.server.control.control import Control

__all__ = ["Control"]
