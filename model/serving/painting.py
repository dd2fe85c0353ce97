"""What the painting page does on the server: drawings to pictures, uploads to drawings and styles. No Gradio here.

Everything that comes from a browser is text: a drawing is base64 of the zlib form of two uint16 little-endian planes
[2,H,W], class ids and object numbers (0: no object of its own); an uploaded file is its bytes in base64. Nothing is
written to the disk, and nothing of it is read but the model.
"""

import base64
import io
import threading
import time
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from model.data.palettes import class_names
from model.data.pictures import style_photo
from model.data.sample import make_scene
from model.errors import UserError
from model.serving.styles import on_arc

MAX_UPLOAD = 10 * 2**20  # bytes of an uploaded file
MAX_PIXELS = 40_000_000  # of an uploaded picture
PHOTO_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
MAP_FORMATS = ("PNG", "BMP")  # the others' compression changes ids
SCENES = (3, 4, 10, 14, 17, 21)  # seeds of the sample scenes
SCENE_SIZE = (256, 256)
# What the sample scenes are made of: the classes that a model trained on them alone knows.
SAMPLE_CLASSES = (
    "sky-other", "clouds", "mountain", "hill", "tree", "bush", "grass", "rock", "sand", "sea", "road", "pavement",
    "fence", "house", "roof", "window-other", "door-stuff", "person", "car", "boat", "sheep",
)  # fmt: skip


def encode_drawing(ids: np.ndarray, objects: np.ndarray) -> str:
    """A drawing as text; ids and objects are integer [H,W], 0..65535."""
    return base64.b64encode(zlib.compress(np.stack([ids, objects]).astype("<u2").tobytes(), 9)).decode()


