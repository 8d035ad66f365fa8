"""trackd: a streaming, real-time, multi-object tracking daemon."""

from trackd_client.version import VERSION as __version__

__all__ = ["__version__"]
