#!/usr/bin/env python3
"""FID, KID, precision and recall, and segmentation scores of any folder of pictures against photos. See `--help`."""

import argparse
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model.configuration.presets import PRESETS  # noqa: E402
from model.errors import UserError, printable, run_cli  # noqa: E402
from model.options import OPT  # noqa: E402


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as 512x256")
    return int(height), int(width)


def parse(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="tools/evaluate.py",
        description="Judge a folder of pictures as papers do: FID against photos, and what a segmentation network "
        "reads in them against the label maps. Files are paired by name.",
        epilog="example: tools/evaluate.py output_val/pics dataset/coco_stuff/val_img --labels "
        "dataset/coco_stuff/val_label --sheets 16",
    )
    add = parser.add_argument_group("pictures").add_argument
    add("generated", help="folder of the pictures to judge")
    add("real", help="folder of the reference photos")
    add("--labels", metavar="DIR", help="folder of the label maps; without it only FID is computed")
    modes = "coco_stuff, ade20k, cityscapes, facades, camvid, custom or sample"
    add("--dataset_mode", default="coco_stuff", help=modes)
    add("--label_nc", type=int, help="classes of the label maps; default: the data set's")
    add("--unknown_ids", default="", metavar="IDS", help="ids that mean unlabelled, such as 0,255; default: 255")
    add("--palette", default="", metavar="FILE", help="which colour is which class, for label maps that hold colours")
    add("--name", default="generated", help="what the report calls the first folder")
    add("--other", metavar="DIR", help="another checkpoint's or implementation's pictures, judged beside")
    add("--other_name", default="other", help="what the report calls them")
    add("--size", type=_size, metavar="WxH", help="size to bring all pictures to; default: the first generated one's")
    photo_size = "FID takes photos as they are instead of at that size"
    add("--keep_photo_size", dest="resize_photos", action="store_false", help=photo_size)
    add("--max_pictures", type=int, metavar="N", help="only the first N pictures of each folder")

    add = parser.add_argument_group("scores").add_argument
    add("--metrics", help="fid, seg, kid, pr (precision, recall), with commas; default: fid, and seg with --labels")
    no_photos = "leave out the photos' own segmentation scores, the ceiling"
    add("--no_photos", dest="photos", action="store_false", help=no_photos)
    add("--at_label_size", action="store_true", help="score segmentations at the label maps' own size")
    add("--kid_subset_size", type=int, default=1000, metavar="N", help="pictures in each of KID's subsets")
    add("--kid_subsets", type=int, default=100, metavar="N", help="how many subsets KID draws")
    add("--kid_seed", type=int, default=0, metavar="N", help="of the draw")
    add("--pr_k", type=int, default=3, metavar="K", help="which nearest neighbour is at the radius, for pr")

    add = parser.add_argument_group("networks").add_argument
    inception = "weights of the FID network; default: found in inception/"
    add("--inception", dest="inception_weights", metavar="PATH", help=inception)
    add("--deeplab", dest="deeplab_weights", metavar="PATH", help="weights of DeepLabV2; default: found in deeplab/")
    add("--legacy_scales", action="store_true", help="DeepLab's scale sampling of older PyTorch versions")
    add("--seg_model", metavar="MODEL", help="another network: .onnx, a Paddle inference model, or FILE.py:NAME")
    add("--seg_mean", type=float, nargs=3, help="its input's mean, of values in 0..1; default: ImageNet's")
    add("--seg_std", type=float, nargs=3, help="its input's deviation; default: ImageNet's")
    add("--seg_order", choices=("rgb", "bgr"), help="its channel order; default: rgb")
    add("--seg_size", type=_size, metavar="WxH", help="size of its input; default: the pictures'")
    made_up = "try the evaluation without trained weights; means nothing"
    add("--made_up_weights", dest="made_up", action="store_true", help=made_up)
    add("--batch_size", type=int, default=8, help="pictures per pass of the networks")
    add("--device", default="auto", help="auto (a GPU when there is one), cpu, gpu or gpu:N")

    add = parser.add_argument_group("output").add_argument
    add("--output", default="output_val", metavar="DIR", help="folder for metrics.json, metrics.md and sheets/")
    add("--log_dir", metavar="DIR", help="folder for VisualDL records; default: log/ in the output folder")
    add("--step", type=int, default=0, help="step of the VisualDL records")
    add("--sheets", type=int, default=0, metavar="N", help="comparison sheets of N pictures spread evenly")
    add("--cache", default="output/metrics_cache", metavar="DIR", help="what is computed of a picture set is kept here")
    add("--no_cache", action="store_true", help="compute everything anew, also where --cache is given")
    add("--quiet", dest="progress", action="store_false", help="do not tell how far it is")
    return parser.parse_args(argv)


def _label_nc(dataset_mode: str) -> int:
    """Classes of a data set's label maps, as its training recipe has them."""
    if dataset_mode not in PRESETS or dataset_mode == "custom":  # whose recipe holds an example's number
        raise UserError(f"--dataset_mode {dataset_mode}: give the number of classes with --label_nc")
    return PRESETS[dataset_mode].get("label_nc", OPT.label_nc)


def main(argv=None) -> int:
    """Evaluate as the command line says, print and write the results."""
    args = parse(argv)
    for name in ("batch_size", "max_pictures", "label_nc", "sheets"):
        if getattr(args, name) is not None and getattr(args, name) < (name != "sheets"):
            raise UserError(f"--{name} {getattr(args, name)} is too small: expected at least {int(name != 'sheets')}")
    args.label_nc = args.label_nc or _label_nc(args.dataset_mode)
    args.metrics = args.metrics or ("fid,seg" if args.labels else "fid")

    from model.metrics.evaluation import evaluate
    from model.metrics.predictors import InputFormat, load_predictor
    from model.metrics.report import text, write_results
    from model.metrics.settings import Settings
    from model.ops.device import set_device

    set_device(args.device)
    predictor = None
    if args.seg_model:
        given = {name: getattr(args, f"seg_{name}") for name in ("mean", "std", "order", "size")}
        given = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if v is not None}
        predictor = load_predictor(args.seg_model, InputFormat(**given))
    args.output_dir, args.cache_dir = Path(args.output, "sheets"), None if args.no_cache else args.cache
    settings = Settings(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Settings)})
    result = evaluate(args.generated, args.real, args.labels, settings, other_dir=args.other, predictor=predictor)
    print(text(result))
    write_results(result, args.output, args.log_dir or Path(args.output, "log"), args.step)
    sheets = ", sheets/" if result["sheets"] else ""
    print(f"\nwritten to {printable(Path(args.output, 'metrics.json'))}, metrics.md{sheets}")
    return 0


if __name__ == "__main__":
    run_cli(main)
