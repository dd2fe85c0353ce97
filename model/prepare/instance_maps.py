"""Instance maps: the released SPADE code's, from COCO's annotations and label maps; collision-free; from maps alone.

The last is `components`. The released form, per picture: the label map, in which each annotation that is a list of
polygons, in the file's order, is filled with a number that counts such annotations from 0. Later ones overwrite earlier
ones. Crowds (run-length encoded) do not count and keep their class id. Only borders between different values of an
instance map are ever used.
"""

import io
import json
import multiprocessing
import os
import sys
import time
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from PIL import Image, PngImagePlugin

from model.data.agreement import Agreement
from model.data.label_ids import class_ids, foreign_ids, id_ranges
from model.data.palettes import Palette
from model.data.pictures import MAP_SUFFIXES
from model.data.reading import read_ids
from model.data.workers import begin_worker
from model.errors import UserError, listed, printable, tell
from model.files import remove_leftovers, replacing, walk
from model.options import OPT
from model.prepare.components import Components, component_map
from model.progress import progress_bar

# ---------------------------------------------------------------------------------------------------------------------
# Drawing


@njit(nogil=True, cache=True, error_model="numpy")  # no fastmath: which side of an edge a pixel is on must be exact
def fill_polygon(canvas, xs, ys, value):
    """Set the pixels of `canvas` that lie in a polygon, on its edge or on its corners, to `value`.

    Source: O'Rourke, Computational Geometry in C, section 7.4, as `skimage.draw.polygon` uses it, which calls a pixel
    inside if an odd number of edges lies to its right or an odd number to its left. Here each edge is met once a row
    instead of once a pixel; the pixels are the same (test_fills_what_scikit_image_fills).

    Args:
        canvas: [H, W], written in place; what lies outside of it is left out.
        xs, ys: float64 [n], corners in pixels, (0, 0) the centre of the first pixel; the last joins the first.
        value: what to write.
    """
    height, width = canvas.shape
    n = xs.size
    if n == 0:
        return
    # toggles by column: edges to the right of columns <= i (right[i + 1]), to the left of columns >= i (left[i])
    right = np.zeros(width + 1, np.uint8)
    left = np.zeros(width + 1, np.uint8)
    for row in range(max(0, int(np.floor(ys.min()))), min(height, int(np.ceil(ys.max())) + 1)):
        right[:] = 0
        left[:] = 0
        crossed = False
        for i in range(n):
            j = i - 1 if i else n - 1
            y0 = ys[i] - row
            y1 = ys[j] - row
            upper = (y0 > 0) != (y1 > 0)
            lower = (y0 < 0) != (y1 < 0)
            if not (upper or lower):
                continue
            crossed = True
            crossing = (xs[i] * y1 - xs[j] * y0) / (y1 - y0)
            column = np.rint(crossing)
            if abs(crossing - column) < 1e-6:  # too close to tell from the crossing: by the sign seen from the pixel
                side = ((xs[i] - column) * y1 - (xs[j] - column) * y0) / (y1 - y0)
                last_left = column if side > 0 else column - 1  # the last pixel with the edge to its right
                first_right = column if side < 0 else column + 1
            else:
                last_left = np.floor(crossing)
                first_right = last_left + 1
            if upper:
                right[int(min(max(last_left + 1, 0), width))] ^= 1
            if lower:
                left[int(min(max(first_right, 0), width))] ^= 1
        if not crossed:
            continue
        parity = 0
        for column in range(width, 0, -1):
            parity ^= right[column]
            right[column] = parity
        parity = 0
        for column in range(width):
            parity ^= left[column]
            if parity | right[column + 1]:
                canvas[row, column] = value
    for i in range(n):  # corners count even where an even number of edges meets
        column = np.rint(xs[i])
        row = np.rint(ys[i])
        on_pixel = abs(xs[i] - column) < 1e-12 and abs(ys[i] - row) < 1e-12
        if on_pixel and 0 <= column < width and 0 <= row < height:
            canvas[int(row), int(column)] = value


