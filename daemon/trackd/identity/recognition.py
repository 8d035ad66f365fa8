"""Recognition: which tracks are which animals of a gallery.

Letters: n tracks, s names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from trackd.identity.gallery import Gallery
from trackd.identity.memory import Memory
from trackd.identity.open_fragment import NEVER, OpenFragment, lead
from trackd.identity.verdict import Verdict

RECOGNISE = 4.5  # evidence by which a name must be better than none, and than any other


def recognised(
    memory: Memory, gallery: Gallery, there: Sequence[OpenFragment], names: Mapping[int, str | None]
) -> list[Verdict]:
    """Find the animals of a gallery among tracks.

    Args:
        memory: by which features are compared; its calibration is ready.
        gallery: of as many features.
        there: the last fragments of the tracks without names, (n,); their ids are known.
        names: that other tracks have already, by id.
    """
    used = set(names.values())
    free = [row for row, name in enumerate(gallery.names) if name not in used]
    if not there or not free:
        return []
    n, s = len(there), len(free)
    costs = np.full((n, s + n), NEVER)
    costs[np.arange(n), s + np.arange(n)] = 0.0  # the last n: an animal that is not in the gallery
    costs[:, :s] = -memory.evidence_for_names([each.track for each in there], gallery.means[free], gallery.counts[free])
    _, best = linear_sum_assignment(costs)
    found = []
    for row, (each, column) in enumerate(zip(there, best, strict=True)):
        evidence = float(-costs[row, column])
        if column < s and evidence >= RECOGNISE and lead(costs, best, row) >= RECOGNISE:
            found.append(Verdict(recognised=(each.fragment, gallery.names[free[column]]), evidence=evidence))
    return found
