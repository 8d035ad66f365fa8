"""Detectors for live images: an image in, its `Detections` out.

`open_detector` of `named.py` makes one from its name and its options, as `trackd-client camera --detector` does.
"""
