"""Inference engines, onnxruntime and Paddle's, for exported models and for the networks of the metrics.

They read a graph and its numbers; nothing that can run code, such as the pickle beside a Paddle program, is opened.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model import THREADS
from model.errors import UserError, utf8


class Engine(NamedTuple):
    """A loaded graph.

    Attributes:
        inputs: the inputs' names, with their shapes where the engine tells them.
        run: from arrays by name to the first output. What is no input is left out.
    """

    inputs: Mapping[str, Sequence | None]
    run: Callable[[Mapping[str, np.ndarray]], np.ndarray]


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

    import model.ops.memory  # noqa: F401  keeps freed memory, which else took a quarter of the time

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
