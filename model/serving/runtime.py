"""Graphs run by inference engines, onnxruntime and Paddle's: exported folders, and the networks of the metrics.

Engines read a graph and its numbers; nothing that can run code, such as the pickle beside a Paddle program, is opened.
"""

import importlib.util
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from model import THREADS
from model.errors import UserError, utf8
from model.neighbourhoods import graph_inputs
from model.options import OPT
from model.serving.description import OPT_FILE, Description

Run = Callable[[Mapping[str, np.ndarray]], np.ndarray]
# What exported graphs consist of: operations on tensors. Programs could also hold some that write files.
OPERATIONS = frozenset(
    "add assign_value assign_value_ cast combine concat conv2d data elementwise_add elementwise_floordiv "
    "elementwise_max elementwise_mod elementwise_mul embedding feed fetch fill_constant flatten "
    "flatten_contiguous_range floor_divide full full_int_array gather gather_nd index_select instance_norm "
    "leaky_relu matmul matmul_v2 maximum multiply not_equal one_hot one_hot_v2 p reduce_sum relu remainder reshape "
    "reshape2 scale sum tanh tile transpose transpose2 unsqueeze unsqueeze2".split()
)
PACKAGES = {"onnx": "onnxruntime", "paddle": "paddle"}  # that the runtimes need


class Engine(NamedTuple):
    """A loaded graph.

    Attributes:
        inputs: the inputs' names, with their shapes where the engine tells them.
        run: from arrays by name to the first output. What is no input is left out.
    """

    inputs: Mapping[str, Sequence | None]
    run: Run


def onnx_engine(file: Path, providers: Sequence[str] = ("CPUExecutionProvider",)) -> Engine:
    """An ONNX file's graph. What onnxruntime raises for a damaged one has no common class."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(utf8(file, "onnxruntime"), options, providers=list(providers))
    inputs = {value.name: value.shape for value in session.get_inputs()}
    return Engine(inputs, lambda arrays: session.run(None, {name: arrays[name] for name in inputs})[0])


def paddle_engine(program: Path, arrays: Path, device: str = "cpu", onednn: bool = True) -> Engine:
    """A Paddle inference model. What its engine raises for a damaged one has no common class.

    Args:
        program: .json or .pdmodel; see `check_program`.
        arrays: its .pdiparams.
        device: as `paddle.get_device` names it.
        onednn: use oneDNN's kernels on CPUs, several times faster than Paddle's own.
    """
    from paddle import inference

    from model.ops.memory import keep_large_maps

    keep_large_maps()  # what is given back and asked for again at each picture took a fifth of its time
    config = inference.Config(*(utf8(file, "Paddle Inference") for file in (program, arrays)))
    kind, _, number = device.partition(":")
    if kind == "gpu":
        config.enable_use_gpu(256, int(number or 0))  # MB to begin with
    else:
        config.disable_gpu()
    if onednn:
        config.enable_mkldnn()
        # One set of plans and reordered weights. Otherwise it makes one for each combination of the inputs' shapes, of
        # which every label map has its own, and keeps ten.
        config.set_mkldnn_cache_capacity(0)
    else:
        config.disable_mkldnn()
    config.set_cpu_math_library_num_threads(THREADS)
    config.disable_glog_info()
    predictor = inference.create_predictor(config)
    handles = {name: predictor.get_input_handle(name) for name in predictor.get_input_names()}
    sink = predictor.get_output_handle(predictor.get_output_names()[0])

    def run(values):
        for name, handle in handles.items():
            array = np.ascontiguousarray(values[name])
            handle.reshape(list(array.shape))
            handle.copy_from_cpu(array)
        predictor.run()
        return sink.copy_to_cpu()

    return Engine(dict.fromkeys(handles), run)


def save_program(layer: Any, prefix: Path, specs: Sequence) -> Path:
    """Write a Paddle layer, or a function of `paddle.jit.to_static`, as an inference model; returns its program."""
    import paddle

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what only the writer of a network wants to know
        paddle.jit.save(layer, str(prefix), input_spec=specs)
    return program_file(prefix)


def program_file(prefix: Path) -> Path | None:
    """The program of an exported network: the .json that Paddle 3 writes, or a .pdmodel."""
    files = (prefix.with_name(prefix.name + suffix) for suffix in (".json", ".pdmodel"))
    return next((file for file in files if file.is_file()), None)


def accelerate(net: Any, method: str, shape: Sequence[int]) -> None:
    """Let Paddle's engine compute a method of a network, with the weights that it has now: much faster on CPUs.

    The engine's answer to an example is compared with the network's own: where Paddle cannot build the engine, cannot
    run it or computes something else, the network stays as it is, and so it does on a GPU.

    Args:
        net: any network, in evaluation mode.
        method: which of its methods, from a float32 tensor [N, C, H, W] of any size to one output.
        shape: of the example, small.
    """
    import paddle

    if method in vars(net) or not paddle.get_device().startswith("cpu"):
        return
    example = np.zeros(shape, np.float32)
    try:
        with tempfile.TemporaryDirectory() as folder, paddle.no_grad():
            part = paddle.jit.to_static(getattr(net, method), full_graph=True)
            spec = paddle.static.InputSpec([None, 3, None, None], "float32")
            program = save_program(part, Path(folder, "part"), [spec])
            (name,), run = paddle_engine(program, program.with_suffix(".pdiparams"))
            got = run({name: example})
            want = getattr(net, method)(paddle.to_tensor(example)).numpy()
    except Exception as error:  # the engine's failures are of many kinds, and none matters: the network itself remains
        logging.getLogger(__name__).info("the inference engine does not serve here: %s", error)
        return
    if got.shape == want.shape and np.allclose(got, want, rtol=0, atol=1e-4 * float(np.abs(want).max())):
        setattr(net, method, lambda x: paddle.to_tensor(run({name: x.numpy()})))


def check_program(program: Path, allowed: frozenset[str], what: str, advice: str = "") -> None:
    """Refuse a Paddle program with other operations than the allowed ones, some of which write files.

    Args:
        program: .json or .pdmodel.
        allowed: names of operations.
        what: what the others are, for the message.
        advice: how the message ends.

    Raises:
        UserError: it has others, it is no program, or not one of this Paddle.
    """
    import paddle

    if program.suffix == ".json" and paddle.__version__.startswith("2."):
        # Its engine takes every file for a .pdmodel, so what is checked here would not be what runs there.
        raise UserError(f"{program} is a program of Paddle 3, and this is Paddle {paddle.__version__}: export it here")
    try:
        found = set((_in_json if program.suffix == ".json" else _in_pdmodel)(program))
    except Exception as error:  # of two parsers, one in C++
        raise UserError(f"{program} is no Paddle program ({type(error).__name__}): export the model again") from None
    if strange := ", ".join(sorted(found - allowed)):
        raise UserError(f"{program} was not loaded: it holds operations that {what} ({strange}){advice}")


def _in_json(program: Path) -> Iterator[str]:
    """The names of a program's operations, such as matmul for "1.matmul"."""
    regions = json.loads(program.read_text(encoding="utf-8"))["program"]["regions"]
    while regions:
        for block in regions.pop()["blocks"]:
            for operation in block["ops"]:
                yield operation["#"].partition(".")[2] or operation["#"]
                regions += operation.get("regions", [])


