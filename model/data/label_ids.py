"""What the ids in label maps mean: a class, the unknown class, or nothing that the network has a channel for.

Ids are channels as they are. Those that mean unlabelled become the channel of the unknown class: `unknown_ids` of the
options, 255 unless others are given, and, as in the released code, `label_nc` itself.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from model.configuration.texts import parse_ids
from model.errors import UserError, listed

# Names by which palette files call what is no class.
_UNLABELLED = re.compile(
    r"un[-_ ]?(labell?ed|known|classified|annotated|assigned|defined)|void|ignored?|no[-_ ]?(data|label)|"
    r"don'?t[-_ ]?care",
    re.IGNORECASE,
)

# Ids of the classes that have instances. COCO: its 91 categories of objects. ADE20K: the 100 of its instance
# segmentation challenge. Cityscapes: those with instances in labels.py. CamVid names none: those that can be counted.
_THINGS = {
    "coco_stuff": "0-90",
    "sample": "0-90",
    "ade20k": "8-9,11,13,15-16,19-21,23-25,28,31-34,36-40,42-46,48,50-51,54,56-59,63,65-68,70-77,79,81-84,86-91,93-94,"
    "96,98-99,103-105,108-109,111-113,116-117,119-122,124-128,130-131,133-140,143-145,147-150",
    "cityscapes": "24-33",
    "camvid": "2,6,8-10",
}


def things(dataset_mode: str) -> tuple[int, ...]:
    """Ids of the data set's classes that have instances.

    Raises:
        UserError: for a data set of which that is not known.
    """
    if dataset_mode not in _THINGS:
        raise UserError(f"dataset_mode {dataset_mode}: its things are not known: give their ids, --things 0-4,7")
    return parse_ids(_THINGS[dataset_mode], ranges=True)


def unknown_id(label_nc: int) -> int:
    """The usual id of unlabelled pixels: 255, or 65535 for maps with more classes than 8 bits can hold."""
    return 255 if label_nc <= 255 else 65535


def unknown_class(opt) -> int | None:
    """The network's class for unlabelled pixels, None without one: the last, but ADE20K's stays 0 as in its files."""
    if not opt.contain_dontcare_label:
        return None
    return 0 if opt.dataset_mode == "ade20k" else opt.label_nc


def unknown_ids(opt) -> tuple[int, ...]:
    """The ids in label maps that mean unlabelled, first that of the class itself; none without that class.

    Args:
        opt: `dataset_mode`, `label_nc`, `contain_dontcare_label`, `unknown_ids` are read.
    """
    own = unknown_class(opt)
    if own is None:
        return ()
    return tuple(dict.fromkeys((own, *(parse_ids(opt.unknown_ids) or (unknown_id(opt.label_nc),)))))


def class_ids(opt) -> list[int]:
    """The ids in label maps that are classes, without those that mean unlabelled."""
    unknown = unknown_ids(opt)
    return [i for i in range(opt.label_nc + opt.contain_dontcare_label) if i not in unknown]


def is_class(name: str) -> bool:
    """Whether a name that a palette file gives is a class's, not one for what is unlabelled; no name is neither."""
    return bool(name) and not _UNLABELLED.fullmatch(name)


def as_channels(ids: np.ndarray, opt) -> np.ndarray:
    """Ids of a label map, integer of any shape, as the network's classes int64; foreign ids stay as they are."""
    own = unknown_class(opt)
    return np.asarray(ids, np.int64) if own is None else np.where(np.isin(ids, unknown_ids(opt)), np.int64(own), ids)


def foreign_ids(ids: Iterable[int], opt) -> list[int]:
    """Those of the ids that are neither a channel of the network nor unlabelled."""
    channels, unknown = opt.label_nc + opt.contain_dontcare_label, unknown_ids(opt)
    return [i for i in ids if not 0 <= i < channels and i not in unknown]


def expected_ids(opt) -> str:
    """The ids that label maps may hold, in words: 0..181 and 255."""
    own, *others = unknown_ids(opt) or (None,)
    highest = opt.label_nc - (own is None or own == opt.label_nc)
    return f"0..{highest}" + ("" if own is None else f" and {', '.join(map(str, others or [own]))}")


