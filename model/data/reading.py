"""The one reader of pictures: ids from label and instance maps as they are stored, and photos.

Pillow decodes; but it shows ids as brightness: it spreads few bits over 0..255, scales PGM by its highest value,
inverts where white is 0, and keeps 8 bits of 16-bit colours. What it changes is taken back here, or the file is refused
by the name of its encoding. A file is judged by its content, whatever its suffix. docs/data.md has the table.

This file is also copied into the folder of an exported model, where it needs errors.py beside it, NumPy and Pillow.
"""

import contextlib
import io
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from model.errors import UserError
from model.neighbourhoods import array_classes, array_colours, array_ids, ids_of_colours

if TYPE_CHECKING:
    from model.data.palettes import Palette

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".ppm", ".webp", ".tif", ".tiff")
MAP_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm")
MAP_FORMATS = ("PNG", "TIFF", "BMP", "GIF", "PPM")  # Pillow's names; PPM is PGM too
FORMATS = (*MAP_FORMATS, "JPEG", "WEBP")  # others may start programs, as EPS does; JPEG is MPO too
IDS = "ids as stored"  # how maps are read, for keys of what was computed from them
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright, 5 to 8 are turned by 90 degrees
_TURNED_BACK = {  # what puts pixels back as they were before an orientation was applied
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
_SAVE_GREY = "save the ids as 8-bit or 16-bit grey PNG"
_LOSSLESS_TIFF = (
    "raw", "tiff_raw_16", "tiff_ccitt", "group3", "group4", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate",
    "packbits", "lzma", "zstd",
)  # fmt: skip
_NO_IDS_TIFF = {0: "MinIsWhite, where writers differ in whether samples are inverted", 6: "YCbCr"}  # by photometric

# Pillow tells of damaged EXIF and TIFF tags, which are not what is read here.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


class PictureError(UserError):
    """A picture that is not read.

    Attributes:
        code: unreadable, photo_depth, jpeg_maps, colour_maps, foreign_colours, map_format or encodings_differ.
        reason: what is wrong, without the file's name and the way out.
    """

    def __init__(self, code: str, reason: str, way_out: str = "", path: Any = None):
        self.code, self.reason, self.way_out = code, reason, way_out
        where = "" if path is None else f"{path}: "
        super().__init__(where + reason + (f": {way_out}" if way_out else ""))

    def at(self, path: Any) -> "PictureError":
        """The same of a named file."""
        return PictureError(self.code, self.reason, self.way_out, path)


@contextlib.contextmanager
def _naming(path: Any) -> Iterator[None]:
    """Give a `PictureError` of the `with` block the file's name, or whatever messages call the picture."""
    try:
        yield
    except PictureError as error:
        raise error.at(path) from None


def passed_over(others: Mapping[str, int]) -> str:
    """How many files of which suffix are not read, for a message: "12 .gif, 1 .heic"; nothing without any."""
    return ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in Counter(others).most_common())


# ---------------------------------------------------------------------------------------------------------------------
# Decoding


def _decode(file: Any, prepare: Callable[[Image.Image], Any]):
    """Decode one picture file.

    Args:
        file: a path or a binary stream.
        prepare: looks at the opened picture before its pixels are read, and may refuse it.

    Returns:
        (the picture, its EXIF orientation, what `prepare` returned).

    Raises:
        PictureError: it cannot be read; the caller names it.
    """
    most = Image.MAX_IMAGE_PIXELS or 2**63
    try:
        # a stream, since Pillow maps a named TIFF into memory with sides exchanged where it is turned
        with _stream(file) as stream, Image.open(stream, formats=FORMATS) as picture:
            if picture.width * picture.height > most:
                reason = f"{picture.width}x{picture.height} pixels are more than the {most} that are read"
                raise PictureError("unreadable", reason, "scale it down first")
            prepared = prepare(picture)
            orientation = _orientation(picture) if picture.format == "TIFF" else 0  # which turns itself when it loads
            picture.load()
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise PictureError("unreadable", f"refused, far too many pixels ({error})", "scale it down first") from error
    except FileNotFoundError as error:
        raise PictureError("unreadable", "the file is not there (any more)") from error
    except UnidentifiedImageError as error:
        raise _unidentified(file) from error
    except Exception as error:  # Pillow's decoders raise of every kind at damaged files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = f"cannot be read as a picture ({reason})"
        raise PictureError("unreadable", reason, "take it from its source again") from error
    return picture, orientation or _orientation(picture), prepared


