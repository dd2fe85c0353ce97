"""How the cost grows with resolution, batch and number of classes: pattern form against plain PyTorch.

    python -m benchmarks.scaling [--what inference|step] [--dense] [--json FILE] [--maps DIR] ...

One thing changes at a time, from `--size` 256, `--batch` 1 and 182 classes. The maps of other sizes are the same ones,
resized as the nearest pixel. `distinct` is the share of the picture's pixels whose 5x5 neighbourhood is a new one.
"""

import argparse

import numpy as np

from benchmarks import generator, harness, train_step
from benchmarks.variants import FORMS, Task
from model.errors import run_cli

COLUMNS = (
    "name", "distinct", "pattern_s", "torch_s", "dense_s", "ratio_vs_torch", "ratio_vs_dense", "pattern_us_per_pixel",
    "torch_us_per_pixel",
)  # fmt: skip


def distinct_share(task: Task) -> float:
    """Distinct neighbourhoods as a share of the pixels at full resolution, mean over the batches."""
    key = f"patterns/{task.size}x{task.size}"
    counts = [len(b[f"{key}/outer"]) / b[f"{key}/index"].size for b in task.batches("pattern")]
    return float(np.mean(counts))


def measure(task: Task, args: argparse.Namespace) -> dict[str, object]:
    """The result row of one setting; the forms' results are compared first."""
    forms = [form for form in FORMS if form != "dense" or args.dense]
    if args.what == "step":
        runs = {form: train_step.build(form, vars(task)) for form in forms}
        compared = {"loss_difference": train_step.loss_difference({form: run() for form, run in runs.items()})}
    else:
        runs = {form: generator.build(form, vars(task), False) for form in forms}
        compared = generator.compare(runs, False)
    timings = harness.alternate(runs, args.repeats, args.warmup)
    name = f"{args.what} {task.title} classes {task.classes}"
    row = harness.speed_row(name, timings, distinct=distinct_share(task), **compared)
    for form in ("pattern", "torch"):
        row[f"{form}_us_per_pixel"] = row[f"{form}_s"] / (task.batch * task.size**2) * 1e6
    return row


def settings(args: argparse.Namespace) -> list[Task]:
    """The base and every change of one thing, without repetition."""
    tasks = [Task.of(args)]
    tasks += [Task.of(args, size=size) for size in args.sizes]
    tasks += [Task.of(args, batch=batch) for batch in args.batches]
    tasks += [Task.of(args, classes=classes) for classes in args.classes]
    return list(dict.fromkeys(tasks))


def main() -> None:
    parser = harness.add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]), repeats=5)
    parser.add_argument("--what", choices=("inference", "step"), default="inference", help="what to time")
    parser.add_argument("--dense", action="store_true", help="time the dense form too")
    parser.add_argument("--sizes", type=int, nargs="*", default=[128, 256, 512], help="heights and widths in pixels")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 2, 4], help="images in a batch")
    parser.add_argument("--classes", type=int, nargs="*", default=[20, 182, 400], help="numbers of classes")
    args = parser.parse_args()
    harness.set_threads(args.threads)
    tasks = settings(args)
    print(f"label maps: {tasks[0].load().source}; ngf {args.ngf}; medians of {args.repeats} alternated runs")
    harness.report([measure(task, args) for task in tasks], args, COLUMNS)


if __name__ == "__main__":
    run_cli(main)