def id_ranges(ids: Iterable[int], most: int = 12) -> str:
    """Ids in words, with at most so many parts: 0..12, 15, 255."""
    ids = sorted(ids)
    starts = [i for n, i in enumerate(ids) if n == 0 or ids[n - 1] != i - 1]
    ends = [i for n, i in enumerate(ids) if n + 1 == len(ids) or ids[n + 1] != i + 1]
    parts = [str(a) if a == b else f"{a}..{b}" for a, b in zip(starts, ends, strict=True)]
    return listed(parts, most)


def check_ids(ids: Iterable[int], opt, path, hint: str = "") -> None:
    """Raise a UserError that names the label map's file, and ends in the hint, if any of its ids is foreign."""
    bad = foreign_ids(ids, opt)
    if not bad:
        return
    classes = [i for i in bad if i >= opt.label_nc and i != unknown_id(opt.label_nc)]
    ways = [f"correct the map or set --label_nc (at least {max(classes) + 1})"] if classes else []
    if min(bad) >= 0 and max(bad) <= 65535 and len(bad) < 3:
        which = "it means" if len(bad) == 1 else "they mean"
        ways.append(f"give {_declaring({*bad, *unknown_ids(opt)[1:]}, opt.label_nc)} if {which} unlabelled")
    unlabelled = " for unlabelled" if opt.contain_dontcare_label else ""
    raise UserError(
        f"{path}: label id {listed(bad)} is outside {expected_ids(opt)}{unlabelled} (label_nc {opt.label_nc}): "
        f"{', or '.join(ways) or 'correct the map'}{hint}"
    )


def _declaring(ids: set[int], label_nc: int) -> str:
    """The option that makes these ids mean unlabelled."""
    if ids <= {unknown_id(label_nc), label_nc}:
        return "--contain_dontcare_label true"
    return f"--unknown_ids {','.join(map(str, sorted(ids)))}"


class Reading(NamedTuple):
    """One way to understand the ids of a data set."""

    options: str  # on the command line: label_nc, what means unlabelled, and another way where ids alone cannot tell
    unlabelled: set[int]  # the ids that do


def reading(ids: Iterable[int], names: Mapping[int, str] | None = None, opt=None) -> Reading:
    """How the ids of all label maps are to be understood, as far as they, their names and the options tell.

    A lone 255 (or 65535) far from the other ids is taken for unlabelled, as in nearly all data sets.

    Args:
        ids: all that occur.
        names: what a palette file calls them.
        opt: the options that were given; what they declare unlabelled is taken for that.
    """
    ids, names = sorted(ids), names or {}
    unlabelled = {i for i in ids if _UNLABELLED.fullmatch(names.get(i, ""))}
    if ids[-1] in (255, 65535) and (len(ids) == 1 or ids[-2] < ids[-1] - 1):
        unlabelled.add(ids[-1])
    least = 1
    if opt is not None:
        declared = set(unknown_ids(opt)).intersection(ids)
        if foreign_ids(ids, opt):  # then label_nc is wrong, and its own id is that of some class
            declared -= {opt.label_nc}.difference(parse_ids(opt.unknown_ids))
        least = opt.label_nc if opt.label_nc in declared else 1
        unlabelled |= declared
    classes = [i for i in ids if i not in unlabelled] or [min({0, *(i + 1 for i in unlabelled)} - unlabelled)]
    label_nc = max(least, classes[-1] + 1)
    last = _declaring(unlabelled, label_nc) if unlabelled else "--contain_dontcare_label false"
    other = _other_reading(ids, names, opt, unlabelled) if opt is not None else ""
    return Reading(f"--label_nc {label_nc} {last}{other}", unlabelled)


def _other_reading(ids: list[int], names: Mapping[int, str], opt, unlabelled: set[int]) -> str:
    """The highest of the ids can be a class as well as 'unlabelled' behind the classes, as in CamVid."""
    alone = reading(ids, names)
    if unlabelled == {*alone.unlabelled, opt.label_nc} != alone.unlabelled and not opt.unknown_ids:
        return f", or, where {opt.label_nc} is a class, {alone.options}"
    if unlabelled or ids[-1] == 0 or is_class(names.get(ids[-1], "")):
        return ""
    return f", or, where {ids[-1]} means unlabelled, --label_nc {ids[-1]} --contain_dontcare_label true"