def _orientation(picture: Image.Image) -> int:
    """What EXIF says; 1 where it says nothing that can be read."""
    with contextlib.suppress(Exception):  # a damaged EXIF is no damaged picture
        if (orientation := picture.getexif().get(ORIENTATION, 1)) in _TURNED_BACK:
            return orientation
    return 1


def _stream(file: Any):
    return contextlib.nullcontext(file) if isinstance(file, io.BytesIO) else open(file, "rb")


def _unidentified(file: Any) -> PictureError:
    """What is said of a file that is none of `FORMATS`, or is of a kind that Pillow does not know."""
    with _stream(file) as stream:
        stream.seek(0)
        head = stream.read(16)
        if not head:
            return PictureError("unreadable", "cannot be read (the file is empty)", "take it from its source again")
        if head[:2] in (b"II", b"MM"):
            with contextlib.suppress(Exception):  # a damaged one
                return _refused(f"a TIFF with {_tiff_samples(stream, head)}, which is not read")
    kinds = {
        b"%!PS": "EPS",
        b"\0\0\0\x0cjP": "JPEG 2000",
        b"\xff\x4f\xff\x51": "JPEG 2000",
        b"P7": "PAM",
        b"8BPS": "PSD",
    }
    kind = next((name for start, name in kinds.items() if head.startswith(start)), None)
    if head[4:8] == b"ftyp":
        kind = "AVIF" if head[8:12] == b"avif" else "HEIC"
    if kind:
        return PictureError("unreadable", f"cannot be read as a picture ({kind})", "save it as PNG")
    known = ", ".join(FORMATS)
    return PictureError("unreadable", f"cannot be read as a picture (none of {known})", "take it from its source again")


def _tiff_samples(stream: Any, head: bytes) -> str:
    tags = TiffImagePlugin.ImageFileDirectory_v2(head if head[2:4] in (b"+\0", b"\0+") else head[:8])
    stream.seek(tags.next)
    tags.load(stream)
    bits = "x".join(map(str, tags.get(258, (1,))))
    kind = {1: "unsigned", 2: "signed", 3: "floating point"}.get(tags.get(339, (1,))[0], "other")
    order = "big-endian" if head[:2] == b"MM" else "little-endian"
    return f"{bits}-bit {kind} samples ({order}, photometric interpretation {tags[262]})"


def _as_stored(picture: Image.Image, orientation: int) -> Image.Image:
    """The picture in the file's own orientation: Pillow turns TIFF files alone."""
    if picture.format == "TIFF" and orientation in _TURNED_BACK:
        return picture.transpose(_TURNED_BACK[orientation])
    return picture


# ---------------------------------------------------------------------------------------------------------------------
# Photos


def read_photo(path) -> Image.Image:
    """Read a photo as 8-bit RGB: grey, CMYK and palette are converted, transparent parts are laid on white.

    The pixels are as stored, since label maps are drawn on them, and the released code ignores EXIF too. `info` tells
    the "orientation" of EXIF (1: upright), and whether any part is "transparent".

    Raises:
        PictureError: it cannot be read, or has 16 bits of grey or floating point numbers.
    """
    with _naming(path):
        picture, orientation, _ = _decode(path, lambda picture: None)
        photo = _rgb(_as_stored(picture, orientation))
    photo.info["orientation"] = orientation
    return photo


