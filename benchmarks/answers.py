"""Answers questions: one JSON object a line on stdin, its answer on stdout. What is imported may print as it likes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any


def answer_all(answer: Callable[..., dict[str, Any]]) -> None:
    """Call `answer` with the items of each question as keywords, until stdin ends.

    An exception is the answer `{"error": text}`: a peer that fails is a result, not a reason to stop.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps other output out of the answers
    for line in sys.stdin:
        try:
            found = answer(**json.loads(line))
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"[:200]}
        answers.write(json.dumps(found) + "\n")
        answers.flush()


def use_cores(count: int) -> Callable[[], float]:
    """Bind this process, and those that it starts, to the first `count` of its cores; to be called before torch.

    Returns:
        a clock, in seconds: with one core that of the process's CPU, which other programs slow least; else a real one.
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    os.environ["OMP_NUM_THREADS"] = str(count)
    return time.process_time if count == 1 else time.perf_counter