def instance_map(
    label: np.ndarray, segmentations: Iterable[Sequence[Sequence[float]]], distinct: bool = False
) -> np.ndarray:
    """Draw one picture's instances over its label map.

    Source: coco_generate_instance_map.py of the released code, coordinates minus 1 included. Two differences, where
    that script stops or wraps around: numbers above 255 make the map 16-bit, and what leaves the picture is cut off.

    Args:
        label: [H, W], ids from 0.
        segmentations: for each annotation that is a list of polygons, in the file's order, that list; a polygon is
            [x1, y1, x2, y2, ...] in pixels, (0, 0) the picture's upper left corner.
        distinct: count from 256 (or above the highest label) on, so that no instance has the number of a class. In the
            released form the first instances have the values of the first classes, and a border between, say, instance
            0 and class 0 (person) vanishes.

    Returns:
        [H, W]: uint8 where all values fit and not `distinct`, else uint16.

    Raises:
        UserError: an instance number above 65534 or a label above 65535; a polygon that is no list of pairs of numbers.
    """
    canvas = label.astype(np.int32)
    highest = int(canvas.max(initial=0))
    classes = canvas[canvas != 65535]  # which means unlabelled in 16-bit maps
    number = first = max(256, int(classes.max(initial=0)) + 1) if distinct else 0
    for number, polygons in enumerate(segmentations, first):  # noqa: B007  the last number is read below
        for polygon in polygons:
            try:
                points = np.array(polygon, np.float64).reshape(-1, 2) - 1
            except (TypeError, ValueError) as error:
                raise UserError(f"polygon annotation {number - first} is not a list of x, y pairs ({error})") from None
            if not np.isfinite(points).all():
                raise UserError(f"polygon annotation {number - first} has coordinates that are not finite numbers")
            fill_polygon(canvas, points[:, 0].copy(), points[:, 1].copy(), number)
    if number > 65534 or highest > 65535:
        raise UserError(f"instance number {number} or label {highest} is too high for a 16-bit PNG (65534, 65535)")
    return canvas.astype(np.uint16 if distinct or max(highest, number) > 255 else np.uint8)


# ---------------------------------------------------------------------------------------------------------------------
# Reading the annotations

_CHUNK = 1 << 22
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
            while self.at < len(self.text):
                if self.text[self.at] not in " \t\r\n":
                    return self.text[self.at]
                self.at += 1
            if not self._more():
                return ""

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

    def elements(self) -> Iterator[tuple[Any, int, int]]:
        """The elements of the array that comes next, as `value` gives them."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.take(",]") == "]":
                return

    def members(self) -> Iterator[str]:
        """The keys of the object that comes next; the caller goes past each value."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            key, *_ = self.value()
            self.take(":")
            yield key
            if self.take(",}") == "}":
                return


class Picture(NamedTuple):
    """A picture of the annotation file: (width, height) if given, and [k, 2] offsets of its polygon annotations."""

    size: tuple[int, int] | None
    spans: np.ndarray


class Index(NamedTuple):
    """Which annotations of a COCO file belong to which picture, without their contents.

    `pictures` by file name without suffix; `polygons` and `others` count annotations with and without polygons.
    """

    pictures: dict[str, Picture]
    polygons: int
    others: int


def index_annotations(path: str | os.PathLike) -> Index:
    """Read a COCO instance annotation file once and note where each picture's polygon annotations stand in it.

    The file is read through a window, so that the 450 MB of instances_train2017.json need some 100 MB of memory.

    Raises:
        UserError: the file is not there, not JSON, or not made as COCO's instance annotations are.
    """
    entries: list[tuple[str, int, tuple[int, int] | None]] = []
    number: dict[Any, int] = {}  # picture id -> position in the order of first mention
    owner, starts, ends = array("q"), array("q"), array("q")
    others, seen = 0, set()
    try:
        with open(path, "rb") as file:
            stream = _Stream(file)
            for key in stream.members():
                if key == "images":
                    for image, *_ in stream.elements():
                        size = (image["width"], image["height"]) if "width" in image and "height" in image else None
                        stem = os.path.splitext(image["file_name"].replace("\\", "/").rpartition("/")[2])[0]
                        entries.append((stem, number.setdefault(image["id"], len(number)), size))
                elif key == "annotations":
                    for annotation, start, end in stream.elements():
                        owned = number.setdefault(annotation["image_id"], len(number))
                        if isinstance(annotation.get("segmentation"), list):
                            owner.append(owned)
                            starts.append(start)
                            ends.append(end)
                        else:
                            others += 1
                else:
                    stream.value()
                seen.add(key)
    except FileNotFoundError:
        raise UserError(f"{path}: the annotation file is not there") from None
    except ValueError as error:
        raise UserError(f"{path}: not a whole JSON file ({error}): unpack it again") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not made as COCO's instances_*.json are ({error!r})") from None
    if missing := {"images", "annotations"} - seen:
        raise UserError(f"{path}: has no {' and no '.join(sorted(missing))}; COCO's instances_*.json is expected")

    order = np.argsort(np.frombuffer(owner, np.int64), kind="stable")  # stable: the file's order within each picture
    spans = np.stack([np.frombuffer(starts, np.int64), np.frombuffer(ends, np.int64)], 1)[order]
    bounds = np.searchsorted(np.frombuffer(owner, np.int64)[order], np.arange(len(number) + 1))
    pictures: dict[str, Picture] = {}
    for stem, n, size in entries:
        if stem in pictures:
            raise UserError(f"{path}: two pictures are called {stem}, and maps are paired by name")
        pictures[stem] = Picture(size, spans[bounds[n] : bounds[n + 1]])
    return Index(pictures, len(owner), others)


