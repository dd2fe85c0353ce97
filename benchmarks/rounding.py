"""How far rounding alone carries trainings apart: this project, and PyTorch on one thread and in float64, from PyTorch.

    python -m benchmarks.rounding [--repeats N] [--steps N] [--json FILE] [--maps DIR] ...

Every round is a training with another seed, the same weights, batches and style noise for all: whole steps (G, E, D,
Adam at two rates) without VGG19. What is told is the greatest difference from float32 PyTorch on all threads: of a
loss, relative, and of a picture (values -1 to 1) that is painted afterwards in evaluation mode.

In float32 a leaky ReLU's input or a gradient that is 0 within rounding has either sign, and Adam's first update is the
gradient's sign. Whatever adds in another order may part there. Float64 is exact for this purpose: where it parts from
PyTorch's float32, the latter has left the true course itself.
"""

import argparse
import dataclasses

import numpy as np

from benchmarks import harness
from benchmarks.variants import Task, prepare
from model.errors import run_cli

FORMS = ("pattern", "torch, one thread", "torch, float64")


def start(form: str, task: Task, threads: int):
    """A trainer with the task's weights and noise, how it takes arrays, and how it paints a batch in the mean style."""
    opt = dataclasses.replace(task.options(form), no_vgg_loss=True)
    if form.startswith("torch"):
        import torch

        from benchmarks.torch_spade import TorchTrainer, one_hot_semantics

        kind = torch.float64 if "float64" in form else torch.float32
        torch.set_default_dtype(kind)
        torch.set_num_threads(1 if "one thread" in form else threads)
        trainer, no_gradients = TorchTrainer(opt), torch.no_grad

        def tensor(array):
            return torch.from_numpy(array).to(kind)

        def semantics(batch):
            return one_hot_semantics(batch["label"], batch["instance"], opt)
    else:
        import paddle

        from model.semantics import Semantics
        from model.trainer import Trainer

        trainer, tensor, no_gradients = Trainer(opt), paddle.to_tensor, paddle.no_grad

        def semantics(batch):
            return Semantics.from_batch(batch, opt)

    def paint(batch):
        z = np.zeros((task.batch, opt.z_dim), np.float32)
        trainer.G.eval()
        with no_gradients():
            return trainer.G(semantics(batch), tensor(z)).numpy().astype(np.float64)

    return prepare(trainer, task, tensor), tensor, paint


def train(form: str, task: Task, steps: int, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """The losses [steps, 7] of a form's training, and a picture [N,3,H,W] in the mean style after it."""
    trainer, tensor, paint = start(form, task, threads)
    batches = task.batches(form)
    rows = []
    for i in range(steps):
        batch = batches[i % len(batches)]
        losses = trainer.step({**batch, "image": tensor(batch["image"])})
        rows.append([float(losses[name]) for name in sorted(losses)])
    return np.array(rows), paint(batches[steps % len(batches)])


def measure(task: Task, args: argparse.Namespace) -> dict[str, object]:
    """The result row of a seed."""
    import torch

    losses, picture = train("torch", task, args.steps, args.threads)
    row = {"name": f"rounding, {args.steps} steps, seed {task.seed}"}
    for form in FORMS:
        own = train(form, task, args.steps, args.threads)
        key = form.replace(", ", "_").replace(" ", "_")
        row[f"{key}_losses"] = float(np.max(np.abs(own[0] - losses) / np.maximum(np.abs(losses), 1)))
        row[f"{key}_picture"] = float(np.abs(own[1] - picture).max())
    torch.set_default_dtype(torch.float32)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    harness.add_flags(parser, size=64, batch=2, ngf=8, repeats=5)
    parser.add_argument("--steps", type=int, default=8, help="training steps of each round")
    args = parser.parse_args()
    harness.set_threads(args.threads)
    rows = []
    for seed in range(args.seed, args.seed + args.repeats):
        rows.append(measure(Task.of(args, seed=seed), args))
        print(harness.table(rows[-1:]), flush=True)
    middle = {key: float(np.median([row[key] for row in rows])) for key in rows[0] if key != "name"}
    harness.report([*rows, {"name": f"median of {len(rows)} seeds"} | middle], args)


if __name__ == "__main__":
    run_cli(main)
