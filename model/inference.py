"""A trained generator by itself: loading it with its options, choosing styles, making pictures."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from model import checkpoint, packed
from model.data import Loader, PhotoMaps, read_photo
from model.encoder import define_E
from model.errors import UserError
from model.generator import define_G
from model.options import OPT, ValOPT
from model.semantics import Semantics
from model.spade_inputs import style_noise
from model.styles import arc, line
from model.visual import photo_to_tensor


@dataclass(frozen=True)
class Painter:
    """A generator in evaluation mode.

    Attributes:
        opt: The options that it was trained with.
        G: The generator.
        E: The encoder; None without VAE, and when its file is not beside the generator's.
        file: The generator's weights.
        step: Steps that it was trained; None for a weights file without its checkpoint.
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
            path: A folder of checkpoints, one checkpoint, or a generator's .pdparams file (or a model.npz of
                tools/pack_model.py) with opt.yaml beside it or one folder above.
            which: Of a folder of checkpoints: latest, best, or the number of epochs done.
            use_ema: Take the averaged weights where there are any.

        Raises:
            UserError: Nothing there, files that are damaged or do not fit each other, a file that is no parameter file.
        """
        path = Path(path)
        root = path / "model" if (path / "model").is_dir() else path
        if which == "best":
            path = _one_of(root, root / checkpoint.BEST, "best")
        elif which != "latest":
            path = _one_of(root, _epoch_folder(root, int(which)), f"epoch {which}")
        if checkpoint.exists(path):
            found = checkpoint.load(path, with_state=False)
            opt, arrays, step, folder = OPT.load(found.opt_file), found.nets, found.step, found.path
        else:
            opt, arrays, folder = _lone_files(path)  # of a packed model its file
            step = None
        names = {name: f"{name}_ema" if use_ema and f"{name}_ema" in arrays else name for name in ("n_g", "n_e")}
        files = {name: folder if folder.is_file() else folder / f"{n}.pdparams" for name, n in names.items()}
        G, E = define_G(opt), None
        checkpoint.load_net(G, arrays[names["n_g"]], files["n_g"])
        G.eval()
        if opt.use_vae and names["n_e"] in arrays:
            E = define_E(opt)
            checkpoint.load_net(E, arrays[names["n_e"]], files["n_e"])
            E.eval()
        return cls(opt, G, E, files["n_g"], step)

    @paddle.no_grad()
    def encode(self, image: Any) -> np.ndarray:
        """The style [N, z_dim] of photos, float [N,3,H,W] in [-1,1]: the mean of the encoder's distribution.

        A deviation from the released code, which draws from the distribution: the same photo gives the same picture.
        """
        image = image if isinstance(image, paddle.Tensor) else paddle.to_tensor(image)
        return self.E(image)[0].numpy()

    def encode_file(self, path: str | Path) -> np.ndarray:
        """The style [1, z_dim] of a photo of any size and colour mode."""
        return self.encode(photo_to_tensor(read_photo(path), *self.opt.generator_size))

    def noise(self, seed: int, indices: Sequence[int]) -> np.ndarray:
        """Random styles [N, z_dim]: standard normal, a function of the seed and each picture's number."""
        return np.stack([style_noise(seed, number, self.opt.z_dim) for number in indices])

    @paddle.no_grad()
    def paint(self, batch: Mapping[str, Any], z: np.ndarray | None = None) -> np.ndarray:
        """Pictures float32 [N,3,H,W] in [-1,1] of a batch's maps in styles z [N, z_dim] (None without VAE)."""
        semantics = Semantics.from_batch(batch, self.opt)
        return self.G(semantics, None if z is None else paddle.to_tensor(z)).numpy()


def choose_style(val: ValOPT, painter: Painter, has_photos: bool) -> str:
    """The style of a validation run in one word: none, photo, image, random or mean.

    Raises:
        UserError: What was asked for needs a VAE, an encoder or photos that are not there.
    """
    if not painter.opt.use_vae:
        if val.style != "auto" or val.style_image or val.style_steps:
            raise UserError(
                f"{painter.file} was trained without --use_vae and knows one style: leave out the style options"
            )
        return "none"
    if val.style != "auto":
        style = val.style
    elif val.style_image:
        style = "image"
    else:
        style = "photo" if has_photos and painter.E and not val.style_steps else "random"
    if style in ("photo", "image") and painter.E is None:
        raise UserError(
            f"style {style} needs the encoder, and there is no n_e.pdparams beside {painter.file}: put it "
            "there, or give --style random"
        )
    if style == "photo" and not has_photos:
        raise UserError(
            "style photo needs photos, and this split has label maps alone: give --style random or --style_image FILE"
        )
    return style


