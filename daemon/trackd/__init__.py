"""trackd: a streaming, real-time, multi-object tracking daemon."""

__version__ = "0.1.0"
