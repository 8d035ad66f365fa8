"""The pictures of docs/concepts.md, from real runs of the tracker and of a daemon.

    python benchmarks/pictures.py [--out docs/images] [--short] [--json FILE]

`--short` runs fewer frames through the daemons, for the test of this script. `--json` writes the values behind each
picture. The pictures of a daemon have measured times, so they differ a little from run to run.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from concept_drawing import draw_crossings, draw_frame, draw_passages, draw_restart, draw_window
from concept_runs import absences, contact, crossings, frame_times, restart, window_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    window, crossing, meeting, absence = window_run(), crossings(), contact(), absences()
    times = frame_times(40 if arguments.short else 1000)
    killed = restart(24 if arguments.short else 240)
    draw_window(window, out / "concepts-window.svg")
    draw_crossings(crossing, out / "concepts-crossing.svg")
    draw_passages([meeting], out / "concepts-contact.svg", "only one animal\nis detected")
    draw_passages(absence, out / "concepts-absence.svg", "hidden")
    draw_frame(times, out / "concepts-frame.svg")
    draw_restart(killed, out / "concepts-restart.svg")
    if arguments.json is not None:
        values: dict[str, Any] = {
            "window": asdict(window),
            "crossing": [asdict(run) for run in crossing],
            "contact": asdict(meeting),
            "absence": [asdict(run) for run in absence],
            "frame": asdict(times),
            "restart": asdict(killed),
        }
        arguments.json.write_text(json.dumps(values))


if __name__ == "__main__":
    sys.exit(main())
