"""A whole training step's time and memory: pattern form, dense form and plain PyTorch, on the same weights and batches.

    python benchmarks/train_step.py [--case NAME] [--json FILE] [--maps DIR] [--repeats N] ...

A step is the generator's and encoder's update against the discriminators, feature matching and VGG19 (with made-up
weights), then the discriminators' update on a fresh fake. Every round takes the next map. Batches hold what the data
loader's workers hand over: for the pattern form the numbered neighbourhoods too, for PyTorch the label map.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import harness  # noqa: E402
from benchmarks.variants import Cycle, Task, fill, forms_of, memory, prepare  # noqa: E402
from model.errors import UserError, run_cli  # noqa: E402

TOLERANCE = 2e-3  # of a loss: |a - b| / max(|b|, 1)
COLUMNS = (
    "name", "pattern_s", "dense_s", "torch_s", "ratio_vs_dense", "ratio_vs_torch", "loss_difference",
    "pattern_peak_mb", "dense_peak_mb", "torch_peak_mb", "memory_ratio_vs_dense", "memory_ratio_vs_torch",
)  # fmt: skip


def build(form: str, fields: dict) -> Cycle:
    """One form's training step as a callable, which trains on the next batch and returns the seven losses.

    Args:
        form: pattern, dense or torch.
        fields: of a `Task`.
    """
    task = Task(**fields)
    opt = task.options(form)
    if form == "torch":
        import torch

        from benchmarks.torch_spade import VGG19, TorchTrainer

        vgg = fill(VGG19(), "vgg", task.seed) if task.vgg else None
        trainer, tensor = TorchTrainer(opt, vgg), torch.from_numpy
    else:
        import paddle

        from model.trainer import Trainer
        from model.vgg import VGG19

        vgg = fill(VGG19(opt.kernels), "vgg", task.seed) if task.vgg else None
        trainer, tensor = Trainer(opt, vgg), paddle.to_tensor
    return Cycle(prepare(trainer, task, tensor).step, task.batches(form))


def loss_difference(losses: dict[str, dict[str, float]]) -> float:
    """The greatest relative difference of a loss from PyTorch's.

    Raises:
        UserError: it is above the tolerance, so that times would compare different things.
    """
    reference, worst = losses["torch"], 0.0
    for form, values in losses.items():
        for name, value in values.items():
            difference = abs(value - reference[name]) / max(abs(reference[name]), 1.0)
            if not difference <= TOLERANCE:
                raise UserError(f"{form}'s {name} is {value:.6g}, PyTorch's {reference[name]:.6g}: not the same step")
            worst = max(worst, difference)
    return worst


def measure(task: Task, args: argparse.Namespace) -> dict[str, object]:
    """The result row of a task."""
    runs = {form: build(form, vars(task)) for form in forms_of(args)}
    losses = {form: run() for form, run in runs.items()}
    shown = {name: {form: f"{values[name]:.6f}" for form, values in losses.items()} for name in losses["torch"]}
    print(harness.table([{"loss": name, **values} for name, values in shown.items()]))
    compared = {"loss_difference": loss_difference(losses), "losses": losses}
    row = harness.speed_row(f"step {task.title}", harness.alternate(runs, args.repeats, args.warmup), **compared)
    del runs
    return row | memory("benchmarks.train_step:build", task, args)


def main() -> int:
    parser = harness.add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    Task.add_flags(parser)
    args = harness.parse(parser)
    task = Task.of(args)
    print(f"label maps: {task.load().source}; ngf {task.ngf}; medians of {args.repeats} alternated runs")
    return harness.report([lambda: measure(task, args)], args, COLUMNS)


if __name__ == "__main__":
    run_cli(main)
