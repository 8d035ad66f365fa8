"""trackd: a streaming, real-time, multi-object tracking daemon."""

from trackd_client.version import VERSION

__version__ = VERSION

__all__ = ["__version__"]