def decode_drawing(text: Any, size: tuple[int, int], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Class ids and object numbers of a drawing, int32 [H,W] each.

    Raises:
        UserError: Not a drawing, one of another size (height, width), or ids outside 0..classes-1.
    """
    height, width = size
    expected = 4 * height * width
    unpacker = zlib.decompressobj()
    try:
        planes = unpacker.decompress(base64.b64decode(text, validate=True), expected + 1)
    except (ValueError, TypeError, zlib.error):
        raise UserError("the drawing cannot be read: draw again, or open the link again") from None
    if len(planes) != expected or not unpacker.eof:
        size = f"{width}x{height} pixels"
        raise UserError(f"the drawing is cut off or of another model: expected {size}, this model's size")
    ids, objects = np.frombuffer(planes, "<u2").reshape(2, height, width).astype(np.int32)
    if ids.max() >= classes:
        raise UserError(f"the drawing holds class {ids.max()}: expected 0..{classes - 1}, this model's classes")
    return ids, objects


def read_upload(text: Any, formats: tuple[str, ...]) -> Image.Image:
    """An uploaded file as an opened picture, whose pixels are not read yet.

    Args:
        text: The file in base64.
        formats: Pillow's names of those that are accepted.

    Raises:
        UserError: Too many bytes or pixels, another kind of file.
    """
    if not isinstance(text, str):
        raise UserError(f"the upload is {type(text).__name__}: expected a file's bytes in base64")
    if len(text) > -(-MAX_UPLOAD // 3) * 4:
        size = f"{len(text) * 3 / 4 / 2**20:.1f} MB: expected at most {MAX_UPLOAD // 2**20} MB"
        raise UserError(f"the file has {size}, scale it down")
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise UserError("the upload is not base64: send the file's bytes in that form") from None
    try:
        picture = Image.open(io.BytesIO(data), formats=formats)
        if picture.width * picture.height > MAX_PIXELS:
            raise Image.DecompressionBombError
    except Image.DecompressionBombError:
        most = f"{MAX_PIXELS // 10**6} million pixels"
        raise UserError(f"the picture has more than {most}, the most that is read: scale it down") from None
    except Exception:  # Pillow's plugins raise of every kind at damaged files
        kinds = " or ".join((", ".join(formats[:-1]), formats[-1]))
        raise UserError(f"the file is not a picture of a kind that is read here: expected {kinds}") from None
    return picture


def as_url(picture: Image.Image, form: str = "PNG", **options: Any) -> str:
    """A picture as a data: URL, which a browser shows and saves without another request."""
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


class Studio:
    """The page's functions around one model; they keep no state between calls.

    Each raises UserError for a drawing, a style or a file that cannot be read or does not fit the model.

    Args:
        synthesizer: A `model.serving.synthesizer.Synthesizer`.
    """

    def __init__(self, synthesizer: Any):
        self._synthesizer = synthesizer
        self._samples, self._lock = None, threading.Lock()

    def describe(self) -> dict:
        """What the page needs to know of the model: sizes, classes, colours, sample scenes, styles, limits."""
        model = self._synthesizer
        with self._lock:
            self._samples = self._samples or self._sample_scenes()
        scenes, gallery = self._samples
        parts = [] if model.info["step"] is None else [f"{model.info['step']:,} steps"]
        parts += [f"{model.info['parameters'] / 1e6:.1f} M parameters", "{1}x{0}".format(*model.size)]
        parts += [f"{len(model.names)} classes"]
        known = [i for i, name in enumerate(model.names) if name in SAMPLE_CLASSES]
        return {
            "height": model.size[0], "width": model.size[1], "names": model.names,
            "colours": [f"#{bytes(colour).hex()}" for colour in model.palette],
            "first": sorted(known, key=lambda i: SAMPLE_CLASSES.index(model.names[i])),
            "instances": model.uses_instances, "styles": bool(model.z_dim), "photos": model.has_encoder,
            "scenes": scenes, "gallery": gallery, "model": ", ".join(parts), "max_upload": MAX_UPLOAD,
        }  # fmt: skip

    def paint(self, drawing: str, style: dict) -> dict:
        """The picture of a drawing.

        Args:
            drawing: See the top of the module.
            style: {"first": S, "second": S or None, "mix": per cent 0..100 of the way to the second}, where S is
                {"seed": whole number from 0} or {"vector": [z_dim numbers]}; {} for the mean style.

        Returns:
            {"picture": PNG as a data: URL, "seconds": time that it took}
        """
        begun = time.perf_counter()
        ids, objects = self._drawing(drawing)
        numbers = np.where(objects > 0, objects + len(self._synthesizer.names), ids)
        instance = numbers if self._synthesizer.uses_instances else None
        picture = self._synthesizer(ids, instance, style=self._style(style))
        return {"picture": as_url(picture), "seconds": round(time.perf_counter() - begun, 3)}

    def read_map(self, file: str) -> dict:
        """{"drawing": ...} of an uploaded label map, ids or the palette's colours, PNG or BMP, of any size."""
        ids = self._synthesizer.ids(read_upload(file, MAP_FORMATS))
        return {"drawing": encode_drawing(ids, np.zeros_like(ids))}

    def write_map(self, drawing: str) -> dict:
        """{"map": PNG as a data: URL} whose values are the drawing's class ids, shown in their colours where it can."""
        ids, _ = self._drawing(drawing)
        colours = self._synthesizer.palette
        if len(colours) > 256:
            return {"map": as_url(Image.fromarray(ids.astype(np.uint16)))}
        picture = Image.fromarray(ids.astype(np.uint8))
        if len(np.unique(colours, axis=0)) == len(colours):  # else colours would be read back as the first of several
            picture.putpalette(colours.tobytes())
        return {"map": as_url(picture)}

    def read_photo(self, file: str) -> dict:
        """{"photo": small JPEG as a data: URL, "vector": style} of an uploaded photo."""
        if not self._synthesizer.has_encoder:
            raise UserError("this model takes no style from photos: choose a seed")
        height, width = self._synthesizer.size
        return self._with_style(style_photo(read_upload(file, PHOTO_FORMATS), (2 * width, 2 * height)))

    def _drawing(self, text):
        return decode_drawing(text, self._synthesizer.size, len(self._synthesizer.names))

    def _with_style(self, photo: Image.Image) -> dict:
        vector = [round(float(value), 4) for value in self._synthesizer.encode(photo)]
        photo = ImageOps.fit(photo, (96, 96))
        return {"photo": as_url(photo, "JPEG", quality=85), "vector": vector}

    def _style(self, style: Any) -> np.ndarray | None:
        """What the page calls a style as a vector; None where the model has no styles."""
        if not self._synthesizer.z_dim:
            return None
        if not isinstance(style, dict):
            raise UserError(f"the style is {type(style).__name__}: expected an object with first, second and mix")
        first, second, mix = style.get("first"), style.get("second"), style.get("mix", 0)
        if not isinstance(mix, int | float) or not 0 <= mix <= 100:
            raise UserError(f"mix {str(mix)[:20]} is out of range: expected 0..100 per cent")
        z = self._vector(first)
        return on_arc(z, self._vector(second), mix / 100) if second and mix else z

    def _vector(self, style: Any) -> np.ndarray:
        z_dim = self._synthesizer.z_dim
        if not style:
            return np.zeros(z_dim, np.float32)
        if not isinstance(style, dict) or not {"seed", "vector"} & set(style):
            raise UserError("a style is neither a seed nor a vector: choose another one")
        if "seed" in style:
            seed = style["seed"]
            if type(seed) is not int or not 0 <= seed < 2**32:
                raise UserError(f"seed {str(seed)[:20]} is out of range: expected a whole number 0..{2**32 - 1}")
            return self._synthesizer.noise(seed)
        try:
            z = np.asarray(style["vector"], float)
        except (ValueError, TypeError, OverflowError):
            z = np.empty(0)
        if z.shape != (z_dim,) or not (np.abs(z) <= 1000).all():
            raise UserError(f"the style is of another model: expected {z_dim} numbers within -1000..1000")
        return z.astype(np.float32)

    def _sample_scenes(self) -> tuple[list[str], list[dict]]:
        """Drawings of the sample scenes, as far as the model has their classes, and their photos with their styles."""
        drawings, photos, table = [], [], self._translation()
        unknown = self._synthesizer.unknown
        for seed in SCENES:
            photo, label, instance = make_scene(np.random.default_rng(seed), SCENE_SIZE)
            photos.append(Image.fromarray(photo))
            objects = np.where(instance != label, instance.astype(np.int32) + 1, 0)
            ids = table[label]
            if (ids < 0).mean() > 0.2:
                continue
            ids[ids < 0] = np.bincount(ids[ids >= 0]).argmax() if unknown is None else unknown
            drawings.append(encode_drawing(*map(self._synthesizer.resized, (ids, objects))))
        return drawings, [self._with_style(photo) for photo in photos] if self._synthesizer.has_encoder else []

    def _translation(self) -> np.ndarray:
        """This model's ids of COCO-Stuff's, by name, int32 [256]; -1 where it has none."""
        own = {name: i for i, name in reversed(list(enumerate(self._synthesizer.names)))}
        theirs = class_names("coco_stuff", 182)[:182]
        found = [own.get(name, own.get(name.removesuffix("-other"), -1)) for name in theirs]
        return np.pad(np.int32(found), (0, 256 - len(found)), constant_values=-1)
