#!/usr/bin/env python3
"""Export a trained model to a folder from which it runs without this project. See `--help`."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model.errors import run_cli, tell  # noqa: E402
from model.serving import FORMS, RUNTIMES  # noqa: E402


def _several(choices: tuple[str, ...]):
    def parse(text: str) -> list[str]:
        found = text.split(",")
        strange = [name for name in found if name not in choices]
        if strange:
            raise argparse.ArgumentTypeError(f"{strange[0]!r} is not one of {', '.join(choices)}")
        return list(dict.fromkeys(found))

    return parse


def main(argv: list[str] | None = None) -> int:
    """Export as the command line says."""
    parser = argparse.ArgumentParser(
        prog="tools/export.py",
        description="Write a trained model as ONNX and as a Paddle inference model, with its options, class names and "
        "palette, and a program that paints with it and needs only onnxruntime, NumPy and Pillow.",
        epilog="example: tools/export.py output/model --output exported && "
        "python exported/predict.py label.png picture.png --seed 3",
    )
    add = parser.add_argument
    checkpoint_help = "folder of checkpoints, one checkpoint, or a generator's .pdparams file"
    add("checkpoint", metavar="CHECKPOINT", help=checkpoint_help)
    output, output_help = Path("output/exported"), "folder to write; default: %(default)s"
    add("--output", type=Path, default=output, metavar="DIR", help=output_help)
    add("--which_epoch", default="latest", help="of a folder of checkpoints: latest, best or a number of epochs")
    add("--no_ema", action="store_true", help="take the weights themselves where there are averaged ones too")
    runtimes_help = "onnx,paddle (default) or one of them"
    add("--runtimes", type=_several(RUNTIMES), default=RUNTIMES, metavar="LIST", help=runtimes_help)
    forms_help = (
        "pattern (fast; takes tables that neighbourhoods.py makes), dense (takes the label map itself; for other "
        "languages), or pattern,dense (default; they share their weights' file)"
    )
    add("--forms", type=_several(FORMS), default=FORMS, metavar="LIST", help=forms_help)
    add("--force", action="store_true", help="replace an earlier export")
    args = parser.parse_args(argv)

    from model.ops.device import set_device
    from model.serving.export import export
    from model.serving.painter import Painter

    set_device("cpu")
    painter = Painter.load(args.checkpoint, args.which_epoch, not args.no_ema)
    tell(f"{painter.file}" + ("" if painter.step is None else f" (step {painter.step})"))
    export(painter, args.output, forms=args.forms, runtimes=args.runtimes, force=args.force, say=print)
    tell(f"{args.output}: model.json says what the model expects, README.md how to run it")
    return 0


if __name__ == "__main__":
    run_cli(main)
