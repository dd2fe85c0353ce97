"""Class names and label colours of the supported data sets, and palette files of others (NumPy and Pillow)."""

import functools
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from model.data.label_ids import unknown_class, unknown_ids
from model.errors import UserError
from model.neighbourhoods import colour_codes, places_of

# A file of each known data set, in a form that `read_palette` reads: ids from 0, colours, names.
_CLASSES = Path(__file__).with_name("classes")
_FILES = {mode: mode for mode in ("coco_stuff", "ade20k", "cityscapes", "facades", "camvid")} | {"sample": "coco_stuff"}


@functools.cache
def _known(dataset_mode: str) -> tuple[list[str], np.ndarray]:
    """Names and colours, uint8 [n, 3], of a data set's ids; none of custom."""
    if dataset_mode == "custom":
        return [], np.zeros((0, 3), np.uint8)
    if dataset_mode not in _FILES:
        expected = ", ".join([*_FILES, "custom"])
        raise UserError(f"dataset_mode {dataset_mode!r} has no class names; expected one of {expected}")
    path = _CLASSES / f"{_FILES[dataset_mode]}.txt"
    _, colours, names = zip(*_from_text(path.read_text(encoding="utf-8"), path), strict=True)
    return list(names), np.array(colours, np.uint8)


def class_names(dataset_mode: str, label_nc: int) -> list[str]:
    """Names of all ids that a label map of this data set can hold, in the order of the ids.

    Args:
        dataset_mode: coco_stuff, ade20k, cityscapes, facades, camvid, custom or sample, which has COCO-Stuff's classes.
        label_nc: number of classes, without 'unknown'.

    Returns:
        For cityscapes and facades, which have no unknown id, `label_nc` names; for the others `label_nc` + 1, where
        the last is "unlabeled" (for ade20k, whose ids are 0..150 with 0 = other, it is the class of id 150).
        Ids beyond the data set's own are called "class 7".

    Raises:
        UserError: for a data set that is not in the list.
    """
    known = [name for name in _known(dataset_mode)[0] if dataset_mode == "cityscapes" or name != "unlabeled"]
    names = known[:label_nc] + [f"class {i}" for i in range(len(known), label_nc)]
    if dataset_mode in ("cityscapes", "facades"):
        return names
    if dataset_mode == "ade20k" and label_nc < len(known):
        return names + [known[label_nc]]
    return names + ["unlabeled"]


def palette(dataset_mode: str, n: int) -> np.ndarray:
    """Colours of the ids 0..n-1: the data set's official ones, or the released SPADE code's where it has none.

    Args:
        dataset_mode: as in `class_names`.
        n: number of colours.

    Returns:
        uint8 [n, 3] RGB. Unlabelled ids of the known data sets are black.

    Raises:
        UserError: for a data set that is not in the list.
    """
    own = _known(dataset_mode)[1][:n]
    # The bits of id + 1, so that id 0 is not black, go in turn to red, green and blue, the lowest to the highest.
    bits = (np.arange(1, n + 1)[:, None] >> np.arange(21) & 1).reshape(n, 7, 3)
    colours = (bits << np.arange(7, 0, -1)[:, None]).sum(axis=1).astype(np.uint8)
    colours[: len(own)] = own
    return colours


