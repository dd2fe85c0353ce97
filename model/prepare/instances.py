"""The instance map of one picture: its annotations' polygons drawn over its label map, or the map's connected regions.

Only borders between different values of an instance map are ever used.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numba import njit

from model.data.label_ids import id_ranges
from model.errors import UserError

cv2.setNumThreads(1)  # maps are shared among processes
HIGHEST = 65534  # number of an instance in a 16-bit map; 65535 means unlabelled


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
    """Draw one picture's instances over its label map as the released SPADE code does, in the annotations' order.

    Each annotation that is a list of polygons is filled with a number that counts such annotations from 0. Later ones
    overwrite earlier ones. Crowds (run-length encoded) do not count and keep their class id.

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
