"""What the benchmark scripts share: flags, label maps, fair timing, peak memory, tables and JSON rows.

Nothing here imports Paddle or PyTorch: `set_threads` must come before both.
"""

import argparse
import gc
import importlib
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import model
from model import CORES
from model.data.sample import ensure_sample
from model.errors import UserError
from model.files import replacing

ROOT = Path(__file__).resolve().parent.parent
UNKNOWN = 255  # the unknown class in label files


# Command line


def add_flags(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the flags that every benchmark has; returns `parser`."""
    parser.add_argument("--repeats", type=positive, default=5, help="timed rounds; each round runs every variant")
    parser.add_argument("--warmup", type=int, default=1, help="untimed rounds before")
    parser.add_argument("--threads", type=positive, default=CORES, help="threads of every framework")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, images and noise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file")
    parser.add_argument(
        "--maps", type=Path, metavar="DIR", help="folder with train_label/ and train_inst/, or trainannot/"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round, without memory and the dense form: two minutes"
    )
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line's flags; threads are set, and --quick means what it says."""
    args = parser.parse_args()
    if args.quick:
        args.repeats, args.warmup, args.no_memory, args.no_dense = 1, 0, True, True
    set_threads(args.threads)
    return args


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def set_threads(threads: int) -> None:
    """Give Paddle and PyTorch (imported afterwards, here and in child processes) the same number of threads.

    Raises:
        RuntimeError: one of them is loaded already: Paddle reads the number once, when it is imported.
    """
    loaded = [name for name in ("paddle", "torch") if name in sys.modules]
    if loaded:
        raise RuntimeError(f"set_threads must come before the import of {' and '.join(loaded)}")
    if threads == model.THREADS:  # as it is without a word; Paddle complains where the variable says more than 1
        return
    model.THREADS = threads
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)


# The machine


def machine(threads: int) -> dict[str, str | int]:
    """The processor, cores, threads, system and versions that a result belongs to."""
    versions = {}
    for name in ("paddlepaddle", "paddlepaddle-gpu", "torch", "numpy"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu_model(),
        "cores": CORES,
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions,
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)", info.read_text(), re.MULTILINE) if info.exists() else []
    return names[0] if names else platform.processor() or "unknown"


def describe(info: Mapping[str, object]) -> str:
    """`machine`'s answer as one line."""
    return ", ".join(f"{key} {value}" for key, value in info.items())


# Time


def alternate(
    variants: Mapping[str, Callable[[], object]], repeats: int, warmup: int = 1, pause: float = 0.25
) -> dict[str, list[float]]:
    """Time callables in rounds, so that a slow spell of the machine meets all of them.

    Args:
        variants: what to run, by name. A callable returns when its work is done.
        repeats: timed rounds; every round runs each variant once and starts with the next one.
        warmup: untimed rounds before.
        pause: seconds of rest before each run. OpenMP's threads spin for 0.2 s after a parallel region, which would
            take a core from the other framework's run.

    Returns:
        The seconds of each round, by name, in the order of `variants`.
    """
    if not variants or repeats < 1:
        raise ValueError(f"{len(variants)} variants and {repeats} repeats; expected 1 or more of each")
    names = list(variants)
    rounds: list[dict[str, float]] = []
    begun = time.monotonic()
    try:
        for turn in range(-warmup, repeats):
            start = turn % len(names)
            gc.collect()
            elapsed = {}
            for name in names[start:] + names[:start]:
                time.sleep(pause)
                begin = time.perf_counter()
                variants[name]()
                elapsed[name] = time.perf_counter() - begin
            if turn >= 0:
                rounds.append(elapsed)
            done, total = turn + warmup + 1, repeats + warmup
            progress(f"round {done} of {total}", (time.monotonic() - begun) / done * (total - done))
    except KeyboardInterrupt:
        Interrupt.came = True
        if not rounds:
            raise
    return {name: [elapsed[name] for elapsed in rounds] for name in names}


class Interrupt:
    """Whether Ctrl-C has ended the measuring; what is complete is reported."""

    came = False


