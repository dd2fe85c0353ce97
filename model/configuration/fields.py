"""Options as fields of a dataclass: each has a type, a range and a help, and is checked."""

import contextlib
import dataclasses
import difflib
import math
import numbers
import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

import yaml

from model.errors import UserError


def closest(text: str, valid: Iterable[str], prefix: str = "") -> str:
    """'; did you mean X?' for the valid word nearest to the text, or nothing."""
    likeness = {
        word: difflib.SequenceMatcher(None, text.lower().replace("-", "_"), word.lower()).ratio() for word in valid
    }
    near = max(likeness, key=likeness.get, default=None)  # of several the first, which is the usual one
    return f"; did you mean {prefix}{near}?" if near is not None and likeness[near] >= 0.55 else ""


def option(
    default: Any,
    group: str,
    text: str,
    choices: Sequence[str] = (),
    renamed: Mapping[str, str] | None = None,
    **limits: float,
) -> Any:
    """A documented dataclass field: low <= value <= high, above < value < below, or one of the choices.

    Args:
        renamed: choices that files and commands may have under an older name.
        limits: any of low, high, above and below.
    """
    metadata = dict(group=group, help=text, choices=tuple(choices), renamed=renamed or {}, limits=limits)
    return field(default=default, metadata=metadata)


def options_of(group: str) -> Callable[..., Any]:
    """`option` for the fields of one group, which is not said again."""
    return lambda default, text, **limits: option(default, group, text, **limits)


_LIMITS = {
    "low": (">=", operator.ge),
    "above": (">", operator.gt),
    "high": ("<=", operator.le),
    "below": ("<", operator.lt),
}


def range_text(meta: Mapping[str, Any]) -> str:
    """The valid values in words, '' when there is nothing to say."""
    if meta["choices"]:
        return "one of " + ", ".join(meta["choices"])
    return " and ".join(f"{_LIMITS[key][0]} {bound}" for key, bound in meta["limits"].items())


class Checked:
    """What OPT and ValOPT share: values are brought to their type and checked one by one when the object is made.

    So are the device, which is auto, cpu, gpu or gpu:N, and the folders of photos and instance maps, which come with
    one of label maps.
    """

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value = typed(f, getattr(self, f.name))
            object.__setattr__(self, f.name, value)  # the one write to a frozen object: 10 becomes 10.0
            check_range(f, value)
        if not re.fullmatch(r"auto|cpu|gpu(:\d+)?", self.device):
            raise UserError(f"device {self.device!r} is unknown: expected auto, cpu, gpu or gpu:N")
        if (self.image_dir or self.instance_dir) and not self.label_dir:
            raise UserError("image_dir and instance_dir go with label_dir, which is empty: give label_dir too")
        self._check_together()

    def _check_together(self) -> None:
        """Refuse values that are each valid and contradict each other."""


def _kinds(f: dataclasses.Field) -> tuple[type, ...]:
    return getattr(f.type, "__args__", (f.type,))


def _expected(f: dataclasses.Field) -> str:
    """The values of a field's type in words."""
    words = {
        bool: "true or false",
        int: "a whole number",
        float: "a finite number",
        str: "text (in a yaml file, put it in quotes)",
        type(None): "null",
    }
    return " or ".join(words[kind] for kind in _kinds(f))


def typed(f: dataclasses.Field, value: Any) -> Any:
    """The value as its field's type; NumPy's numbers and paths are welcome, text that looks like a number is not."""
    kinds = _kinds(f)
    if value is None and type(None) in kinds:
        return None
    if bool in kinds and isinstance(value, bool):
        return value
    if int in kinds and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if float in kinds and isinstance(value, numbers.Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            if math.isfinite(value):
                return float(value)
    if str in kinds and isinstance(value, (str, os.PathLike)):
        if "\0" in str(value):
            raise UserError(f"{f.name} {value!r} holds a NUL character, which no name can")
        return f.metadata["renamed"].get(value, os.fspath(value))
    raise UserError(f"{f.name} {value!r} is not {_expected(f)}")


def from_text(f: dataclasses.Field, text: str) -> Any:
    """What a flag's text means for a field: numbers as Python reads them; true, false and null as yaml does.

    Raises:
        UserError: it is not of the field's type.
    """
    kinds = _kinds(f)
    if str in kinds:
        return text
    for kind in (int, float):
        if kind in kinds:
            with contextlib.suppress(ValueError):
                return kind(text)
    with contextlib.suppress(ValueError, RecursionError, yaml.YAMLError):
        return typed(f, yaml.safe_load(text) if text.strip() else text)
    raise UserError(f"--{f.name} {text or 'empty'} is not {_expected(f)}")


def check_range(f: dataclasses.Field, value: Any) -> None:
    """Refuse a value that is out of its field's range or none of its choices.

    Raises:
        UserError: names the valid values, and the nearest choice.
    """
    meta = f.metadata
    if meta["choices"] and value not in meta["choices"]:
        raise UserError(f"{f.name} {value!r} is unknown: expected {range_text(meta)}{closest(value, meta['choices'])}")
    if value is not None and not all(_LIMITS[key][1](value, bound) for key, bound in meta["limits"].items()):
        raise UserError(f"{f.name} {value} is out of range: expected {range_text(meta)}")


def fields_of(cls: type) -> dict[str, dataclasses.Field]:
    """A class's options by name."""
    return {f.name: f for f in dataclasses.fields(cls)}
