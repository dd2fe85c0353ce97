"""Folders of instance maps, one for each label map: drawn with COCO's annotations, or from the label maps alone."""

import functools
import os
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin

from model.data.agreement import Agreement
from model.data.label_ids import class_ids, foreign_ids, id_ranges
from model.data.listing import list_folder
from model.data.palettes import Palette
from model.data.pictures import MAP_SUFFIXES
from model.data.reading import read_ids
from model.data.workers import in_order
from model.errors import UserError, listed, printable, tell
from model.files import remove_leftovers, replacing
from model.options import OPT
from model.prepare.annotations import Picture, index_annotations, segmentations
from model.prepare.instances import Components, component_map, fill_polygon, instance_map
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


def _draw_polygons(task: Task, label: np.ndarray, annotations: str, distinct: bool) -> tuple[np.ndarray, dict]:
    size, spans = task.picture or (None, np.empty((0, 2), np.int64))
    if size is not None and size != label.shape[::-1]:
        raise UserError(
            f"{task.label} is {label.shape[1]}x{label.shape[0]}, its picture {size[0]}x{size[1]} in {annotations}: "
            "instance maps are made from label maps of the original size"
        )
    try:
        pixels = instance_map(label, segmentations(annotations, spans), distinct)
    except UserError as error:
        raise UserError(f"{task.label}: in {annotations}: {error}") from None
    return pixels, {"wide": pixels.dtype == np.uint16 and not distinct and label.dtype == np.uint8}


def _other_form(task: Task, wide: bool, distinct: bool) -> str:
    if distinct:
        return "" if wide else "released (8-bit)"
    may_be_wide = task.picture is not None and len(task.picture.spans) > 256
    return "distinct (16-bit)" if wide and not may_be_wide and read_ids(task.label).mode == "L" else ""


def make_instance_maps(
    annotations: str | os.PathLike,
    labels: str | os.PathLike,
    output: str | os.PathLike,
    *,
    distinct: bool = False,
    **how,
) -> Summary:
    """Make the instance map of each label map in a folder; see `instance_map` for the two forms.

    Args:
        annotations: COCO's instances_*.json of these pictures.
        labels: folder of label maps (PNG), of their pictures' size and name; maps in folders within it stay in such.
        output: folder for the instance maps; gets a PNG for each label map, also for those without instances.
        distinct: the collision-free 16-bit form.
        **how: `processes`, `force`, `quiet` of `make_all`.

    Raises:
        UserError: nothing fits together; or, after all others were made, files that could not be used, by name.
    """
    started = time.monotonic()
    named = tasks_of(labels, output, "unpack stuffthingmaps_trainval2017.zip there")
    tell(f"reading {annotations} ...", sys.stderr)
    index = index_annotations(annotations)
    owners: dict[str, str] = {}
    tasks, unlisted = [], []
    for name, task in named.items():
        stem = os.path.splitext(os.path.basename(name))[0]
        tasks.append(task._replace(picture=index.pictures.get(stem)))
        if stem not in index.pictures:
            unlisted.append(name)
        elif (other := owners.setdefault(stem, name)) != name:
            raise UserError(f"{labels}: {other} and {name} have one name, and {annotations} one picture of it")
    if len(unlisted) == len(tasks):
        raise UserError(
            f"{annotations} names none of the {len(tasks)} label maps in {labels} (such as {unlisted[0]}): "
            "take the annotations of the same split"
        )
    fill_polygon(np.zeros((1, 1), np.int32), np.zeros(1), np.zeros(1), 0)  # compiled here once, not by each worker
    draw = functools.partial(_draw_polygons, annotations=str(annotations), distinct=distinct)
    way = Way(draw, other_form=functools.partial(_other_form, distinct=distinct))
    results = make_all(tasks, output, way, **how)
    bare = sum(task.picture is None or not len(task.picture.spans) for task in tasks)
    lines = [
        f"{bare} of them without polygons, as copies of their label maps",
        f"annotations: {index.polygons} with polygons, {index.others} without (crowds; they keep their class id)",
    ]
    wide = [os.path.relpath(task.output, output) for task, result in zip(tasks, results, strict=True) if result.wide]
    for names, what in (
        (unlisted, "label maps are not named in the annotation file and were copied"),
        (wide, "maps have numbers above 255 and 16 bits"),
    ):
        if names:
            lines.append(f"note: {len(names)} {what} (such as {printable(names[0])})")
    return Summary(results, time.monotonic() - started, lines)


def _draw_components(task: Task, label: np.ndarray, components: Components, opt: OPT | None) -> tuple[np.ndarray, dict]:
    if opt and (foreign := foreign_ids(np.unique(label).tolist(), opt)):
        raise UserError(
            f"{task.label}: label id {listed(foreign)} is none of {opt.dataset_mode}'s, whose classes are "
            f"{id_ranges(class_ids(opt))}: name the maps' data set, or give --things without --dataset_mode"
        )
    try:
        pixels, instances, small = component_map(label, components)
    except UserError as error:
        raise UserError(f"{task.label}: {error}") from None
    return pixels, {"instances": instances, "small": small}


def make_component_maps(
    labels: str | os.PathLike,
    output: str | os.PathLike,
    components: Components,
    *,
    opt: OPT | None = None,
    palette: Palette | None = None,
    **how,
) -> Summary:
    """Make the instance map of each label map in a folder from the map alone; see `component_map`.

    Each file says which components it holds, so that maps made with other options are not mixed in.

    Args:
        labels: folder of label maps; maps in folders within it stay in such.
        output: folder for the instance maps; gets a PNG for each label map.
        components: what becomes an instance.
        opt: a data set's options, to refuse maps with other ids; None takes all ids.
        palette: which colour is which id, for label maps that hold colours.
        **how: `processes`, `force`, `quiet` of `make_all`.

    Raises:
        UserError: there are no label maps; or, after all others were made, files that could not be used, by name.
    """
    started = time.monotonic()
    tasks = list(tasks_of(labels, output, "name the folder that holds them").values())
    way = Way(functools.partial(_draw_components, components=components, opt=opt), str(components), palette)
    results = make_all(tasks, output, way, **how)
    made = [result for result in results if result.made]
    instances, small = sum(result.instances for result in made), sum(result.small for result in made)
    lines = []
    if made:
        bare = sum(not result.instances for result in made)
        lines.append(f"{instances} instances; {bare} of the maps made have none")
    if small:
        lines.append(f"{small} regions below {components.min_area} pixels keep their class id")
    if len(made) == len(tasks) and not instances:
        lines.append(f"note: no map holds an instance of the things {id_ranges(components.things)}")
    return Summary(results, time.monotonic() - started, lines)