def progress(what: str, left: float) -> None:
    """Show how far it is, and the seconds left, on a line of the terminal that the next one overwrites."""
    if sys.stderr.isatty():
        end = "\n" if left <= 0 else ""
        print(f"\r{what}, {round(left) // 60}:{round(left) % 60:02d} left  ", end=end, file=sys.stderr, flush=True)


def speed_row(name: str, timings: Mapping[str, Sequence[float]], ours: str = "pattern", **extra) -> dict[str, object]:
    """One result row: median and quartiles of every variant's seconds, and each other variant's median over `ours`.

    A variant `torch` gives `torch_s`, `torch_quartiles_s` and `ratio_vs_torch`; `extra` is added as it is.
    """
    row: dict[str, object] = {"name": name, **extra}
    for variant, seconds in timings.items():
        row[f"{variant}_s"] = statistics.median(seconds)
        row[f"{variant}_quartiles_s"] = np.percentile(seconds, [25, 75]).tolist()
    return row | {f"ratio_vs_{name}": row[f"{name}_s"] / row[f"{ours}_s"] for name in timings if name != ours}


# Memory


@dataclass(frozen=True)
class Memory:
    """Resident memory of a fresh process, in bytes."""

    imported: int  # after the imports, before anything is built
    peak: int  # the highest in the measured run

    @property
    def used(self) -> int:
        """What the work took at its peak, the frameworks' own code excluded: weights, optimiser, activations."""
        return self.peak - self.imported


def peak_memory(target: str, arguments: Mapping[str, object], imports: Sequence[str] = ()) -> Memory:
    """Peak memory of a callable's second run, after which optimiser states and caches exist, in a process of its own.

    Args:
        target: "module:function". The function is called with `arguments` and returns the callable to measure. The
            module is importable from the project's root; its imports are not counted.
        arguments: keyword arguments, as JSON can hold them.
        imports: further modules to load before the size is first read: frameworks that the function imports itself.

    Raises:
        RuntimeError: the child process failed; the message ends with what it printed.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "memory.json"
        task = json.dumps({"target": target, "arguments": arguments, "imports": imports})
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.harness", task, str(answer)],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        )  # fmt: skip
        if child.returncode != 0 or not answer.exists():
            raise RuntimeError(f"measuring {target} failed with status {child.returncode}: {child.stderr[-2000:]}")
        return Memory(**json.loads(answer.read_text()))


def _measure_memory(task: Mapping[str, object], answer: Path) -> None:
    module, _, function = str(task["target"]).partition(":")
    factory = getattr(importlib.import_module(module), function)
    for name in task["imports"]:
        importlib.import_module(name)
    gc.collect()
    imported = _status("VmRSS")
    run = factory(**task["arguments"])
    run()
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from the present size
    except OSError:
        print("the peak cannot be reset here: it includes building the networks", file=sys.stderr)
    run()
    answer.write_text(json.dumps({"imported": imported, "peak": _status("VmHWM")}))


def _status(field: str) -> int:
    """VmRSS or VmHWM of this process in bytes.

    Not getrusage's ru_maxrss: after fork and exec it starts at the parent's value.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status holds no {field}; memory is measured on Linux only")


# Label maps and images


