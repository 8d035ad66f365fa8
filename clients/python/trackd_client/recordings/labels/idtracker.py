"""idtracker.ai's trajectories, which are refused."""

from __future__ import annotations

from trackd_client.recordings.labels.label_format import LabelFormat

IDTRACKER = LabelFormat(
    title="a .npy file",
    refusal="one of idtracker.ai is a pickle, and opening it can run any code: "
    "write it as a .csv with the columns frame,id,x,y",
    suffixes=(".npy",),
)