# ---------------------------------------------------------------------------------------------------------------------
# Making the files


class Task(NamedTuple):
    """One map to make; `picture` is None for a label map that the annotation file does not name."""

    label: str
    output: str
    picture: Picture | None


class Settings(NamedTuple):
    """What is alike for all maps: they are made of annotations, or of `components`."""

    annotations: str = ""
    distinct: bool = False
    force: bool = False
    components: Components | None = None
    opt: OPT | None = None  # whose ids the label maps hold, None for any
    palette: Palette | None = None


class Result(NamedTuple):
    """What became of one task: `made` or already there; `wide`: stored with 16 bits for its many instances."""

    made: bool = False
    wide: bool = False
    error: str | None = None
    info: dict = {}  # how the label map's ids were found, for `Agreement`
    instances: int = 0  # of components
    small: int = 0


_FORM = "instances"  # the text in a map's file that tells the components; maps of annotations have none
_worker: tuple[Settings, Any] | None = None  # in worker processes: what to do, and the open annotation file


def _begin(settings: Settings, parent: int | None = None) -> None:
    global _worker
    _worker = settings, open(settings.annotations or os.devnull, "rb")
    if parent is not None:
        begin_worker(parent)


def _segmentations(file, spans: np.ndarray) -> Iterator[list]:
    for start, end in spans.tolist():
        file.seek(start)
        yield json.loads(file.read(end - start))["segmentation"]


def _is_there(task: Task, settings: Settings) -> bool:
    """Whether a whole map in the wanted form exists; one in the other form is an error."""
    try:
        with Image.open(task.output) as picture:
            wide, form = picture.mode != "L", picture.info.get(_FORM)
    except Exception:  # not there, or damaged and so not ours, which are written whole; Pillow raises of every kind
        return False
    if form != (str(settings.components) if settings.components else None):
        made = "from label maps with other options" if form else "from annotations, or by another program"
        raise UserError(f"{task.output} is there, made {made}: choose another folder, or --force to make it anew")
    if settings.components:
        return True
    may_be_wide = settings.distinct or (task.picture is not None and len(task.picture.spans) > 256)
    if settings.distinct > wide or (wide and not may_be_wide and read_ids(task.label).mode == "L"):
        form = "released (8-bit)" if settings.distinct else "distinct (16-bit)"
        raise UserError(f"{task.output} is there in the {form} form: choose another folder, or --force to make it anew")
    return True


def _make(task: Task) -> Result:
    settings, file = _worker
    wide, instances, small, text = False, 0, 0, None
    try:
        if not settings.force and _is_there(task, settings):
            return Result()
        picture = read_ids(task.label, palette=settings.palette)
        label = np.asarray(picture)
        if settings.components:
            if settings.opt and (foreign := foreign_ids(np.unique(label).tolist(), settings.opt)):
                mode, known = settings.opt.dataset_mode, id_ranges(class_ids(settings.opt))
                raise UserError(
                    f"{task.label}: label id {listed(foreign)} is none of {mode}'s, whose classes are {known}: "
                    "name the maps' data set, or give --things without --dataset_mode"
                )
            try:
                pixels, instances, small = component_map(label, settings.components)
            except UserError as error:
                raise UserError(f"{task.label}: {error}") from None
            text = PngImagePlugin.PngInfo()
            text.add_text(_FORM, str(settings.components))
        else:
            pixels = _from_annotations(task, label, settings, file)
            wide = pixels.dtype == np.uint16 and not settings.distinct and label.dtype == np.uint8
    except UserError as error:
        return Result(error=str(error))
    with replacing(task.output) as temporary:  # maps are runs: Z_RLE is faster and makes smaller files
        Image.fromarray(pixels).save(temporary, "PNG", compress_type=zlib.Z_RLE, pnginfo=text)
    return Result(True, wide, None, picture.info, instances, small)


