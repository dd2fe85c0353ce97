"""Instance maps from label maps alone: what hangs together in a class of things is an instance."""

import functools
import os
import time
from typing import NamedTuple

import cv2
import numpy as np

from model.data.label_ids import class_ids, foreign_ids, id_ranges
from model.data.palettes import Palette
from model.errors import UserError, listed
from model.options import OPT
from model.prepare.map_files import Summary, Task, Way, make_all, tasks_of

cv2.setNumThreads(1)  # maps are shared among processes
HIGHEST = 65534  # number of an instance in a 16-bit map; 65535 means unlabelled


class Components(NamedTuple):
    """Which connected regions become instances."""

    things: tuple[int, ...]  # ids of the classes that have instances
    min_area: int = 1  # pixels that a region must have
    connectivity: int = 8  # 4 or 8 neighbours of a pixel; with 8, pixels that touch at a corner belong together

    def __str__(self) -> str:
        ids = id_ranges(self.things, len(self.things))
        return f"connected regions of {ids}; at least {self.min_area} pixels; {self.connectivity} neighbours"


def component_map(label: np.ndarray, how: Components) -> tuple[np.ndarray, int, int]:
    """Number the connected regions of things in a label map.

    Instances count from 256 or above the highest label, so that none has the number of a class, in the order of their
    first pixels, row by row. All else keeps its label: stuff, what is unlabelled, and regions smaller than `min_area`,
    which are thereby one instance together with the other small ones of their class.

    Args:
        label: [H, W], ids 0..65535, of which 65535 means unlabelled.

    Returns:
        (uint16 [H, W], number of instances, number of regions that were too small).

    Raises:
        UserError: a label above 65535; more instances than 16 bits can number.
    """
    if (highest := int(label.max(initial=0))) > 65535:
        raise UserError(f"label {highest} is too high for a 16-bit PNG: expected at most 65535")
    regions = np.zeros(label.shape, np.int32)  # 0: none
    known = small = 0
    for value in np.intersect1d(label, how.things):
        mask = (label == value).view(np.uint8)
        count, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=how.connectivity)
        large = stats[:, cv2.CC_STAT_AREA] >= how.min_area
        small += count - 1 - int(large[1:].sum())
        large[0] = False  # what is not of this class
        regions += np.where(large, np.arange(count, dtype=np.int32) + known, 0)[parts]
        known += count - 1
    inside = regions > 0
    found, first, place = np.unique(regions[inside], return_index=True, return_inverse=True)
    start = max(256, int(label[label != 65535].max(initial=0)) + 1)
    if start + len(found) - 1 > HIGHEST:
        raise UserError(
            f"{len(found)} instances, and 16 bits can number {HIGHEST - start + 1} beside its labels: raise --min_area"
        )
    numbered = label.astype(np.uint16)
    numbered[inside] = (start + np.argsort(np.argsort(first)))[place]
    return numbered, len(found), small


def _draw(task: Task, label: np.ndarray, components: Components, opt: OPT | None) -> tuple[np.ndarray, dict]:
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
    way = Way(functools.partial(_draw, components=components, opt=opt), str(components), palette)
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
