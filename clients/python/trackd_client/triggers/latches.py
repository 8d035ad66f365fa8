"""What a state of a track needs to fire: two thresholds, a duration, and a time between two firings."""

from __future__ import annotations

import numpy as np

from trackd_client.triggers.table import Keys, Mask, Table

NEVER = -(2**63)


class Refractory:
    """The least time between two firings of a rule: of one track or pair, or of the rule as a whole.

    Args:
        time_ns: 0: no such time.
        per_rule: one firing of any key begins the time for all keys.
    """

    def __init__(self, time_ns: int, *, per_rule: bool = False) -> None:
        self._time_ns = time_ns
        self._per_rule = per_rule
        self._last = NEVER
        self._table = Table(last=np.int64(NEVER))

    def admit(self, keys: Keys, due: Mask, t_ns: int) -> Mask:
        """Return which of the keys that are due may fire at `t_ns`; they are taken to fire."""
        if not self._time_ns or not due.any():
            return due
        admitted = np.zeros(len(keys), bool)
        if self._per_rule:
            self._last = min(self._last, t_ns)  # the clock may have been set back
            if self._last == NEVER or t_ns - self._last >= self._time_ns:
                admitted[np.argmax(due)] = True
                self._last = t_ns
            return admitted
        # Keys whose time is over need no row. So the table holds what fired within that time.
        last = self._table["last"]
        self._table.keep((last > t_ns) | (last > t_ns - self._time_ns))
        rows = self._table.rows(keys[due])
        last = np.minimum(self._table["last"][rows], t_ns)
        free = (last == NEVER) | (last <= t_ns - self._time_ns)
        self._table["last"][rows] = np.where(free, t_ns, last)
        admitted[due] = free
        return admitted


class Latches:
    """The state of each key: it begins at one threshold, ends at another, and is established after `for_ns`.

    Args:
        for_ns: how long the state must last before it is established.
        at_end: fire when an established state ends, in place of when it is established.
    """

    def __init__(self, for_ns: int, *, at_end: bool = False) -> None:
        self._for_ns = for_ns
        self._at_end = at_end
        self.table = Table(on=np.False_, since=np.int64(0), established=np.False_)

    def update(self, keys: Keys, begins: Mask, ends: Mask, t_ns: int) -> tuple[Mask, np.ndarray]:
        """Take one frame's observations.

        Args:
            keys: (n,) ascending, without repetition. Keys that are not observed keep their state.
            begins: (n,) whether the state certainly holds.
            ends: (n,) whether it certainly does not. Where both are false it stays as it was.
            t_ns: the capture time.

        Returns:
            Which keys fire, and for how long the state of each has held, in ns.
        """
        rows = self.table.rows(keys)
        on, since, established = (self.table[name] for name in ("on", "since", "established"))
        was = on[rows]
        now = begins | (was & ~ends)
        start = np.where(now & ~was, t_ns, np.minimum(since[rows], t_ns))  # the clock may have been set back
        held = np.where(now | was, t_ns - start, 0)
        before = established[rows] & was
        after = now & (before | (held >= self._for_ns))
        on[rows], since[rows], established[rows] = now, start, after
        fires = (before & ~now) if self._at_end else (after & ~before)
        return fires, held

    def forget(self) -> None:
        """Delete all rows."""
        self.table.keep(np.zeros(len(self.table), bool))

    def forget_idle(self) -> None:
        """Delete the rows whose state does not hold."""
        self.table.keep(self.table["on"])
