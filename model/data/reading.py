"""Label and instance maps as the ids that are stored.

Pillow shows ids as brightness: it spreads few bits over 0..255, scales PGM by its highest value, inverts where white is
0, and keeps 8 bits of 16-bit colours. What it changes is taken back here, or the file is refused by the name of its
encoding. docs/data.md has the table.

This file is also copied into the folder of an exported model, where it needs errors.py, pictures.py and
neighbourhoods.py beside it.
"""

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFile

from model.data.pictures import MAP_FORMATS, SAVE_GREY, PictureError, as_stored, bytes_of, decode, naming
from model.errors import UserError
from model.neighbourhoods import array_classes, array_colours, array_ids, ids_of_colours

if TYPE_CHECKING:
    from model.data.palettes import Palette

IDS = "ids as stored"  # how maps are read, for keys of what was computed from them
_LOSSLESS_TIFF = (
    "raw", "tiff_raw_16", "tiff_ccitt", "group3", "group4", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate",
    "packbits", "lzma", "zstd",
)  # fmt: skip
_NO_IDS_TIFF = {0: "MinIsWhite, where writers differ in whether samples are inverted", 6: "YCbCr"}  # by photometric


def read_ids(given: Any, coded: bool = False, palette: "Palette | None" = None, what: str | None = None) -> Image.Image:
    """A label or instance map as a PIL picture of integer ids: of mode L (ids up to 255) or I (other).

    Its `info` tells how they were found, for `agreement`: "shown" is {id: (red, green, blue)} of a palette in colours,
    whose indices are the ids; "grey_palette" is set where a palette's grey values are; "few" are the greys other than
    black that samples of 1, 2 or 4 bits show, and "full" the ids of 8 bits that could be such greys; "colours" is set
    where they were looked up in the palette's file, "grey_colours" where they were not and would have become others.

    Args:
        given: a path, or a PIL picture of mode L, 1, I, I;16, P, or RGB, RGBA, LA whose channels are equal. One whose
            file is opened and not read yet is read as by its path; of others nothing but the pixels is known.
        coded: read colours as ids R + 256 G + 65536 B, as panoptic instance maps are stored.
        palette: look up colours, of mode P too, in it; grey maps hold ids all the same.
        what: what messages call a map that is no file.

    Raises:
        PictureError: it cannot be read, its encoding holds no ids, or which they are cannot be told.
    """
    if isinstance(given, Image.Image) and given.mode == "L" and given.format is None:
        return given
    with naming(given, what):
        return _ids(*_given(given, what), coded, palette)


def id_counts(label: Image.Image) -> dict[int, int]:
    """The ids of a label map (mode L or I), rising, and how many pixels each has."""
    return {i: count for count, i in sorted(label.getcolors(label.width * label.height), key=lambda pair: pair[1])}


def _refused(reason: str, way_out: str = SAVE_GREY) -> PictureError:
    return PictureError("map_format", reason, way_out)


Undo = Callable[[np.ndarray], np.ndarray]
_FEW = frozenset(range(17, 256, 17))  # greys that 4 bits can show, or fewer


def _divided(by: int) -> Undo:
    return lambda pixels: pixels // by


def _unchanged(pixels: np.ndarray) -> np.ndarray:
    return pixels


def _before_decoding(picture: Any) -> Undo:
    """See that an opened map's pixels come as stored: gives what brings the decoded ones back, or refuses the file."""
    _refuse_kind(picture)
    read = {"PNG": _png, "TIFF": _tiff, "BMP": _bmp, "PPM": _pnm}.get(picture.format)
    return read(picture) if read else _unchanged


def _refuse_kind(picture: Any) -> None:
    form = picture.format
    if form in ("JPEG", "MPO"):
        raise PictureError("jpeg_maps", "a JPEG cannot hold ids, its compression changes them", "make the maps as PNG")
    if form not in MAP_FORMATS:
        raise _refused(f"a {form} file, which is not read as ids since most are compressed with losses")
    if getattr(picture, "is_animated", False):
        raise _refused(f"a {form} with several pictures (animation or pages)", f"{SAVE_GREY}, one for each picture")


def _png(picture: Any) -> Undo:
    raw = picture.tile[0][3] if picture.tile else ""
    if raw.endswith(";16B") and picture.mode not in ("I", "I;16"):
        raise _refused("a PNG with 16 bits a channel in colour or with alpha, of which Pillow reads 8")
    return {"L;2": _divided(85), "L;4": _divided(17)}.get(raw, _unchanged)