def colorize(label: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """A label map as a colour picture.

    Args:
        label: integer [..., H, W].
        colours: a palette, uint8 [n, 3].

    Returns:
        uint8 [..., H, W, 3] RGB. Ids outside the palette are black.
    """
    label, table = np.asarray(label), np.pad(np.asarray(colours, np.uint8), ((0, 1), (0, 0)))
    return table[np.where((label >= 0) & (label < len(colours)), label, len(colours))]


# ---------------------------------------------------------------------------------------------------------------------
# Palette files


class Palette:
    """Which colour means which id, for label maps that hold colours, as `read_palette` reads it from a file.

    Several colours may mean one id; the first of them is the one that the id is shown in.

    Args:
        entries: (id 0..65535, (red, green, blue), name or "") of each colour.
        source: what messages call it.

    Attributes:
        shown: {id: (red, green, blue)}.
        names: {id: name}, of the ids that have one.

    Raises:
        UserError: no colours, a value out of its range, one colour for two ids.
    """

    def __init__(self, entries: list[tuple[int, tuple[int, int, int], str]], source: str = "palette"):
        if not entries:
            raise UserError(f"{source}: no colours in it: expected lines ID RED GREEN BLUE NAME, JSON or a palette PNG")
        self.source = source
        self.shown: dict[int, tuple[int, int, int]] = {}
        self.names: dict[int, str] = {}
        known: dict[int, int] = {}
        for number, rgb, name in entries:
            if not 0 <= number <= 65535:
                raise UserError(f"{source}: id {number} is out of range: expected 0..65535")
            if len(rgb) != 3 or not all(0 <= value <= 255 for value in rgb):
                raise UserError(f"{source}: colour {list(rgb)} of id {number}: expected red, green, blue of 0..255")
            if (other := known.setdefault(int(colour_codes(np.array(rgb))), number)) != number:
                raise UserError(
                    f"{source}: colour {tuple(rgb)} stands for id {other} and id {number}: keep one of them"
                )
            self.shown.setdefault(number, rgb)
            if name:
                self.names.setdefault(number, name)
        self._codes = np.array(sorted(known), np.int32)
        self._ids = np.array([known[code] for code in sorted(known)], np.int32)

    def __len__(self) -> int:
        """The number of colours."""
        return len(self._codes)

    def to_ids(self, rgb: np.ndarray) -> np.ndarray:
        """Colours to ids.

        Args:
            rgb: uint8 [H, W, 3].

        Returns:
            [H, W], uint8 if all ids of the palette fit, else int32.

        Raises:
            UserError: colours that the palette does not have, with the first of them, its place and their share.
        """
        place = places_of(rgb, self._codes)
        if (foreign := place < 0).any():
            y, x = np.argwhere(foreign)[0]
            share = 100 * foreign.mean()
            raise UserError(
                f"colour {tuple(int(c) for c in rgb[y, x])} at x {x}, y {y} is not in {self.source}, nor are "
                f"{share:.2g} % of the pixels: add it there, or, if edges were smoothed, save the map without smoothing"
            )
        return self._ids[place].astype(np.uint8 if self._ids.max() <= 255 else np.int32)


def read_palette(path: str | os.PathLike) -> Palette:
    """Read which colour means which class from a text, JSON or PNG file.

    * Text: one class a line, `ID RED GREEN BLUE NAME`, separated by blanks, commas or semicolons. The colour may be
      written #RRGGBB; the name may be left out, and the id in all lines: then the lines are counted from 0. An id may
      come again with another colour. Other lines, such as remarks and a table's head, are passed over.
    * JSON: a list of `[red, green, blue]` whose places are the ids, or of objects with `color` (or `rgb`), `name` and
      `id` (default: the place); the list may be the value of `labels`, `categories` or `classes`.
    * PNG (or GIF) with a palette: its indices are the ids.

    Raises:
        UserError: no such file, another form, a colour that stands for two ids.
    """
    path = Path(path)
    try:
        if path.suffix.lower() in (".png", ".gif"):
            with Image.open(path) as picture:
                entries = _from_picture(picture, path)
        else:
            text = path.read_text(encoding="utf-8-sig")
            entries = _from_json(text, path) if text.lstrip()[:1] in ("[", "{") else _from_text(text, path)
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        reason = getattr(error, "strerror", None) or "neither text nor a picture"
        raise UserError(f"{path}: not a palette file ({reason}): expected text, JSON or a palette PNG") from None
    return Palette(entries, str(path))


def _from_picture(picture: Image.Image, path: Path) -> list:
    if picture.mode != "P":
        raise UserError(
            f"{path}: a picture of mode {picture.mode} without a palette: save it as a palette PNG (mode P)"
        )
    flat = picture.getpalette()
    colours = [tuple(flat[i : i + 3]) for i in range(0, len(flat), 3)]
    # Programs fill unused places with a colour that is there already, mostly black: its first place counts.
    return [(i, rgb, "") for i, rgb in enumerate(colours) if colours.index(rgb) == i]


def _from_json(text: str, path: Path) -> list:
    try:
        data: Any = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if isinstance(data, dict):
        data = next((data[key] for key in ("labels", "categories", "classes") if key in data), None)
    if not isinstance(data, list):
        raise UserError(f"{path}: expected a list of colours, or an object with one as labels, categories or classes")
    entries = []
    for place, entry in enumerate(data):
        known = entry if isinstance(entry, dict) else {"color": entry}
        rgb, number = known.get("color", known.get("rgb")), known.get("id", place)
        whole = isinstance(rgb, list) and all(isinstance(v, int) for v in rgb) and isinstance(number, int)
        if not whole:
            raise UserError(
                f"{path}: entry {place} is {json.dumps(entry)[:60]}: expected [red, green, blue] or an object"
            )
        entries.append((number, tuple(rgb), str(known.get("name", ""))))
    return entries


_GAP = r"[\s,;]+"
_RGB_TEXT = rf"(?:#([0-9a-fA-F]{{6}})|(\d+){_GAP}(\d+){_GAP}(\d+))(?:{_GAP}(\D.*))?"
_FORMS = re.compile(rf"(-?\d+){_GAP}{_RGB_TEXT}"), re.compile(rf"(){_RGB_TEXT}")


def _from_text(text: str, path: Path) -> list:
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if re.match(r"-?\d|#[0-9a-fA-F]{6}\b", line)]
    form = next((form for form in _FORMS if lines and form.fullmatch(lines[0][1])), _FORMS[0])
    entries = []
    for place, (number, line) in enumerate(lines):
        match = form.fullmatch(line)
        if match is None:
            wanted = "ID RED GREEN BLUE NAME" if form is _FORMS[0] else "RED GREEN BLUE NAME, as before"
            raise UserError(f"{path}, line {number}: {line[:60]!r}: expected {wanted}, or #RRGGBB for the colour")
        rgb = tuple(bytes.fromhex(match[2])) if match[2] else tuple(int(match[i]) for i in (3, 4, 5))
        entries.append((int(match[1]) if match[1] else place, rgb, (match[6] or "").strip()))
    return entries


