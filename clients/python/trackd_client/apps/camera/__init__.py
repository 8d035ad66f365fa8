"""`trackd-client camera`: the images of a camera, their detections, and both to a daemon, live.

`source.py` opens the camera, `grabber.py` takes its frames on a thread, `camera.py` detects and sends, `video.py`
records, `run.py` is the program.
"""
