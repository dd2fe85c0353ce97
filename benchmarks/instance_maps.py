"""Instance maps: how many a second, how much memory, and whether real ones can be rebuilt.

    python -m benchmarks.instance_maps                              speed, on a made-up set with COCO's numbers
    python -m benchmarks.instance_maps --index_only --pictures 118287     reading a file as large as train2017's
    python -m benchmarks.instance_maps --labels DIR --instances DIR       agreement with maps of the released script

Made up are 640x480 label maps and, per picture, 7.27 annotations with 23 corners on average, two fifths of them small
(below 32x32 pixels) and a quarter large (above 96x96), as in COCO.

Real maps come without their annotations. So what can be tested of them is:

1. Where the form fixes a pixel. The label map tells which pixels (x..x+1, y..y+1) an object covers. The form asks at
   (x+1, y+1) whether pixel (x, y) is in the polygon: the corner that four label pixels share. Where the four are of
   things, the instance map must hold a number; where none is, the label. Other shifts of the coordinates ask at other
   corners. Left out are labels that are numbers of instances too, and the last row and column, which have no fourth.
2. Whether the tool makes the very files, when it is given the real maps' regions as polygons.
3. How near it comes from outlines of the LABEL maps alone, of classes with one object each (whole pixels: where the
   annotations' corners were within a pixel, label maps do not tell).
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from model.errors import UserError, run_cli
from model.prepare.annotations import index_annotations
from model.prepare.instance_maps import make_instance_maps
from model.prepare.instances import instance_map

WIDTH, HEIGHT = 640, 480
ANNOTATIONS = 7.27  # per picture of train2017
THINGS = 91  # label ids below are things


def outline(rng: np.random.Generator) -> list[float]:
    """A round shape with bumps, of COCO's mix of sizes, [x1, y1, ...] with two decimals."""
    angle = np.linspace(0, 2 * np.pi, max(4, int(rng.gamma(3, 8))), endpoint=False)
    radius = np.exp(rng.normal(3.3, 1.05)) * (1 + 0.3 * np.sin(rng.integers(2, 6) * angle + rng.uniform(0, 6)))
    x = np.clip(rng.uniform(0, WIDTH) + radius * np.cos(angle), 0, WIDTH)
    y = np.clip(rng.uniform(0, HEIGHT) + radius * np.sin(angle), 0, HEIGHT)
    return np.stack([x, y], 1).round(2).ravel().tolist()


