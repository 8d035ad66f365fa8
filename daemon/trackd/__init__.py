"""trackd: a streaming, real-time, multi-object tracking daemon."""

from trackd_client import version

__version__ = version.VERSION