def style_photo(photo: Any, draft: tuple[int, int] | None = None) -> Image.Image:
    """A photo that was given by hand, as 8-bit RGB, turned upright as its EXIF orientation says.

    Args:
        photo: a path or a PIL picture.
        draft: (width, height) that suffices: a large JPEG is then decoded at a fraction of its size.

    Raises:
        PictureError: see `read_photo`.
    """
    path = None if isinstance(photo, Image.Image) else photo
    file = path
    if isinstance(photo, ImageFile.ImageFile) and (content := _bytes_of(photo)) is not None:
        file = io.BytesIO(content)
    with _naming(path):
        if file is not None:
            photo, _, _ = _decode(file, lambda picture: draft and picture.draft("RGB", draft))
        return _rgb(ImageOps.exif_transpose(photo) if _orientation(photo) > 1 else photo)


def turned_apart(photo: Image.Image, label: Image.Image) -> bool:
    """Whether a photo (of `read_photo`) and its map differ in size just as the photo's EXIF orientation turns it."""
    return photo.info.get("orientation", 1) >= 5 and photo.size == label.size[::-1] != label.size


TURN_THE_PHOTO = (
    "turn the photo's pixels and drop the tag (exiftran -ai FILE, or Pillow's ImageOps.exif_transpose); do not scale "
    "the map"
)


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode[0] in "IF":
        raise PictureError("photo_depth", f"a photo of mode {picture.mode}", "save it with 8 bits a channel")
    if picture.mode == "LAB":
        raise PictureError("photo_depth", "a photo in CIELab", "save it as RGB")
    transparent = False
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
        transparent = alpha.getextrema()[0] < 255
        if transparent:
            white = Image.new("RGB", picture.size, (255, 255, 255))
            white.paste(picture.convert("RGB"), mask=alpha)
            picture = white
    photo = picture.convert("RGB")
    photo.info["transparent"] = transparent
    return photo


# ---------------------------------------------------------------------------------------------------------------------
# Maps


def read_ids(path, coded: bool = False, palette: "Palette | None" = None) -> Image.Image:
    """Read a label or instance map as ids; see `id_map`.

    Raises:
        PictureError: it cannot be read, or its encoding holds no ids.
    """
    with _naming(path):
        picture, orientation, undo = _decode(path, _before_decoding)
        return _ids(_as_stored(picture, orientation), undo, coded, palette)


def id_map(picture: Image.Image, coded: bool = False, palette: "Palette | None" = None) -> Image.Image:
    """Integer ids of a label or instance map as a PIL picture of mode L (ids up to 255) or I (other).

    Its `info` tells how they were found, for `Agreement`: "shown" is {id: (red, green, blue)} of a palette in colours,
    whose indices are the ids; "grey_palette" is set where a palette's grey values are; "few" are the greys other than
    black that samples of 1, 2 or 4 bits show, and "full" the ids of 8 bits that could be such greys; "colours" is set
    where they were looked up in the palette's file, "grey_colours" where they were not and would have become others.

    Args:
        picture: mode L, 1, I, I;16, P, or RGB, RGBA, LA whose channels are equal. A file that is opened and not read
            yet is read as `read_ids` does; of one that is read already nothing but its pixels is known.
        coded: read colours as ids R + 256 G + 65536 B, as panoptic instance maps are stored.
        palette: look up colours, of mode P too, in it; grey maps hold ids all the same.

    Raises:
        PictureError: the picture holds no ids, or which they are cannot be told.
    """
    if picture.mode == "L" and picture.format is None:
        return picture
    return _ids(*_stored(picture), coded, palette)


def ids_in(label: Image.Image) -> list[int]:
    """The ids of a label map (mode L or I), rising."""
    if label.mode == "L":
        return [i for i, count in enumerate(label.histogram()) if count]
    return np.unique(np.asarray(label)).tolist()


def _stored(picture: Image.Image) -> tuple[Image.Image, "Undo | None"]:
    """A PIL picture's pixels, read again where its file is only opened, and what brings back the stored samples."""
    if not isinstance(picture, ImageFile.ImageFile):
        return picture, None
    content = _bytes_of(picture)
    if content is None:
        return picture, _after_decoding(picture)
    decoded, orientation, undo = _decode(io.BytesIO(content), _before_decoding)
    return _as_stored(decoded, orientation), undo


