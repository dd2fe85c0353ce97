"""Pictures for people: tensors as images, label maps in colour with a legend, sheets of them (NumPy and Pillow)."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.data.palettes import colorize, names_and_colours
from model.errors import UserError
from model.files import replacing

_BACKGROUND, _TEXT = (255, 255, 255), (30, 30, 30)
_GAP, _LINE, _SWATCH, _TITLE = 4, 14, 10, 18  # pixels
_FONT = ImageFont.load_default(size=11)
_MIN_SIDE = 128  # pixels; smaller images are shown enlarged, or their titles would not fit


def tensor_to_image(tensor: Any) -> np.ndarray:
    """One network image as bytes.

    A deviation from the released code, which cuts off the fraction: here a photo that went through the loader comes
    back unchanged (test_photo_comes_back_unchanged).

    Args:
        tensor: Tensor or array, float [3,H,W] or [1,H,W] in [-1,1]; what lies outside is clipped.

    Returns:
        uint8 [H,W,3] RGB.
    """
    array = np.asarray(tensor.numpy() if hasattr(tensor, "numpy") else tensor, np.float32)
    if array.ndim != 3 or array.shape[0] not in (1, 3):
        raise ValueError(f"an image of shape {list(array.shape)}, expected [3,H,W] or [1,H,W]")
    array = np.nan_to_num(array, nan=-1.0).clip(-1, 1)
    pixels = np.rint((array + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def photo_to_tensor(photo: Image.Image, height: int, width: int, mode: str = "RGB") -> np.ndarray:
    """A picture of any size as the encoder takes it: float32 [1,3,H,W] in [-1,1], of mode L (grey) [1,1,H,W]."""
    small = np.atleast_3d(photo.convert(mode).resize((width, height), Image.Resampling.BICUBIC))
    return np.ascontiguousarray(small.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1)


def save_image(image: np.ndarray | Image.Image, path: str | os.PathLike) -> None:
    """Write a picture whole or not at all: JPEG of quality 95 or PNG, as the name says.

    Args:
        image: uint8 [H,W,3], uint8 [H,W], or a PIL image.
        path: the file; its folder is made.

    Raises:
        UserError: another ending than .jpg, .jpeg or .png, no space, no permission.
    """
    path = Path(path)
    formats = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
    if path.suffix.lower() not in formats:
        raise UserError(f"{path}: pictures are written as {', '.join(formats)}")
    picture = image if isinstance(image, Image.Image) else Image.fromarray(np.ascontiguousarray(image))
    with replacing(path) as temporary:
        picture.save(temporary, formats[path.suffix.lower()], quality=95)  # PNG knows no quality


def _shortened(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    if draw.textlength(text, _FONT) <= width:
        return text
    while text and draw.textlength(text + "..", _FONT) > width:
        text = text[:-1]
    return text + ".."


def legend(label: np.ndarray, names: Sequence[str], colours: np.ndarray, height: int, width: int = 130) -> Image.Image:
    """The classes of a label map, the largest first, each with its colour and share of the pixels.

    Args:
        label: integer [H,W].
        names: class names by id; ids beyond them are called "class 7".
        colours: uint8 [n,3] RGB by id.
        height, width: size of the result in pixels; classes that find no room are counted in the last line.
    """
    ids, counts = np.unique(np.asarray(label), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    room = max(height // _LINE, 1)
    shown = order if len(order) <= room else order[: room - 1]
    for line, index in enumerate(shown):
        number, y = int(ids[index]), line * _LINE
        name = names[number] if 0 <= number < len(names) else f"class {number}"
        colour = tuple(int(c) for c in colorize(np.array([[number]]), colours)[0, 0])
        percent = 100 * counts[index] / counts.sum()
        share = f"{percent:.0f}%" if percent >= 1 else "<1%"
        draw.rectangle((2, y + 2, 2 + _SWATCH, y + 2 + _SWATCH), fill=colour, outline=_TEXT)
        draw.text((_SWATCH + 8, y), _shortened(draw, name, width - _SWATCH - 40), _TEXT, _FONT)
        draw.text((width - 2, y), share, _TEXT, _FONT, anchor="ra")
    if len(shown) < len(order):
        draw.text((_SWATCH + 8, len(shown) * _LINE), f"and {len(order) - len(shown)} more", _TEXT, _FONT)
    return sheet


def grid(rows: Sequence[Sequence[np.ndarray | Image.Image]], titles: Sequence[str] = ()) -> Image.Image:
    """Images in rows and columns, the columns titled.

    Args:
        rows: uint8 [H,W,3] arrays or PIL images; each column is as wide as its widest, each row as high as its highest.
        titles: one for each column; none for no title line.
    """
    pictures = [[Image.fromarray(c) if isinstance(c, np.ndarray) else c for c in row] for row in rows]
    columns = max(len(row) for row in pictures)
    widths = [max(row[c].width for row in pictures if c < len(row)) for c in range(columns)]
    heights = [max(picture.height for picture in row) for row in pictures]
    top = _TITLE if titles else 0
    size = (sum(widths) + _GAP * (columns + 1), sum(heights) + _GAP * (len(rows) + 1) + top)
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    x = _GAP
    for column, width in enumerate(widths):
        if column < len(titles):
            title = _shortened(draw, titles[column], width)
            draw.text((x + width / 2, top / 2 + 1), title, _TEXT, _FONT, anchor="mm")
        y = _GAP + top
        for row, height in zip(pictures, heights, strict=True):
            if column < len(row):
                sheet.paste(row[column], (x, y))
            y += height + _GAP
        x += width + _GAP
    return sheet


def preview_sheet(
    labels: Any,
    generated: Any,
    photos: Any = None,
    opt: Any = None,
    *,
    titles: Sequence[str] = ("label map", "generated", "photo"),
) -> Image.Image:
    """One row for each image: label map in colours | generated | photo | legend of the classes present.

    Args:
        labels: integer [N,H,W]; unknown is `opt.label_nc`.
        generated: float [N,3,H,W] in [-1,1], or a list of such, one for each further column.
        photos: float [N,3,H,W] in [-1,1], or None.
        opt: OPT, for `dataset_mode` and `label_nc`.
        titles: of the columns, without the legend's.
    """
    labels = np.asarray(labels.numpy() if hasattr(labels, "numpy") else labels)
    names, colours = names_and_colours(opt)
    stacks = [*(generated if isinstance(generated, list | tuple) else [generated])]
    if photos is not None:
        stacks.append(photos)
    rows = []
    for index, label in enumerate(labels):
        images = [colorize(label, colours)] + [tensor_to_image(stack[index]) for stack in stacks]
        images = [enlarged(image) for image in images]
        rows.append([*images, legend(label, names, colours, max(image.height for image in images))])
    return grid(rows, [*titles[: 1 + len(stacks)], *[""] * (1 + len(stacks) - len(titles)), "classes"])


def enlarged(image: np.ndarray, least_side: int = _MIN_SIDE) -> Image.Image:
    """A small picture whole times larger, so that no side is below `least_side` and titles have room above it."""
    picture = Image.fromarray(image)
    factor = math.ceil(least_side / min(picture.size))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
