"""Identification: who the animals of one stream are, learnt beside its steps, and the ids that it corrects.

Each step cuts the aligned crops of the animals that touch no other one. After `BLOCK_NS` of capture time the crops of a
block go to a thread, which learns from them and finds which fragments have which ids. Its result is taken at the end of
the next block, always of the one before: so the ids are a function of the frames, whatever the thread's speed. A step
waits for the thread only where the frames come faster than it learns.

What was found is applied as a person's correction is, between two frames.

For a restart, what was learnt is copied every `LOOKS_NS`, and with each correction, by that thread.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd.identity.aligned_crops import Crops, aligned_crops, features
from trackd.identity.arrays import Arrays
from trackd.identity.fragment import Fragment
from trackd.identity.fragments import Fragments
from trackd.identity.gallery import Gallery
from trackd.identity.identities import Identities
from trackd.identity.learnt import Learnt
from trackd.identity.looks import Looks
from trackd.identity.verdict import Verdict
from trackd.tracking.assignment import Assignment
from trackd.tracking.correction import Action, Correction, CorrectionError
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Tracker
from trackd_client.detections import Image

logger = logging.getLogger(__name__)

AUTHOR = "trackd"  # of the corrections that follow from identities
BLOCK_NS = 250_000_000  # capture time of a block
MAX_BLOCK_FRAMES = 64  # of a block; more frames per second are not sampled
SAMPLE_NS = 25_000_000  # least capture time between two samples
MAX_ANIMALS = 64  # instances of a frame; of a frame with more nothing is learnt
# Without a frame for longer than this, and than so many times the time between the last two frames: animals may have
# met and parted unseen.
GAP_NS, GAP_FRAMES = 500_000_000, 8
LOOKS_NS = 5_000_000_000  # capture time between two copies of what was learnt, for a restart
_WAIT_S = 30.0

_Sample = tuple[Fragment, Any, bool]  # a crop and whether its direction is known


@cache
def _thread() -> ThreadPoolExecutor:
    """The thread that learns, for all streams of the process."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="identities")