def write_annotations(path: Path, pictures: int, rng: np.random.Generator) -> None:
    """A file like instances_train2017.json."""
    pool = [json.dumps(outline(rng)) for _ in range(2000)]
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"info": {}, "images": [')
        for i in range(pictures):
            image = {"license": 3, "file_name": f"{i:012d}.jpg", "height": HEIGHT, "width": WIDTH, "id": i}
            file.write(", " * (i > 0) + json.dumps(image))
        file.write('], "annotations": [')
        for i, owner in enumerate(rng.integers(pictures, size=int(pictures * ANNOTATIONS)).tolist()):
            rest = {"area": 702.1057499999998, "iscrowd": 0, "image_id": owner, "bbox": [473.07, 395.93, 38.65, 28.67]}
            rest |= {"category_id": 18, "id": 1768 + i}
            polygon = pool[rng.integers(len(pool))]
            file.write(", " * (i > 0) + f'{{"segmentation": [{polygon}], ' + json.dumps(rest)[1:])
        file.write("]}")


def write_labels(folder: Path, pictures: int, rng: np.random.Generator) -> None:
    """Label maps of a dozen regions with wavy borders."""
    folder.mkdir()
    y, x = np.meshgrid(np.arange(HEIGHT) / HEIGHT, np.arange(WIDTH) / WIDTH, indexing="ij")
    x, y = x + 0.03 * np.sin(17 * x + 5 * y) + 0.01 * np.sin(71 * y), y + 0.02 * np.sin(41 * y - 9 * x)
    distinct = [
        rng.choice(182, 12).astype(np.uint8)[
            np.argmin([(x - a) ** 2 + (y - b) ** 2 for a, b in rng.uniform(0, 1, (12, 2))], 0)
        ]
        for _ in range(min(pictures, 20))
    ]
    for i in range(pictures):
        Image.fromarray(distinct[i % len(distinct)]).save(folder / f"{i:012d}.png")


def processor_time() -> float:
    """Seconds that this process and its finished children computed."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


def speed(args: argparse.Namespace) -> None:
    """Print maps a second, and what reading the annotation file takes."""
    with tempfile.TemporaryDirectory() as work:
        folder, rng = Path(work), np.random.default_rng(0)
        write_annotations(folder / "instances.json", args.pictures, rng)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        wall, busy = time.perf_counter(), time.process_time()
        index = index_annotations(folder / "instances.json")
        wall, busy = time.perf_counter() - wall, time.process_time() - busy
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        size = (folder / "instances.json").stat().st_size / 1e6
        print(
            f"reading {size:.0f} MB, {index.polygons} annotations: {wall:.1f} s ({busy:.1f} s of processor time), "
            f"peak memory {grown:.0f} MB above the start"
        )
        if args.index_only:
            return
        write_labels(folder / "label", args.pictures, rng)
        for distinct in (False, True):
            for processes in args.processes:
                output = folder / f"inst_{distinct}_{processes}"
                busy = processor_time()
                summary = make_instance_maps(
                    folder / "instances.json", folder / "label", output,
                    distinct=distinct, processes=processes, quiet=True,
                )  # fmt: skip
                busy = processor_time() - busy
                size = sum(path.stat().st_size for path in output.iterdir()) / args.pictures
                print(
                    f"{'distinct' if distinct else 'released'} form, {processes} processes: "
                    f"{summary.made / summary.seconds:.0f} maps a second, "
                    f"{summary.made / busy:.0f} a second of processor time, {size:.0f} bytes each"
                )


class Pair:
    """A real label map and instance map, and what is known of them."""

    def __init__(self, label: Path, instance: Path):
        self.name = label.stem
        self.label, self.instance = (np.asarray(Image.open(path)).astype(int) for path in (label, instance))
        self.changed = self.label != self.instance
        self.numbers = int(self.instance[self.changed].max(initial=-1)) + 1
        self.clear = self.label >= self.numbers  # labels that are no instance's number

    def fixed(self, shift: int) -> tuple[np.ndarray, np.ndarray]:
        """(pixels that the form fixes if it asks at (x + shift, y + shift), whether they must hold a number)."""
        thing = np.pad(self.label < THINGS, shift + 1, mode="edge").astype(int)
        height, width = self.label.shape
        at = [slice(2 * shift + i, 2 * shift + i + n) for n in (height, width) for i in (0, 1)]
        corner = sum(thing[rows, columns] for rows in at[:2] for columns in at[2:])
        fixed = self.clear & ((corner == 0) | (corner == 4))
        fixed[-1], fixed[:, -1] = False, False
        return fixed, corner == 4


def boxes(region: np.ndarray) -> list[list[float]]:
    """A region as polygons in the annotations' coordinates, one a run of pixels in a row."""
    polygons = []
    for y in np.flatnonzero(region.any(1)):
        ends = np.flatnonzero(np.diff(np.pad(region[y], 1).astype(int)))
        for x0, x1 in zip(ends[::2] + 0.75, ends[1::2] + 0.25, strict=True):
            polygons.append([x0, y + 0.75, x1, y + 0.75, x1, y + 1.25, x0, y + 1.25])
    return polygons


def agreement(args: argparse.Namespace) -> None:
    """Print how real instance maps agree with the form and with what the tool makes."""
    from skimage.measure import find_contours

    paths = sorted(path for path in Path(args.labels).glob("*.png") if Path(args.instances, path.name).exists())
    if not paths:
        raise UserError(f"{args.labels} and {args.instances} have no PNG of the same name")
    pairs = [Pair(path, Path(args.instances, path.name)) for path in paths]
    total = sum(pair.label.size for pair in pairs)
    print(f"{len(pairs)} real maps, {total} pixels, {sum(pair.numbers for pair in pairs)} instances")

    for shift in (0, 1, 2):
        fixed = wrong = 0
        for pair in pairs:
            where, inside = pair.fixed(shift)
            fixed += where.sum()
            wrong += (where & (inside != pair.changed)).sum()
        print(f"1. coordinates minus {shift}: {fixed} pixels are fixed by the label map, {wrong} of them differ")

    with tempfile.TemporaryDirectory() as work:
        annotations = [
            {"image_id": i, "segmentation": boxes((pair.instance == number) & (pair.changed | (pair.label == number)))}
            for i, pair in enumerate(pairs)
            for number in range(pair.numbers)
        ]
        images = [{"id": i, "file_name": f"{pair.name}.jpg"} for i, pair in enumerate(pairs)]
        Path(work, "x.json").write_text(json.dumps({"images": images, "annotations": annotations}), encoding="utf-8")
        make_instance_maps(Path(work, "x.json"), args.labels, Path(work, "inst"), quiet=True)
        made = [np.asarray(Image.open(Path(work, "inst", f"{pair.name}.png"))) for pair in pairs]
    same = sum(bool((a == pair.instance).all()) and a.dtype == np.uint8 for a, pair in zip(made, pairs, strict=True))
    print(f"2. from the real maps' regions as polygons: {same} of {len(pairs)} files agree in every pixel")

    objects = size = differ = far = 0
    for pair in pairs:
        for klass in np.unique(pair.label[pair.clear & (pair.label < THINGS)]):
            mask = pair.label == klass
            mine = [
                n for n in range(pair.numbers) if 2 * (mask & (pair.instance == n)).sum() > (pair.instance == n).sum()
            ]
            if len(mine) != 1:
                continue
            outlines = [line[:, ::-1].ravel() - 0.5 for line in find_contours(np.pad(mask, 1).astype(float), 0.5)]
            blank = np.ones(mask.shape, np.uint8)  # an outline within another is a hole: where an even number covers
            got = sum(1 - instance_map(blank, [[line]]).astype(int) for line in outlines) % 2 == 1
            wrong = pair.clear & (got != (pair.instance == mine[0]))
            padded = np.pad(mask, 1)
            near = [padded[dy : dy + mask.shape[0], dx : dx + mask.shape[1]] for dy in range(3) for dx in range(3)]
            objects, size = objects + 1, size + mask.sum()
            differ, far = differ + wrong.sum(), far + (wrong & (np.min(near, 0) == np.max(near, 0))).sum()
    print(
        f"3. from outlines of the label maps: {objects} objects, {size} pixels: {differ} differ "
        f"({100 * differ / size:.2f} %), {far} of them more than one pixel away from the outline"
    )


def main() -> int:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1000, help="pictures of the made-up set")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="numbers of processes to try")
    parser.add_argument("--index_only", action="store_true", help="only read the annotation file")
    parser.add_argument("--labels", metavar="DIR", help="real label maps")
    parser.add_argument("--instances", metavar="DIR", help="their instance maps")
    args = parser.parse_args()
    if bool(args.labels) != bool(args.instances):
        raise UserError("--labels and --instances belong together")
    agreement(args) if args.labels else speed(args)
    return 0


if __name__ == "__main__":
    run_cli(main)
