"""A trained generator by itself: finding its weights and options, and making pictures."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from model.encoder import define_E
from model.errors import UserError
from model.generator import define_G
from model.ops.device import as_tensor
from model.options import OPT
from model.semantics import Semantics
from model.serving.description import Description
from model.training import checkpoint
from model.training.checkpoint_folder import BEST, OPT_FILE, complete_folders, described
from model.weights.files import PACKED, read_packed
from model.weights.networks import load_net, parameter_count
from model.weights.paddle_file import read_pdparams


@dataclass(frozen=True)
class Painter:
    """A generator in evaluation mode with the project's own networks: the engine of a `Synthesizer`.

    Attributes:
        opt: the options that it was trained with.
        G: the generator.
        E: the encoder; None without VAE, and when its file is not beside the generator's.
        file: the generator's weights.
        step: steps that it was trained; None for a weights file without its checkpoint.
    """

    opt: OPT
    G: paddle.nn.Layer
    E: paddle.nn.Layer | None
    file: Path
    step: int | None

    @classmethod
    def load(cls, path: str | Path, which: str = "latest", use_ema: bool = True) -> "Painter":
        """Load a generator, and the encoder if there is one, from a checkpoint.

        Args:
            path: a folder of checkpoints, one checkpoint, or a generator's .pdparams file (or a model.npz of
                tools/pack_model.py) with opt.yaml beside it or one folder above.
            which: of a folder of checkpoints: latest, best, or the number of epochs done.
            use_ema: take the averaged weights where there are any.

        Raises:
            UserError: nothing there, files that are damaged or do not fit each other, a file that is no parameter file.
        """
        path = Path(path)
        if which != "latest":
            path = _one_of(path / "model" if (path / "model").is_dir() else path, which)
        if checkpoint.exists(path):
            found = checkpoint.load(path, with_state=False, nets=lambda there: _shown(there, use_ema).values())
            opt, arrays, step, folder = OPT.load(found.opt_file), found.nets, found.step, found.path
        else:
            opt, arrays, folder = _lone_files(path)  # of a packed model its file
            step = None
        names = _shown(arrays, use_ema)
        files = {name: folder if folder.is_file() else folder / f"{n}.pdparams" for name, n in names.items()}
        nets = {"n_g": define_G(opt)} | ({"n_e": define_E(opt)} if opt.use_vae and "n_e" in names else {})
        for name, net in nets.items():
            load_net(net, arrays[names[name]], files[name])
            net.eval()
        return cls(opt, nets["n_g"], nets.get("n_e"), files["n_g"], step)

    @property
    def description(self) -> Description:
        """What the model expects and knows: sizes, classes, colours, training."""
        count = sum(parameter_count(net) for net in (self.G, self.E) if net is not None)
        return Description.of(self.opt, step=self.step, parameters=count)

    @property
    def has_encoder(self) -> bool:
        """Whether there is an encoder, so that photos can give the style."""
        return self.E is not None

    @property
    def runs_on(self) -> dict[str, str]:
        """What computes."""
        return {"device": paddle.get_device()}

    @paddle.no_grad()
    def encode(self, image: Any) -> np.ndarray:
        """The style [N, z_dim] of photos, float [N,3,H,W] in [-1,1]: the mean of the encoder's distribution.

        A deviation from the released code, which draws from the distribution: the same photo gives the same picture.
        """
        return self.E(as_tensor(image))[0].numpy()

    @paddle.no_grad()
    def paint(self, batch: Mapping[str, Any], z: np.ndarray | None = None) -> np.ndarray:
        """Pictures [N,3,H,W] in [-1,1] of a batch's maps in styles z [N, z_dim] (None without VAE)."""
        semantics = Semantics.from_batch(batch, self.opt)
        return self.G(semantics, None if z is None else as_tensor(z)).numpy()


def _one_of(root: Path, which: str) -> Path:
    """The checkpoint of a folder that is the best, or the newest of those written at an epoch's end."""
    if which != "best" and not which.isdecimal():
        raise UserError(f"which {which!r} is unknown: expected latest, best or the number of epochs done")
    best = root / BEST
    if which == "best" and (best.exists() or best.is_symlink()):
        return best
    newest_last = reversed(complete_folders(root, described).items())  # by meta.json alone; loading looks at the rest
    ends = {meta["epoch"]: folder for folder, meta in newest_last if meta.get("epoch_end")}
    if which != "best" and int(which) in ends:
        return ends[int(which)]
    epochs = ", ".join(map(str, sorted(ends))) or "none"
    there = f"{'best, ' if best.exists() else ''}latest, and of epochs: {epochs}"
    what = "best" if which == "best" else f"epoch {which}"
    raise UserError(f"{root} holds no checkpoint of {what}: there are {there}")


def _shown(there: Collection[str], use_ema: bool) -> dict[str, str]:
    """{n_g, n_e: the network to read for it}, of those that are there: the averaged one where it is wanted."""
    wanted = {name: f"{name}_ema" if use_ema and f"{name}_ema" in there else name for name in ("n_g", "n_e")}
    return {name: read for name, read in wanted.items() if read in there}


def _lone_files(path: Path) -> tuple[OPT, dict[str, dict[str, np.ndarray]], Path]:
    """Options and arrays of weight files without the rest of their checkpoint."""
    file = path / "n_g.pdparams" if path.is_dir() else path
    if not file.exists() and (path / PACKED).is_file():
        file = path / PACKED
    if not file.is_file():
        raise UserError(
            f"{file} does not exist: train first (python train.py), or give --checkpoint a folder of "
            "checkpoints or a generator's .pdparams file"
        )
    options = next((place for folder in file.parents[:2] if (place := folder / OPT_FILE).is_file()), None)
    if options is None:
        raise UserError(
            f"{file} has no {OPT_FILE} beside it, the options that it was trained with: copy it there from "
            "the run's output folder; for released weights, tools/convert_weights.py --preset writes it"
        )
    if file.suffix == ".npz":
        return OPT.load(options), read_packed(file), file
    files = {"n_g": file, "n_e": file.with_name("n_e.pdparams")}
    arrays = {name: read_pdparams(place) for name, place in files.items() if place.is_file()}
    return OPT.load(options), arrays, file.parent