class Identification:
    """The identities of one stream. The thread that runs its steps uses it."""

    def __init__(self, gallery: Gallery | None = None) -> None:
        """Start without samples, with what is known from a gallery."""
        self._fragments = Fragments()
        self._identities = Identities(gallery)
        self._named_by_people: set[int] = set()  # ids; they are not recognised
        self._trusted: set[int] = set()  # ids that people have corrected since the last block
        self._crops: list[Crops] = []
        self._samples: list[tuple[Fragment, bool]] = []  # parallel to the rows of all crops
        self._frames = 0
        self._block_ends_ns: int | None = None
        self._sampled_ns: int | None = None
        self._learning: Future[list[Verdict]] | None = None
        self._last: tuple[int, int] | None = None  # t_ns of the last frame, and the time between it and the one before
        self._copied_ns: int | None = None
        self._copy: Future[Arrays | None] | None = None
        self._unknown = range(0)  # numbers of corrections that were applied after what a restart has continued from

    def observe(
        self, tracker: Tracker, frame_index: int, t_ns: int, image: Image | None, instances: Instances,
        assignment: Assignment, keep: bool = False,
    ) -> bool:  # fmt: skip
        """Take a tracked frame, and correct the tracker where that is due.

        Args:
            tracker: of the stream; corrections apply to its next frame.
            frame_index: of the frame.
            t_ns: its capture time.
            image: the frame; None: nothing is learnt from it.
            instances: the frame's instances.
            assignment: the tracker's result; what was found is added to it.
            keep: copies of what was learnt are made for a restart (`take_copy`).

        Returns:
            Whether the tracker was corrected.
        """
        fragments = self._follow(frame_index, t_ns, instances.extents, assignment)
        if image is not None and len(fragments) <= MAX_ANIMALS and self._is_due(t_ns):
            self._sample(image, instances, fragments)
        # The first frame, or the clock was set back.
        if self._block_ends_ns is None or t_ns < self._block_ends_ns - 2 * BLOCK_NS:
            self._block_ends_ns = t_ns + BLOCK_NS
        self._frames += 1
        if t_ns < self._block_ends_ns and self._frames < MAX_BLOCK_FRAMES:
            return False
        self._block_ends_ns, self._frames = t_ns + BLOCK_NS, 0
        corrected = self._take_verdicts(tracker, t_ns, assignment)
        self._named_by_people &= set(self._fragments.tracks)
        if keep and (corrected or self._is_copy_due(t_ns)):  # else a restart would not know of the correction
            self._copied_ns, self._copy = t_ns, self.copy_now()
        self._begin_learning(names_of(tracker))
        return corrected

    def _follow(
        self, frame_index: int, t_ns: int, extents: NDArray[np.float32], assignment: Assignment
    ) -> list[Fragment | None]:
        """Take the tracks of a frame, and return the fragment of each instance."""
        before_ns, spacing_ns = self._last or (t_ns, 0)
        passed_ns = max(t_ns - before_ns, 0)
        if spacing_ns and passed_ns > max(GAP_NS, GAP_FRAMES * spacing_ns):
            self._fragments.interrupt()
        self._last = t_ns, passed_ns
        self._follow_corrections(assignment.corrections)
        return self._fragments.observe(
            frame_index, assignment.track_ids, extents, assignment.ended_tracks,
            zip(assignment.merged_rows, assignment.merged_tracks, strict=True),
        )  # fmt: skip

    # --- over a restart ---

    def take_copy(self) -> Future[Arrays | None] | None:
        """Return what was learnt up to this frame, once, if a copy is made after it; its result is None for nothing."""
        taken, self._copy = self._copy, None
        return taken

    def copy_now(self) -> Future[Arrays | None]:
        """Return what was learnt up to now. Crops of the last block are not in it."""
        return _thread().submit(self.learnt().arrays)

    def learnt(self) -> Learnt:
        """Return what was learnt, with the fragments as they are now; the thread that learns makes arrays of it."""
        named, trusted = frozenset(self._named_by_people), frozenset(self._trusted)
        return Learnt(self._identities, self._fragments.fork(), named, trusted, self._last or (0, 0))

    def _is_copy_due(self, t_ns: int) -> bool:
        return self._copied_ns is None or not 0 <= t_ns - self._copied_ns < LOOKS_NS

    @classmethod
    def continued(cls, gallery: Gallery | None, looks: Looks, corrections: int) -> Identification:
        """Continue with looks that were stored.

        Args:
            gallery: that of the stream.
            looks: as they were stored.
            corrections: the number of the last one that was applied until now.

        Raises:
            KeyError, ValueError: something is missing in the looks or does not belong together.
        """
        made, found = cls(), Learnt.of(looks.arrays, gallery)
        made._identities, made._fragments, made._last = found.identities, found.fragments, found.last
        made._named_by_people, made._trusted = set(found.named), set(found.trusted)
        made._unknown = range(looks.corrections + 1, corrections + 1)
        return made

    def replay(self, frame_index: int, t_ns: int, extents: NDArray[np.float32], assignment: Assignment) -> None:
        """Take a frame again that was tracked after the looks were stored; its image is gone."""
        begun = self._fragments.count
        for fragment in self._follow(frame_index, t_ns, extents, assignment):
            if fragment is not None and fragment.number >= begun:
                self._identities.miss(fragment)

    def interrupt(self, live: Collection[int]) -> None:
        """Frames are missing; these tracks are live now."""
        self._fragments.keep(live)
        self._fragments.interrupt()

    # --- what is learnt ---

    def gallery(self, names: dict[int, str]) -> Gallery | None:
        """Return what the named animals look like; None if none of them is known well enough."""
        if self._learning is not None:
            self._learning.result(_WAIT_S)
        return self._identities.gallery(names)

    def _is_due(self, t_ns: int) -> bool:
        if self._sampled_ns is not None and 0 <= t_ns - self._sampled_ns < SAMPLE_NS:
            return False
        self._sampled_ns = t_ns
        return True

    def _sample(self, image: Image, instances: Instances, fragments: list[Fragment | None]) -> None:
        rows = [row for row, each in enumerate(fragments) if each is not None]
        if not rows:
            return
        keypoints = None if instances.keypoints is None else instances.keypoints[rows]
        crops, directed = aligned_crops(image, instances.extents[rows], keypoints)
        self._crops.append(crops)
        self._samples += [
            (each, bool(known)) for each, known in zip((fragments[row] for row in rows), directed, strict=True) if each
        ]

    def _begin_learning(self, names: dict[int, str]) -> None:
        crops, samples = self._crops, self._samples
        self._crops, self._samples = [], []
        live, current = set(self._fragments.tracks), self._fragments.numbers
        known: dict[int, str | None] = {**dict.fromkeys(self._named_by_people), **names}
        self._learning = _thread().submit(
            _learn, self._identities, crops, samples, live, current, self._fragments.seen, known, self._trusted
        )
        self._trusted = set()

    def _take_verdicts(self, tracker: Tracker, t_ns: int, assignment: Assignment) -> bool:
        if self._learning is None:
            return False
        verdicts = self._learning.result(_WAIT_S)
        corrected = False
        events: list[dict[str, Any]] = []
        for verdict in verdicts:
            for fragment in verdict.confirmed:
                if self._fragments.is_current(fragment):
                    self._fragments.confirm(fragment)
            if verdict.recognised is not None and self._name(tracker, t_ns, verdict.recognised):
                events.append(verdict.as_map())
                corrected = True
            # What the history says of an id holds for its track, whatever fragment that is in now.
            continued = [each for each, _ in verdict.moved if self._fragments.is_continued(each)]
            if not verdict.moved or (verdict.cut is None and len(continued) < len(verdict.moved)):
                continue
            event = verdict.as_map()
            if verdict.suspected:
                events.append(event)
                continue
            try:
                self._apply(tracker, t_ns, verdict, continued)
            except CorrectionError as error:
                logger.debug("identities: %s", error)
                continue
            events.append(event)
            corrected = True
        assignment.identity_events = tuple(events)
        return corrected

    def _apply(self, tracker: Tracker, t_ns: int, verdict: Verdict, continued: list[Fragment]) -> None:
        """Give the tracks of a verdict's fragments their other ids; `continued`: those that are surely still seen.

        Raises:
            CorrectionError: a track has ended or is seen elsewhere; nothing has changed.
        """
        exchanged, merged = verdict.exchanges()
        live = tracker.live()
        lost = set(live.ids[~live.active].tolist())
        gone = (exchanged.keys() | merged.keys() | set(merged.values())) - set(live.ids.tolist())
        if gone:
            raise CorrectionError(f"tracks {sorted(gone)} have ended")
        # Whose id each one is after the exchanges.
        now = {exchanged.get(track, track): track for track in live.ids.tolist()}
        for track, into in merged.items():
            if now[into] not in lost:
                raise CorrectionError(f"tracks {track} and {into} are both in the last frame")
        for swap in swaps(exchanged):
            tracker.correct(Correction(Action.SWAP, swap, author=AUTHOR, t_ns=t_ns))
        for track, into in merged.items():
            tracker.correct(Correction(Action.MERGE, (track,), into, author=AUTHOR, t_ns=t_ns))
        self._identities.settle(verdict)
        self._fragments.move(exchanged, merged, continued)

    def _name(self, tracker: Tracker, t_ns: int, recognised: tuple[Fragment, str]) -> bool:
        """Give a track the name of its animal; returns whether it has it."""
        fragment, name = recognised
        if not self._fragments.is_current(fragment):
            return False
        try:
            tracker.correct(Correction(Action.RENAME, (fragment.track,), name=name, author=AUTHOR, t_ns=t_ns))
        except CorrectionError as error:
            logger.debug("identities: %s", error)
            return False
        return True

    def _follow_corrections(self, corrections: Iterable[dict[str, Any]]) -> None:
        """Trust what people have corrected since the last frame."""
        for correction in corrections:
            unknown = correction["number"] in self._unknown
            if correction["author"] == AUTHOR and not (unknown and correction["action"] != Action.RENAME):
                continue
            if correction["action"] == Action.RENAME:
                self._named_by_people.update(correction["tracks"])
                continue
            ids = [*correction["tracks"], *map(correction.get, ("into", "new_id", "replaced"))]
            trusted = [each for each in ids if each is not None]
            self._fragments.trust(trusted)
            self._trusted.update(trusted)
            if unknown:  # what is known of these ids may be of another animal; the thread that learns waits meanwhile
                self._identities.forget(set(trusted))