class Styles:
    """The styles that each batch of a validation run is painted in.

    Raises:
        UserError: A style image that cannot be read; see `choose_style`.
    """

    def __init__(self, val: ValOPT, painter: Painter, has_photos: bool):
        self.name = choose_style(val, painter, has_photos)
        self.steps = val.style_steps
        self._seed, self._painter = val.seed, painter
        files = (val.style_image, val.style_image2) if self.name == "image" else ()
        self._ends = [painter.encode_file(file) for file in files if file]

    def __call__(self, batch: Mapping[str, Any]) -> list[np.ndarray | None]:
        """A list of z [N, z_dim], of `steps` entries on the way from one style to another, or of one."""
        n, z_dim = len(batch["label"]), self._painter.opt.z_dim
        if self.name == "none":
            return [None]
        if self.name == "photo":
            return [self._painter.encode(batch["image"])]
        if self.name == "mean":
            return [np.zeros((n, z_dim), np.float32)]
        if self.name == "image":
            ends = [np.repeat(z, n, axis=0) for z in self._ends]
            return line(*ends, self.steps) if self.steps else ends
        numbers = np.asarray(batch["index"])
        start = self._painter.noise(self._seed, numbers)
        return arc(start, self._painter.noise(self._seed, numbers + 2**32), self.steps) if self.steps else [start]


def _one_of(root: Path, folder: Path | None, what: str) -> Path:
    if folder is not None and (folder.exists() or folder.is_symlink()):
        return folder
    epochs = ", ".join(str(n) for n in sorted(_epochs(root))) or "none"
    best = "best, " if (root / checkpoint.BEST).exists() else ""
    raise UserError(f"{root} holds no checkpoint of {what}: there are {best}latest, and of epochs: {epochs}")


def _epochs(root: Path) -> dict[int, Path]:
    """{epochs done: folder} of the checkpoints written at an epoch's end, the newest of each."""
    found = {}
    for meta in root.glob(f"step_*/{checkpoint.META_FILE}"):
        try:
            values = json.loads(meta.read_text(encoding="utf-8"))
            if values["epoch_end"]:
                found[int(values["epoch"])] = max(found.get(int(values["epoch"]), (0, meta)), (values["serial"], meta))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged: loading another one must not fail for it
    return {epoch: meta.parent for epoch, (_, meta) in found.items()}


def _epoch_folder(root: Path, epoch: int) -> Path | None:
    return _epochs(root).get(epoch)


def _lone_files(path: Path) -> tuple[OPT, dict[str, dict[str, np.ndarray]], Path]:
    """Options and arrays of weight files without the rest of their checkpoint."""
    file = path / "n_g.pdparams" if path.is_dir() else path
    if not file.exists() and (path / packed.FILE).is_file():
        file = path / packed.FILE
    if not file.is_file():
        raise UserError(
            f"{file} does not exist: train first (python train.py), or give --checkpoint a folder of "
            "checkpoints or a generator's .pdparams file"
        )
    places = [file.parent / checkpoint.OPT_FILE, file.parent.parent / checkpoint.OPT_FILE]
    options = next((place for place in places if place.is_file()), None)
    if options is None:
        raise UserError(
            f"{file} has no {checkpoint.OPT_FILE} beside it, the options that it was trained with: copy it "
            "there from the run's output folder"
        )
    if file.suffix == ".npz":
        return OPT.load(options), packed.read_packed(file), file
    arrays = {"n_g": checkpoint.read_pdparams(file)}
    encoder = file.with_name("n_e.pdparams")
    if encoder.is_file():
        arrays["n_e"] = checkpoint.read_pdparams(encoder)
    return OPT.load(options), arrays, file.parent


def validation_loader(opt: OPT, split: str) -> Loader:
    """The batches of a split ("val" or "train") in order, cut to size as for validation: no flip, no random crop.

    Raises:
        UserError: Files are missing or unpaired.
    """
    if split == "val":
        try:
            return Loader(PhotoMaps(opt, "val"), opt)
        except UserError as error:
            raise UserError(f"{error} (the training split instead: --phase train)") from None
    if opt.preprocess_mode.endswith("_and_crop"):
        opt = dataclasses.replace(opt, load_size=opt.crop_size)
    maps = PhotoMaps(opt, split)
    maps.phase = "val"  # the training split's files, the validation's way of reading them
    return Loader(maps, opt)
