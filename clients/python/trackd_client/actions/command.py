"""`command` and `print`: a program for each firing, and a line on standard output."""

from __future__ import annotations

import subprocess
import sys

from trackd_client.actions.action import Action, ActionFailed, Text
from trackd_client.actions.settings import CommandAction, PrintAction
from trackd_client.triggers.firing import Firing
from trackd_client.triggers.templates import Template


class Command(Action):
    """Runs a program with a list of arguments. No shell reads them, so a track's name cannot become a command."""

    def __init__(self, settings: CommandAction) -> None:
        self._program, *args = settings.args
        self._args = [Template(arg) for arg in args]
        self._timeout_s = settings.timeout_s

    def send(self, firing: Firing) -> None:
        """Run the program and wait for its end."""
        words = [self._program, *(arg.text(firing).replace("\0", "") for arg in self._args)]
        try:
            ended = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=self._timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ActionFailed(f"{self._program} did not end within {self._timeout_s:g} s, and was ended") from None
        if ended.returncode != 0:
            raise ActionFailed(f"{self._program} ended with code {ended.returncode}")


class Print(Action):
    """Prints the text as a line."""

    def __init__(self, settings: PrintAction) -> None:
        self._text = Text(settings)

    def send(self, firing: Firing) -> None:
        """Print a line, at once."""
        sys.stdout.write(self._text(firing) + "\n")
        sys.stdout.flush()
