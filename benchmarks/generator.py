"""The generator's time, memory and work: our form, its dense form and plain PyTorch, on the same weights and maps.

    python benchmarks/generator.py [--case NAME] [--mode MODE] [--json FILE] [--maps DIR] [--repeats N] ...

Rows: inference (evaluation mode, no gradients) and forward+backward (training mode, gradients of all weights); with
--mode engines one for each runtime of an exported model, Paddle Inference and onnxruntime, against plain PyTorch.
Every round takes the next map. The neighbourhoods are numbered beforehand, as the data loader's workers do it; what
that takes on one core is a column of its own. `gmac` are the multiply-accumulates of our matrix products, 1e9 for an
image, `torch_gmac` those that PyTorch counts in its own run.
"""

import argparse
import contextlib
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import harness  # noqa: E402
from benchmarks.variants import Cycle, Task, fill, forms_of, memory  # noqa: E402
from model.errors import UserError, run_cli  # noqa: E402

TOLERANCE = 1e-3  # of a pixel's value, which is in [-1, 1]
GRADIENT_TOLERANCE = 1e-2  # of the gradient's norm
ENGINES = {"paddle": "Paddle Inference", "onnx": "onnxruntime"}
COLUMNS = (
    "name", "pattern_s", "engine_s", "dense_s", "torch_s", "ratio_vs_dense", "ratio_vs_torch", "numbering_s",
    "ratio_vs_torch_with_numbering", "difference", "gradient_difference", "pattern_peak_mb", "dense_peak_mb",
    "torch_peak_mb", "memory_ratio_vs_torch", "gmac", "torch_gmac",
)  # fmt: skip


def build(form: str, fields: dict, training: bool) -> Cycle:
    """One form's generator as a callable: an image of the next map, or the gradients of all weights for it.

    Args:
        form: pattern, dense or torch.
        fields: of a `Task`.
        training: forward and backward in training mode; inference otherwise.

    Returns:
        Calls return the image as an array [N,3,H,W]. `.net` is the generator; in training it holds the gradients of
        the last call.
    """
    task = Task(**fields)
    opt = task.options(form)
    if form == "torch":
        import torch

        from benchmarks.torch_spade import SPADEGenerator, one_hot_semantics

        net, tensor, without_gradients = SPADEGenerator(opt), torch.from_numpy, torch.inference_mode

        def paint(batch):
            return net(one_hot_semantics(batch["label"], batch.get("instance"), opt), z)

        def clear():
            net.zero_grad(set_to_none=True)
    else:
        import paddle

        from model.generator import define_G
        from model.semantics import Semantics

        net, tensor, without_gradients = define_G(opt), paddle.to_tensor, paddle.no_grad

        def paint(batch):
            return net(Semantics.from_batch(batch, opt), z)

        def clear():
            for parameter in net.parameters():
                parameter.clear_gradient(False)  # Layer.clear_gradients has no such option on Paddle 2.6

    fill(net, "G", task.seed)
    net.train() if training else net.eval()
    z = tensor(task.noise((task.batch, opt.z_dim))) if task.vae else None
    probe = tensor(task.noise((task.batch, 3, *task.shape), 1))

    def infer(batch):
        with without_gradients():
            return paint(batch).numpy()

    def learn(batch):
        clear()
        image = paint(batch)
        (image * probe).mean().backward()
        return image.detach().numpy()

    return Cycle(learn if training else infer, task.batches(form), net)


def build_engine(runtime: str, task: Task) -> Cycle:
    """An exported generator in its pattern form as a callable, as `build`: onnx or paddle.

    The neighbourhoods are numbered beforehand here too.
    """
    from model.generator import define_G
    from model.serving.export import export
    from model.serving.painter import Painter
    from model.serving.runtime import Exported

    opt = task.options()
    net = fill(define_G(opt), "G", task.seed)
    net.eval()
    painter = Painter(opt, net, None, Path("made-up weights"), None)
    with tempfile.TemporaryDirectory() as folder:
        export(painter, Path(folder, "model"), forms=["pattern"], runtimes=[runtime])
        engine = Exported(Path(folder, "model"))
    z = task.noise((task.batch, opt.z_dim))
    batches = [(batch["label"], batch.get("instance")) for batch in task.batches("dense")]
    return Cycle(engine.generate, [engine.inputs(*maps, z) for maps in batches])


def gradients(net) -> dict[str, np.ndarray]:
    """A generator's gradients by official name, in torch's layout."""
    turned = "fc.weight" if hasattr(net, "sublayers") and net.fc.weight.ndim == 2 else ""
    return {name: p.grad.numpy().T if name == turned else p.grad.numpy() for name, p in net.named_parameters()}


