"""Engines that run an exported folder: onnxruntime and Paddle Inference. Nothing that the folder holds is executed."""

import contextlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from model import THREADS
from model.errors import UserError, utf8
from model.neighbourhoods import graph_inputs, style_noise
from model.options import OPT
from model.serving.description import FILE, OPT_FILE, Description

Run = Callable[[Mapping[str, np.ndarray]], np.ndarray]
# What exported graphs consist of: operations on tensors. Programs could also hold some that write files.
OPERATIONS = frozenset(
    "add assign_value assign_value_ cast combine concat conv2d data elementwise_add elementwise_floordiv "
    "elementwise_max elementwise_mod elementwise_mul feed fetch fill_constant flatten flatten_contiguous_range "
    "floor_divide full full_int_array gather gather_nd index_select instance_norm matmul matmul_v2 maximum "
    "multiply not_equal one_hot one_hot_v2 p reduce_sum relu remainder reshape reshape2 scale sum tanh tile "
    "transpose transpose2 unsqueeze unsqueeze2".split()
)


def onnx_runner(file: Path) -> Run:
    """An ONNX file's graph as a function of its inputs by name to its one output."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    try:
        session = onnxruntime.InferenceSession(utf8(file, "onnxruntime"), options, providers=["CPUExecutionProvider"])
    except UserError:
        raise
    except Exception as error:  # the runtime's errors have no common class
        raise UserError(f"{file} cannot be loaded ({str(error).splitlines()[0]}): export the model again") from None
    wanted = {value.name for value in session.get_inputs()}
    return lambda inputs: session.run(None, {name: inputs[name] for name in wanted})[0]


def paddle_runner(file: Path) -> Run:
    """A Paddle inference model as a function of its inputs by name to its one output, on the CPU with oneDNN."""
    from paddle import inference

    _check_program(file)
    arrays = file.with_name(file.name.split(".")[0].split("_")[0] + ".pdiparams")
    if not arrays.is_file():
        raise UserError(f"{arrays} is missing: export the model again")
    config = inference.Config(utf8(file, "Paddle Inference"), str(arrays))
    config.disable_gpu()
    config.enable_mkldnn()
    config.set_cpu_math_library_num_threads(THREADS)
    config.disable_glog_info()
    try:
        predictor = inference.create_predictor(config)
    except Exception as error:  # nor have this one's
        raise UserError(f"{file} cannot be loaded ({str(error).splitlines()[0]}): export the model again") from None
    output = predictor.get_output_names()[0]

    def run(inputs):
        for name in predictor.get_input_names():
            handle, array = predictor.get_input_handle(name), np.ascontiguousarray(inputs[name])
            handle.reshape(list(array.shape))
            handle.copy_from_cpu(array)
        predictor.run()
        return predictor.get_output_handle(output).copy_to_cpu()

    return run


def _check_program(file: Path) -> None:
    """Refuse programs with other operations than exports have."""
    strange = ", ".join(sorted(program_operations(file) - OPERATIONS))
    if strange:
        raise UserError(f"{file} was not loaded: it holds operations that no export writes ({strange})")


def program_operations(file: Path) -> set[str]:
    """The names of all operations of a Paddle program, .json or .pdmodel, without loading it into an engine.

    Raises:
        UserError: it is no program, or not one of this Paddle.
    """
    import paddle

    if file.suffix == ".json" and paddle.__version__.startswith("2."):
        # Its engine takes every file for a .pdmodel, so what is checked here would not be what runs there.
        raise UserError(f"{file} is a program of Paddle 3, and this is Paddle {paddle.__version__}: export it here")
    try:
        if file.suffix == ".json":
            return set(_operations(json.loads(file.read_text(encoding="utf-8"))["program"]["regions"]))
        with _static_mode():
            program = paddle.static.deserialize_program(file.read_bytes())
            return {operation.type for block in program.blocks for operation in block.ops}
    except Exception as error:  # of two parsers, one in C++
        raise UserError(f"{file} is no Paddle program ({type(error).__name__}): export the model again") from None


def _operations(regions):
    """The names of a program's operations, such as matmul for "1.matmul"."""
    for region in regions:
        for block in region["blocks"]:
            for operation in block["ops"]:
                yield operation["#"].partition(".")[2] or operation["#"]
                yield from _operations(operation.get("regions", []))


@contextlib.contextmanager
def _static_mode():
    import paddle

    dynamic = paddle.in_dynamic_mode()
    paddle.enable_static()
    try:
        yield
    finally:
        if dynamic:
            paddle.disable_static()


RUNNERS = {"onnx": onnx_runner, "paddle": paddle_runner}
PACKAGES = {"onnx": "onnxruntime", "paddle": "paddle"}


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
        self.description = found = Description.read(folder)
        self.opt = OPT.load(folder / OPT_FILE)
        if not found.fits(self.opt):
            raise UserError(f"{folder / OPT_FILE} and {FILE} beside it are of different models: export the model again")
        there = [name for name in RUNNERS if getattr(found, name).get("generator")]
        usable = [name for name in there if importlib.util.find_spec(PACKAGES[name])]
        chosen = usable[:1] if runtime == "auto" else [name for name in usable if name == runtime]
        if not chosen:
            packages = " or ".join(PACKAGES[name] for name in there) or "nothing that is known"
            raise UserError(
                f"{folder} cannot be run with runtime {runtime}: it needs {packages} (pip install -r "
                "requirements-app.txt)"
            )
        files, make = getattr(found, chosen[0]), RUNNERS[chosen[0]]
        self.form = next(iter(files["generator"])) if form == "auto" else form
        if self.form not in files["generator"]:
            raise UserError(f"{folder} has no form {form} of the generator: it has {', '.join(files['generator'])}")
        self.generate = make(folder / files["generator"][self.form])
        self.has_encoder = bool(files.get("encoder"))
        self._encoder = (make, folder / files["encoder"]) if self.has_encoder else None
        self._encode = None
        self.info = {
            "file": str(folder / files["generator"][self.form]), "step": found.step, "device": "cpu",
            "parameters": found.parameters, "runtime": chosen[0],
        }  # fmt: skip

    def inputs(self, label, instance, z) -> dict[str, np.ndarray]:
        """What the generator's graph takes for a batch of maps and styles."""
        found = self.description
        if self.form == "pattern":
            inputs = graph_inputs(label, instance, found.spade_sizes, found.kernel_size, len(found.names))
        else:
            inputs = {"label": label.astype(np.int32)}
            if instance is not None:
                inputs["instance"] = instance.astype(np.int32)
        if z is not None:
            inputs["style"] = np.asarray(z, np.float32)
        return inputs

    def paint(self, batch, z):
        """Pictures float32 [N,3,H,W] in [-1,1] of a batch's maps [N,H,W] in styles z [N,z_dim] (None without VAE)."""
        maps = [np.asarray(batch[name]) if name in batch else None for name in ("label", "instance")]
        if not self.description.uses_instances:
            maps[1] = None
        return self.generate(self.inputs(*maps, z))

    def encode(self, image):
        """The style [N,z_dim] of photos, float [N,3,H,W] in [-1,1]: the mean of the encoder's distribution."""
        if self._encode is None:  # built when first used: many sessions never see a photo
            make, file = self._encoder
            self._encode = make(file)
        return self._encode({"photo": np.asarray(image, np.float32)})

    def noise(self, seed, number=0):
        """The style [z_dim] that a seed draws for a picture's number: standard normal."""
        return style_noise(seed, number, self.description.z_dim)
