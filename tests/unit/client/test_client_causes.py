"""Frames that were not tracked are counted by cause, in bounded memory."""

from trackd_client.causes import MOST_CAUSES, OTHER, Causes


def test_texts_that_differ_in_their_numbers_are_one_cause():
    causes = Causes()
    for frame in (3, 4, 9):
        causes.add(frame, f"frame_index must rise; got {frame} after 1{frame}.5")
    causes.add(5, "no image")
    assert causes.lines == ["3 frames (3 to 9): frame_index must rise; got 3 after 13.5", "1 frame (5): no image"]


def test_many_causes_are_counted_together():
    causes = Causes()
    for number in range(1000):
        causes.add(number, "node " + "x" * number)
    assert len(causes.lines) == MOST_CAUSES + 1
    assert causes.lines[-1] == f"{1000 - MOST_CAUSES} frames ({MOST_CAUSES} to 999): {OTHER}"
