"""Detectors by name, and by `package.module:function`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from trackd_client.detectors.detector import Detector, DetectorError, FunctionDetector

# The modules are imported when their detector is used, since some need packages of their own.
DETECTORS = {
    "background": "trackd_client.detectors.background:BackgroundDetector",
    "colour": "trackd_client.detectors.colour:ColourDetector",
    "aruco": "trackd_client.detectors.aruco:ArucoDetector",
    "sleap": "trackd_client.detectors.sleap:SleapDetector",
    "dlc": "trackd_client.detectors.dlc:DlcDetector",
    "yolo": "trackd_client.detectors.yolo:YoloDetector",
}


def open_detector(name: str, options: Mapping[str, Any] | None = None, animals: int | None = None) -> Detector:
    """Return a new detector.

    Args:
        name: one of `DETECTORS`, or `package.module:function`, also of a module in the working directory: a function
            from an image to `Detections`, a class of such objects, or such an object.
        options: its keyword arguments.
        animals: the number of animals, for a detector that uses it.

    Raises:
        DetectorError: there is no such detector, it has no such option, or a package is missing.
    """
    given = dict(options or {})
    if name not in DETECTORS and ":" not in name:
        raise DetectorError(f"--detector is one of {', '.join(DETECTORS)}, or package.module:function; got {name!r}")
    made = _imported(DETECTORS.get(name, name), given_name=name)
    is_class = inspect.isclass(made)
    if animals is not None and "animals" not in given and is_class and "animals" in _parameters(made):
        given["animals"] = animals
    if given and (is_class or inspect.isfunction(made)):
        _check_options(name, made, given)
    if not is_class:
        if not callable(made):
            raise DetectorError(f"{name} is no function: {type(made).__name__}")
        made = partial(made, **given) if given else made
        return made if isinstance(made, Detector) else FunctionDetector(made)
    detector = made(**given)
    if not callable(detector):
        raise DetectorError(f"{name} is a class without __call__; a detector is called with an image")
    return detector if isinstance(detector, Detector) else FunctionDetector(detector)


def _imported(path: str, given_name: str) -> Any:
    module_name, _, attribute = path.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ImportError as error:
        needed = "pip install 'trackd-client[camera]'" if getattr(error, "name", None) == "cv2" else None
        raise DetectorError(
            f"--detector {given_name}: {error}" + (f"; {needed} installs it" if needed else "")
        ) from None
    except (AttributeError, ValueError):
        raise DetectorError(f"--detector {given_name}: the module {module_name} has no {attribute!r}") from None
    return found


def _parameters(made: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(made).parameters
    except (TypeError, ValueError):
        return {}


def _check_options(name: str, made: Any, given: Mapping[str, Any]) -> None:
    parameters = _parameters(made)
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    positional = 0 if inspect.isclass(made) else 1  # the image
    known = [each for number, each in enumerate(parameters) if number >= positional]
    for option in given:
        if option not in known:
            raise DetectorError(f"the detector {name} has no option {option!r}; known: {', '.join(known) or 'none'}")
