"""The data loader's throughput against a plain per-sample pipeline in the style of PyTorch programs.

    python benchmarks/data.py [--json FILE] [--maps DIR] [--workers N] ...

`--maps` holds train_img/, train_label/ and train_inst/. Both read the same pictures, scale them to 286/256 of `--size`,
cut and flip them. The plain pipeline handles one sample at a time and makes its one-hot map and edges; ours hands over
ids and numbered neighbourhoods as small arrays, and is also measured without the neighbourhoods ("ids"). Row
"workers N" is the time of a batch when N processes read; "one core" is the work of a batch without any process around
it.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import harness  # noqa: E402
from benchmarks.harness import UNKNOWN  # noqa: E402
from model import CORES  # noqa: E402
from model.data.sample import ensure_sample  # noqa: E402
from model.errors import UserError, run_cli  # noqa: E402
from model.options import OPT  # noqa: E402

COLUMNS = ("name", "ours_s", "ids_s", "plain_s", "ratio_vs_ids", "ratio_vs_plain", "ours_per_s", "ours_mb", "plain_mb")


def pictures(args: argparse.Namespace) -> Path:
    """The folder of pictures and maps.

    Raises:
        UserError: it holds no photos.
    """
    folder = ensure_sample(harness.ROOT / "dataset" / "sample") if args.maps is None else args.maps
    if not any((folder / "train_img").glob("*")):
        raise UserError(f"{folder / 'train_img'}: no photos; --maps takes a folder with train_img/ in it here")
    return folder


def options(folder: Path, args: argparse.Namespace, modulation: str) -> OPT:
    """COCO-Stuff's options for the loader."""
    return OPT(
        dataset_mode="coco_stuff", dataroot=str(folder), crop_size=args.size, load_size=args.size * 286 // 256,
        batchSize=args.batch, seed=args.seed, nThreads=args.workers, modulation=modulation,
    )  # fmt: skip


class PlainPictures:
    """One sample at a time, as a torch program reads it: PIL, a float tensor, a one-hot map.

    Args:
        folder: holds train_img/, train_label/ and train_inst/.
        opt: sizes and classes.
    """

    def __init__(self, folder: Path, opt: OPT):
        self.opt, self.folder = opt, folder
        self.labels = sorted((folder / "train_label").glob("*.png"))
        self.photos = {file.stem: file for file in (folder / "train_img").iterdir()}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        import torch

        opt, file = self.opt, self.labels[index]
        rng = np.random.default_rng([opt.seed, index])
        x, y = rng.integers(0, opt.load_size - opt.crop_size + 1, 2)
        flip = rng.random() < 0.5

        def cut(image, resample):
            image = image.resize((opt.load_size, opt.load_size), resample)
            image = image.crop((x, y, x + opt.crop_size, y + opt.crop_size))
            return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image

        photo = np.array(cut(Image.open(self.photos[file.stem]).convert("RGB"), Image.Resampling.BICUBIC))
        label = np.array(cut(Image.open(file), Image.Resampling.NEAREST)).astype(np.int64)
        inst = cut(Image.open(self.folder / "train_inst" / file.name), Image.Resampling.NEAREST)
        label[label == UNKNOWN] = opt.label_nc
        inst = torch.from_numpy(np.array(inst).astype(np.int64))
        edges = torch.zeros(inst.shape, dtype=torch.bool)
        rows, columns = inst[1:] != inst[:-1], inst[:, 1:] != inst[:, :-1]
        edges[1:] |= rows
        edges[:-1] |= rows
        edges[:, 1:] |= columns
        edges[:, :-1] |= columns
        semantics = torch.zeros(opt.semantic_nc, *label.shape)
        semantics[:-1].scatter_(0, torch.from_numpy(label)[None], 1.0)
        semantics[-1] = edges
        image = torch.from_numpy(photo).permute(2, 0, 1).float() / 127.5 - 1
        return {"image": image, "semantics": semantics}


def timed(loader: Iterable, batches: int) -> float:
    """Seconds per batch over `batches` batches, after one batch that waits for the workers to start."""
    stream = (batch for _ in itertools.count() for batch in loader)
    next(stream)
    begin = time.perf_counter()
    for _ in range(batches):
        next(stream)
    return (time.perf_counter() - begin) / batches


def megabytes(batch) -> float:
    """Size of a batch's arrays."""
    return sum(np.asarray(value).nbytes for value in batch.values()) / 2**20


def one_core(folder: Path, args: argparse.Namespace) -> dict[str, object]:
    """The work of one batch in this process."""
    import torch.utils.data

    from model.data.dataset import PhotoMaps
    from model.data.loader import collate

    def ours(modulation):
        opt = options(folder, args, modulation)
        data, order = PhotoMaps(opt), itertools.count()
        return lambda: collate([data[next(order) % len(data)] for _ in range(args.batch)], opt)

    plain, order = PlainPictures(folder, options(folder, args, "dense")), itertools.count()
    gather = torch.utils.data.default_collate
    variants = {
        "ours": ours("pattern"),
        "ids": ours("dense"),
        "plain": lambda: gather([plain[next(order) % len(plain)] for _ in range(args.batch)]),
    }
    sizes = {f"{name}_mb": megabytes(work()) for name, work in variants.items()}
    return harness.speed_row("one core", harness.alternate(variants, args.repeats, args.warmup, 0.0), "ours", **sizes)


def workers(folder: Path, args: argparse.Namespace) -> dict[str, object]:
    """Batches from worker processes, whose streams are opened and closed for every round."""
    import torch.utils.data

    from model.data.loader import make_loader

    def ours(modulation):
        with make_loader(options(folder, args, modulation), "train") as loader:
            return timed(loader, args.batches)

    def plain():
        data = PlainPictures(folder, options(folder, args, "dense"))
        loader = torch.utils.data.DataLoader(
            data, args.batch, shuffle=True, num_workers=args.workers, drop_last=True, persistent_workers=True
        )
        return timed(loader, args.batches)

    timings = {"ours": [], "ids": [], "plain": []}
    for _ in range(args.repeats):
        timings["ours"].append(ours("pattern"))
        timings["ids"].append(ours("dense"))
        timings["plain"].append(plain())
    return harness.speed_row(f"workers {args.workers}", timings, "ours")


def main() -> int:
    parser = harness.add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    parser.add_argument("--size", type=harness.positive, default=256, help="height and width in pixels")
    parser.add_argument("--batch", type=harness.positive, default=1, help="images in a batch")
    parser.add_argument("--workers", type=int, default=CORES, help="reading processes of both loaders")
    parser.add_argument("--batches", type=int, default=16, help="batches of a round of the loaders")
    args = harness.parse(parser)
    folder = pictures(args)
    print(f"pictures: {folder}; {args.size}x{args.size}, batch {args.batch}; medians of {args.repeats} alternated runs")

    def rates(row):
        return row | {"ours_per_s": args.batch / row["ours_s"]}

    rows = [lambda: rates(one_core(folder, args))] + ([lambda: rates(workers(folder, args))] if args.workers else [])
    return harness.report(rows, args, COLUMNS)


if __name__ == "__main__":
    run_cli(main)
