"""`trackd eval`: track recordings as `trackd track` does, and score them against their ground truth."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

from rich.console import Console

from trackd.commands.scoring import RecordingScoring
from trackd.commands.track import IncompleteError, one_checkpoint_each, track
from trackd.config import Config
from trackd.evaluation.cell_scores import cell_score, pooled
from trackd.evaluation.mot_truth import MotTruth
from trackd.evaluation.picture import draw_tracks
from trackd.evaluation.report import ALL, Row, tables, write_csv, write_json
from trackd.evaluation.tracking_scores import tracking_scores
from trackd_client.configuration import ConfigError, find_path
from trackd_client.recordings.recording import Recording

logger = logging.getLogger(__name__)

_PACKAGES = {"trackeval": "trackeval", "py-ctcmetrics": "ctc_metrics", "matplotlib": "matplotlib"}  # module by package


def evaluate(
    config: Config,
    base: Path,
    out: Path | None = None,
    console: Console | None = None,
    *,
    allow_rejected: bool = False,
) -> list[Row]:
    """Track and score every recording of a configuration; with several, the last row combines them.

    Writes `scores.json`, `scores.csv` and a picture of each recording's tracks.

    Args:
        config: a DREEM inference configuration.
        base: the folder that relative paths are tried against first.
        out: folder for the scores; None: `<out_dir>/eval`.
        console: to print to; None: the terminal.
        allow_rejected: rejected frames are no error; their instances count as missed.

    Raises:
        ConfigError, RecordingError: a file cannot be read or written, or no recording has a ground truth.
        IncompleteError: after the scores, if frames were rejected or an output could not be written.
    """
    _check_installed()
    console = console or Console()
    rows: list[Row] = []
    incomplete: list[IncompleteError] = []
    runs = one_checkpoint_each(config)
    for run in runs:
        folder = Path(run.out_dir) / "eval" if out is None else out
        if out is not None and len(runs) > 1:
            folder = out / Path(str(run.ckpt_path)).stem
        scored, fault = _evaluate_one(run, base, folder, console, allow_rejected)
        rows += scored
        incomplete += [] if fault is None else [fault]
    if incomplete:
        raise incomplete[0]
    return rows


def _check_installed() -> None:
    """Check the extra packages before the tracking, which may take an hour."""
    missing = [package for package, module in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ConfigError(f"trackd eval needs packages that are not installed: pip install {' '.join(missing)}")


def _evaluate_one(
    config: Config, base: Path, out: Path, console: Console, allow_rejected: bool
) -> tuple[list[Row], IncompleteError | None]:
    """The rows of one checkpoint, and what was incomplete."""
    truths = _truths(config, base)
    scorings: list[RecordingScoring] = []

    def observe(_: Config, recording: Recording) -> list[RecordingScoring]:
        truth = truths[len(scorings)] if truths else None
        scorings.append(
            RecordingScoring(recording, truth, whole=config.dataset.test_dataset.plays_all_clips, limits=config.limits)
        )
        return [scorings[-1]]

    incomplete: IncompleteError | None = None
    try:
        track(config, base, console, observe=observe, allow_rejected=allow_rejected)
    except IncompleteError as error:  # the scores are shown all the same
        incomplete = error
    scored = [scoring for scoring in scorings if scoring.sequence.has_truth]
    for scoring in scorings:
        if scoring not in scored:
            logger.warning("recording=%s is not scored: it has no ground truth", scoring.sequence.name)
    if not scored:
        raise ConfigError("none of the recordings has a ground truth to score against; `trackd track` needs none")
    rows = _rows(scored)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "scores.json", rows)
    write_csv(out / "scores.csv", rows)
    for scoring, row in zip(scored, rows, strict=False):
        title = f"{row.name}: IDF1 {row.tracking.idf1:.3f}, {row.tracking.id_switches} id switches"
        draw_tracks(out / f"{row.name}.png", title, scoring.histories, scoring.switch_count.switches)
    for table in tables(rows):
        console.print(table)
    for path in (out / "scores.json", out / "scores.csv", *(out / f"{row.name}.png" for row in rows[: len(scored)])):
        console.print(f"wrote {path}", highlight=False)
    return rows, incomplete


def _truths(config: Config, base: Path) -> list[MotTruth]:
    """The ground-truth files of MOTChallenge recordings, in order; they include what the detector missed."""
    paths = config.dataset.test_dataset.gt_files
    return [MotTruth(find_path(path, "dataset.test_dataset.gt_files", base), config.limits) for path in paths]


def _rows(scored: list[RecordingScoring]) -> list[Row]:
    each, total = tracking_scores([scoring.sequence for scoring in scored])
    cells = [cell_score(scoring.sequence) if scoring.are_cells else None for scoring in scored]
    rows = [
        Row(
            name=scoring.sequence.name,
            frames=len(scoring.sequence.frames),
            tracking=score,
            sw_cnt=len(scoring.switch_count.switches),
            cells=cell,
            seg=scoring.seg,
        )
        for scoring, score, cell in zip(scored, each, cells, strict=True)
    ]
    if len(rows) == 1:
        return rows
    segs = [row.seg for row in rows if row.seg is not None]
    together = Row(
        name=ALL,
        frames=sum(row.frames for row in rows),
        tracking=total,
        sw_cnt=sum(row.sw_cnt for row in rows),
        cells=pooled([cell for cell in cells if cell is not None]),
        seg=sum(segs) / len(segs) if segs else None,
    )
    return [*rows, together]
