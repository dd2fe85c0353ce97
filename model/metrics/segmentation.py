"""Segmentation scores of pictures: confusion matrix, the scores from it, and the networks that read the pictures.

Any segmentation model serves that fits `Predictor`, three attributes and a call:

    class Mine:
        name = "upernet"                      # what reports call it
        weights_sha256 = "..."                # or "unknown"
        protocol = "RGB, 512x512, ..."        # how pictures are brought to the network's input, for reports

        def __call__(self, pictures):         # uint8 RGB [n, H, W, 3]
            return scores                     # float [n, classes, h, w], or integer class ids [n, h, w]

Scores of another size than asked for are resized bilinearly before the argmax, ids by nearest neighbour. A predictor
may also have `classes`, how many there are (ids do not tell), and `expect(n)`, which is told how many pictures come.
`load_predictor` makes a predictor of a Paddle inference model, an ONNX file, or a function of a Python file.
"""

import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import paddle
import paddle.nn.functional as F
from PIL import Image

from model.data.palettes import class_names
from model.errors import UserError
from model.files import file_digest
from model.judges.deeplab import DeepLabV2, network_input
from model.metrics.engine import compiled, load_program, program_file
from model.serving.engines import onnx_engine

# The 19 Cityscapes label ids that are evaluated, in the order of the trainIds that most networks put out.
CITYSCAPES_TRAIN = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
IGNORED = -1
# Building the engine takes as long as some 8 pictures without it.
_ENGINE_FROM = 12


# the scores


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Counts [truth, prediction] of pixels whose truth is in 0..classes-1; all other pixels are dropped.

    Args:
        truth: integer, any shape.
        prediction: integer, the same shape; 0..classes-1 wherever the truth counts.
        classes: number of classes.

    Returns:
        int64 [classes, classes]; matrices of several pictures add up.

    Raises:
        UserError: the shapes differ, or a predicted id is out of range.
    """
    if truth.shape != prediction.shape:
        raise UserError(f"a label map of {truth.shape} and a prediction of {prediction.shape} cannot be compared")
    counted = (truth >= 0) & (truth < classes)
    truth, prediction = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
    if prediction.size and not (0 <= prediction.min() and prediction.max() < classes):
        raise UserError(
            f"the segmentation network predicts the id {prediction.max() if prediction.max() >= classes else -1}; "
            f"expected 0..{classes - 1}"
        )
    return np.bincount(classes * truth + prediction, minlength=classes**2).reshape(classes, classes)


@dataclass(frozen=True)
class Scores:
    """What papers report, as fractions of 1, and the same by class; classes without a pixel to judge are nan."""

    pixel_accuracy: float
    mean_accuracy: float
    mean_iou: float
    fw_iou: float
    class_iou: np.ndarray
    class_accuracy: np.ndarray
    class_pixels: np.ndarray


def segmentation_scores(confusion: np.ndarray) -> Scores:
    """Scores of a confusion matrix [truth, prediction].

    The means are over classes that occur in the truth; the frequency-weighted IoU weighs by the truth's frequency.

    Raises:
        UserError: no pixel was counted.
    """
    right = np.diag(confusion).astype(np.float64)
    truth, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    total = truth.sum()
    if not total:
        raise UserError("no pixel of the label maps has an id that counts: check dataset_mode and the label folder")
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy = right / truth
        iou = right / (truth + predicted - right)
    present = truth > 0
    return Scores(
        pixel_accuracy=float(right.sum() / total),
        mean_accuracy=float(accuracy[present].mean()),
        mean_iou=float(iou[present].mean()),
        fw_iou=float((truth[present] / total * iou[present]).sum()),
        class_iou=iou,
        class_accuracy=accuracy,
        class_pixels=truth,
    )


# label ids and network classes


@dataclass(frozen=True)
class Scheme:
    """How the ids of a data set's label maps and the classes of a network belong together.

    Args:
        labels: label id of each class of the network.
        counted: which classes are scored, bool per class.
        names: of the classes.
        ignored: which label ids are dropped, in words, for the report.
    """

    labels: np.ndarray
    counted: np.ndarray
    names: list[str] = field(repr=False)
    ignored: str

    @property
    def classes(self) -> int:
        """Number of the network's classes."""
        return len(self.labels)

    def truth(self, label_map: np.ndarray) -> np.ndarray:
        """Label ids -> classes of the network, IGNORED where the pixel is dropped; int32."""
        table = np.full(max(int(self.labels.max()), int(label_map.max(initial=0))) + 1, IGNORED, np.int32)
        table[self.labels[self.counted]] = np.flatnonzero(self.counted)
        return np.where(label_map < 0, IGNORED, table[np.maximum(label_map, 0)])

    def label_ids(self, prediction: np.ndarray) -> np.ndarray:
        """Classes of the network -> label ids, for colours; other ids pass as they are beyond the palette."""
        inside = (prediction >= 0) & (prediction < self.classes)
        return np.where(inside, self.labels[np.where(inside, prediction, 0)], -1)