def _in_pdmodel(program: Path) -> Iterator[str]:
    import paddle

    dynamic = paddle.in_dynamic_mode()
    paddle.enable_static()
    try:
        blocks = paddle.static.deserialize_program(program.read_bytes()).blocks
    finally:
        if dynamic:
            paddle.disable_static()
    return (operation.type for block in blocks for operation in block.ops)


def runner(file: Path) -> Run:
    """An ONNX file or a Paddle inference model as a function of its inputs by name to its one output, on the CPU."""
    try:
        if file.suffix == ".onnx":
            return onnx_engine(file).run
        check_program(file, OPERATIONS, "no export writes")
        arrays = file.with_name(file.stem.partition("_")[0] + ".pdiparams")
        arrays.stat()  # tells where it is missing
        return paddle_engine(file, arrays).run
    except UserError:
        raise
    except Exception as error:  # the engines' errors have no common class
        raise UserError(f"{file} cannot be loaded ({str(error).splitlines()[0]}): export the model again") from None


class Exported:
    """The engine of an exported folder.

    Args:
        folder: what `export` wrote.
        runtime: onnx, paddle, or auto for the first of them that is installed and in the folder.
        form: pattern, dense, or auto for the first that the folder has.

    Raises:
        UserError: the folder is damaged, or has nothing that can run here.
    """

    def __init__(self, folder: Path, runtime: str = "auto", form: str = "auto"):
        self.opt = OPT.load(folder / OPT_FILE)
        self.description = found = Description.read(folder, self.opt)
        packages = {name: package for name, package in PACKAGES.items() if getattr(found, name).get("generator")}
        usable = [name for name, package in packages.items() if importlib.util.find_spec(package)]
        chosen = next((name for name in usable if runtime in ("auto", name)), None)
        if chosen is None:
            needed = " or ".join(packages.values()) or "nothing that is known"
            raise UserError(
                f"{folder} cannot be run with runtime {runtime}: it needs {needed}: pip install -r requirements-app.txt"
            )
        files = getattr(found, chosen)
        generators, encoder = files["generator"], files.get("encoder")
        self.form = next(iter(generators)) if form == "auto" else form
        if self.form not in generators:
            raise UserError(f"{folder} has no form {form} of the generator: it has {', '.join(generators)}")
        self.file, self.runs_on = folder / generators[self.form], {"device": "cpu", "runtime": chosen}
        self.generate = runner(self.file)
        self.has_encoder, self._encoder = bool(encoder), encoder and folder / encoder

    def inputs(self, label, instance, z) -> dict[str, np.ndarray]:
        """What the generator's graph takes for a batch of maps and styles."""
        found = self.description
        if self.form == "pattern":
            inputs = graph_inputs(label, instance, found.spade_sizes, found.kernel_size, len(found.names))
        else:
            maps = {"label": label, "instance": instance}
            inputs = {name: np.asarray(ids, np.int32) for name, ids in maps.items() if ids is not None}
        if z is not None:
            inputs["style"] = np.asarray(z, np.float32)
        return inputs

    def paint(self, batch, z):
        """Pictures float32 [N,3,H,W] in [-1,1] of a batch's maps [N,H,W] in styles z [N,z_dim] (None without VAE)."""
        instance = batch.get("instance") if self.description.uses_instances else None
        return self.generate(self.inputs(batch["label"], instance, z))

    def encode(self, image):
        """The style [N,z_dim] of photos, float [N,3,H,W] in [-1,1]: the mean of the encoder's distribution."""
        return self._encode({"photo": np.asarray(image, np.float32)})

    @cached_property
    def _encode(self) -> Run:  # made when first used: many sessions never see a photo
        return runner(self._encoder)