def compare(runs: dict[str, Cycle], training: bool, ours: str = "pattern") -> dict[str, float]:
    """Run each form once on the first map; the greatest differences from ours.

    Raises:
        UserError: a difference is above its tolerance, so that times would compare different things.
    """
    images = {form: run() for form, run in runs.items()}
    fields = {"difference": float(np.max([np.abs(images[ours] - image).max() for image in images.values()]))}
    fields["image_deviation"] = float(images[ours].std())
    if training:
        found = {form: gradients(run.net) for form, run in runs.items()}
        norm = np.sqrt(sum(float(np.square(g).sum()) for g in found[ours].values()))
        distances = [
            np.sqrt(sum(float(np.square(g - grads[name]).sum()) for name, g in found[ours].items()))
            for grads in found.values()
        ]
        fields["gradient_difference"] = float(np.max(distances) / norm)
    for key, limit in (("difference", TOLERANCE), ("gradient_difference", GRADIENT_TOLERANCE)):
        if not fields.get(key, 0.0) <= limit:
            raise UserError(f"the forms' {key} is {fields[key]:.2g}, above {limit:g}: they do not compute the same")
    return fields


def numbering_seconds(task: Task) -> float:
    """Median time in which one core numbers a batch's neighbourhoods."""
    from model.semantics import pattern_arrays

    maps, opt, seconds = task.load(), task.options(), []
    for start in range(len(maps.label)):
        label, instance = maps.batch(task.batch, start)
        begin = time.perf_counter()
        pattern_arrays(label, instance if task.instances else None, opt)
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


@contextlib.contextmanager
def counted():
    """Count the multiply-accumulates of `paddle.matmul` from any thread; yields a list whose only entry is the sum."""
    import paddle

    total, lock, matmul = [0], threading.Lock(), paddle.matmul

    def counting(x, y, transpose_x=False, transpose_y=False, **rest):
        result = matmul(x, y, transpose_x, transpose_y, **rest)
        with lock:
            total[0] += int(np.prod(result.shape)) * x.shape[-2 if transpose_x and x.ndim > 1 else -1]
        return result

    paddle.matmul = counting
    try:
        yield total
    finally:
        paddle.matmul = matmul


def work(runs: dict[str, Cycle], batch: int) -> dict[str, float]:
    """Multiply-accumulates of one run for an image, in 1e9: those of our products, and what PyTorch counts."""
    from torch.utils.flop_counter import FlopCounterMode

    with counted() as total:
        runs["pattern"]()
    with FlopCounterMode(display=False) as counter:
        runs["torch"]()
    return {"gmac": total[0] / batch / 1e9, "torch_gmac": counter.get_total_flops() / 2 / batch / 1e9}


def timed(name: str, ours: str, runs: dict[str, Cycle], task: Task, args: argparse.Namespace, training: bool = False):
    """A result row of what these runs compute, and how fast."""
    compared = compare(runs, training, ours) | (work(runs, task.batch) if ours == "pattern" else {})
    row = harness.speed_row(name, harness.alternate(runs, args.repeats, args.warmup), ours, **compared)
    row["numbering_s"] = numbering_seconds(task)
    row["ratio_vs_torch_with_numbering"] = row["torch_s"] / (row[f"{ours}_s"] + row["numbering_s"])
    return row


def measure(task: Task, training: bool, args: argparse.Namespace) -> dict[str, object]:
    """The result row of one mode."""
    runs = {form: build(form, vars(task), training) for form in forms_of(args)}
    row = timed(
        f"{'forward+backward' if training else 'inference'} {task.title}", "pattern", runs, task, args, training
    )
    del runs
    return row | memory("benchmarks.generator:build", task, args, training=training)


def measure_engine(runtime: str, task: Task, args: argparse.Namespace) -> dict[str, object]:
    """The result row of one runtime of an exported model."""
    runs = {"engine": build_engine(runtime, task), "torch": build("torch", vars(task), False)}
    return timed(f"inference {task.title} {ENGINES[runtime]}", "engine", runs, task, args)


def main() -> int:
    parser = harness.add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    Task.add_flags(parser)
    modes = ("both", "inference", "training", "engines")
    parser.add_argument("--mode", choices=modes, default="both", help="rows to measure; both: inference and training")
    args = harness.parse(parser)
    task = Task.of(args)
    print(f"label maps: {task.load().source}; ngf {task.ngf}; medians of {args.repeats} alternated runs")
    if args.mode == "engines":
        rows = [lambda runtime=runtime: measure_engine(runtime, task, args) for runtime in ENGINES]
    else:
        modes = {"both": (False, True), "inference": (False,), "training": (True,)}[args.mode]
        rows = [lambda training=training: measure(task, training, args) for training in modes]
    return harness.report(rows, args, COLUMNS)


if __name__ == "__main__":
    run_cli(main)