def _tiff(picture: Any) -> Undo:
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
    if picture.mode != "L":
        return _unchanged
    if tuple(bits) != (8,):
        return _divided({2: 85, 4: 17}[bits[0]])
    signed = tags.get(339, (1,))[0] == 2
    return lambda pixels: pixels.view(np.int8) if signed else pixels


def _bmp(picture: Any) -> Undo:
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
    return _unchanged


def _pnm(picture: Any) -> Undo:
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
    return _unchanged


def _after_decoding(picture: Any) -> Undo:
    """As `_before_decoding`, of a picture whose pixels were read elsewhere; the undo raises where samples are lost."""
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


def _ids(picture: Image.Image, undo: Undo, coded: bool, palette: "Palette | None" = None) -> Image.Image:
    """A decoded map as ids; see `read_ids`."""
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
        samples = greys // 255 if mode == "1" else undo(greys)
        few = samples.max(initial=0) < greys.max(initial=0)
        info["few" if few else "full"] = _FEW.intersection(greys.tolist())
        info["grey_colours"] = palette is not None and _mean_others(greys, samples, palette)
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
        (ids uint8 [H,W], what `read_ids` tells in `info`).
    """
    table = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)[:256]
    used = np.flatnonzero(np.bincount(index.ravel(), minlength=256))
    if not (table == table[:, :1]).all():
        shown = np.pad(table, ((0, 256 - len(table)), (0, 0)))
        return index, {"shown": {int(i): tuple(shown[i].tolist()) for i in used}}
    grey = np.append(table[:, 0], np.arange(len(table), 256, dtype=np.uint8))
    if (grey[used] == used).all():
        return index, {}
    rising = _is_ramp(table[:, 0])
    if rising and picture.format == "BMP":  # which has no other way to say grey of few bits: its samples are meant
        return index, {}
    if rising or _is_ramp(table[::-1, 0]):
        raise _refused(
            "a palette of even greys between black and white, where the indices or the grey values may be the ids",
            f"{SAVE_GREY}, or give a file that says which colour is which id with --palette",
        )
    return grey[index], {"grey_palette": True}


def _is_ramp(grey: np.ndarray) -> bool:
    """Whether a palette's greys rise evenly from 0 to 255, as where indices are shown as brightness."""
    last = int(np.flatnonzero(grey).max(initial=0)) + 1  # zeros fill it up
    return last > 1 and bool((np.abs(grey[:last] - np.linspace(0, 255, last)) < 1).all())


# ---------------------------------------------------------------------------------------------------------------------
# Whatever a caller gives


def instance_ids(given: Any, what: str) -> np.ndarray:
    """An instance map, as `class_map` takes one (colours are codes, see `read_ids`), as ids int32 [H,W].

    Raises:
        UserError: no ids.
    """
    if isinstance(given, np.ndarray) and given.ndim == 2:
        return array_ids(given, what)
    return np.asarray(read_ids(given, coded=True, what=what)).astype(np.int32)


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
    with naming(given, what):
        picture, undo = _given(given, what)
        if picture.mode in ("RGB", "RGBA", "P", "PA"):
            rgb = np.asarray(picture.convert("RGB"))
            ids = ids_of_colours(rgb, colours)
            grey, indexed = bool((rgb == rgb[..., :1]).all()), picture.mode in ("P", "PA")
            if (ids >= 0).all() and not (indexed and grey):  # a grey palette shows ids, not colours
                return ids, None
            if not grey and not indexed:
                return ids, rgb[ids < 0]
        return np.asarray(_ids(picture, undo, False)).astype(np.int32), None


def _given(given: Any, what: str | None) -> tuple[Image.Image, Undo]:
    """A map in a file, a PIL picture or an array of colours as a picture, and what brings back its stored samples.

    A picture's file that is only opened is read again, as it would be by its path.
    """
    if isinstance(given, np.ndarray):
        return Image.fromarray(np.ascontiguousarray(array_colours(given, what or "the map"))), _unchanged
    if isinstance(given, ImageFile.ImageFile):
        content = bytes_of(given)
        if content is None:
            return given, _after_decoding(given)
        given = io.BytesIO(content)
    elif isinstance(given, Image.Image):
        return given, _unchanged
    elif not isinstance(given, str | os.PathLike):
        raise UserError(
            f"{what or 'the map'} is of type {type(given).__name__}: expected a path, a PIL picture or an array"
        )
    picture, orientation, undo = decode(given, _before_decoding)
    return as_stored(picture, orientation), undo