def _bytes_of(picture: ImageFile.ImageFile) -> bytes | None:
    """The file of an opened picture whose pixels are not read yet; None of one that is."""
    if not picture.tile:
        return None
    if picture.fp is None:
        raise PictureError("unreadable", "its file was closed before its pixels were read", "open it again")
    try:
        place = picture.fp.tell()
        picture.fp.seek(0)
        content = picture.fp.read()
        picture.fp.seek(place)
    except (OSError, ValueError) as error:
        raise PictureError("unreadable", f"the opened file cannot be read ({error})", "open it again") from None
    return content


def _refused(reason: str, way_out: str = _SAVE_GREY) -> PictureError:
    return PictureError("map_format", reason, way_out)


Undo = Callable[[np.ndarray], np.ndarray]
_FEW = frozenset(range(17, 256, 17))  # greys that 4 bits can show, or fewer


def _divided(by: int) -> Undo:
    return lambda pixels: pixels // by


def _signed(pixels: np.ndarray) -> np.ndarray:
    return pixels.view(np.int8)


def _before_decoding(picture: Any) -> Undo | None:
    """See that an opened map's pixels come as stored.

    Returns:
        What brings the decoded pixels back to the stored ones; None where nothing is to be done.

    Raises:
        PictureError: Pillow would lose them, or they are not exact in the first place.
    """
    _refuse_kind(picture)
    read = {"PNG": _png, "TIFF": _tiff, "BMP": _bmp, "PPM": _pnm}.get(picture.format)
    return read(picture) if read else None


def _refuse_kind(picture: Any) -> None:
    form = picture.format
    if form in ("JPEG", "MPO"):
        raise PictureError("jpeg_maps", "a JPEG cannot hold ids, its compression changes them", "make the maps as PNG")
    if form not in MAP_FORMATS:
        raise _refused(f"a {form} file, which is not read as ids since most are compressed with losses")
    if getattr(picture, "is_animated", False):
        raise _refused(f"a {form} with several pictures (animation or pages)", f"{_SAVE_GREY}, one for each picture")


def _png(picture: Any) -> Undo | None:
    raw = picture.tile[0][3] if picture.tile else ""
    if raw.endswith(";16B") and picture.mode not in ("I", "I;16"):
        raise _refused("a PNG with 16 bits a channel in colour or with alpha, of which Pillow reads 8")
    spread = {"L;2": 85, "L;4": 17}.get(raw)
    return _divided(spread) if spread else None


def _tiff(picture: Any) -> Undo | None:
    tags = picture.tag_v2
    bits, extra = tags.get(258, (1,)), tags.get(338, ())
    compression, photometric = picture.info.get("compression"), tags.get(262, 0)
    if compression not in _LOSSLESS_TIFF:
        raise _refused(f"a TIFF with {compression} compression, which changes ids")
    if photometric in _NO_IDS_TIFF:
        raise _refused(f"a TIFF of photometric interpretation {_NO_IDS_TIFF[photometric]}")
    if len(bits) > 1 and max(bits) > 8:
        raise _refused("a TIFF with 16 bits a channel in colour, of which Pillow reads 8")
    if 1 in extra:
        raise _refused("a TIFF with premultiplied alpha, which changes values")
    if picture.mode == "L":
        if tuple(bits) == (8,):
            signed = tags.get(339, (1,))[0] == 2
            return _signed if signed else None
        return _divided({2: 85, 4: 17}[bits[0]])
    return None


def _bmp(picture: Any) -> Undo | None:
    picture.fp.seek(14)
    header = picture.fp.read(18)
    at = 10 if int.from_bytes(header[:4], "little") == 12 else 14
    bits, mode = int.from_bytes(header[at : at + 2], "little"), picture.mode
    name, box, offset, args = picture.tile[0]
    if bits == 4 and mode == "L" and name == "raw":  # Pillow takes a palette 0, 1, 2 ... for 8 bits
        picture.tile = [(name, box, offset, ("L;4", *args[1:]))]
        return _divided(17)
    known = {1: ("1", "P"), 4: ("P", "L"), 8: ("P", "L"), 24: ("RGB",), 32: ("RGB", "RGBA")}
    if mode not in known.get(bits, ()):
        raise _refused(f"a BMP with {bits} bits a pixel that Pillow takes for mode {mode}")
    return None


