"""`sleap`, `dlc` and `yolo` on objects with the documented interfaces of their libraries."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from trackd_client.detectors.detector import DetectorError
from trackd_client.detectors.dlc import DlcDetector
from trackd_client.detectors.dlc import detections_of as poses_of_dlc
from trackd_client.detectors.sleap import SleapDetector
from trackd_client.detectors.yolo import YoloDetector
from trackd_client.detectors.yolo_output import decoded, letterboxed

IMAGE = np.zeros((48, 64, 3), np.uint8)
IMAGE[..., 0] = 200  # red


class Tensor:
    """An array behind the methods of a torch tensor."""

    def __init__(self, values) -> None:
        self._values = np.asarray(values, np.float32)

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> np.ndarray:
        return self._values

    def __len__(self) -> int:
        return len(self._values)


class Layer:
    """The `layer` of sleap-nn's `Predictor`; its `predict` returns `Outputs`, whose `numpy` is a map of arrays."""

    def __init__(self, **arrays) -> None:
        self.arrays = arrays
        self.shapes: list[tuple[int, ...]] = []

    def predict(self, image: np.ndarray) -> SimpleNamespace:
        self.shapes.append(image.shape)
        return SimpleNamespace(numpy=lambda: self.arrays)


def sleap(layer: Layer, nodes=("nose", "tail"), edges=((0, 1),)) -> SleapDetector:
    skeleton = SimpleNamespace(node_names=list(nodes), edge_inds=list(edges))
    return SleapDetector(predictor=SimpleNamespace(layer=layer, skeleton=skeleton))


def test_sleap_gives_poses_without_empty_instances():
    points = np.array([[[[1, 2], [3, 4]], [[np.nan] * 2] * 2, [[5, 6], [np.nan, np.nan]]]])
    layer = Layer(pred_keypoints=points, pred_peak_values=np.full((1, 3, 2), 0.9), instance_scores=np.ones((1, 3)))
    detector = sleap(layer)
    found = detector(IMAGE)
    assert detector.skeleton.nodes == ("nose", "tail")
    assert detector.skeleton.edges == ((0, 1),)
    np.testing.assert_array_equal(found.keypoints, points[0][[0, 2]].astype(np.float32))
    assert found.scores.tolist() == [1, 1]
    assert found.keypoint_scores.shape == (2, 2)
    detector(IMAGE[..., 0])
    assert layer.shapes == [(48, 64, 3), (48, 64, 1)]


def test_sleap_gives_points_for_a_model_of_centroids():
    found = sleap(Layer(pred_centroids=np.array([[[1.0, 2], [np.nan, np.nan]]]), pred_centroid_values=np.ones((1, 2))))(
        IMAGE
    )
    assert found.keypoints.shape == (1, 2, 2)
    assert found.keypoints[0, 0].tolist() == [1, 2]
    assert np.isnan(found.keypoints[0, 1]).all()


class DlcLive:
    """`dlclive.DLCLive`: the first image goes to `init_inference`, and every other one to `get_pose`."""

    def __init__(self, pose, cfg=None) -> None:
        self.pose, self.cfg = pose, cfg
        self.calls: list[tuple[str, list[int]]] = []

    def init_inference(self, frame: np.ndarray):
        self.calls.append(("init_inference", frame[0, 0].tolist()))
        return self.pose

    def get_pose(self, frame: np.ndarray):
        self.calls.append(("get_pose", frame[0, 0].tolist()))
        return self.pose


def test_dlc_gives_the_pose_of_one_animal_with_its_likelihoods():
    live = DlcLive(np.array([[1, 2, 0.9], [3, 4, 0.1]]), {"all_joints_names": ["nose", "tail"]})
    detector = DlcDetector(live=live)
    detector(IMAGE)
    found = detector(IMAGE)
    assert live.calls == [("init_inference", [0, 0, 200]), ("get_pose", [0, 0, 200])]  # blue, green, red
    assert detector.skeleton.nodes == ("nose", "tail")
    assert found.keypoints[0, 0].tolist() == [1, 2]
    assert np.isnan(found.keypoints[0, 1]).all()
    assert found.scores[0] == pytest.approx(0.5)


def test_dlc_gives_the_poses_of_several_animals():
    pose = np.array([[[1, 2, 0.9]], [[3, 4, 0.8]], [[np.nan, np.nan, np.nan]]])
    detector = DlcDetector(live=DlcLive(pose, {"metadata": {"bodyparts": ["nose"]}}))
    assert detector(IMAGE[..., 0]).keypoints.tolist() == [[[1, 2]], [[3, 4]]]
    assert detector.skeleton.nodes == ("nose",)
    with pytest.raises(DetectorError, match=r"is \(k, 3\) or \(n, k, 3\); got \(2, 2\)"):
        poses_of_dlc(np.zeros((2, 2)))


class Boxes(SimpleNamespace):
    """`Results.boxes`."""

    def __len__(self) -> int:
        return len(self.xyxy)


