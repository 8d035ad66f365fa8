"""Which tracks are in one box: a detector returns one box for objects that touch.

One of them is matched with the box, as a track of its own would be: the host. The others are hidden in it. They are
accounted for while their host is observed, so they are neither lost nor do their gaps grow.

Letters: S slots, h hidden tracks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackd.tracking.window import Slots, State


class Merged:
    """The hidden tracks and their hosts, by slot. A host is not hidden itself.

    Attributes:
        count: number of hidden tracks.
        hosts: (S,) the host's slot of each hidden track, −1 for all others.
    """

    def __init__(self) -> None:
        self.count = 0
        self.hosts = np.full(0, -1, np.intp)

    @property
    def hidden(self) -> Slots:
        """(h,) slots, ascending."""
        return np.flatnonzero(self.hosts >= 0)

    def members(self) -> tuple[Slots, NDArray[np.intp]]:
        """Return the slots of all hosts and hidden tracks by host, each host first, and the host's slot of each."""
        hidden = self.hidden
        hosts = self.hosts[hidden]
        first = np.unique(hosts)
        slots, of = np.concatenate([first, hidden]), np.concatenate([first, hosts])
        order = np.argsort(of, kind="stable")
        return slots[order], of[order]

    def are_members(self, slots: Slots) -> NDArray[np.bool_]:
        """Return for each of these tracks whether it is in a box with another one."""
        return np.isin(slots, self.members()[0])

    def hosts_of(self, slots: Slots) -> NDArray[np.intp]:
        """Return the host's slot of each of these tracks, −1 for those that are not hidden."""
        hosts = np.full(len(slots), -1, np.intp)
        known = slots < len(self.hosts)
        hosts[known] = self.hosts[slots[known]]
        return hosts

    def in_boxes(self, slots: Slots, rows: NDArray[np.intp]) -> tuple[Slots, NDArray[np.intp]]:
        """Return the hidden tracks whose hosts are matched, and their rows.

        Args:
            slots: (m,) of the matched tracks.
            rows: (m,) of theirs.
        """
        hidden = self.hidden
        hosts = self.hosts[hidden]
        order = np.argsort(slots)
        at = np.minimum(np.searchsorted(slots, hosts, sorter=order), len(slots) - 1)
        matched = slots[order[at]] == hosts if len(slots) else np.zeros(len(hidden), bool)
        return hidden[matched], rows[order[at[matched]]]

    def hide(self, slots: Slots, hosts: Slots) -> None:
        """Put tracks into the boxes of others, and with a host those that are hidden in it."""
        top = int(max(slots.max(), hosts.max())) + 1
        if top > len(self.hosts):
            self.hosts = np.concatenate([self.hosts, np.full(max(2 * top, 16) - len(self.hosts), -1, np.intp)])
        for slot, host in zip(slots.tolist(), hosts.tolist(), strict=True):
            self.hosts[self.hosts == slot] = host
            self.hosts[slot] = host
        self.count = int((self.hosts >= 0).sum())

    def release(self, slots: Slots) -> None:
        """End the merges of these tracks, hidden ones or hosts."""
        self.hosts[slots[slots < len(self.hosts)]] = -1
        self.hosts[np.isin(self.hosts, slots)] = -1
        self.count = int((self.hosts >= 0).sum())

    def snapshot(self) -> State:
        hidden = self.hidden
        return {"hidden": hidden.astype(np.int64), "hosts": self.hosts[hidden].astype(np.int64)}

    def restore(self, state: State) -> None:
        self.release(self.hidden)
        if len(state["hidden"]):
            self.hide(np.array(state["hidden"], np.intp), np.array(state["hosts"], np.intp))

    def check_integrity(self, live: Slots) -> None:
        """Check the invariants.

        Raises:
            RuntimeError: names the invariant that does not hold.
        """
        hidden = self.hidden
        hosts = self.hosts[hidden]
        faults = {
            "a track that is not live is in a box": not np.isin(np.concatenate([hidden, hosts]), live).all(),
            "a host is hidden itself": bool(np.isin(hosts, hidden).any()),
            "the count is wrong": self.count != len(hidden),
        }
        for fault, present in faults.items():
            if present:
                raise RuntimeError(f"merged tracks: {fault}")
