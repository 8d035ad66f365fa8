"""trackd: a streaming, real-time, multi-object tracking daemon."""


def __getattr__(name: str) -> str:
    """Return `__version__`: imported when it is read, since the process that reads checkpoints has no other package."""
    if name == "__version__":
        from trackd_client.version import VERSION

        return VERSION
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