def _pnm(picture: Any) -> Undo | None:
    """PGM and PPM: take the samples as they are, where Pillow scales them by their header's highest value."""
    if picture.mode == "1":
        raise _refused("a PBM, where 1 is black, so that writers differ in whether samples are inverted")
    name, box, offset, args = picture.tile[0]
    highest = args[-1] if name in ("ppm", "ppm_plain") else 255
    if highest > 255 and picture.mode != "I":
        raise _refused("a PPM with 16 bits a channel, of which Pillow reads 8")
    if name == "ppm":
        picture.tile = [("raw", box, offset, "I;16B" if picture.mode == "I" else args[0])]
    elif name == "ppm_plain" and picture.mode != "1":
        picture.tile = [(name, box, offset, (args[0], 65535 if picture.mode == "I" else 255))]
    return None


def _after_decoding(picture: Any) -> Undo | None:
    """As `_before_decoding`, of a file's picture whose pixels were read elsewhere; the undo raises where it is unknown.

    Raises:
        PictureError: Pillow has lost the samples.
    """
    _refuse_kind(picture)
    form, mode = picture.format, picture.mode
    if form == "TIFF":
        return _tiff(picture)

    def undo(pixels: np.ndarray) -> np.ndarray:
        spread = form in ("PPM", "BMP") and mode != "P"
        spread |= form == "PNG" and mode == "L" and not (pixels % 17).any()
        dropped = mode in ("RGB", "RGBA") and not pixels.any()
        if dropped or (spread and pixels.any()):
            raise _refused(
                f"a {form} whose pixels were read already, so that they may differ from the file's samples",
                "give its path, or the picture as Image.open returns it, or an array of ids",
            )
        return pixels

    return undo


def _ids(picture: Image.Image, undo: Undo | None, coded: bool, palette: "Palette | None") -> Image.Image:
    """A decoded map as ids; see `id_map`."""
    mode, info = picture.mode, {}
    if palette is not None and mode in ("RGB", "RGBA", "P", "PA"):
        try:
            found = Image.fromarray(palette.to_ids(np.asarray(picture.convert("RGB"))))
        except UserError as error:
            reason, _, way_out = str(error).partition(": ")
            raise PictureError("foreign_colours", reason, way_out) from None
        found.info["colours"] = True
        return found
    ids = np.asarray(picture)
    if mode in ("P", "PA"):
        ids, info = _palette_ids(picture, ids if mode == "P" else ids[..., 0])
    elif mode in ("LA", "RGB", "RGBA"):
        channels = ids[..., :1] if mode == "LA" else ids[..., :3]
        if (channels == channels[..., :1]).all():
            ids = channels[..., 0]
        elif coded:
            ids = channels.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
        else:
            raise PictureError(
                "colour_maps",
                f"colours (mode {mode}) where class ids are expected",
                "name the file of the palette with --palette, or save one channel of ids (8-bit grey or palette PNG)",
            )
    elif mode not in ("L", "1", "I") and not mode.startswith("I;16"):
        names = {"F": "floating point numbers", "LAB": "CIELab"}
        raise _refused(f"a map of mode {mode}{f' ({names[mode]})' if mode in names else ''}")
    if mode in ("L", "1"):
        greys = np.flatnonzero(picture.histogram()).astype(np.uint8)
        samples = greys // 255 if mode == "1" else greys if undo is None else undo(greys)
        few = samples.max(initial=0) < greys.max(initial=0)
        info["few" if few else "full"] = _FEW.intersection(greys.tolist())
        info["grey_colours"] = palette is not None and _mean_others(greys, samples, palette)
    if undo is not None:
        ids = undo(ids)
    found = Image.fromarray(ids.astype(np.uint8 if ids.dtype in (np.uint8, bool) else np.int32))
    found.info.update(info)
    return found


