"""Which form of SPADE's gamma and beta suits a GPU: dense, pattern and sorted, by PyTorch's operations, without Paddle.

    python benchmarks/gpu_forms.py [--case NAME] [--batch N] [--maps DIR] [--json FILE] ...

The forms are those of `model/ops/plain.py`, operation by operation, in the generator of `torch_spade.py`, so that cards
that no Paddle build serves can be measured, too. Neighbourhoods are numbered, and on the card, before the clock runs.
"""

import argparse
import functools
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import harness  # noqa: E402
from benchmarks.variants import Cycle, Task, fill, prepare  # noqa: E402
from model.configuration.texts import parse_norm_g  # noqa: E402
from model.errors import UserError, run_cli  # noqa: E402
from model.neighbourhoods import class_codes, numbered, resized  # noqa: E402

FORMS = ("dense", "pattern", "sorted")
STRETCH = 64  # pixels of a row that one thread adds up in the sorted form
TOLERANCE = 1e-3  # between the forms' pictures in float32
COLUMNS = (
    "name", *(f"{form}_ms" for form in FORMS), "pattern_gain", "sorted_gain",
    *(f"{form}_mb" for form in FORMS), "difference",
)  # fmt: skip


class Neighbourhoods(NamedTuple):
    """A batch's `Patterns` at one resolution as tensors, and its pixels in the order of their rows, in stretches."""

    labels: object
    edges: object
    inner: object
    outer: object
    index: object
    order: object
    lengths: object
    rows: object

    @classmethod
    def of(cls, codes: np.ndarray, with_edges: bool, kernel_size: int) -> "Neighbourhoods":
        import torch

        present, inner, outer, index = numbered(codes, kernel_size)
        labels, edges = (present // 2, (present % 2).astype(np.float32)) if with_edges else (present, None)
        order, counts = np.argsort(index.ravel(), kind="stable"), np.bincount(index.ravel())
        stretches = -(-counts // STRETCH)
        lengths = np.full(stretches.sum(), STRETCH)
        lengths[np.cumsum(stretches) - 1] = counts - (stretches - 1) * STRETCH
        rows = np.repeat(np.arange(len(counts)), stretches)
        arrays = (labels, edges, inner, outer, index, order, lengths, rows)
        return cls(*(None if a is None else torch.as_tensor(np.ascontiguousarray(a)) for a in arrays))


def gamma_beta(layer, seg, size, *, found, in_order: bool):
    """gamma and beta of a SPADE layer from the current map's neighbourhoods, as `plain._from_patterns`."""
    import torch
    import torch.nn.functional as F

    maps, shared = found[tuple(size)], layer.mlp_shared[0]
    table = shared.weight.flatten(2).permute(2, 1, 0)  # [area, semantic_nc, hidden]
    codes = table.index_select(1, maps.labels)
    if maps.edges is not None:
        codes = codes + maps.edges.view(1, -1, 1) * table[:, -1:]
    codes = F.pad(codes, (0, 0, 0, 1)).flatten(0, 1)
    area = torch.arange(maps.inner.shape[1])
    hidden = F.relu(look_up(codes, maps.inner + area * (len(maps.labels) + 1)).sum(1) + shared.bias)
    hidden = F.pad(hidden, (0, 0, 0, 1))
    rows = maps.outer * len(area) + area

    def spread(conv):
        weight = conv.weight.flatten(2).permute(1, 2, 0).flatten(1)  # [hidden, area * C]
        products = (hidden @ weight).view(-1, conv.out_channels)
        sums = look_up(products, rows).sum(1) + conv.bias
        pixels = sorted_rows().apply(sums, maps) if in_order else look_up(sums, maps.index)
        return pixels.permute(0, 3, 1, 2)

    return spread(layer.mlp_gamma), spread(layer.mlp_beta)


def look_up(table, index):
    """Rows of a table; its gradient is made by atomic additions (that of F.embedding sorts at every step)."""
    return table.index_select(0, index.flatten()).view(*index.shape, -1)


@functools.cache
def sorted_rows():
    """As `look_up`, with a gradient that sums stretches of each row's pixels first."""
    import torch

    class SortedRows(torch.autograd.Function):
        @staticmethod
        def forward(ctx, table, maps):
            ctx.maps, ctx.rows = maps, len(table)
            return look_up(table, maps.index)

        @staticmethod
        def backward(ctx, grad):
            maps = ctx.maps
            pixels = grad.flatten(0, -2).index_select(0, maps.order)
            sums = torch.segment_reduce(pixels.float(), "sum", lengths=maps.lengths, unsafe=True).to(grad.dtype)
            return grad.new_zeros(ctx.rows, grad.shape[-1]).index_add_(0, maps.rows, sums), None

    return SortedRows


def build(form: str, task: Task, training: bool) -> Cycle:
    """One form's step, or picture, as a callable that takes the next map and returns when the device is done."""
    import torch

    from benchmarks.torch_spade import SPADE, VGG19, TorchTrainer, one_hot_semantics

    opt = task.options("torch")
    vgg = fill(VGG19(), "vgg", task.seed) if task.vgg and training else None
    trainer = prepare(TorchTrainer(opt, vgg), task, torch.as_tensor)
    current: dict = {}
    if form != "dense":
        for layer in trainer.G.modules():
            if isinstance(layer, SPADE):
                layer.gamma_beta = functools.partial(gamma_beta, layer, found=current, in_order=form == "sorted")
    batches, kernel_size = task.batches("torch"), parse_norm_g(opt.norm_G)[2]
    for batch in batches if form != "dense" else ():
        codes = class_codes(batch["label"], batch.get("instance"))
        batch["found"] = {
            size: Neighbourhoods.of(resized(codes, *size), task.instances, kernel_size) for size in opt.spade_sizes
        }
    z = torch.as_tensor(task.noise((task.batch, opt.z_dim))) if task.vae else None
    trainer.G.eval()

    def run(batch):
        current.update(batch.get("found", {}))
        if training:
            return trainer.step(batch)
        with torch.no_grad():
            needed = form == "dense" or not task.vae  # the first layer reads a one-hot map where there is no style
            maps = one_hot_semantics(batch["label"], batch.get("instance"), opt) if needed else batch["label"]
            return trainer.G(maps, z).cpu()

    return Cycle(run, batches, trainer.G)


def measure(task: Task, training: bool, precision: str, args: argparse.Namespace) -> dict[str, object]:
    """The result row of one mode in one precision."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "float32"
    with torch.autocast("cuda", torch.float16, enabled=precision == "float16"):
        runs = {form: build(form, task, training) for form in FORMS}
        found = {form: run() for form, run in runs.items()}
        row: dict[str, object] = {"name": f"{'step' if training else 'inference'} {task.title} {precision}"}
        if training:
            pairs = [(found[form][key], value) for form in FORMS for key, value in found["dense"].items()]
            row["difference"] = max(abs(got - want) / max(abs(want), 1) for got, want in pairs)
        else:
            row["difference"] = max((found[form] - found["dense"]).abs().max().item() for form in FORMS)
        if precision == "float32" and not row["difference"] <= TOLERANCE:
            raise UserError(f"the forms differ by {row['difference']:.2g}, above {TOLERANCE}: not the same network")
        for form, run in runs.items():
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            run()
            row[f"{form}_mb"] = (torch.cuda.max_memory_allocated() - before) / 2**20
        timings = harness.alternate(runs, args.repeats, args.warmup, pause=0)
    for form, seconds in timings.items():
        row[f"{form}_ms"] = 1e3 * float(np.median(seconds))
    return row | {f"{form}_gain": row["dense_ms"] / row[f"{form}_ms"] for form in FORMS[1:]}


def main() -> int:
    parser = harness.add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    Task.add_flags(parser)
    parser.set_defaults(repeats=26, warmup=3)
    args = harness.parse(parser)
    import torch

    if not torch.cuda.is_available():
        raise UserError("PyTorch finds no GPU here")
    torch.set_default_device("cuda")
    task, card = Task.of(args), torch.cuda.get_device_properties(0)
    print(f"{card.name}, compute capability {card.major}.{card.minor}, CUDA {torch.version.cuda}", end="; ")
    print(f"label maps: {task.load().source}; medians of {args.repeats} alternated runs; MB beside the weights")
    rows = [
        functools.partial(measure, task, training, precision, args)
        for training in (False, True)
        for precision in ("float32", "TF32", "float16")
    ]
    return harness.report(rows, args, COLUMNS)


if __name__ == "__main__":
    run_cli(main)
