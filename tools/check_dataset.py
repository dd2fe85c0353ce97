#!/usr/bin/env python3
"""Look at a whole data set before training on it. See `--help`."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model import CORES  # noqa: E402
from model.command_line import parse_train  # noqa: E402
from model.configuration.presets import PRESETS  # noqa: E402
from model.data.listing import SPLITS  # noqa: E402
from model.errors import UserError, printable, run_cli, tell  # noqa: E402


def main(argv=None) -> int:
    """Check as the command line says, print and write the report."""
    parser = argparse.ArgumentParser(
        prog="tools/check_dataset.py",
        description="Read every picture of a data set and tell what would stop or spoil training: pairs, sizes, ids, "
        "damaged files, the wrong release, photos in two splits. Prints a table, the classes' shares and the faults "
        "with their ways out; writes a contact sheet and a JSON report.",
        epilog="All data options of train.py (--dataroot, --label_dir, --label_nc, --palette, --no_instance, "
        "--preprocess_mode, --config ...) mean the same here. Exit status: 0 nothing stops a run (with --strict: no "
        "warnings either), 1 faults, 2 a mistake on the command line. "
        "Example: tools/check_dataset.py custom --label_dir maps --image_dir photos --no_instance --label_nc 20",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("name", choices=PRESETS, metavar="NAME", help=f"preset, one of {', '.join(PRESETS)}")
    add(
        "--phase",
        choices=(*SPLITS, "both"),
        default="both",
        help="split to look at; default: both, train and val, in which the photos of test are looked for too",
    )
    add("--processes", type=int, default=CORES, metavar="N", help=f"that read pictures; default: {CORES}, all cores")
    add("--max_pictures", type=int, metavar="N", help="only N of each split, evenly spread: a quick look")
    add("--classes", type=int, default=20, metavar="N", help="classes in the printed tables; default: 20")
    add("--sheet_pictures", type=int, default=8, metavar="N", help="pictures in the contact sheet; 0: no sheet")
    add("--report_dir", default="output/check", metavar="DIR", help="for NAME.jpg and NAME.json; default: output/check")
    add("--strict", action="store_true", help="warnings count as faults")
    add("--quiet", action="store_true", help="no progress bar")
    args, rest = parser.parse_known_args(argv)  # what it does not know is train.py's

    for name, low in (("processes", 1), ("max_pictures", 1), ("classes", 1), ("sheet_pictures", 0)):
        value = getattr(args, name)
        if value is not None and value < low:
            raise UserError(f"--{name} {value} is too small: expected at least {low}")
    opt = parse_train(["--preset", args.name, *rest])

    from model.data.visual import save_image
    from model.prepare.check import check_dataset

    tell(f"checking {args.name} in {opt.label_dir or opt.dataroot}")
    phases = ("train", "val") if args.phase == "both" else (args.phase,)
    how = dict(processes=args.processes, max_pictures=args.max_pictures, quiet=args.quiet)
    report = check_dataset(opt, phases, **how)
    print(f"\n{report.text(args.classes)}")
    folder = Path(args.report_dir)
    report.save(folder / f"{args.name}.json")
    sheet = report.sheet(args.sheet_pictures) if args.sheet_pictures else None
    if sheet:
        save_image(sheet, folder / f"{args.name}.jpg")
    pictures = sum(len(split.records) for split in report.splits)
    sheets = f" and {printable(folder / args.name)}.jpg, the contact sheet" if sheet else ""
    print(f"\n{pictures} pictures in {report.seconds:.0f} s; written: {printable(folder / args.name)}.json{sheets}")
    return int(report.stops or (args.strict and bool(report.findings)))


if __name__ == "__main__":
    run_cli(main)
