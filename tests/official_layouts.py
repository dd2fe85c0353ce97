"""Small made data in the layouts in which the data sets are distributed, for tests of checking and training."""

from pathlib import Path

import numpy as np
from common import save
from PIL import Image

SPLITS = ("train", "val", "test")
PALETTE = "0 0 0 0 nothing\n1 128 64 128 road\n2 70 130 180 sky\n3 107 142 35 tree\n255 255 255 255\n"
_COLOURS = np.array([[0, 0, 0], [128, 64, 128], [70, 130, 180], [107, 142, 35]], np.uint8)


def pictures(counts, ids, size=(80, 72)):
    """(split, number, photo [H, W, 3], label map [H, W] in blocks of 8 pixels) of the splits; every id occurs."""
    for place, (split, count) in enumerate(zip(SPLITS, counts, strict=False)):
        rng = np.random.default_rng(place)
        for number in range(1, count + 1):
            blocks = rng.choice(ids, (size[1] // 8, size[0] // 8))
            blocks.flat[: len(ids)] = ids
            label = np.kron(blocks, np.ones((8, 8), int))
            yield split, number, rng.integers(0, 256, (*label.shape, 3), np.uint8), label


def coco_stuff(root: Path, train: int = 4, val: int = 2) -> list[str]:
    """COCO-Stuff as `{train,val}_{img,label,inst}`; returns the options that name the data."""
    for split, number, photo, label in pictures((train, val), [0, 17, 91, 156, 181, 255]):
        name = f"{1000 * SPLITS.index(split) + number:012d}"
        label = label.astype(np.uint8)
        instance = label.copy()
        instance[20:40, 20:40] = 0
        instance[30:50, 30:60] = 1
        save(root / f"{split}_img" / f"{name}.jpg", photo)
        save(root / f"{split}_label" / f"{name}.png", label)
        save(root / f"{split}_inst" / f"{name}.png", instance)
    return ["--dataroot", str(root)]


def ade20k(root: Path, train: int = 4, val: int = 2) -> list[str]:
    """ADEChallengeData2016 as its archive unpacks."""
    inner = root / "ADEChallengeData2016"
    for split, number, photo, label in pictures((train, val), [0, 1, 13, 150]):
        folder, name = {"train": "training", "val": "validation"}[split], f"ADE_{split}_{number:08d}"
        save(inner / "images" / folder / f"{name}.jpg", photo)
        save(inner / "annotations" / folder / f"{name}.png", label.astype(np.uint8))
    (inner / "objectInfo150.txt").write_text("Idx\tRatio\n")
    (inner / "sceneCategories.txt").write_text("ADE_train_00000001 airport_terminal\n")
    return ["--dataroot", str(root)]


def cityscapes(root: Path, train: int = 4, val: int = 2, size=(128, 64)) -> list[str]:
    """Cityscapes as leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip unpack, cities as folders."""
    for split, number, photo, label in pictures((train, val), [3, 7, 11, 23, 24, 26, 33], size):
        city = ("aachen", "ulm")[number % 2] if split == "train" else "munster"
        frame = f"{city}_{number:06d}_000019"
        label = label.astype(np.uint8)
        instance = np.where(label >= 24, label.astype(np.uint16) * 1000, label)
        instance[32:][label[32:] == 26] += 1
        maps = root / "gtFine" / split / city
        save(root / "leftImg8bit" / split / city / f"{frame}_leftImg8bit.png", photo)
        save(maps / f"{frame}_gtFine_labelIds.png", label)
        save(maps / f"{frame}_gtFine_instanceIds.png", instance.astype(np.uint16))
        save(maps / f"{frame}_gtFine_color.png", photo)
        (maps / f"{frame}_gtFine_polygons.json").write_text("{}")
    return ["--dataroot", str(root)]


def facades(root: Path, train: int = 4, val: int = 2) -> list[str]:
    """CMP facades in SPADE's folders; the label maps are palette PNGs with the ids 1..12, as published."""
    for split, number, photo, label in pictures((train, val), range(1, 13)):
        name = f"cmp_b{1000 * SPLITS.index(split) + number:04d}"
        save(root / f"{split}_img" / f"{name}.jpg", photo)
        picture = Image.fromarray(label.astype(np.uint8), "P")
        picture.putpalette([0, 0, 170, 0, 0, 255] * 7)
        (root / f"{split}_label").mkdir(exist_ok=True)
        picture.save(root / f"{split}_label" / f"{name}.png")
    return ["--dataroot", str(root)]


def camvid(root: Path, train: int = 4, val: int = 2, test: int = 3) -> list[str]:
    """CamVid as in the SegNet tutorial's folder of that name; photos are JPEG there or PNG."""
    for split, number, photo, label in pictures((train, val, test), range(12)):
        name = f"0001TP_{1000 * SPLITS.index(split) + number:06d}"
        save(root / split / f"{name}.{'jpg' if split == 'val' else 'png'}", photo)
        save(root / f"{split}annot" / f"{name}.png", label.astype(np.uint8))
        (root / f"{split}.txt").write_text(
            f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png\n"
        )
    return ["--dataroot", str(root)]


def custom(root: Path, train: int = 4, val: int = 2) -> list[str]:
    """A user's own data: coloured label maps with a palette file, no instance maps."""
    for split, number, photo, label in pictures((train, val), range(4)):
        save(root / "photos" / split / f"{number}.jpg", photo)
        save(root / "maps" / split / f"{number}.png", _COLOURS[label])
    (root / "palette.txt").write_text(PALETTE)
    folders = ["--label_dir", str(root / "maps"), "--image_dir", str(root / "photos"), "--no_instance"]
    return [*folders, "--label_nc", "4", "--palette", str(root / "palette.txt")]


MAKERS = {
    "coco_stuff": coco_stuff,
    "ade20k": ade20k,
    "ade20k_mindspore": lambda root: ade20k(root, train=8),  # its batch
    "cityscapes": cityscapes,
    "facades": facades,
    "camvid": camvid,
    "custom": custom,
}
