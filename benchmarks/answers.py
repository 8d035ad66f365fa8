"""Answers questions: one JSON object a line on stdin, its answer on stdout. What is imported may print as it likes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil


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


Clock = Callable[[], float]  # seconds


def use_cores(count: int) -> tuple[Clock, Clock]:
    """Bind this process, and those that it starts, to the first `count` of its cores; to be called before torch.

    Returns:
        a clock for parts, and one for a whole job. With one core they count CPU, which other programs slow least: the
        first that of this process, the second also that of the processes that it starts.
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    os.environ["OMP_NUM_THREADS"] = str(count)
    if count == 1:
        return time.process_time, _cpu_of_all
    return time.perf_counter, time.perf_counter


def _cpu_of_all() -> float:
    living = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(os.times()[:4]) + sum(each.user + each.system for each in living)