def scheme_for(dataset_mode: str, label_nc: int, classes: int, names: Sequence[str] = ()) -> Scheme:
    """The scheme of a data set for a network with that many classes.

    COCO-Stuff: 182 classes, the label ids. ADE20K: 150 classes, label 1 first (151: label 0 first); label 0 is dropped.
    Cityscapes: 19 (trainIds) or 34/35 (labelIds) classes; the 19 of the benchmark count. Otherwise the classes are the
    label ids. Names of the label ids are the data set's unless `names` are given.

    Raises:
        UserError: the network has another number of classes than the data set.
    """
    everything = names or class_names(dataset_mode, label_nc)

    def build(labels: Sequence[int], counted: Sequence[bool] | None, ignored: str) -> Scheme:
        labels = np.asarray(labels)
        names = [everything[i] if i < len(everything) else f"class {i}" for i in labels]
        counted = np.ones(len(labels), bool) if counted is None else np.asarray(counted)
        return Scheme(labels, counted, names, ignored)

    if dataset_mode == "cityscapes" and classes == len(CITYSCAPES_TRAIN):
        return build(CITYSCAPES_TRAIN, None, "all label ids but the 19 evaluated ones")
    if dataset_mode == "cityscapes" and classes in (34, 35):
        ids = range(classes)
        return build(ids, [i in CITYSCAPES_TRAIN for i in ids], "all label ids but the 19 evaluated ones")
    if dataset_mode == "ade20k" and classes == 150:
        return build(range(1, 151), None, "0 (other)")
    if dataset_mode == "ade20k" and classes == 151:
        return build(range(151), [i > 0 for i in range(151)], "0 (other)")
    if classes != label_nc or dataset_mode in ("cityscapes", "ade20k"):
        expected = {"cityscapes": "19, 34 or 35", "ade20k": "150 or 151"}.get(dataset_mode, str(label_nc))
        raise UserError(
            f"the segmentation network has {classes} classes; dataset_mode {dataset_mode} expects {expected}: "
            "give a network that was trained on this data set with --seg_model"
        )
    return build(range(classes), None, f"all from {classes} up (unlabelled)")


def scheme_of(
    predictor: "Predictor", dataset_mode: str, label_nc: int, size: tuple[int, int], names: Sequence[str] = ()
) -> Scheme:
    """The scheme of a data set for a predictor, which is shown a blank picture of `size` if it does not say `classes`.

    Raises:
        UserError: see `scheme_for`.
    """
    classes = getattr(predictor, "classes", None)
    if classes is None:
        classes = class_count(predictor(np.zeros((1, *size, 3), np.uint8)))
    if classes is None:  # ids tell no number of classes: take the data set's usual one
        classes = {"ade20k": 150, "cityscapes": 19}.get(dataset_mode, label_nc)
    return scheme_for(dataset_mode, label_nc, classes, names)


# the predictors


