"""Measures every row of the table in docs/performance.md, each in processes of its own, and writes the table anew.

    python benchmarks/table.py [--only coco,camvid] [--quick] [--maps DIR] [--camvid DIR] [--out FILE]

`--maps` holds COCO-Stuff's train_label/ and train_inst/, `--camvid` CamVid's trainannot/; without them the built-in
sample's maps stand in. Rows are medians of alternated rounds. After Ctrl-C, what was measured is printed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import harness  # noqa: E402
from benchmarks.variants import CASES  # noqa: E402
from model import CORES  # noqa: E402
from model.errors import UserError, run_cli  # noqa: E402
from model.files import replacing  # noqa: E402

BEGIN, END = "<!-- table: benchmarks/table.py -->", "<!-- end of table -->"
TITLES = {
    "coco": "COCO-Stuff, 256x256",
    "camvid": "CamVid, 128x96, batch 4, ngf 32",
    "cityscapes": "Cityscapes, 512x256",
    "ade20k": "ADE20K, 256x256",
    "noise": "every pixel drawn, 256x256",
}


class Row(NamedTuple):
    """A command to run: `what` is inference, step or engines."""

    case: str
    what: str
    threads: int = CORES
    batch: int | None = None
    dense: bool = False
    memory: bool = False

    def command(self, args: argparse.Namespace, file: Path) -> list[str]:
        script = ["benchmarks.train_step"] if self.what == "step" else ["benchmarks.generator", "--mode", self.what]
        words = ["--case", self.case, "--threads", self.threads, "--json", file, "--repeats", args.repeats]
        words += ["--batch", self.batch] if self.batch else []
        words += ["--no-dense"] * (not self.dense) + ["--no-memory"] * (not self.memory) + ["--quick"] * args.quick
        maps = args.camvid if self.case == "camvid" else args.maps
        words += ["--maps", Path(maps).resolve()] if maps else []
        return [sys.executable, "-m", *map(str, script + words)]


ROWS = (
    Row("coco", "inference", dense=True, memory=True),
    Row("coco", "step", dense=True, memory=True),
    Row("coco", "inference", threads=1),
    Row("coco", "step", threads=1),
    Row("coco", "engines"),
    Row("camvid", "inference"),
    Row("camvid", "step", memory=True),
    Row("camvid", "step", threads=1),
    Row("cityscapes", "inference"),
    Row("cityscapes", "step", memory=True),
    Row("ade20k", "inference"),
    Row("ade20k", "step"),
    Row("ade20k", "inference", batch=4),
    Row("ade20k", "step", batch=4),
    Row("noise", "inference", dense=True),
)


def cells(row: Row, found: dict) -> dict[str, object]:
    """A line of the table from a result row."""
    ours = found["engine_s" if row.what == "engines" else "pattern_s"]
    engine = " ".join(found["name"].split()[5:])
    batch = f", batch {row.batch}" if row.batch else ""
    ratio = found.get("ratio_vs_torch_with_numbering", found["ratio_vs_torch"])
    line = {"case": TITLES[row.case] + batch, "": f"inference, {engine}" if row.what == "engines" else row.what}
    line |= {"threads": row.threads, "ours, s": f"{ours:.2f}", "PyTorch, s": f"{found['torch_s']:.2f}"}
    line["times as fast"] = f"{ratio:.2f}"
    line["as our dense form"] = f"{found['ratio_vs_dense']:.1f}" if "ratio_vs_dense" in found else None
    line["memory of PyTorch's"] = f"{found['memory_ratio_vs_torch']:.2f}" if "memory_ratio_vs_torch" in found else None
    line["GMAC, ours / PyTorch's"] = f"{found['gmac']:.1f} / {found['torch_gmac']:.1f}" if "gmac" in found else None
    return line


def measure(rows: list[Row], args: argparse.Namespace) -> tuple[list[dict], bool]:
    """The table's lines, and whether all rows were measured."""
    lines, begun = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for number, row in enumerate(rows):
            left = (time.monotonic() - begun) / number * (len(rows) - number) if number else 0
            told = f", about {left / 60:.0f} minutes left" if number else ""
            print(f"row {number + 1} of {len(rows)}: {row.case} {row.what}, {row.threads} threads{told}", flush=True)
            file = Path(folder, "rows.json")
            command = row.command(args, file)
            try:
                status = subprocess.run(command, cwd=harness.ROOT, stdout=subprocess.DEVNULL).returncode
            except KeyboardInterrupt:
                status = 130
            if status == 130:
                return lines, False
            if status:
                raise UserError(f"{' '.join(command[1:])} ended with status {status}")
            found = json.loads(file.read_text(encoding="utf-8"))
            lines += [cells(row, values) for values in found]
    return lines, True


def write(file: Path, text: str) -> None:
    """Put a text between the markers of a page.

    Raises:
        UserError: the page has no markers.
    """
    page = file.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"{file} has no lines {BEGIN!r} and {END!r}, between which the table goes")
    with replacing(file) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help=f"cases, of {','.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="one round, without memory and the dense form")
    parser.add_argument("--repeats", type=harness.positive, default=3, help="timed rounds of a row")
    parser.add_argument("--maps", metavar="DIR", help="COCO-Stuff's train_label/ and train_inst/")
    parser.add_argument("--camvid", metavar="DIR", help="CamVid's trainannot/")
    parser.add_argument("--out", type=Path, metavar="FILE", help="page to write, docs/performance.md; default: none")
    args = parser.parse_args()
    cases = args.only.split(",") if args.only else list(CASES)
    if unknown := set(cases) - set(CASES):
        raise UserError(f"--only {args.only}: no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    lines, complete = measure([row for row in ROWS if row.case in cases], args)
    text = f"{harness.describe(harness.machine(CORES))}; medians of {1 if args.quick else args.repeats} rounds"
    text += f"\n\n{harness.table(lines, markdown=True)}" if lines else ""
    print(text)
    if not complete:
        print(f"interrupted: {len(lines)} lines were measured, and no page is written")
        return 130
    if args.out:
        write(args.out, text)
    return 0


if __name__ == "__main__":
    run_cli(main)
