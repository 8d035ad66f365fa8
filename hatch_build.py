"""Adds the client of the same version to the dependencies of trackd, so that one file holds the version."""

from hatchling.metadata.plugin.interface import MetadataHookInterface


class ClientOfThisVersion(MetadataHookInterface):
    """Reads the other dependencies from `pyproject.toml`, below the hook's own heading."""

    def update(self, metadata):
        """Set `dependencies`."""
        client = f"trackd-client[recordings]=={metadata['version']}"
        metadata["dependencies"] = [client, *self.config["dependencies"]]
