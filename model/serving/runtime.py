"""Exported folders run by onnxruntime or Paddle Inference. Nothing that the folder holds is executed."""

import importlib.util
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from model.errors import UserError
from model.neighbourhoods import graph_inputs
from model.options import OPT
from model.serving import FILE
from model.serving.description import OPT_FILE, Description
from model.serving.engines import check_program, onnx_engine, paddle_engine

Run = Callable[[Mapping[str, np.ndarray]], np.ndarray]
# What exported graphs consist of: operations on tensors. Programs could also hold some that write files.
OPERATIONS = frozenset(
    "add assign_value assign_value_ cast combine concat conv2d data elementwise_add elementwise_floordiv "
    "elementwise_max elementwise_mod elementwise_mul feed fetch fill_constant flatten flatten_contiguous_range "
    "floor_divide full full_int_array gather gather_nd index_select instance_norm leaky_relu matmul matmul_v2 maximum "
    "multiply not_equal one_hot one_hot_v2 p reduce_sum relu remainder reshape reshape2 scale sum tanh tile "
    "transpose transpose2 unsqueeze unsqueeze2".split()
)
PACKAGES = {"onnx": "onnxruntime", "paddle": "paddle"}  # that the runtimes need


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
        self.description = found = Description.read(folder)
        self.opt = OPT.load(folder / OPT_FILE)
        if not found.fits(self.opt):
            raise UserError(f"{folder / OPT_FILE} and {FILE} beside it are of different models: export the model again")
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
        file = folder / generators[self.form]
        self.generate = runner(file)
        self.has_encoder, self._encoder = bool(encoder), encoder and folder / encoder
        self.info = dict(file=str(file), step=found.step, device="cpu", parameters=found.parameters, runtime=chosen)

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
