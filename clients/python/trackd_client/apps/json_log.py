"""Log lines as JSON, for collectors such as Loki, Elasticsearch or CloudWatch."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

_FIELDS = re.compile(r"(?:(?:stream=(?P<stream>[\w.-]+)|epoch=(?P<epoch>-?\d+)|seq=(?P<seq>-?\d+)) ?)+: ")


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    Its keys are `time` (UTC, ISO 8601 with microseconds), `level`, `logger`, `message`, and, where the message begins
    with them, `stream`, `epoch` and `seq`. An exception's traceback is the text `traceback`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        message = record.getMessage()
        line: dict[str, str | int] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
        }
        if (found := _FIELDS.match(message)) is not None:
            for name, value in found.groupdict().items():
                if value is not None:
                    line[name] = value if name == "stream" else int(value)
            message = message[found.end() :]
        line["message"] = message
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