def _from_annotations(task: Task, label: np.ndarray, settings: Settings, file) -> np.ndarray:
    size, spans = task.picture or (None, np.empty((0, 2), np.int64))
    if size is not None and size != label.shape[::-1]:
        raise UserError(
            f"{task.label} is {label.shape[1]}x{label.shape[0]}, its picture {size[0]}x{size[1]} in "
            f"{settings.annotations}: instance maps are made from label maps of the original size"
        )
    try:
        return instance_map(label, _segmentations(file, spans), settings.distinct)
    except UserError as error:
        raise UserError(f"{task.label}: in {settings.annotations}: {error}") from None


class Summary(NamedTuple):
    """What `make_instance_maps` did, in numbers of maps and annotations."""

    made: int
    kept: int
    without_polygons: int
    unlisted: list[str]
    wide: list[str]
    polygons: int
    others: int
    seconds: float


def make_instance_maps(
    annotations: str | os.PathLike,
    labels: str | os.PathLike,
    output: str | os.PathLike,
    *,
    distinct: bool = False,
    processes: int = 1,
    force: bool = False,
    quiet: bool = False,
) -> Summary:
    """Make the instance map of each label map in a folder; see `instance_map` for the two forms.

    Each file is written whole or not at all, and maps that are there are kept: a run that was stopped goes on.

    Args:
        annotations: COCO's instances_*.json of these pictures.
        labels: folder of label maps (PNG), of their pictures' size and name; maps in folders within it stay in such.
        output: folder for the instance maps; gets a PNG for each label map, also for those without instances.
        distinct: the collision-free 16-bit form.
        processes: how many work at a time.
        force: make maps anew that are there.
        quiet: no progress bar.

    Raises:
        UserError: nothing fits together; or, after all others were made, files that could not be used, by name.
    """
    started = time.monotonic()
    names = _label_maps(labels, output, "unpack stuffthingmaps_trainval2017.zip there")
    tell(f"reading {annotations} ...", sys.stderr)
    index = index_annotations(annotations)
    owners: dict[str, str] = {}
    for name in names:
        if (other := owners.setdefault(_stem(name), name)) != name and _stem(name) in index.pictures:
            raise UserError(f"{labels}: {other} and {name} have one name, and {annotations} one picture of it")
    unlisted = [name for name in names if _stem(name) not in index.pictures]
    if len(unlisted) == len(names):
        raise UserError(
            f"{annotations} names none of the {len(names)} label maps in {labels} (such as {names[0]}): "
            "take the annotations of the same split"
        )
    tasks = [_task(labels, output, name, index.pictures.get(_stem(name))) for name in names]
    counts = index.polygons, index.others
    del index
    results = _make_all(tasks, output, Settings(str(annotations), distinct, force), processes, quiet)
    made = sum(result.made for result in results)
    wide = [os.path.relpath(task.output, output) for task, r in zip(tasks, results, strict=True) if r.wide]
    bare = sum(task.picture is None or not len(task.picture.spans) for task in tasks)
    return Summary(made, len(tasks) - made, bare, unlisted, wide, *counts, time.monotonic() - started)


class ComponentSummary(NamedTuple):
    """What `make_component_maps` did: numbers of maps; of the made ones, those without instances, and their regions."""

    made: int
    kept: int
    without: int
    instances: int
    small: int
    seconds: float


