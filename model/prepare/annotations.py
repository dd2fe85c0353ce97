"""Where the annotations of each picture stand in COCO's instance annotation files, which memory need not hold."""

import io
import json
import os
import re
from array import array
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from model.errors import UserError

_CHUNK = 1 << 22
_SPACE = re.compile(r"[ \t\r\n]*")
_decode = json.JSONDecoder().raw_decode


class _Stream:
    """A JSON file through a window of a few megabytes.

    Its text is decoded as latin-1, one character a byte, so that positions are offsets in the file; values in which
    there is more than ASCII are decoded once more.
    """

    def __init__(self, file: io.BufferedIOBase):
        self.file, self.text, self.base, self.at = file, "", 0, 0

    def _more(self) -> bool:
        chunk = self.file.read(max(_CHUNK, len(self.text) - self.at))
        self.base += self.at
        self.text, self.at = self.text[self.at :] + chunk.decode("latin-1"), 0
        return bool(chunk)

    def peek(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()
            if self.at < len(self.text) or not self._more():
                return self.text[self.at : self.at + 1]

    def take(self, expected: str) -> str:
        """Go past one of the characters of `expected` and return it."""
        found = self.peek()
        if not found or found not in expected:
            raise ValueError(f"{' or '.join(expected)} expected at byte {self.base + self.at}, found {found!r}")
        self.at += 1
        return found

    def value(self) -> tuple[Any, int, int]:
        """The value that comes next, and the offsets in the file where it begins and ends."""
        self.peek()
        while True:
            try:
                value, end = _decode(self.text, self.at)
                if end < len(self.text) or not self._more():  # else a number may go on beyond the window
                    break
            except ValueError:
                if not self._more():
                    raise ValueError(f"no value at byte {self.base + self.at}") from None
        text = self.text[self.at : end]
        if not text.isascii():
            value = json.loads(text.encode("latin-1"))  # as UTF-8
        start, self.at = self.at, end
        return value, self.base + start, self.base + end

    def _inside(self, opening: str, closing: str) -> Iterator[None]:
        """Halts before each entry between two brackets, for the caller to go past it."""
        self.take(opening)
        more = self.peek() != closing or self.take(closing) == ","
        while more:
            yield
            more = self.take("," + closing) == ","

    def elements(self) -> Iterator[tuple[Any, int, int]]:
        """The elements of the array that comes next, as `value` gives them."""
        for _ in self._inside("[", "]"):
            yield self.value()

    def members(self) -> Iterator[str]:
        """The keys of the object that comes next; the caller goes past each value."""
        for _ in self._inside("{", "}"):
            key, *_ = self.value()
            self.take(":")
            yield key


class Picture(NamedTuple):
    """A picture of the annotation file: (width, height) if given, and [k, 2] offsets of its polygon annotations."""

    size: tuple[int, int] | None
    spans: np.ndarray


class Index(NamedTuple):
    """Which annotations of a COCO file belong to which picture, without their contents."""

    pictures: dict[str, Picture]  # by file name without suffix
    polygons: int  # how many annotations have polygons
    others: int  # how many have none


def _image(entry: dict) -> tuple[str, Any, tuple[int, int] | None]:
    """File name without suffix, id, and size of an entry of "images"."""
    size = (entry["width"], entry["height"]) if "width" in entry and "height" in entry else None
    return os.path.splitext(entry["file_name"].replace("\\", "/").rpartition("/")[2])[0], entry["id"], size


def index_annotations(path: str | os.PathLike) -> Index:
    """Read a COCO instance annotation file once and note where each picture's polygon annotations stand in it.

    The file is read through a window, so that the 450 MB of instances_train2017.json need some 100 MB of memory.

    Raises:
        UserError: the file is not there, not JSON, or not made as COCO's instance annotations are.
    """
    images: list[tuple[str, Any, tuple[int, int] | None]] = []
    spans: dict[Any, array] = defaultdict(lambda: array("q"))  # by a picture's id: begin, end, begin, end ...
    others, seen = 0, set()
    try:
        with open(path, "rb") as file:
            stream = _Stream(file)
            for key in stream.members():
                seen.add(key)
                if key == "images":
                    images += [_image(entry) for entry, *_ in stream.elements()]
                elif key == "annotations":
                    for entry, *span in stream.elements():
                        own = spans[entry["image_id"]]
                        if isinstance(entry.get("segmentation"), list):
                            own.extend(span)
                        else:
                            others += 1
                else:
                    stream.value()
    except FileNotFoundError:
        raise UserError(f"{path}: the annotation file is not there") from None
    except ValueError as error:
        raise UserError(f"{path}: not a whole JSON file ({error}): unpack it again") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not made as COCO's instances_*.json are ({error!r})") from None
    if missing := {"images", "annotations"} - seen:
        raise UserError(f"{path}: has no {' and no '.join(sorted(missing))}; COCO's instances_*.json is expected")
    pictures: dict[str, Picture] = {}
    for stem, number, size in images:
        if stem in pictures:
            raise UserError(f"{path}: two pictures are called {stem}, and maps are paired by name")
        pictures[stem] = Picture(size, np.array(spans[number], np.int64).reshape(-1, 2))
    return Index(pictures, sum(map(len, spans.values())) // 2, others)


def segmentations(path: str | os.PathLike, spans: np.ndarray) -> Iterator[list]:
    """The lists of polygons of the annotations that stand at `spans` [k, 2] in the file."""
    with open(path, "rb") as file:
        for start, end in spans.tolist():
            file.seek(start)
            yield json.loads(file.read(end - start))["segmentation"]