def channel_names(opt) -> list[str]:
    """Names of all channels: `class_names`, but those of ids that mean unlabelled are called so."""
    names = class_names(opt.dataset_mode, opt.label_nc)
    if unknown_class(opt) == len(names):
        names.append("unlabeled")
    return ["unlabeled" if i in unknown_ids(opt)[1:] else name for i, name in enumerate(names)]


def names_and_colours(opt, own: Palette | None = None) -> tuple[list[str], np.ndarray]:
    """Class names and colours for showing label maps of a run: its palette file's, or else its data set's.

    Where the palette file has nothing of the unknown class's id, it has the name and colour of another that means it.

    Args:
        opt: `palette` and what `unknown_ids` reads are read.
        own: `opt.palette` if it was read already.

    Returns:
        (names by id, uint8 [n, 3] RGB by id), n as in `channel_names`.

    Raises:
        UserError: the palette file cannot be used.
    """
    names = channel_names(opt)
    colours = palette(opt.dataset_mode, len(names))
    if own is None and opt.palette:
        own = read_palette(opt.palette)
    if own is not None:
        names = [own.names.get(i, name) for i, name in enumerate(names)]
        for i, rgb in own.shown.items():
            if i < len(names):
                colours[i] = rgb
        unknown, shown = unknown_class(opt), next((i for i in unknown_ids(opt) if i in own.shown), None)
        if shown is not None:
            names[unknown], colours[unknown] = own.names.get(shown, names[unknown]), own.shown[shown]
    return names, colours
