"""What the files of one set say together: encodings that contradict each other, sizes that differ by a turn."""

from collections.abc import Mapping
from typing import Any

from PIL import Image

from model.data.pictures import PictureError

ENCODINGS_DIFFER = (
    "take the maps as they were before, or, for palettes, give the file that says which colour is which id with "
    "--palette; if the samples are the ids all the same, save them as 8-bit grey PNG"
)
TURN_THE_PHOTO = (
    "turn the photo's pixels and drop the tag (exiftran -ai FILE, or Pillow's ImageOps.exif_transpose); do not scale "
    "the map"
)


_OPPOSED = {  # what two maps of a set cannot be, the second one before the first
    ("grey_palette", "shown"): "the palette is grey here and in colours",
    ("shown", "grey_palette"): "the palette is in colours here and grey",
    ("colours", "grey_colours"): "colours are looked up here, greys are ids",
    ("grey_colours", "colours"): "greys that are colours of the palette are ids here, colours are looked up",
}


class Agreement:
    """What the encodings of one set's maps say, to find files that contradict each other.

    Optimisers of PNG renumber a palette's colours in each file, so that an index means another class there. And they
    store greys that few bits can show with few bits: 0 and 255 become samples 0 and 1. One file does not show it, but
    two do: where one index has two colours, or the greys that a map's few bits show are ids of another map.
    """

    def __init__(self) -> None:
        self._shown: dict[int, tuple[tuple[int, ...], Any]] = {}
        self._kinds: dict[str, Any] = {}  # the first map of each kind that `_OPPOSED` names
        self._few: dict[frozenset[int], Any] = {}
        self._full: dict[int, Any] = {}

    def conflict(self, path: Any, info: Mapping[str, Any]) -> tuple[str, Any] | None:
        """Take in how a map's ids were found (the `info` of `read_ids`): what contradicts which other file, or None."""
        for index, colour in info.get("shown", {}).items():
            before, other = self._shown.setdefault(index, (colour, path))
            if before != colour:
                return f"palette index {index} is #{bytes(colour).hex()} here and #{bytes(before).hex()}", other
        for (kind, other), words in _OPPOSED.items():
            if info.get(kind) and self._kinds.setdefault(kind, path) and other in self._kinds:
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
        return if_greys(self._kinds.get("grey_palette"), self._kinds)

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


def turned_apart(photo: Image.Image, label: Image.Image) -> bool:
    """Whether a photo (of `read_photo`) and its map differ in size just as the photo's EXIF orientation turns it."""
    return photo.info.get("orientation", 1) >= 5 and photo.size == label.size[::-1] != label.size
