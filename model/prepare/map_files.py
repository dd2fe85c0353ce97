"""Folders of instance maps made from folders of label maps, whichever way the maps themselves are made."""

import functools
import os
import sys
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin

from model.data.agreement import Agreement
from model.data.listing import list_folder
from model.data.palettes import Palette
from model.data.pictures import MAP_SUFFIXES
from model.data.reading import read_ids
from model.data.workers import in_order
from model.errors import UserError, printable, tell
from model.files import remove_leftovers, replacing
from model.prepare.annotations import Picture
from model.progress import progress_bar


class Task(NamedTuple):
    """One map to make; `picture` is None for a label map that the annotation file does not name."""

    label: str
    output: str
    picture: Picture | None = None


class Result(NamedTuple):
    """What became of one task: `made` or already there; `wide`: stored with 16 bits for its many instances."""

    made: bool = False
    error: str | None = None
    info: dict = {}  # how the label map's ids were found, for `Agreement`
    wide: bool = False
    instances: int = 0  # of components
    small: int = 0


_FORM = "instances"  # the text in a map's file that tells the components; maps of annotations have none


class Way(NamedTuple):
    """How a folder's maps are made; can be pickled."""

    # The map [H, W] of a task and its label map [H, W], and what `Result` tells of it.
    draw: Callable[[Task, np.ndarray], tuple[np.ndarray, dict]]
    form: str | None = None  # a text that is written to the maps' files, by which other ways' are known
    palette: Palette | None = None  # which colour is which id, for label maps that hold colours
    # What form a map with this text has, of its task and whether it has 16 bits, if it is not the wanted one.
    other_form: Callable[[Task, bool], str] | None = None


def tasks_of(folder: str | os.PathLike, output: str | os.PathLike, way_out: str) -> dict[str, Task]:
    """The map to make of each label map in a folder and the folders in it but `output`, by its path there, sorted.

    Raises:
        UserError: there are none, for which the `way_out` is told; or two would have one instance map.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder} is not a folder: it should hold the label maps")
    if os.path.isdir(output) and os.path.samefile(folder, output):
        raise UserError(f"{output} is the label maps' own folder, which would be overwritten: choose another")
    found = list_folder(folder, MAP_SUFFIXES, recursive=True, without={os.path.realpath(output)}).files
    if not found:
        raise UserError(f"{folder} holds no label maps ({', '.join(MAP_SUFFIXES)}): {way_out}")
    names = sorted(os.path.relpath(path, folder) for path in found.values())
    return {
        name: Task(os.path.join(folder, name), os.path.join(output, os.path.splitext(name)[0] + ".png"))
        for name in names
    }


def _is_there(task: Task, way: Way) -> bool:
    """Whether a whole map in the wanted form exists; one in another form is an error."""
    try:
        with Image.open(task.output) as picture:
            wide, form = picture.mode != "L", picture.info.get(_FORM)
    except Exception:  # not there, or damaged and so not ours, which are written whole; Pillow raises of every kind
        return False
    if form != way.form:
        found = ", made from " + ("label maps with other options" if form else "annotations, or by another program")
    elif way.other_form and (other := way.other_form(task, wide)):
        found = f" in the {other} form"
    else:
        return True
    raise UserError(f"{task.output} is there{found}: choose another folder, or --force to make it anew")


def _make(task: Task, way: Way, force: bool) -> Result:
    try:
        if not force and _is_there(task, way):
            return Result()
        picture = read_ids(task.label, palette=way.palette)
        pixels, told = way.draw(task, np.asarray(picture))
    except UserError as error:
        return Result(error=str(error))
    text = PngImagePlugin.PngInfo()
    if way.form:
        text.add_text(_FORM, way.form)
    with replacing(task.output) as temporary:  # maps are runs: Z_RLE is faster and makes smaller files
        Image.fromarray(pixels).save(temporary, "PNG", compress_type=zlib.Z_RLE, pnginfo=text)
    return Result(True, None, picture.info, **told)


def make_all(
    tasks: Sequence[Task], output, way: Way, *, processes: int = 1, force: bool = False, quiet: bool = False
) -> list[Result]:
    """Make the maps, each file whole or not at all. Maps that are there are kept: a run that was stopped goes on.

    Args:
        tasks: the maps.
        output: their folder.
        way: how they are made.
        processes: how many work at a time.
        force: make maps anew that are there.
        quiet: no progress bar.

    Raises:
        UserError: after all others were made: files that could not be used, by name.
    """
    for folder in {os.path.dirname(task.output) for task in tasks}:
        os.makedirs(folder, exist_ok=True)
        remove_leftovers(folder)
    results, errors, agreement = [], [], Agreement()
    work = functools.partial(_make, way=way, force=force)
    with progress_bar(len(tasks), printable(output), not quiet, unit="maps") as told:
        for task, result in zip(tasks, in_order(work, tasks, processes), strict=True):
            results.append(result._replace(info={}))
            if result.error:
                errors.append(result.error)
            elif found := agreement.conflict(task.label, result.info):
                errors.append(f"{task.label}: {found[0]} in {found[1]}")
            told(1)
    for error in errors[:20]:
        tell(error, sys.stderr)
    if errors:
        raise UserError(
            f"{len(errors)} of {len(tasks)} maps could not be made, the first 20 are listed above; "
            f"the others are in {output}"
        )
    return results


class Summary(NamedTuple):
    """What became of a folder's maps, and what else there is to say; as text, a few lines for people."""

    results: list[Result]
    seconds: float
    lines: list[str]

    @property
    def made(self) -> int:
        """How many maps were made; the others were there."""
        return sum(result.made for result in self.results)

    def __str__(self) -> str:
        made, count = self.made, len(self.results)
        rate = f", {made / self.seconds:.0f} a second" if made else ""
        head = f"{count} instance maps: {made} made, {count - made} were there ({self.seconds:.1f} s{rate})"
        return "\n  ".join([head, *self.lines])