def names_of(tracker: Tracker) -> dict[int, str]:
    """The names of the tracks that have one, by id."""
    return {} if tracker.corrections is None else dict(tracker.corrections.names)


def swaps(exchanged: dict[int, int]) -> list[tuple[int, int]]:
    """Return swaps of two ids each, which in this order give each track its new id by its old one (a permutation)."""
    at = {track: track for track in exchanged}  # the id that each track has now, by its first one
    found = []
    for track, wanted in exchanged.items():
        has = at[track]
        if has != wanted:
            found.append((has, wanted))
            other = next(each for each, now in at.items() if now == wanted)
            at[track], at[other] = wanted, has
    return found


def _learn(
    identities: Identities,
    crops: list[Crops],
    samples: list[tuple[Fragment, bool]],
    live: set[int],
    current: set[int],
    seen: set[int],
    names: dict[int, str | None],
    trusted: set[int],
) -> list[Verdict]:
    if not crops or len({each.shape[3] for each in crops}) > 1:  # the number of channels has changed within the block
        return identities.learn([], live, current, seen, names, trusted)
    directed = np.array([known for _, known in samples])
    found = features(np.concatenate(crops), directed).astype(np.float64)
    by_fragment: dict[int, list[int]] = {}
    for row, (fragment, _) in enumerate(samples):
        by_fragment.setdefault(fragment.number, []).append(row)
    return identities.learn(
        [(samples[rows[0]][0], found[rows]) for rows in by_fragment.values()],
        live,
        current,
        seen,
        names,
        trusted,
    )
