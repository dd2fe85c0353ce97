"""Multiply-accumulates that are done, against the dense form's and the irreducible; the share of the machine's rate.

    python -m benchmarks.count [--json FILE] [--maps DIR] ...

`gmac_done` are the multiply-accumulates of all matrix products that one run makes, counted while it runs; those of the
dense form are what PyTorch's own counter finds in the plain implementation. For the generator's inference
they are also derived from the layers' shapes and the maps: the residual convolutions as written, the same by Winograd's
F(2x2, 3x3) where it is used, and the products of the distinct windows. `gemm_gflops` is the rate of one large
matrix product on the same threads, `share_of_gemm` our part of it over the whole run, everything else included.
"""

import argparse
import threading
from contextlib import contextmanager

import numpy as np

from benchmarks import generator, harness, train_step
from benchmarks.variants import Cycle, Task
from model.errors import run_cli

COLUMNS = (
    "name", "gmac_dense", "gmac_residual", "gmac_residual_winograd", "gmac_patterns", "gmac_done", "less_work",
    "seconds", "gflops", "gemm_gflops", "share_of_gemm",
)  # fmt: skip


def product_size(x, y, transpose_x: bool = False, transpose_y: bool = False) -> int:
    """Multiply-accumulates of matmul(x, y), for shapes with or without leading dimensions."""
    rows = (x.shape[-1] if transpose_x else x.shape[-2]) if x.ndim > 1 else 1
    inner = x.shape[-2] if transpose_x and x.ndim > 1 else x.shape[-1]
    columns = (y.shape[-2] if transpose_y else y.shape[-1]) if y.ndim > 1 else 1
    lead = max(np.prod(x.shape[:-2], dtype=np.int64), np.prod(y.shape[:-2], dtype=np.int64))
    return int(lead * rows * inner * columns)


@contextmanager
def counted():
    """Count the multiply-accumulates of `paddle.matmul` from any thread; yields a list whose only entry is the sum."""
    import paddle

    total, lock, matmul = [0], threading.Lock(), paddle.matmul

    def counting(x, y, transpose_x=False, transpose_y=False, **rest):
        with lock:
            total[0] += product_size(x, y, transpose_x, transpose_y)
        return matmul(x, y, transpose_x, transpose_y, **rest)

    paddle.matmul = counting
    try:
        yield total
    finally:
        paddle.matmul = matmul


def residual(net) -> tuple[int, int]:
    """A generator's multiply-accumulates outside of the modulation for one image, from the layers' shapes.

    Args:
        net: `SPADEGenerator`, of which weights, blocks and start_size are read.

    Returns:
        As convolutions are written, and with Winograd's form where `model.ops.cpu_convolution` uses it.
    """
    from model.ops.cpu_convolution import WINOGRAD_CHANNELS, WINOGRAD_PIXELS

    direct = done = 0
    height, width = net.start_size
    convolutions = []
    for block, up in net.blocks():
        height, width = (2 * height, 2 * width) if up else (height, width)
        names = ("conv_0", "conv_1") + (("conv_s",) if block.learned_shortcut else ())
        convolutions += [(getattr(block, name).raw_weight, height, width) for name in names]
    convolutions.append((net.conv_img.raw_weight, height, width))
    for weight, rows, columns in convolutions:
        products = int(np.prod(weight.shape)) * rows * columns
        fits = rows * columns >= WINOGRAD_PIXELS and weight.shape[1] >= WINOGRAD_CHANNELS
        direct += products
        done += products * 4 // 9 if fits and weight.shape[2] == 3 else products
    return direct, done


def patterns(net, batch: dict[str, np.ndarray]) -> int:
    """Multiply-accumulates of gamma and beta: of a batch's distinct inner windows, which the outer ones add up."""
    total = 0
    height, width = net.start_size
    for block, up in net.blocks():
        height, width = (2 * height, 2 * width) if up else (height, width)
        distinct = len(batch[f"patterns/{height}x{width}/inner"]) + 1  # and the window outside the map
        names = ("norm_0", "norm_1") + (("norm_s",) if block.learned_shortcut else ())
        total += sum(2 * distinct * int(np.prod(getattr(block, name).mlp_gamma.raw_weight.shape)) for name in names)
    return total


def dense_work(task: Task) -> dict[str, float]:
    """Multiply-accumulates of plain PyTorch's inference and step in units of 1e9, by its own counter, without data."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.torch_spade import VGG19, TorchTrainer, semantic_channels

    opt, result = task.options(), {}
    with torch.device("meta"):
        trainer = TorchTrainer(opt, VGG19())
        trainer.sample_noise = torch.empty
        seg = torch.empty(task.batch, semantic_channels(opt), task.size, task.size)
        image = torch.empty(task.batch, 3, task.size, task.size)
        for name, work in {
            "inference": lambda: trainer.G(seg, torch.empty(task.batch, opt.z_dim)),
            "step": lambda: (trainer.generator_step(seg, image), trainer.discriminator_step(seg, image)),
        }.items():
            with FlopCounterMode(display=False) as counter:
                if name == "inference":
                    with torch.no_grad():
                        work()
                else:
                    work()
            result[name] = counter.get_total_flops() / 2e9
    return result


def gemm_rates(size: int = 2048, repeats: int = 5) -> dict[str, float]:
    """GFLOP/s of a large square float32 product by Paddle and by NumPy's BLAS, the best of a few each."""
    import paddle

    x = paddle.randn([size, size])
    y = x.numpy()
    runs = {"paddle": lambda: paddle.matmul(x, x), "numpy": lambda: y @ y}
    timings = harness.alternate(runs, repeats, 1)
    return {name: 2 * size**3 / min(timing.seconds) / 1e9 for name, timing in timings.items()}


def run(name: str, cycle: Cycle, dense: float, rate: float, args: argparse.Namespace) -> dict[str, object]:
    """The row of one kind of run: counts and times, medians over the same maps."""
    done = []
    for _ in cycle.items[: args.repeats]:
        with counted() as total:
            cycle()
        done.append(total[0] / 1e9)
    seconds = harness.alternate({"pattern": cycle}, args.repeats, 0)["pattern"].median
    row = {"name": name, "gmac_dense": dense, "gmac_done": float(np.mean(done)), "seconds": seconds}
    row["less_work"] = dense / row["gmac_done"]
    row["gflops"] = 2 * row["gmac_done"] / seconds
    return row | {"gemm_gflops": rate, "share_of_gemm": row["gflops"] / rate}


def main() -> None:
    parser = harness.add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    args = parser.parse_args()
    harness.set_threads(args.threads)
    task = Task.of(args)
    dense, rates = dense_work(task), gemm_rates()
    rate = rates["paddle"]
    cycle = generator.build("pattern", vars(task), False)
    rows = [run(f"inference {task.title}", cycle, dense["inference"], rate, args)]
    direct, done = residual(cycle.net)
    rows[0]["gmac_residual"], rows[0]["gmac_residual_winograd"] = direct * args.batch / 1e9, done * args.batch / 1e9
    rows[0]["gmac_patterns"] = float(np.mean([patterns(cycle.net, batch) for batch in cycle.items])) / 1e9
    del cycle
    rows.append(run(f"step {task.title}", train_step.build("pattern", vars(task)), dense["step"], rate, args))
    print(f"label maps: {task.load().source}; ngf {args.ngf}; medians of {args.repeats} runs")
    told = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    print(f"products of 2048 x 2048 on {args.threads} threads, GFLOP/s: {told}")
    harness.report(rows, args, COLUMNS)


if __name__ == "__main__":
    run_cli(main)
