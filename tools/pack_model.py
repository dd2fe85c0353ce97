"""Pack a trained generator and encoder into one small file with its options: half precision, compressed.

It made model/serving/assets/sample/, the model with which the painting page opens where nothing was trained yet. Of a
model of the sample data it leaves out the classes that the data lacks; they never trained.

example:
  python tools/pack_model.py output/model model/serving/assets/sample
"""

import argparse
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402

from model.data.palettes import class_names  # noqa: E402
from model.errors import UserError, run_cli, tell  # noqa: E402
from model.options import OPT  # noqa: E402
from model.serving.painter import Painter  # noqa: E402
from model.serving.painting import SAMPLE_CLASSES  # noqa: E402
from model.training.checkpoint_folder import OPT_FILE  # noqa: E402
from model.weights.files import PACKED, read_packed, write_packed  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Pack as the command line says, and print how much smaller and how exact the file is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="as val.py's --checkpoint")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help=f"gets {PACKED}, {OPT_FILE}, README.md")
    parser.add_argument("--which_epoch", default="latest", help="latest, best or an epoch's number (default: latest)")
    options = parser.parse_args(arguments)
    if (options.folder / PACKED).exists():
        raise UserError(f"{options.folder / PACKED} exists: move it away first")

    painter = Painter.load(options.checkpoint, options.which_epoch)
    nets = {"n_g": painter.G} | ({"n_e": painter.E} if painter.E else {})
    arrays = {name: {key: value.numpy() for key, value in net.state_dict().items()} for name, net in nets.items()}
    if painter.opt.dataset_mode == "sample":
        names = class_names("sample", painter.opt.label_nc)[: painter.opt.label_nc]
        absent = [i for i, name in enumerate(names) if name not in SAMPLE_CLASSES]
        for key, array in arrays["n_g"].items():
            if "mlp_shared" in key and array.ndim == 4:
                arrays["n_g"][key] = array.copy()
                arrays["n_g"][key][:, absent] = 0
    size = write_packed(options.folder / PACKED, arrays)
    recipe = OPT.from_preset(painter.opt.preset)
    places = {name: getattr(recipe, name) for name in ("dataroot", "output", "log_dir")}  # not this machine's
    dataclasses.replace(painter.opt, **places).save(options.folder / OPT_FILE)
    back = read_packed(options.folder / PACKED)
    error = max(np.abs(back[net][key] - array).max() for net in arrays for key, array in arrays[net].items())
    steps = "" if painter.step is None else f", {painter.step} steps"
    (options.folder / "README.md").write_text(_origin(painter, recipe, options.folder, size), encoding="utf-8")
    tell(f"{painter.file}{steps}: {sum(a.size for n in arrays.values() for a in n.values()):,} numbers")
    tell(f"{options.folder / PACKED}: {size / 1e6:.2f} MB, no number moved by more than {error:.2g}")
    return 0


def _origin(painter: Painter, recipe: OPT, folder: Path, size: int) -> str:
    """How the packed model came about, for the README beside it; `recipe` holds its preset's options."""
    opt = painter.opt
    flags = [f"--preset {opt.preset}", f"--seed {opt.seed}"]
    for field in dataclasses.fields(opt):
        value = getattr(opt, field.name)
        if field.metadata["group"] in ("data", "output") or field.name in ("seed", "max_steps", "device", "fresh"):
            continue
        if value != getattr(recipe, field.name):
            flags.append(f"--{field.name} {str(value).lower() if isinstance(value, bool) else value}")
    if painter.step is not None:
        flags.append(f"--max_steps {painter.step}")
    return (
        "# A packed model\n\n"
        "Made, with the Paddle and the processor of that day, by\n\n"
        f"    python train.py {' '.join(flags)}\n"
        f"    python tools/pack_model.py output/model {folder.as_posix()}\n\n"
        f"`{PACKED}` ({size / 1e6:.2f} MB) holds the networks in half precision, see `model/weights/files.py`;\n"
        f"`{OPT_FILE}` their options. `python app.py --checkpoint {folder.as_posix()}` paints with it.\n"
    )


if __name__ == "__main__":
    run_cli(main)
