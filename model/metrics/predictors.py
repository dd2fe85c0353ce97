"""The networks that read pictures for the segmentation scores; `load_predictor` makes one of a file."""

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import paddle
import paddle.nn.functional as F
from PIL import Image

from model.errors import UserError
from model.files import file_digest
from model.judges.deeplab import DeepLabV2, network_input
from model.serving import runtime

# Building the engine takes as long as some 8 pictures without it.
_ENGINE_FROM = 12
# What a foreign network may consist of, by the names in .pdmodel and in .json files: tensors go in and come out. All
# else is refused, for Paddle has over a thousand operations, some of which read and write files, open connections or
# call back (save, load_combine, send, py_func). Left out on purpose are also those that write where an index points
# (scatter, put_along_axis), and control flow.
NETWORK_OPERATIONS = runtime.OPERATIONS | frozenset(
    # layers
    "affine_grid batch_norm batch_norm_ bicubic_interp bicubic_interp_v2 bilinear_interp bilinear_interp_v2 bmm "
    "channel_shuffle conv2d_transpose depthwise_conv2d depthwise_conv2d_transpose dropout einsum fold "
    "grid_sample grid_sampler group_norm layer_norm log_softmax lookup_table_v2 max_pool2d_with_index mul "
    "nearest_interp nearest_interp_v2 pad pad2d pad3d pixel_shuffle pixel_unshuffle pool2d pool3d softmax "
    "sync_batch_norm sync_batch_norm_ unfold "
    # activations
    "brelu celu elu gelu hard_shrink hard_sigmoid hard_swish hardshrink hardsigmoid hardswish hardtanh "
    "logsigmoid mish prelu relu6 selu sigmoid silu softplus softshrink softsign swish tanh_shrink "
    # numbers one by one
    "abs add_n atan atan2 bitwise_and bitwise_or bitwise_xor ceil clip cos divide elementwise_div elementwise_fmax "
    "elementwise_fmin elementwise_min elementwise_pow elementwise_sub equal erf exp expm1 floor fmax fmin "
    "greater_equal greater_than increment increment_ isfinite isfinite_v2 isinf isinf_v2 isnan isnan_v2 lerp "
    "less_equal less_than log log1p log2 logical_and logical_not logical_or logical_xor logit minimum pow reciprocal "
    "round rsqrt sign sin sinh sqrt square subtract tan trunc where "
    # reductions and orders
    "all any arg_max arg_min argmax argmin argsort cumsum frobenius_norm logsumexp max mean min norm p_norm prod "
    "reduce_all reduce_any reduce_max reduce_mean reduce_min reduce_prod top_k_v2 topk "
    # shapes and constants
    "arange assign expand expand_as expand_as_v2 expand_v2 eye fill_any_like fill_constant_batch_size_like flatten2 "
    "flip full_like full_with_tensor kron linspace meshgrid numel range roll shape shape64 share_data share_data_ "
    "size slice split split_with_num squeeze squeeze2 stack strided_slice tril tril_triu triu unbind unstack".split()
)


class Predictor(Protocol):
    """Any segmentation network.

    It may also have `classes`, how many there are (ids do not tell), and `expect(n)`, which is told how many pictures
    come.
    """

    name: str  # what reports call it
    weights_sha256: str  # or "unknown"
    protocol: str  # how pictures are brought to the network's input, for reports

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 RGB [n, H, W, 3] -> float scores [n, classes, h, w] or integer ids [n, h, w].

        Scores of another size than asked for are resized bilinearly before the argmax, ids by nearest neighbour.
        """


@dataclass(frozen=True)
class InputFormat:
    """How a picture becomes a network's input: (value / 255 - mean) / std per channel."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of the channels in `order`, of values in 0..1; ImageNet's
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    order: str = "rgb"  # or "bgr"
    size: tuple[int, int] | None = None  # (height, width) to resize to bilinearly first; None keeps the picture's

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


