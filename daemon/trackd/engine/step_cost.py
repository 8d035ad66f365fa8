"""What a stream's next step will take, and which thread runs it: arithmetic on a few numbers per frame.

Letters: n instances, M live tracks, W observations per track.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from trackd.config import StreamSettings
from trackd.tracking.scorer import Scorer
from trackd_client.protocol import EncodedImage, Frame

SHORT, SHARED, LONG = range(3)  # the lanes; `inbox.py` says which thread runs each

LIGHT_SIZE = 1024  # instances of the steps that may run inline together: a few milliseconds
SMALL_PAIRS = 32_768  # a light step of so many pairs takes at most about 10 ms, whatever its boxes and rules
FEW_INSTANCES = 32  # of a checkpoint's frame that is not expected to be long before one was measured
LIGHT_NS = 10_000_000  # a light step that is expected to take longer is long
HEAVY_NS = 100_000_000  # the same of a checkpoint's: shorter ones share their passes
LARGE_IMAGE_BYTES = 8 << 20  # a larger image takes tens of milliseconds to decode
DECODED_BYTES = 64 << 20  # of images that one step of the shared lane decodes, beyond its first
_DECAY = 0.99  # of a measured rate, for each later step that was faster
_GROWTH = 16  # an estimate for more than so many times the pairs of the largest measured step is only a guess
_PAUSE = 10  # after a step over the limit, the next trial waits for so many times as long


class StepCost:
    """One stream's measured steps: ns per instance up to its features, and ns per pair after them.

    A step is estimated by the highest rates of the last steps; they decay slowly. A stream's frames are rejected while
    the estimate is above `limit_ns`, except for a trial now and then, which replaces the estimate: a stream whose steps
    have become shorter recovers, and trials take at most a tenth of a thread's time. Smaller frames have a smaller
    estimate, and are tracked at once.

    The inbox uses it while the stream waits, and the thread that runs its step or command meanwhile.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Start without measured steps; `use` follows.

        Args:
            clock: monotonic ns.
        """
        self.limit_ns: int | None = None
        self.is_light = False
        self.needs_image = False
        self.runs_inline = False  # its light steps
        self._window = 1
        self._clock = clock
        self._next_trial_ns = 0
        self._forget()

    def _forget(self) -> None:
        self._instance_ns = self._pair_ns = 0.0
        self._most_pairs = 0  # of the measured steps

    def use(self, scorer: Scorer, settings: StreamSettings, limit_ms: float | None = None) -> None:
        """Estimate the steps of this scorer with these settings, of which none was measured.

        Args:
            scorer: of the stream.
            settings: of the stream.
            limit_ms: `limits.step_ms`; None: no limit.
        """
        self.limit_ns = None if limit_ms is None else int(limit_ms * 1e6)
        learns = settings.tracker.identifies  # its step cuts crops, and may wait for the thread that learns
        self.is_light, self.needs_image = scorer.is_light, scorer.needs_image or learns
        self.runs_inline = scorer.is_light and not learns
        self._window = settings.tracker.window_size
        self._forget()

    def pairs(self, n: int, n_tracks: int) -> int:
        """Return a number that the time of the association of n instances with M tracks grows with."""
        if self.is_light:
            return n * (n + n_tracks)
        return (n + n_tracks * self._window) ** 2

    def lane(self, frame: Frame, n: int, pairs: int) -> int:
        """Return the lane of a frame of more than a few pairs, of a checkpoint, or with an encoded image."""
        image = frame.image
        if self.needs_image and type(image) is EncodedImage and image.decoded_bytes > LARGE_IMAGE_BYTES:
            return LONG
        known = self._is_known(pairs)
        if self.is_light:
            if pairs > SMALL_PAIRS and (not known or self.estimate_ns(n, pairs) > LIGHT_NS):
                return LONG
            if n > LIGHT_SIZE or not self.runs_inline or (self.needs_image and type(image) is EncodedImage):
                return SHARED
            return SHORT
        if known:
            return LONG if self.estimate_ns(n, pairs) > HEAVY_NS else SHARED
        return LONG if n > FEW_INSTANCES else SHARED

    def _is_known(self, pairs: int) -> bool:
        return pairs <= _GROWTH * self._most_pairs

    def estimate_ns(self, n: int, pairs: int) -> float:
        """Return the expected time of a step; 0 before one was measured."""
        return n * self._instance_ns + pairs * self._pair_ns

    def over_limit_ms(self, n: int, pairs: int) -> float | None:
        """Return the expected time, ms, of a step that must be rejected; None for one that may run."""
        if self.limit_ns is None or not self._is_known(pairs):
            return None
        expected_ns = self.estimate_ns(n, pairs)
        if expected_ns <= self.limit_ns or self._clock() >= self._next_trial_ns:
            return None
        return expected_ns / 1e6

    def measured(self, n: int, pairs: int, encode_ns: float, associate_ns: float) -> None:
        """Note the time of a step; of one that was cut, the time of the functions that ran."""
        if pairs * _GROWTH < self._most_pairs:
            return  # mostly overhead, which would be taken for a high rate
        instance_ns, pair_ns = encode_ns / max(n, 1), associate_ns / max(pairs, 1)
        limit_ns = self.limit_ns
        if limit_ns is not None and max(encode_ns + associate_ns, self.estimate_ns(n, pairs)) > limit_ns:
            # A trial, or the step that leads to one. Its times replace what is known, whether longer or shorter.
            self._instance_ns, self._pair_ns = instance_ns, pair_ns
            self._next_trial_ns = self._clock() + int(_PAUSE * (encode_ns + associate_ns))
        else:
            self._instance_ns = max(instance_ns, _DECAY * self._instance_ns)
            self._pair_ns = max(pair_ns, _DECAY * self._pair_ns)
        self._most_pairs = max(self._most_pairs, pairs)
