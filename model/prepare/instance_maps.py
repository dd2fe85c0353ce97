"""Folders of instance maps made with COCO's annotations, as the released SPADE code's, or collision-free."""

import functools
import os
import sys
import time

import numpy as np

from model.data.reading import read_ids
from model.errors import UserError, printable, tell
from model.prepare.annotations import index_annotations, segmentations
from model.prepare.map_files import Summary, Task, Way, make_all, tasks_of
from model.prepare.polygons import fill_polygon, instance_map


def _draw(task: Task, label: np.ndarray, annotations: str, distinct: bool) -> tuple[np.ndarray, dict]:
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
    draw = functools.partial(_draw, annotations=str(annotations), distinct=distinct)
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