def make_component_maps(
    labels: str | os.PathLike,
    output: str | os.PathLike,
    components: Components,
    *,
    opt: OPT | None = None,
    palette: Palette | None = None,
    processes: int = 1,
    force: bool = False,
    quiet: bool = False,
) -> ComponentSummary:
    """Make the instance map of each label map in a folder from the map alone; see `component_map`.

    Files are written and kept as by `make_instance_maps`. Each says which components it holds, so that maps made with
    other options are not mixed in.

    Args:
        labels: folder of label maps; maps in folders within it stay in such.
        output: folder for the instance maps; gets a PNG for each label map.
        components: what becomes an instance.
        opt: a data set's options, to refuse maps with other ids; None takes all ids.
        palette: which colour is which id, for label maps that hold colours.
        processes, force, quiet: as for `make_instance_maps`.

    Raises:
        UserError: there are no label maps; or, after all others were made, files that could not be used, by name.
    """
    started = time.monotonic()
    tasks = [_task(labels, output, name) for name in _label_maps(labels, output, "name the folder that holds them")]
    settings = Settings(force=force, components=components, opt=opt, palette=palette)
    results = [result for result in _make_all(tasks, output, settings, processes, quiet) if result.made]
    instances, small = (sum(getattr(result, name) for result in results) for name in ("instances", "small"))
    bare = sum(not result.instances for result in results)
    seconds = time.monotonic() - started
    return ComponentSummary(len(results), len(tasks) - len(results), bare, instances, small, seconds)


def _make_all(tasks: list[Task], output, settings: Settings, processes: int, quiet: bool) -> list[Result]:
    """Make the maps, with a progress bar; then raise a UserError if any could not be made."""
    for folder in {os.path.dirname(task.output) for task in tasks}:
        os.makedirs(folder, exist_ok=True)
        remove_leftovers(folder)
    results, errors, agreement = [], [], Agreement()
    with progress_bar(len(tasks), printable(output), not quiet, unit="maps") as told:
        for task, result in zip(tasks, _run(tasks, settings, processes), strict=True):
            results.append(result._replace(info={}))
            if result.error:
                errors.append(result.error)
            elif found := agreement.conflict(task.label, result.info):
                errors.append(f"{task.label}: {found[0]} in {found[1]}")
            told(1)
    if errors:
        for error in errors[:20]:
            tell(error, sys.stderr)
        raise UserError(
            f"{len(errors)} of {len(tasks)} maps could not be made, the first 20 are listed above; "
            f"the others are in {output}"
        )
    return results


def _task(labels, output, name: str, picture: Picture | None = None) -> Task:
    return Task(os.path.join(labels, name), os.path.join(output, os.path.splitext(name)[0] + ".png"), picture)


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _label_maps(folder: str | os.PathLike, output: str | os.PathLike, way_out: str) -> list[str]:
    """Paths in a folder of the label maps there and in the folders in it, but for the one to write; sorted."""
    if not os.path.isdir(folder):
        raise UserError(f"{folder} is not a folder: it should hold the label maps")
    if os.path.isdir(output) and os.path.samefile(folder, output):
        raise UserError(f"{output} is the label maps' own folder, which would be overwritten: choose another")
    owners: dict[str, str] = {}
    for inside, folders, names in walk(folder):
        folders[:] = [
            n for n in folders if os.path.realpath(os.path.join(folder, inside, n)) != os.path.realpath(output)
        ]
        for name in sorted(names):
            stem, suffix = os.path.splitext(os.path.join(inside, name))
            if suffix.lower() in MAP_SUFFIXES and (other := owners.setdefault(stem, stem + suffix)) != stem + suffix:
                raise UserError(
                    f"{folder}: {other} and {stem + suffix} would have one instance map: move one elsewhere"
                )
    if not owners:
        raise UserError(f"{folder} holds no label maps ({', '.join(MAP_SUFFIXES)}): {way_out}")
    return sorted(owners.values())


def _run(tasks: list[Task], settings: Settings, processes: int) -> Iterator[Result]:
    if settings.annotations:
        fill_polygon(np.zeros((1, 1), np.int32), np.zeros(1), np.zeros(1), 0)  # compiled here once, not by each worker
    if processes == 1:
        _begin(settings)
        try:
            yield from map(_make, tasks)
        finally:
            _worker[1].close()
        return
    pool = ProcessPoolExecutor(
        processes, multiprocessing.get_context(), initializer=_begin, initargs=(settings, os.getpid())
    )
    try:
        yield from pool.map(_make, tasks, chunksize=max(1, min(32, len(tasks) // (4 * processes))))
    finally:
        pool.shutdown(cancel_futures=True)
