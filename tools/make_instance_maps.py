"""Make instance maps: COCO's from its instance annotations and label maps, or any data set's from label maps alone.

With --annotation_file the maps are pixel for pixel those of the released PyTorch code's coco_generate_instance_map.py,
whose options these are. With --from_labels each connected region of a class of things becomes an instance. Maps that
are there are kept: the same command goes on after an interruption.

examples:
  python tools/make_instance_maps.py --annotation_file annotations/instances_train2017.json \\
      --input_label_dir dataset/coco_stuff/train_label --output_instance_dir dataset/coco_stuff/train_inst
  python tools/make_instance_maps.py ... --distinct --processes 8
  python tools/make_instance_maps.py --from_labels --dataset_mode camvid --min_area 20 \\
      --input_label_dir dataset/CamVid/trainannot --output_instance_dir dataset/CamVid/traininst
  python tools/make_instance_maps.py --from_labels --things 0-4,7 --input_label_dir maps --output_instance_dir instances
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from model import CORES, OPT  # noqa: E402
from model.configuration.texts import parse_ids  # noqa: E402
from model.data.label_ids import class_ids, id_ranges, things  # noqa: E402
from model.data.palettes import read_palette  # noqa: E402
from model.errors import UserError, run_cli  # noqa: E402
from model.prepare.instance_maps import make_component_maps, make_instance_maps  # noqa: E402
from model.prepare.instances import Components  # noqa: E402


def main(argv=None) -> int:
    """Make the maps as the command line says and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True).add_argument
    source("--annotation_file", metavar="FILE", help="COCO's instances_*.json of these pictures")
    source("--from_labels", action="store_true", help="make instances of the label maps' connected regions")
    add("--input_label_dir", required=True, metavar="DIR", help="folder of the label maps")
    add("--output_instance_dir", required=True, metavar="DIR", help="folder for the instance maps")
    add("--distinct", action="store_true", help="16-bit maps in which no instance has the number of a class")
    add("--processes", type=int, default=CORES, help=f"how many work at a time (default: {CORES}, the cores)")
    add("--force", action="store_true", help="make maps anew that are there")
    add("--quiet", action="store_true", help="no progress bar (there is none without a terminal either)")
    add = parser.add_argument_group("with --from_labels, whose maps are distinct always").add_argument
    things_help = "ids of the classes that have instances, such as 0-90,93; default: the data set's"
    area_help = "smaller regions are no instances and keep their class id; default: 1"
    add("--dataset_mode", metavar="NAME", help="whose things: coco_stuff, ade20k, cityscapes, camvid or sample")
    add("--things", metavar="IDS", help=things_help)
    add("--min_area", type=int, metavar="N", help=area_help)
    add("--connectivity", type=int, choices=(4, 8), help="neighbours of a pixel, without corners or with; default: 8")
    add("--palette", metavar="FILE", help="which colour is which class, for label maps that hold colours")
    args = parser.parse_args(argv)

    if args.processes < 1:
        raise UserError(f"--processes {args.processes} is below 1")
    folders = args.input_label_dir, args.output_instance_dir
    how = dict(processes=args.processes, force=args.force, quiet=args.quiet)
    if args.from_labels:
        components, opt = _components(args)
        palette = read_palette(args.palette) if args.palette else None
        print(make_component_maps(*folders, components, opt=opt, palette=palette, **how))
        return 0
    for name in ("dataset_mode", "things", "min_area", "connectivity", "palette"):
        if getattr(args, name) is not None:
            raise UserError(f"--{name} goes with --from_labels: leave it out, or --annotation_file")
    print(make_instance_maps(args.annotation_file, *folders, distinct=args.distinct, **how))
    return 0


def _components(args: argparse.Namespace) -> tuple[Components, OPT | None]:
    """What becomes an instance, and the options of the data set, if it is named."""
    name = None if args.dataset_mode == "custom" else args.dataset_mode
    opt = OPT.from_preset(name) if name else None
    if args.things is not None:
        ids = parse_ids(args.things, "--things", ranges=True)
    elif args.dataset_mode is not None:
        ids = things(opt.dataset_mode if opt else args.dataset_mode)
    else:
        raise UserError("--from_labels needs --dataset_mode NAME or --things IDS: which classes have instances")
    if not ids:
        raise UserError(f"--things {args.things!r} names no ids: expected such as 0-90,93")
    if opt and (classless := set(ids).difference(class_ids(opt))):
        raise UserError(
            f"--things {args.things}: {id_ranges(classless)} is no class of {name}, whose classes are "
            f"{id_ranges(class_ids(opt))}: name others, or leave out --dataset_mode"
        )
    if args.min_area is not None and args.min_area < 1:
        raise UserError(f"--min_area {args.min_area} is below 1 pixel")
    return Components(tuple(sorted(set(ids))), args.min_area or 1, args.connectivity or 8), opt


if __name__ == "__main__":
    run_cli(main)