class Predictor(Protocol):
    """Reads pictures; see the module's text."""

    name: str
    weights_sha256: str
    protocol: str

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 RGB [n, H, W, 3] -> float scores [n, classes, h, w] or integer ids [n, h, w]."""


@dataclass(frozen=True)
class InputFormat:
    """How a picture becomes a network's input: (value / 255 - mean) / std per channel.

    Args:
        mean, std: of the channels in `order`, for values in 0..1; the defaults are ImageNet's.
        order: "rgb" or "bgr".
        size: (height, width) to resize to bilinearly first; None keeps the picture's size.
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    order: str = "rgb"
    size: tuple[int, int] | None = None

    def __post_init__(self):
        if self.order not in ("rgb", "bgr"):
            raise UserError(f"channel order {self.order!r} is neither rgb nor bgr")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise UserError(f"mean {self.mean} and std {self.std}: expected three numbers each, std above 0")

    def __str__(self) -> str:
        size = "own size" if self.size is None else f"bilinear to {self.size[1]}x{self.size[0]}"
        return f"{self.order.upper()} / 255, mean {self.mean}, std {self.std}, {size}"

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 RGB [n, H, W, 3] -> float32 [n, 3, h, w]."""
        if self.size is not None and pictures.shape[1:3] != self.size:
            resized = [Image.fromarray(p).resize(self.size[::-1], Image.Resampling.BILINEAR) for p in pictures]
            pictures = np.stack([np.asarray(p) for p in resized])
        if self.order == "bgr":
            pictures = pictures[..., ::-1]
        scaled = (pictures.astype(np.float32) / 255 - np.float32(self.mean)) / np.float32(self.std)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


class FunctionPredictor:
    """A function or a Paddle layer on prepared inputs.

    Args:
        function: from a float32 array [n, 3, h, w] (a tensor for a layer) to scores or ids.
        input_format: makes the input of pictures.
        name, weights_sha256: for reports.
    """

    def __init__(
        self,
        function: Callable,
        input_format: InputFormat | None = None,
        name: str = "function",
        weights_sha256: str = "unknown",
    ):
        self.function = function
        self.input_format = input_format or InputFormat()
        self.name = name
        self.weights_sha256 = weights_sha256
        self.protocol = str(self.input_format)
        if isinstance(function, paddle.nn.Layer):
            function.eval()

    @paddle.no_grad()
    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        prepared = self.input_format(pictures)
        if isinstance(self.function, paddle.nn.Layer):
            prepared = paddle.to_tensor(prepared)
        return _first_output(self.function(prepared), self.name)


class DeepLabPredictor:
    """DeepLabV2-ResNet101-MSC on the pictures as they are, the network of COCO-Stuff's numbers."""

    def __init__(self, net: DeepLabV2, weights_sha256: str):
        self.net = net
        self.name = "DeepLabV2-ResNet101-MSC"
        self.classes = net.classes
        self.weights_sha256 = weights_sha256
        sampling = "in/out" if net.legacy else "1/scale"
        self.protocol = f"BGR minus the mean, own size, maximum over scales 1, 0.5, 0.75 (sampled {sampling})"

        self._base: Callable[[np.ndarray], np.ndarray] | None = None

    def expect(self, pictures: int) -> None:
        """Say how many pictures come: for many it pays to build Paddle's inference engine, on a CPU."""
        if self._base is None and pictures >= _ENGINE_FROM:
            self._base = compiled(self.net.base, "forward", np.zeros((1, 3, 33, 41), np.float32))

    @paddle.no_grad()
    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        x = paddle.to_tensor(network_input(pictures))
        if self._base is None:
            return self.net(x).numpy()
        return self.net.fused(lambda scaled: paddle.to_tensor(self._base(scaled.numpy())), x).numpy()


class OnnxPredictor(FunctionPredictor):
    """An ONNX model with one image input [n, 3, h, w]; its first output counts. Needs onnxruntime."""

    def __init__(self, path: str | Path, input_format: InputFormat | None = None):
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(f"{path} needs onnxruntime, which is not here: pip install onnxruntime") from error
        try:
            engine = onnx_engine(Path(path), onnxruntime.get_available_providers())
        except Exception as error:  # onnxruntime's errors share no base class
            raise UserError(f"{path} cannot be read as an ONNX model: {str(error).splitlines()[0]}") from error
        if [len(shape) for shape in engine.inputs.values()] != [4]:
            told = ", ".join(f"{name} {shape}" for name, shape in engine.inputs.items())
            raise UserError(f"{path} takes {told}; expected one input [n, 3, h, w]")
        ((name, shape),) = engine.inputs.items()
        fixed_batch = isinstance(shape[0], int)

        def run(prepared: np.ndarray) -> np.ndarray:
            groups = np.split(prepared, len(prepared)) if fixed_batch else [prepared]
            return np.concatenate([engine.run({name: group}) for group in groups])

        super().__init__(run, input_format, Path(path).name, file_digest(path))


