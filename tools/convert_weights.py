"""Convert weights between this project, PyTorch, safetensors, MindSpore and NumPy.

It recognises the network and the format from the file's content, says what it found, checks every name and shape, and
writes the format of TARGET's ending. No other framework is needed, and nothing in SOURCE is ever run.

Networks: SPADE's generator, discriminator and encoder (the released latest_net_{G,D,E}.pth, old and new torch formats,
MindSpore's SPADE, this project's n_{g,d,e}.pdparams); torchvision's VGG19; the FID Inception; DeepLabV2 of COCO-Stuff.

examples:
  python tools/convert_weights.py latest_net_G.pth weights/n_g.pdparams --preset ade20k
  python tools/convert_weights.py output/model/n_g.pdparams latest_net_G.pth
  python tools/convert_weights.py netG_epoch_200.ckpt n_g.safetensors
  python tools/convert_weights.py vgg19-dcbb9e9d.pth vgg/
"""

import argparse
import math
import os
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402

from model.configuration.presets import PRESETS  # noqa: E402
from model.errors import UserError, listed, run_cli, tell  # noqa: E402
from model.options import OPT  # noqa: E402
from model.weights import export_official  # noqa: E402
from model.weights.files import build, read_network, write_weights  # noqa: E402
from model.weights.kinds import Found  # noqa: E402
from model.weights.published import PUBLISHED  # noqa: E402

NAMES = {
    "generator": "n_g.pdparams",
    "discriminator": "n_d.pdparams",
    "encoder": "n_e.pdparams",
    "vgg19": Path(OPT().vgg_path).name,
    **{kind: Path(PUBLISHED[kind].name).with_suffix(".pdparams").name for kind in ("inception", "deeplab")},
}


def main(arguments: list[str] | None = None) -> int:
    """Convert as the command line says, and print what was found and written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("source", type=Path, metavar="SOURCE", help="weights of any known format")
    target_help = (
        "a file ending in .pdparams .pth .safetensors .npz or .ckpt (MindSpore, G and D), or a folder, which gets a "
        ".pdparams of the usual name"
    )
    preset_help = (
        "of a generator: also write opt.yaml beside TARGET, which val.py, app.py and tools/export.py need there: "
        "the data options of this recipe with what the weights tell, such as width and style encoder"
    )
    add("target", metavar="TARGET", help=target_help)
    add("--preset", choices=[name for name in PRESETS if name != "custom"], help=preset_help)
    add("--force", action="store_true", help="replace TARGET, and its opt.yaml, if they exist")
    options = parser.parse_args(arguments)

    found, info = read_network(options.source)
    target = Path(options.target)
    if target.is_dir() or options.target.endswith(("/", os.sep)):
        target = target / NAMES[found.kind]
    if target.exists() and (target.samefile(options.source) or not options.force):
        raise UserError(f"{target} exists; choose another name" + ("" if options.force else " or pass --force"))

    opt, opt_file = None, target.parent / "opt.yaml"
    if options.preset:
        opt = trained_options(found, options.preset)
        if opt_file.exists() and not options.force:
            raise UserError(f"{opt_file} exists; choose a TARGET in another folder, leave out --preset or pass --force")

    tell(f"{options.source}: {info.format}, {found.kind}, {found.parameters():,} parameters")
    if found.options:
        print("  options: " + " ".join(f"{name}={value}" for name, value in found.options.items()))
    for note in found.notes:
        tell(f"  note: {note}")
    broken = [name for name, array in found.weights.items() if not np.isfinite(array).all()]
    if broken:
        print(f"  warning: not all numbers are finite in {listed(broken)}")

    # The network itself is the judge of names and shapes; it also adds the counters that files before torch 0.4.1 lack.
    complete = export_official(build(found))
    added = [name for name in complete if name not in found.weights]
    print(f"  {len(found.weights)} keys used" + (f", {len(added)} counters added" if added else ""))
    print(f"  {len(found.ignored)} keys ignored" + (f": {listed(found.ignored)}" if found.ignored else ""))
    form = write_weights(target, replace(found, weights=complete))
    tell(f"{target}: {form}, {target.stat().st_size / 1e6:.1f} MB")
    if opt:
        opt.save(opt_file)
        tell(f"{opt_file}: {options.preset}'s options, with those of the weights")
    return 0


def trained_options(found: Found, preset: str) -> OPT:
    """The options of a generator without opt.yaml: a preset's, except for what the weights tell.

    Raises:
        UserError: another network than a generator, or one that the preset's label maps or pictures do not fit.
    """
    if found.kind != "generator":
        raise UserError(f"--preset is for a generator, and {found.source} holds the weights of a {found.kind}")
    opt = OPT.from_preset(preset)
    told = found.differences(opt)
    if "semantic_nc" in told:
        raise UserError(
            f"{found.source} takes {told['semantic_nc'][0]} channels of label and instance maps, and preset {preset} "
            f"has {opt.semantic_nc}: give --preset the data set that it was trained on"
        )
    told.pop("start_size", None)
    opt = replace(opt, **{name: value for name, (value, _) in told.items()})
    if "start_size" in found.differences(opt):
        cells, ours = (math.prod(size) for size in found.differences(opt)["start_size"])
        raise UserError(
            f"{found.source} was trained for pictures of another size than preset {preset}'s, "
            f"{opt.crop_size} pixels wide: its first feature map has {cells} cells, not {ours}"
        )
    return opt


if __name__ == "__main__":
    run_cli(main)
