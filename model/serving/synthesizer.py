"""`Synthesizer`: a trained model, from a checkpoint or an exported folder, that turns a drawing into a picture."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from model.data.pictures import style_photo
from model.data.reading import class_map, instance_ids
from model.data.visual import photo_to_tensor, tensor_to_image
from model.errors import UserError, listed
from model.neighbourhoods import colour_codes, style_noise
from model.serving import FILE, is_exported

Photo = Image.Image | str | Path
Map = Photo | np.ndarray


def is_model(path: str | Path) -> bool:
    """Whether there is something at a path that `Synthesizer.load` takes, damaged or not."""
    from model.training import checkpoint
    from model.weights.files import PACKED

    path = Path(path)
    files = (FILE, "n_g.pdparams", PACKED)
    return path.suffix == ".pdparams" or any((path / file).is_file() for file in files) or checkpoint.exists(path)


class Synthesizer:
    """A trained model as a function from a label map to a picture; safe to call from several threads.

    Attributes:
        names: class names, by id.
        palette: uint8 [n, 3], the colour of each id in colour maps.
        size: (height, width) of the pictures in pixels.
        z_dim: length of style vectors; 0 where the model has one style only.
        has_encoder: whether photos can give the style.
        uses_instances: whether edges between instances change the picture.
        label_nc: number of classes without the unknown one.
        unknown: the id of unlabelled pixels, or None.
        info: file, step (None where it is not known), parameters, device; of an exported folder also its runtime.
        opt: the options of training.
    """

    def __init__(self, engine):
        self._engine, self._lock = engine, threading.Lock()
        self._about = about = engine.description
        self.opt = engine.opt
        self.names, self.palette = list(about.names), np.array(about.colours, np.uint8)
        self.size, self.z_dim, self.label_nc = about.size, about.z_dim, about.label_nc
        self.unknown, self.uses_instances = about.unknown, about.uses_instances
        self.has_encoder = engine.has_encoder
        self.info = {"file": str(engine.file), "step": about.step, "parameters": about.parameters, **engine.runs_on}

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        which: str = "latest",
        use_ema: bool = True,
        device: str = "auto",
        runtime: str = "auto",
        form: str = "auto",
    ) -> "Synthesizer":
        """Load a model.

        Args:
            path: a folder of checkpoints, one checkpoint, a generator's .pdparams file with opt.yaml near it, or a
                folder that tools/export.py wrote.
            which: of a folder of checkpoints: latest, best, or the number of epochs done.
            use_ema: take a checkpoint's averaged weights where there are any.
            device: auto (a GPU when there is one), cpu, gpu or gpu:N; exported folders run on the CPU.
            runtime: of an exported folder: onnx, paddle, or auto for the first that is installed.
            form: of an exported folder: pattern, dense, or auto for the first that it has.

        Raises:
            UserError: nothing there, damaged files, no such device, no runtime for the folder.
        """
        path = Path(path)
        if is_exported(path):
            from model.serving.runtime import Exported

            if device not in ("auto", "cpu"):
                raise UserError(f"device {device}: an exported model runs on the CPU; give cpu or a checkpoint")
            if which != "latest":
                raise UserError(f"{path} is an exported model and holds one set of weights: leave out {which}")
            return cls(Exported(path, runtime, form))
        from model.ops.device import set_device  # Paddle, which exported folders do without
        from model.serving.painter import Painter

        set_device(device)
        return cls(Painter.load(path, which, use_ema))

    def __call__(self, label: Map, instance: Map | None = None, style: Any = None, seed: int | None = None):
        """Paint a label map.

        Args:
            label: a path, a PIL picture or an array: ids [H,W], or the palette's colours [H,W,3]; any size, brought to
                the model's by nearest neighbour. Where a colour stands for several ids it means the first. A picture
                as `Image.open` returns it is read as its file is (docs/data.md).
            instance: ids of the instances, a path, a PIL picture or an array [H,W] of the label map's size; without it
                edges run where classes meet. Ignored by models that do not use instances.
            style: None, a vector [z_dim], or a photo (a path or PIL), which the encoder turns into one.
            seed: without a style, the number that draws one; without both the style is the mean, all zeros. A model
                that has one style ignores it.

        Returns:
            An RGB picture (PIL) of the model's size.

        Raises:
            UserError: ids or colours that the model does not know, maps of different sizes, a style it cannot take.
        """
        ids = self._label(label)
        batch = {"label": self.resized(ids)[None]}
        if self.uses_instances:
            edges = ids if instance is None else instance_ids(instance, "the instance map")
            if edges.shape != ids.shape:
                sizes = "the instance map is {1}x{0} and the label map {3}x{2}".format(*edges.shape, *ids.shape)
                raise UserError(f"{sizes}: give both in the same size")
            batch["instance"] = self.resized(edges)[None]
        z = self._style(style, seed)
        image = self.paint(batch, None if z is None else z[None])[0]
        return Image.fromarray(tensor_to_image(image))

    def ids(self, label: Map) -> np.ndarray:
        """A label map, as calling takes it, as the network's ids int32 [H,W] of the model's size.

        Raises:
            UserError: ids or colours that the model does not know.
        """
        return self.resized(self._label(label))

    def paint(self, batch: Mapping[str, np.ndarray], z: np.ndarray | None) -> np.ndarray:
        """Pictures of a batch that is ready for the network.

        Args:
            batch: "label", and where the model uses instances "instance": integer [N,H,W] of the model's size, unknown
                pixels as `unknown`. What else a data loader's batch holds spares work or is ignored.
            z: float32 [N, z_dim], None without styles.

        Returns:
            float32 [N,3,H,W] in [-1,1].
        """
        with self._lock:
            return self._engine.paint(batch, z)

    def encode(self, photo: Photo) -> np.ndarray:
        """The style float32 [z_dim] of a photo of any size and colour mode, turned upright by its EXIF orientation.

        Raises:
            UserError: the model has no encoder, or the photo cannot be read.
        """
        return self.encode_batch(photo_to_tensor(style_photo(photo), *self.size, self.opt.photo_mode))[0]

    def encode_batch(self, photos: np.ndarray) -> np.ndarray:
        """The styles float32 [N, z_dim] of photos float32 [N,3,H,W] in [-1,1] of the model's size; see `encode`."""
        if not self.has_encoder:
            reason = "its encoder (n_e.pdparams) is not beside it" if self.z_dim else "it was trained without --use_vae"
            raise UserError(f"{self.info['file']} cannot take a photo's style: {reason}")
        with self._lock:
            return self._engine.encode(photos)

    def noise(self, seed: int, number: int = 0) -> np.ndarray:
        """The style float32 [z_dim] that a seed, 0 .. 2**63 - 1, draws for a picture's number: standard normal.

        Raises:
            UserError: the seed is outside that range.
        """
        if not 0 <= seed < 2**63:
            raise UserError(f"seed {seed} is out of range: expected 0 .. 2**63 - 1")
        return style_noise(int(seed), number, self.z_dim)

    def _style(self, style, seed):
        if not self.z_dim:
            if style is not None:
                raise UserError(f"{self.info['file']} was trained without --use_vae and knows one style: give none")
            return None
        if style is None:
            return np.zeros(self.z_dim, np.float32) if seed is None else self.noise(seed)
        if isinstance(style, Photo):
            return self.encode(style)
        try:
            z = np.asarray(style, np.float32)
        except (TypeError, ValueError):
            raise UserError(f"a style of type {type(style).__name__}: expected numbers, a photo or its path") from None
        if z.shape != (self.z_dim,) or not np.isfinite(z).all():
            raise UserError(f"a style of shape {list(z.shape)}: expected {self.z_dim} finite numbers")
        return z

    def _label(self, label: Map) -> np.ndarray:
        """A label map as ids int32 [H,W], known to the network."""
        ids, strange = class_map(label, self.palette, "the label map")
        if strange is not None:
            raise UserError(self._strange_colours(strange, ids.size))
        if self.unknown is not None:
            ids = np.where(np.isin(ids, self._about.unknown_ids), np.int32(self.unknown), ids)
        strange = [int(i) for i in np.unique(ids) if not 0 <= i < len(self.names)]
        if strange:
            marks = [i for i in self._about.unknown_ids if i != self.unknown]
            also = f" and {listed(marks)} for unlabelled" if marks else ""
            known = f"0..{len(self.names) - 1}{also}, the model's classes"
            raise UserError(f"the label map holds ids {listed(strange)}: expected {known}")
        return ids

    def _strange_colours(self, strange: np.ndarray, pixels: int) -> str:
        """What is said of colours [n,3] that are not the palette's, in a map of so many pixels."""
        values, first, counts = np.unique(colour_codes(strange), return_index=True, return_counts=True)
        told = []
        for i in np.argsort(-counts, kind="stable")[:3]:
            nearest = int(((self.palette.astype(int) - strange[first[i]]) ** 2).sum(1).argmin())
            near = f"nearest {self.names[nearest]} #{bytes(self.palette[nearest]).hex()}"
            told.append(f"#{values[i]:06x} ({_percent(counts[i], pixels)}, {near})")
        more = f" and {len(values) - 3} more" if len(values) > 3 else ""
        return (
            f"{_percent(len(strange), pixels)} of the label map's pixels have colours that are not the model's: "
            f"{', '.join(told)}{more}; save it without smoothing, as PNG"
        )

    def resized(self, ids: np.ndarray) -> np.ndarray:
        """A map of ids [H,W] at the model's size, by nearest neighbour."""
        if ids.shape == self.size:
            return ids
        return np.asarray(Image.fromarray(ids).resize(self.size[::-1], Image.Resampling.NEAREST))


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole
    return f"{share:.0f} %" if share >= 1 else "under 1 %"