@dataclass(frozen=True)
class Maps:
    """Label and instance maps of one size.

    Attributes:
        label: int32 [n, H, W], the unknown class as `label_nc`.
        instance: int32 [n, H, W]; the label maps where there are no others.
        source: where they come from.
    """

    label: np.ndarray
    instance: np.ndarray
    source: str

    def batch(self, size: int, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Label and instance maps [size, H, W] from number `start` on, from the first again after the last."""
        index = np.arange(start, start + size) % len(self.label)
        return self.label[index], self.instance[index]


def load_maps(folder: str | Path | None, size: tuple[int, int], label_nc: int = 182) -> Maps:
    """At most 16 maps of a folder, spread evenly, resized as the nearest pixel.

    Args:
        folder: holds train_label/ (and train_inst/) or trainannot/ with PNG files of equal names; None for the
            built-in sample.
        size: height and width in pixels.
        label_nc: number of classes; 255 in a file is the unknown class.

    Raises:
        UserError: a folder or an instance map is missing, or a label is out of range.
    """
    source = "built-in sample" if folder is None else str(folder)
    folder = ensure_sample(ROOT / "dataset" / "sample") if folder is None else Path(folder)
    files = sorted((folder / "train_label").glob("*.png")) or sorted((folder / "trainannot").glob("*.png"))
    files = files[:: max(1, len(files) // 16)][:16]
    if not files:
        raise UserError(
            f"{folder}: no PNG label maps; --maps takes a folder with train_label/ and train_inst/ or trainannot/ in it"
        )
    label = np.stack([_read_map(file, size) for file in files])
    label[label == UNKNOWN] = label_nc
    for file, one in zip(files, label, strict=True):
        if one.max() > label_nc:
            raise UserError(f"{file}: label {one.max()} is outside 0..{label_nc - 1} and {UNKNOWN} (unknown)")
    instances = folder / "train_inst"
    instance = np.stack([_read_map(instances / file.name, size) for file in files]) if instances.is_dir() else label
    return Maps(label, instance, source)


def _read_map(file: Path, size: tuple[int, int]) -> np.ndarray:
    """A map as int32 [H, W]; nothing here may blend ids."""
    try:
        with Image.open(file) as image:
            return np.array(image.resize(size[::-1], Image.Resampling.NEAREST)).astype(np.int32)
    except FileNotFoundError:
        raise UserError(f"{file}: not found; every label map needs an instance map of the same name") from None


def random_images(batch: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """Blurred noise in the place of photos: float32 [batch, 3, H, W] in [-1, 1]."""
    height, width = size
    coarse = np.random.default_rng(seed).uniform(-1, 1, (batch, 3, -(-height // 8), -(-width // 8)))
    return np.tanh(coarse.astype(np.float32).repeat(8, 2).repeat(8, 3)[:, :, :height, :width])


# Results


def table(rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None, markdown: bool = False) -> str:
    """Rows as text with aligned columns, or as a Markdown table.

    Args:
        rows: results; a value that is missing or None leaves its cell empty.
        columns: keys to show; by default every key, in the order of first appearance, whose values are no lists.
        markdown: with bars, for docs.
    """
    if columns is None:
        keys = dict.fromkeys(key for row in rows for key in row)
        columns = [key for key in keys if not any(isinstance(row.get(key), list | tuple) for row in rows)]
    cells = [list(columns)] + [[_cell(row.get(key)) for key in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    right = [any(isinstance(row.get(key), int | float) for row in rows) for key in columns]
    lines = []
    for line in cells:
        padded = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)]
        lines.append("| " + " | ".join(padded) + " |" if markdown else "  ".join(padded).rstrip())
    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)]
    lines.insert(1, "| " + " | ".join(rule) + " |" if markdown else "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def write_json(file: str | Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a list of rows; the file appears whole or not at all, its folder is made.

    Raises:
        UserError: no space, no permission.
    """
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(list(rows), indent=2, allow_nan=False) + "\n")


def report(
    measures: Iterable[Callable[[], Mapping[str, object]]],
    args: argparse.Namespace,
    columns: Sequence[str] | None = None,
) -> int:
    """Measure row after row, print the machine and the table, write `--json` with the machine in every row.

    Returns:
        The exit status: 130 after Ctrl-C, which leaves the rows that are complete.
    """
    rows: list[Mapping[str, object]] = []
    try:
        for measure in measures:
            rows.append(measure())
            if Interrupt.came:
                break
    except KeyboardInterrupt:
        Interrupt.came = True
    info = machine(args.threads)
    print(describe(info))
    if rows:
        print(table(rows, columns))
    if args.json is not None:
        write_json(args.json, [{**row, "machine": info} for row in rows])
    if Interrupt.came:
        print(f"interrupted: {len(rows)} rows were measured")
    return 130 if Interrupt.came else 0


if __name__ == "__main__":
    _measure_memory(json.loads(sys.argv[1]), Path(sys.argv[2]))
