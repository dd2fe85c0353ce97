"""Reading pictures: ids from label and instance maps, and photos."""

import struct
import zlib

import numpy as np
from PIL import Image

from model.errors import UserError
from model.palettes import Palette

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp", ".tif", ".tiff")
MAP_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm")
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


def decode(picture: Image.Image) -> None:
    """Decode an opened picture's pixels, and note in its `info` what `id_map` must take back.

    Pillow spreads the values of 2- and 4-bit grey PNG files, which optimisers of PNG write, over 0..255.
    """
    bits = picture.tile[0][3] if picture.format == "PNG" and picture.tile else ""  # known until the pixels are there
    picture.load()
    picture.info["id_scale"] = {"L;2": 85, "L;4": 17}.get(bits, 0)


def _open(path) -> Image.Image:
    """Open and decode one picture file; what stops it becomes a UserError that names the file."""
    try:
        picture = Image.open(path)
        if picture.width * picture.height > (Image.MAX_IMAGE_PIXELS or 2**63):
            raise UserError(
                f"{path}: {picture.width}x{picture.height} pixels are more than the "
                f"{Image.MAX_IMAGE_PIXELS} that are read: scale it down first"
            )
        decode(picture)
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: refused, far too many pixels ({error}): scale it down first") from error
    except FileNotFoundError as error:
        raise UserError(f"{path}: the file is not there (any more)") from error
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{path}: cannot be read as a picture ({reason}): replace or remove the file") from error
    return picture


def read_photo(path) -> Image.Image:
    """Read a photo as 8-bit RGB: grey, CMYK, palette and alpha are converted, an EXIF orientation is not applied.

    Label maps are stored in the photo file's own orientation, and the released code ignores EXIF too.
    """
    picture = _open(path)
    if picture.mode[0] in "IF":
        raise UserError(f"{path}: a photo of mode {picture.mode}: save it with 8 bits a channel")
    return picture.convert("RGB")


def id_map(picture: Image.Image, coded: bool = False, palette: Palette | None = None) -> Image.Image:
    """Integer ids of a label or instance map as a PIL picture of mode L (ids up to 255) or I (larger).

    Args:
        picture: mode L, P (its indices are the ids), 1, I, I;16, or RGB/RGBA/LA whose channels are equal.
        coded: read colours as ids R + 256 G + 65536 B, as panoptic instance maps are stored.
        palette: look up colours, of mode P too, in it; grey maps hold ids all the same.
    """
    if palette is not None and picture.mode in ("RGB", "RGBA", "P"):
        return Image.fromarray(palette.to_ids(np.asarray(picture.convert("RGB"))))
    spread = picture.info.get("id_scale", 0)
    if picture.mode == "L" and not spread:
        return picture
    ids = np.asarray(picture)
    if picture.mode == "L":
        ids = ids // spread
    elif picture.mode in ("LA", "RGB", "RGBA"):
        channels = ids[..., :1] if picture.mode == "LA" else ids[..., :3]
        if (channels == channels[..., :1]).all():
            ids = channels[..., 0]
        elif coded:
            ids = channels.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
        else:
            raise UserError(
                f"colours (mode {picture.mode}) where class ids are expected: name the file of the "
                "palette with --palette, or save one channel of ids (8-bit grey or palette PNG)"
            )
    elif picture.mode not in ("P", "1", "I") and not picture.mode.startswith("I;16"):
        raise UserError(f"a map of mode {picture.mode}: save the ids as 8-bit grey, palette or 16-bit PNG")
    if ids.dtype == np.uint8 or ids.dtype == bool:
        return Image.fromarray(ids.astype(np.uint8))
    return Image.fromarray(ids.astype(np.int32))


def read_ids(path, coded: bool = False, palette: Palette | None = None) -> Image.Image:
    """Read a label or instance map as ids (see `id_map`); a JPEG is refused since its compression changes ids."""
    picture = _open(path)
    if picture.format == "JPEG":
        raise UserError(f"{path}: a JPEG cannot hold ids, its compression changes them: make the maps as PNG")
    try:
        return id_map(picture, coded, palette)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def ids_in(label: Image.Image) -> list[int]:
    """The ids of a label map (mode L or I), rising."""
    if label.mode == "L":
        return [i for i, count in enumerate(label.histogram()) if count]
    return np.unique(np.asarray(label)).tolist()