class Yolo:
    """`ultralytics.YOLO`: `predict` returns a list with one `Results`."""

    def __init__(self, result) -> None:
        self.result = result
        self.seen: dict = {}

    def predict(self, image: np.ndarray, **options):
        self.seen = {"pixel": image[0, 0].tolist(), **options}
        return [self.result]


def test_yolo_gives_boxes_classes_and_poses_of_ultralytics():
    boxes = Boxes(xyxy=Tensor([[1, 2, 3, 4]]), conf=Tensor([0.7]), cls=Tensor([2]))
    keypoints = SimpleNamespace(xy=Tensor([[[5, 6], [0, 0]]]), conf=Tensor([[0.9, 0.1]]))
    network = Yolo(SimpleNamespace(boxes=boxes, keypoints=keypoints))
    found = YoloDetector(network=network, confidence=0.3)(IMAGE)
    assert network.seen == {"pixel": [0, 0, 200], "conf": 0.3, "iou": 0.5, "imgsz": 640, "verbose": False}
    assert (found.boxes.tolist(), found.classes.tolist()) == ([[1, 2, 3, 4]], [2])
    assert found.keypoints[0, 0].tolist() == [5, 6]
    assert np.isnan(found.keypoints[0, 1]).all()
    assert len(YoloDetector(network=Yolo(SimpleNamespace(boxes=None, keypoints=None)))(IMAGE)) == 0


class Net:
    """`cv2.dnn.Net`: an input blob (1, 3, s, s), an output array."""

    def __init__(self, output: np.ndarray) -> None:
        self.output = output
        self.blob: np.ndarray | None = None

    def setInput(self, blob: np.ndarray) -> None:
        self.blob = blob

    def forward(self) -> np.ndarray:
        return self.output


def test_an_onnx_network_gets_a_square_image_and_its_boxes_are_scaled_back():
    output = np.zeros((1, 6, 20), np.float32)  # two classes
    output[0, :, 0] = [320, 240, 100, 60, 0.1, 0.9]
    output[0, :, 1] = [322, 241, 100, 60, 0.1, 0.8]  # the same object
    output[0, :, 2] = [100, 100, 20, 20, 0.6, 0.1]
    network = Net(output)
    found = YoloDetector(network=network, size=640)(IMAGE)
    assert network.blob.shape == (1, 3, 640, 640)
    assert network.blob[0, :, 0, 0] == pytest.approx([200 / 255, 0, 0])
    assert network.blob[0, :, -1, 0] == pytest.approx([114 / 255] * 3)
    order = np.argsort(found.boxes[:, 0])
    np.testing.assert_allclose(found.boxes[order], [[9, 9, 11, 11], [27, 21, 37, 27]], atol=1e-4)
    assert found.classes[order].tolist() == [0, 1]


def test_networks_for_poses_and_those_that_select_their_boxes_are_read():
    pose = np.zeros((1, 11, 30), np.float32)
    pose[0, :, 4] = [50, 50, 20, 10, 0.9, 45, 50, 0.9, 55, 50, 0.2]
    found = decoded(pose, 1.0, 2, 0.25, 0.5)
    assert found.keypoints[0, 0].tolist() == [45, 50]
    assert np.isnan(found.keypoints[0, 1]).all()
    selected = np.zeros((1, 300, 6), np.float32)
    selected[0, 0] = [10, 20, 30, 40, 0.8, 3]
    found = decoded(selected, 2.0, 0, 0.25, 0.5)
    assert (found.boxes.tolist(), found.classes.tolist()) == ([[5, 10, 15, 20]], [3])
    with pytest.raises(DetectorError, match=r"gives \(1, 3, 8400\)"):
        decoded(np.zeros((1, 3, 8400)), 1.0, 0, 0.25, 0.5)


def test_a_high_image_is_fitted_by_its_height():
    square, scale = letterboxed(np.full((100, 50, 3), 7, np.uint8), 64)
    assert scale == 0.64
    assert (square[:64, :32] == 7).all()
    assert (square[:, 32:] == 114).all()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (SleapDetector, "needs a model: --detector-option models=FOLDER"),
        (DlcDetector, "needs a model: --detector-option model=FOLDER_OR_FILE"),
        (YoloDetector, "needs a model: --detector-option model=FILE"),
        (lambda: YoloDetector(model="/no/such.onnx"), "/no/such.onnx: no such model"),
    ],
)
def test_a_model_that_is_not_named_or_missing_is_one_line(make, text):
    with pytest.raises(DetectorError) as caught:
        make()
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "module", "package"),
    [
        (lambda: SleapDetector(models="m"), "sleap_nn.inference", "pip install sleap-nn"),
        (lambda: DlcDetector(model="m"), "dlclive", "pip install 'deeplabcut-live[pytorch]'"),
        (lambda: YoloDetector(model="m.pt"), "ultralytics", "pip install ultralytics"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_installation(make, module, package, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(DetectorError) as caught:
        make()
    assert package in str(caught.value)
    assert "\n" not in str(caught.value)