def _mean_others(greys: np.ndarray, ids: np.ndarray, palette: "Palette") -> bool:
    """Whether all greys of a map are colours of a palette, which stand for other ids than the samples."""
    try:
        return bool((palette.to_ids(np.repeat(greys[:, None, None], 3, axis=2))[:, 0] != ids).any())
    except UserError:
        return False


def _palette_ids(picture: Image.Image, index: np.ndarray) -> tuple[np.ndarray, dict]:
    """The ids of a map with a palette.

    A palette in colours shows ids, and its indices are the ids. In a palette of greys alone, which is what optimisers
    of PNG make of a grey map, the grey values are the ids and the indices any permutation. The whole palette decides:
    the few entries that a map uses may be grey by chance.

    Returns:
        (ids uint8 [H,W], what `id_map` tells in `info`).
    """
    table = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)[:256]
    used = np.flatnonzero(np.bincount(index.ravel(), minlength=256))
    shown = np.zeros((256, 3), np.uint8)
    shown[: len(table)] = table
    if not (table == table[:, :1]).all():
        return index, {"shown": {int(i): tuple(shown[i].tolist()) for i in used}}
    grey = np.arange(256, dtype=np.uint8)
    grey[: len(table)] = table[:, 0]
    if (grey[used] == used).all():
        return index, {}
    rising = _is_ramp(table[:, 0])
    if rising and picture.format == "BMP":  # which has no other way to say grey of few bits: its samples are meant
        return index, {}
    if rising or _is_ramp(table[::-1, 0]):
        raise _refused(
            "a palette of even greys between black and white, where the indices or the grey values may be the ids",
            f"{_SAVE_GREY}, or give a file that says which colour is which id with --palette",
        )
    return grey[index], {"grey_palette": True}


def _is_ramp(grey: np.ndarray) -> bool:
    """Whether a palette's greys rise evenly from 0 to 255, as where indices are shown as brightness."""
    last = int(np.flatnonzero(grey).max(initial=0)) + 1  # zeros fill it up
    return last > 1 and bool((np.abs(grey[:last] - np.linspace(0, 255, last)) < 1).all())


class Agreement:
    """What the encodings of one set's maps say, to find files that contradict each other.

    Optimisers of PNG renumber a palette's colours in each file, so that an index means another class there. And they
    store greys that few bits can show with few bits: 0 and 255 become samples 0 and 1. One file does not show it, but
    two do: where one index has two colours, or the greys that a map's few bits show are ids of another map.
    """

    def __init__(self) -> None:
        self._shown: dict[int, tuple[tuple[int, ...], Any]] = {}
        self._grey: Any = None
        self._kinds: dict[str, Any] = {}
        self._few: dict[frozenset[int], Any] = {}
        self._full: dict[int, Any] = {}

    def conflict(self, path: Any, info: Mapping[str, Any]) -> tuple[str, Any] | None:
        """Take in how a map's ids were found (the `info` of `read_ids`): what contradicts which other file, or None."""
        shown, grey = info.get("shown", {}), info.get("grey_palette")
        for index, colour in shown.items():
            before, other = self._shown.setdefault(index, (colour, path))
            if before != colour:
                return f"palette index {index} is {_hex(colour)} here and {_hex(before)}", other
        if grey:
            self._grey = self._grey or path
        if grey and self._shown:
            return "the palette is grey here and in colours", next(iter(self._shown.values()))[1]
        if shown and self._grey:
            return "the palette is in colours here and grey", self._grey
        for key, other, words in (
            ("colours", "grey_colours", "colours are looked up here, greys are ids"),
            (
                "grey_colours",
                "colours",
                "greys that are colours of the palette are ids here, colours are looked up",
            ),
        ):
            if info.get(key) and self._kinds.setdefault(key, path) and other in self._kinds:
                return words, self._kinds[other]
        few, new = info.get("few"), info.get("full", frozenset()).difference(self._full)
        self._full.update(dict.fromkeys(new, path))
        if few:
            self._few.setdefault(few, path)
        for greys, place in self._few.items():
            told = ", ".join(map(str, sorted(greys)))
            if greys == few and greys <= self._full.keys():
                return f"its few bits show the grey {told}, an id", self._full[max(greys)]
            if new & greys and greys <= self._full.keys():
                return f"it holds the id {told}, a grey that few bits show", place
        return None

    def if_greys(self) -> str:
        """What is to be added to a message about ids that do not fit; nothing where no map had a palette of greys."""
        return if_greys(self._grey, {"grey_palette": self._grey})

    def check(self, path: Any, info: Mapping[str, Any]) -> None:
        """Take in how a map's ids were found.

        Raises:
            PictureError: its encoding contradicts another file's.
        """
        if found := self.conflict(path, info):
            reason = f"{found[0]} in {found[1]}, as where an optimiser encoded each file in its own way"
            raise PictureError("encodings_differ", reason, ENCODINGS_DIFFER, path)


