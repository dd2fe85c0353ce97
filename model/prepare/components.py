"""Instance maps from label maps alone: what hangs together in a class of things is an instance."""

from typing import NamedTuple

import cv2
import numpy as np

from model.data.label_ids import id_ranges
from model.errors import UserError

cv2.setNumThreads(1)  # maps are shared among processes
HIGHEST = 65534  # number of an instance in a 16-bit map; 65535 means unlabelled


class Components(NamedTuple):
    """Which connected regions become instances.

    Attributes:
        things: ids of the classes that have instances.
        min_area: pixels that a region must have.
        connectivity: 4 or 8 neighbours of a pixel; with 8, pixels that touch at a corner belong together.
    """

    things: tuple[int, ...]
    min_area: int = 1
    connectivity: int = 8

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
