"""Make COCO's instance maps from its instance annotations and the label maps (stuffthingmaps).

The maps are pixel for pixel those of the released PyTorch code's coco_generate_instance_map.py, whose options these
are. Maps that are there are kept: the same command goes on after an interruption.

examples:
  python tools/make_instance_maps.py --annotation_file annotations/instances_train2017.json \\
      --input_label_dir dataset/coco_stuff/train_label --output_instance_dir dataset/coco_stuff/train_inst
  python tools/make_instance_maps.py ... --distinct --processes 8
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from model import CORES  # noqa: E402
from model.errors import UserError, printable, run_cli  # noqa: E402
from model.prepare.instance_maps import Summary, make_instance_maps  # noqa: E402


def describe(summary: Summary) -> str:
    """A few lines for people about what was made."""
    s = summary
    rate = f", {s.made / s.seconds:.0f} a second" if s.made else ""
    lines = [
        f"{s.made + s.kept} instance maps: {s.made} made, {s.kept} were there ({s.seconds:.1f} s{rate})",
        f"  {s.without_polygons} of them without polygons, as copies of their label maps",
        f"  annotations: {s.polygons} with polygons, {s.others} without (crowds; they keep their class id)",
    ]
    if s.unlisted:
        lines.append(
            f"  note: {len(s.unlisted)} label maps are not named in the annotation file and were copied "
            f"(such as {printable(s.unlisted[0])})"
        )
    if s.wide:
        lines.append(f"  note: {len(s.wide)} maps have numbers above 255 and 16 bits (such as {printable(s.wide[0])})")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Make the maps as the command line says and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--annotation_file", required=True, metavar="FILE", help="COCO's instances_*.json of these pictures")
    add("--input_label_dir", required=True, metavar="DIR", help="folder of the label maps")
    add("--output_instance_dir", required=True, metavar="DIR", help="folder for the instance maps")
    add("--distinct", action="store_true", help="16-bit maps in which no instance has the number of a class")
    add("--processes", type=int, default=CORES, help=f"how many work at a time (default: {CORES}, the cores)")
    add("--force", action="store_true", help="make maps anew that are there")
    add("--quiet", action="store_true", help="no progress bar (there is none without a terminal either)")
    args = parser.parse_args(argv)
    if args.processes < 1:
        raise UserError(f"--processes {args.processes} is below 1")
    summary = make_instance_maps(
        args.annotation_file,
        args.input_label_dir,
        args.output_instance_dir,
        distinct=args.distinct,
        processes=args.processes,
        force=args.force,
        quiet=args.quiet,
    )
    print(describe(summary))
    return 0


if __name__ == "__main__":
    run_cli(main)