@dataclass
class FunctionPredictor:
    """A function or a Paddle layer on prepared inputs.

    Args:
        function: from a float32 array [n, 3, h, w] (a tensor for a layer) to scores or ids.
        input_format: makes the input of pictures; None stands for the usual one.
        name, weights_sha256: for reports.
    """

    function: Callable
    input_format: InputFormat | None = None
    name: str = "function"
    weights_sha256: str = "unknown"

    def __post_init__(self):
        self.input_format = self.input_format or InputFormat()
        self.protocol = str(self.input_format)
        if isinstance(self.function, paddle.nn.Layer):
            self.function.eval()

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

    def expect(self, pictures: int) -> None:
        """Say how many pictures come: for many it pays to build Paddle's inference engine, on a CPU."""
        if pictures >= _ENGINE_FROM:
            runtime.accelerate(self.net.base, "forward", (1, 3, 33, 41))

    @paddle.no_grad()
    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        return self.net(paddle.to_tensor(network_input(pictures))).numpy()


def _exported(path: Path, input_format: InputFormat | None) -> FunctionPredictor:
    """A network that another program wrote, with one image input [n, 3, h, w]; its first output counts."""
    is_onnx = path.suffix == ".onnx"
    try:
        engine, weights, name = (_onnx if is_onnx else _paddle)(path)
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"{path} needs onnxruntime, which is not here: pip install onnxruntime") from error
    except Exception as error:  # the engines' errors share no base class
        kind, reason = "an ONNX" if is_onnx else "a Paddle inference", str(error).strip() or type(error).__name__
        raise UserError(f"{path} cannot be read as {kind} model: {reason.splitlines()[-1]}") from error
    if [4 if shape is None else len(shape) for shape in engine.inputs.values()] != [4]:
        told = ", ".join(image if shape is None else f"{image} {shape}" for image, shape in engine.inputs.items())
        raise UserError(f"{path} takes {told or 'nothing'}; expected one input [n, 3, h, w]")
    ((image, shape),) = engine.inputs.items()

    def run(prepared: np.ndarray) -> np.ndarray:
        has_fixed_batch = shape is not None and isinstance(shape[0], int)
        groups = np.split(prepared, len(prepared)) if has_fixed_batch else [prepared]
        return np.concatenate([engine.run({image: group}) for group in groups])

    return FunctionPredictor(run, input_format, name, file_digest(weights))


def _onnx(path: Path) -> tuple[runtime.Engine, Path, str]:
    """An ONNX model, the file of its numbers, its name. Needs onnxruntime."""
    if not path.is_file():
        raise UserError(f"{path} is not a file: give an ONNX model")
    import onnxruntime

    return runtime.onnx_engine(path, onnxruntime.get_available_providers()), path, path.name


def _paddle(path: Path) -> tuple[runtime.Engine, Path, str]:
    """A Paddle inference model, as `paddle.jit.save` and the Paddle suites write it, the file of its numbers, its name.

    `paddle.jit.load` would unpickle the .pdiparams.info beside it, which can run anything; the engine reads the program
    and its numbers alone. It computes with Paddle's own kernels, as the network's authors did: nothing is there to
    compare oneDNN's answers with.
    """
    prefix = path.with_suffix("") if path.suffix in (".pdmodel", ".json", ".pdiparams") else path
    program = path if path.suffix in (".pdmodel", ".json") else runtime.program_file(prefix)
    params = prefix.with_name(prefix.name + ".pdiparams")
    missing = params if not params.is_file() else prefix if program is None or not program.is_file() else None
    if missing:
        raise UserError(f"{missing} is missing: a Paddle model is a .pdmodel or .json with a .pdiparams beside it")
    advice = ". Give an ONNX model, or a Python file of yours, FILE.py:NAME"
    runtime.check_program(program, NETWORK_OPERATIONS, "are not known to be harmless", advice)
    return runtime.paddle_engine(program, params, paddle.get_device(), onednn=False), params, prefix.name


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
    if path.suffix == ".py":
        raise UserError(f"{path}: name the function that makes the model, {path}:NAME")
    return _exported(path, input_format)


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
