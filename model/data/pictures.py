"""Decoding pictures, and photos as 8-bit RGB.

A file is judged by its content, whatever its suffix; what is damaged, huge or of another kind is refused in a line.

This file is also copied into the folder of an exported model, where it needs errors.py beside it and Pillow.
"""

import contextlib
import io
import os
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from model.errors import UserError

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".ppm", ".webp", ".tif", ".tiff")
MAP_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm")
MAP_FORMATS = ("PNG", "TIFF", "BMP", "GIF", "PPM")  # Pillow's names; PPM is PGM too
FORMATS = (*MAP_FORMATS, "JPEG", "WEBP")  # others may start programs, as EPS does; JPEG is MPO too
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright, 5 to 8 are turned by 90 degrees
_TURNED_BACK = {  # what puts pixels back as they were before an orientation was applied
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
_OTHER_KINDS = {  # by a regular expression of their beginning
    rb"%!PS": "EPS", rb"\0\0\0\x0cjP|\xff\x4f\xff\x51": "JPEG 2000", rb"P7": "PAM", rb"8BPS": "PSD",
    rb"(?s).{4}ftypavif": "AVIF", rb"(?s).{4}ftyp": "HEIC",
}  # fmt: skip
SAVE_GREY = "save the ids as 8-bit or 16-bit grey PNG"

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


@contextlib.contextmanager
def naming(given: Any, what: str | None = None) -> Iterator[None]:
    """Give a `PictureError` of the `with` block its file's name, or what messages call one that is no file."""
    try:
        yield
    except PictureError as error:
        name = given if isinstance(given, str | os.PathLike) else what
        raise PictureError(error.code, error.reason, error.way_out, name) from None


def decode(file: Any, prepare: Callable[[Image.Image], Any]):
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
                reason = f"a TIFF with {_tiff_samples(stream, head)}, which is not read"
                return PictureError("map_format", reason, SAVE_GREY)
    kind = next((kind for start, kind in _OTHER_KINDS.items() if re.match(start, head)), None)
    reason = f"cannot be read as a picture ({kind or 'none of ' + ', '.join(FORMATS)})"
    return PictureError("unreadable", reason, "save it as PNG" if kind else "take it from its source again")


def _tiff_samples(stream: Any, head: bytes) -> str:
    tags = TiffImagePlugin.ImageFileDirectory_v2(head if head[2:4] in (b"+\0", b"\0+") else head[:8])
    stream.seek(tags.next)
    tags.load(stream)
    bits = "x".join(map(str, tags.get(258, (1,))))
    kind = {1: "unsigned", 2: "signed", 3: "floating point"}.get(tags.get(339, (1,))[0], "other")
    order = "big-endian" if head[:2] == b"MM" else "little-endian"
    return f"{bits}-bit {kind} samples ({order}, photometric interpretation {tags[262]})"


def bytes_of(picture: ImageFile.ImageFile) -> bytes | None:
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


def as_stored(picture: Image.Image, orientation: int) -> Image.Image:
    """The picture in the file's own orientation: Pillow turns TIFF files alone."""
    if picture.format == "TIFF" and orientation in _TURNED_BACK:
        return picture.transpose(_TURNED_BACK[orientation])
    return picture


def read_photo(path) -> Image.Image:
    """Read a photo as 8-bit RGB: grey, CMYK and palette are converted, transparent parts are laid on white.

    The pixels are as stored, since label maps are drawn on them, and the released code ignores EXIF too. `info` tells
    the "orientation" of EXIF (1: upright), and whether any part is "transparent".

    Raises:
        PictureError: it cannot be read, or has 16 bits of grey or floating point numbers.
    """
    with naming(path):
        picture, orientation, _ = decode(path, lambda picture: None)
        photo = _rgb(as_stored(picture, orientation))
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
    file = None if isinstance(photo, Image.Image) else photo
    if isinstance(photo, ImageFile.ImageFile) and (content := bytes_of(photo)) is not None:
        file = io.BytesIO(content)
    with naming(photo):
        if file is not None:
            photo, _, _ = decode(file, lambda picture: draft and picture.draft("RGB", draft))
        return _rgb(ImageOps.exif_transpose(photo) if _orientation(photo) > 1 else photo)


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
