"""Class names and label colours of the supported data sets (NumPy only)."""

import numpy as np

from model.errors import UserError

# COCO-Stuff 2017 (nightrome/cocostuff, labels.txt). The label PNGs hold the official id - 1, the position here: 91
# things (11 of them, such as "street sign", occur in no image), then 91 stuff classes. 255 in a PNG is "unlabeled".
_COCO_STUFF = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, street sign, stop
sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, hat, backpack, umbrella,
shoe, eye glasses, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove,
skateboard, surfboard, tennis racket, bottle, plate, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich,
orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, mirror, dining table, window,
desk, toilet, door, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator,
blender, book, clock, vase, scissors, teddy bear, hair drier, toothbrush, hair brush,
banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet, ceiling-other, ceiling-tile,
cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt, door-stuff, fence, floor-marble, floor-other,
floor-stone, floor-tile, floor-wood, flower, fog, food-other, fruit, furniture-other, grass, gravel, ground-other, hill,
house, leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, napkin, net, paper, pavement, pillow, plant-other,
plastic, platform, playingfield, railing, railroad, river, road, rock, roof, rug, salad, sand, sea, shelf, sky-other,
skyscraper, snow, solid-other, stairs, stone, straw, structural-other, table, tent, textile-other, towel, tree,
vegetable, wall-brick, wall-concrete, wall-other, wall-panel, wall-stone, wall-tile, wall-wood, water-other, waterdrops,
window-blind, window-other, wood
"""

# ADE20K scene parsing challenge (CSAILVision/sceneparsing, objectInfo150.txt, the first synonym of each). 0 is "other".
_ADE20K = """
other, wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth, door,
table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, field, armchair,
seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column, signboard, chest of drawers,
counter, sand, sink, skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table, pillow,
screen door, stairway, river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench, countertop,
stove, palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, hovel, bus, towel, light, truck, tower,
chandelier, awning, streetlight, booth, television, airplane, dirt track, apparel, pole, land, bannister, escalator,
ottoman, bottle, buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything, swimming pool,
stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot,
animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray, ashcan, fan,
pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag
"""
_ADE20K_RGB = """
000000 787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846 08ff33 ff0652
8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc ff095c 7009ff 08ffd6 07ffe0
ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14 ff0829 ff0599 0633ff eb0cff a09614 00a3ff
8c8c8c fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff 1f00ff 0bc8c8 ff5200 00fff5 003dff
00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00 008fff 33ff00 0052ff 00ff29 00ffad 0a00ff adff00 00ff99 ff5c00 ff00ff
ff00f5 ff0066 ffad00 ff0014 ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2 00ff52 000aff 0070ff 3300ff 00c2ff 007aff
00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa 8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070
5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3 ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500
0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff 00ffcc 2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8 005cff
b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff
"""

# Cityscapes labelIds (cityscapesScripts, labels.py). The license plate is -1 there; SPADE counts it as the 35th label.
_CITYSCAPES = """
unlabeled, ego vehicle, rectification border, out of roi, static, dynamic, ground, road, sidewalk, parking, rail track,
building, wall, fence, guard rail, bridge, tunnel, pole, polegroup, traffic light, traffic sign, vegetation, terrain,
sky, person, rider, car, truck, bus, caravan, trailer, train, motorcycle, bicycle, license plate
"""
_CITYSCAPES_RGB = """
000000 000000 000000 000000 000000 6f4a00 510051 804080 f423e8 faaaa0 e6968c 464646 66669c be9999 b4a5b4 966464 96785a
999999 999999 faaa1e dcdc00 6b8e23 98fb98 4682b4 dc143c ff0000 00008e 000046 003c64 00005a 00006e 005064 0000e6 770b20
00008e
"""

# CMP facades, label order and the colours in which the data set's own label pictures are drawn. 0 does not occur.
_FACADES = """
unknown, background, facade, window, door, cornice, sill, balcony, blind, deco, molding, pillar, shop
"""
_FACADES_RGB = "000000 0000aa 0000ff 0055ff 00aaff 00ffff 55ffaa aaff55 ffff00 ffaa00 ff5500 ff0000 aa0000"


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


_NAMES = {
    "coco_stuff": _names(_COCO_STUFF) + ["unlabeled"],
    "ade20k": _names(_ADE20K),
    "cityscapes": _names(_CITYSCAPES),
    "facades": _names(_FACADES),
    "custom": [],
}
_NAMES["sample"] = _NAMES["coco_stuff"]
_RGB = {"ade20k": _ADE20K_RGB, "cityscapes": _CITYSCAPES_RGB, "facades": _FACADES_RGB}
# COCO-Stuff classes that fill much of many pictures have colours of their own, as in the released code.
_COCO_RGB = {
    "sea": (54, 62, 167), "sky-other": (95, 219, 255), "tree": (140, 104, 47), "clouds": (170, 170, 170),
    "grass": (29, 195, 49), "unlabeled": (0, 0, 0),
}  # fmt: skip


def _check_mode(dataset_mode: str) -> None:
    if dataset_mode not in _NAMES:
        raise UserError(f"dataset_mode {dataset_mode!r} has no class names; expected one of {', '.join(_NAMES)}")


def class_names(dataset_mode: str, label_nc: int) -> list[str]:
    """Names of all ids that a label map of this data set can hold, in the order of the ids.

    Args:
        dataset_mode: coco_stuff, ade20k, cityscapes, facades, custom or sample (which has COCO-Stuff's classes).
        label_nc: number of classes, without 'unknown'.

    Returns:
        For cityscapes and facades, which have no unknown id, `label_nc` names; for the others `label_nc` + 1, where
        the last is "unlabeled" (for ade20k, whose ids are 0..150 with 0 = other, it is the class of id 150).
        Ids beyond the data set's own are called "class 7".

    Raises:
        UserError: for a data set that is not in the list.
    """
    _check_mode(dataset_mode)
    known = [name for name in _NAMES[dataset_mode] if dataset_mode == "cityscapes" or name != "unlabeled"]
    names = known[:label_nc] + [f"class {i}" for i in range(len(known), label_nc)]
    if dataset_mode in ("cityscapes", "facades"):
        return names
    if dataset_mode == "ade20k" and label_nc < len(known):
        return names + [known[label_nc]]
    return names + ["unlabeled"]


def _spread_bits(ids: np.ndarray) -> np.ndarray:
    """Colours in which the bits of an id go in turn to red, green and blue, the lowest to the highest."""
    rgb = np.zeros((len(ids), 3), np.int64)
    for bit in range(7):
        for channel in range(3):
            rgb[:, channel] |= (ids >> (3 * bit + channel) & 1) << (7 - bit)
    return rgb.astype(np.uint8)


def palette(dataset_mode: str, n: int) -> np.ndarray:
    """Colours of the ids 0..n-1: the data set's official ones, or the released SPADE code's where it has none.

    Args:
        dataset_mode: as in `class_names`.
        n: number of colours, at least 1.

    Returns:
        uint8 [n, 3] RGB. Unlabelled ids of the known data sets are black.

    Raises:
        UserError: for a data set that is not in the list or n below 1.
    """
    _check_mode(dataset_mode)
    if n < 1:
        raise UserError(f"a palette of {n} colours was asked for; expected at least 1")
    colours = _spread_bits(np.arange(1, n + 1))  # from 1, so that id 0 is not black
    if dataset_mode in _RGB:
        own = np.array([list(bytes.fromhex(rgb)) for rgb in _RGB[dataset_mode].split()], np.uint8)[:n]
        colours[: len(own)] = own
    elif dataset_mode != "custom":
        for name, rgb in _COCO_RGB.items():
            if (i := _NAMES["coco_stuff"].index(name)) < n:
                colours[i] = rgb
    return colours


def colorize(label: np.ndarray, colours: str | np.ndarray) -> np.ndarray:
    """A label map as a colour picture.

    Args:
        label: integer [..., H, W].
        colours: a dataset_mode, or a palette, uint8 [n, 3].

    Returns:
        uint8 [..., H, W, 3] RGB. Ids outside the palette are black.
    """
    label = np.asarray(label)
    table = palette(colours, 256) if isinstance(colours, str) else np.asarray(colours, np.uint8)
    if isinstance(colours, str) and colours in ("coco_stuff", "sample"):
        table = table[: len(_NAMES[colours])]  # 255 in the files is unlabelled too
    inside = (label >= 0) & (label < len(table))
    table = np.concatenate([table, np.zeros((1, 3), np.uint8)])
    return table[np.where(inside, label, len(table) - 1)]