def if_greys(path: Any, info: Mapping[str, Any]) -> str:
    """What is to be added to a message about a map whose ids do not fit: they may be greys that only show the ids."""
    if not info.get("grey_palette"):
        return ""
    return f"; {path} has a palette of greys, whose values are read: if its indices are the ids, give --palette {path}"


ENCODINGS_DIFFER = (
    "take the maps as they were before, or, for palettes, give the file that says which colour is which id with "
    "--palette; if the samples are the ids all the same, save them as 8-bit grey PNG"
)


def _hex(colour: tuple[int, ...]) -> str:
    return f"#{bytes(colour).hex()}"


# ---------------------------------------------------------------------------------------------------------------------
# Whatever a caller gives


def instance_ids(given: Any, what: str) -> np.ndarray:
    """An instance map, as `class_map` takes one (colours are codes, see `id_map`), as ids int32 [H,W].

    Raises:
        UserError: no ids.
    """
    if isinstance(given, np.ndarray) and given.ndim == 2:
        return array_ids(given, what)
    with _naming(_name(given, what)):
        return np.asarray(_ids(*_given(given, what), True, None)).astype(np.int32)


def class_map(given: Any, colours: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray | None]:
    """A label map as ids, also of one in the colours of a model's classes.

    Args:
        given: a path, a PIL picture, or an array: integer ids [H,W], or colours uint8 [H,W,3 or 4].
        colours: uint8 [n,3], by id.
        what: what messages call a map that is no file.

    Returns:
        (ids int32 [H,W], None); or where some colours are not the model's, (ids with -1 there, those uint8 [m,3]).
        Where a colour stands for several ids it means the first.

    Raises:
        UserError: neither ids nor colours.
    """
    if isinstance(given, np.ndarray):
        return array_classes(given, colours, what)
    with _naming(_name(given, what)):
        picture, undo = _given(given, what)
        if picture.mode in ("RGB", "RGBA", "P", "PA"):
            rgb = np.asarray(picture.convert("RGB"))
            ids = ids_of_colours(rgb, colours)
            grey, indexed = bool((rgb == rgb[..., :1]).all()), picture.mode in ("P", "PA")
            if (ids >= 0).all() and not (indexed and grey):  # a grey palette shows ids, not colours
                return ids, None
            if not grey and not indexed:
                return ids, rgb[ids < 0]
        return np.asarray(_ids(picture, undo, False, None)).astype(np.int32), None


def _name(given: Any, what: str) -> Any:
    return given if isinstance(given, str | os.PathLike) else what


def _given(given: Any, what: str) -> tuple[Image.Image, Undo | None]:
    """A map in a file, a PIL picture or an array of colours as a picture, and what brings back its stored samples."""
    if isinstance(given, np.ndarray):
        return Image.fromarray(np.ascontiguousarray(array_colours(given, what))), None
    if isinstance(given, str | os.PathLike):
        picture, orientation, undo = _decode(given, _before_decoding)
        return _as_stored(picture, orientation), undo
    if not isinstance(given, Image.Image):
        raise UserError(f"{what} is of type {type(given).__name__}: expected a path, a PIL picture or an array")
    return _stored(given)
