"""trackd: a streaming, real-time, multi-object tracking daemon."""

TYPE_CHECKING = False  # as that of `typing`, which the process that reads checkpoints need not import

if TYPE_CHECKING:
    from trackd.commands.in_memory import track as track

    __version__: str


def __getattr__(name: str) -> object:
    """Return `track` or `__version__`.

    They are imported when they are read, since the process that reads checkpoints has no other package.
    """
    if name == "track":
        from trackd.commands.in_memory import track

        return track
    if name == "__version__":
        from trackd_client.version import VERSION

        return VERSION
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