class PaddlePredictor(FunctionPredictor):
    """A Paddle inference model, as `paddle.jit.save` and the Paddle suites export it; its first output counts.

    Nothing beside it is executed, and a program is refused that holds other operations than those on tensors.

    Args:
        path: the .pdmodel or .json file, or the path without ending; .pdiparams lies beside it.
    """

    def __init__(self, path: str | Path, input_format: InputFormat | None = None):
        path = Path(path)
        prefix = path.with_suffix("") if path.suffix in (".pdmodel", ".json", ".pdiparams") else path
        program = path if path.suffix in (".pdmodel", ".json") else program_file(prefix)
        params = prefix.with_name(prefix.name + ".pdiparams")
        missing = params if not params.is_file() else prefix if program is None or not program.is_file() else None
        if missing:
            raise UserError(f"{missing} is missing: a Paddle model is a .pdmodel or .json with a .pdiparams beside it")
        super().__init__(load_program(program), input_format, prefix.name, file_digest(params))


def load_predictor(source: str | Path, input_format: InputFormat | None = None) -> Predictor:
    """A predictor of a model file.

    Args:
        source: an .onnx file; a Paddle inference model (.pdmodel, .json, or the path without ending); or FILE.py:NAME,
            a function without arguments of a Python file of yours that returns a `Predictor`, a Paddle layer or a
            function. The file is run.
        input_format: how pictures become the model's input.

    Raises:
        UserError: the file is missing or of no known kind.
    """
    found = re.fullmatch(r"(.+\.py):(\w+)", str(source))
    if found:
        return _from_python(Path(found[1]), found[2], input_format)
    path = Path(source)
    if path.suffix == ".onnx":
        if not path.is_file():
            raise UserError(f"{path} is not a file: give an ONNX model")
        return OnnxPredictor(path, input_format)
    if path.suffix == ".py":
        raise UserError(f"{path}: name the function that makes the model, {path}:NAME")
    return PaddlePredictor(path, input_format)


def _from_python(path: Path, name: str, input_format: InputFormat | None) -> Predictor:
    if not path.is_file():
        raise UserError(f"{path} is not a file: give FILE.py:NAME, a function that returns a segmentation model")
    specification = importlib.util.spec_from_file_location(f"segmentation_{path.stem}", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    if not callable(getattr(module, name, None)):
        raise UserError(f"{path} has no function {name}")
    made = getattr(module, name)()
    if all(hasattr(made, attribute) for attribute in ("name", "weights_sha256", "protocol")):
        return made
    return FunctionPredictor(made, input_format, f"{path.stem}:{name}")


def _first_output(output, name: str) -> np.ndarray:
    """The first output of a model as an array [n, classes, h, w] or integer [n, h, w]."""
    while isinstance(output, (list, tuple)):
        output = output[0]
    array = output.numpy() if isinstance(output, paddle.Tensor) else np.asarray(output)
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    whole = np.issubdtype(array.dtype, np.integer)
    if array.ndim == (3 if whole else 4):
        return array
    raise UserError(
        f"{name} puts out {array.dtype} {list(array.shape)}; expected float scores [n, classes, h, w] or integer ids "
        "[n, h, w]"
    )


def class_count(output: np.ndarray) -> int | None:
    """Number of classes of a predictor's output; None for ids, which do not tell."""
    return output.shape[1] if output.ndim == 4 else None


@paddle.no_grad()
def class_maps(output: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A predictor's output as class ids, int32 [n, height, width]."""
    height, width = size
    if output.ndim == 3:
        rows = (np.arange(height) * output.shape[1] // height)[:, None]
        return output[:, rows, np.arange(width) * output.shape[2] // width].astype(np.int32)
    maps = np.empty((len(output), height, width), np.int32)
    for i, scores in enumerate(output):  # one at a time: 182 planes of full size take much memory
        scores = paddle.to_tensor(scores[None].astype(np.float32))
        if scores.shape[2:] != [height, width]:
            scores = F.interpolate(scores, size=[height, width], mode="bilinear", align_corners=False)
        maps[i] = scores.argmax(axis=1)[0].numpy()
    return maps
