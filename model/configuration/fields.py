"""Options as fields of a dataclass, each with a type, a range and a help; as text of flags, and in yaml files.

A yaml file, such as opt.yaml beside a checkpoint, is read so that a stranger's runs nothing.
"""

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
from pathlib import Path
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
            object.__setattr__(self, f.name, checked(f, getattr(self, f.name)))  # in a frozen object: 10 becomes 10.0
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


def _typed(f: dataclasses.Field, value: Any) -> Any:
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
        return _typed(f, yaml.safe_load(text) if text.strip() else text)
    raise UserError(f"--{f.name} {text or 'empty'} is not {_expected(f)}")


def checked(f: dataclasses.Field, value: Any) -> Any:
    """The value as its field's type, within its range or of its choices.

    Raises:
        UserError: names the type, or the valid values and the nearest choice.
    """
    value, meta = _typed(f, value), f.metadata
    if meta["choices"] and value not in meta["choices"]:
        raise UserError(f"{f.name} {value!r} is unknown: expected {range_text(meta)}{closest(value, meta['choices'])}")
    if value is not None and not all(_LIMITS[key][1](value, bound) for key, bound in meta["limits"].items()):
        raise UserError(f"{f.name} {value} is out of range: expected {range_text(meta)}")
    return value


def fields_of(cls: type) -> dict[str, dataclasses.Field]:
    """A class's options by name."""
    return {f.name: f for f in dataclasses.fields(cls)}


_HEADER = "# Options of a SPADE training run.\n"
_END = "...\n"  # yaml's end of document: a file of ours without it was cut off
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")  # 2e-4, which PyYAML reads as text, since it has no point


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which would quietly take the last of two equal keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in seen:
                what = f"{key.value} is given twice" if isinstance(key, yaml.ScalarNode) else "a name must be a word"
                raise yaml.constructor.ConstructorError(None, None, what, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(cls: type, path: str | os.PathLike) -> dict[str, Any]:
    """The options of a class in a yaml file, brought to their types.

    Raises:
        UserError: no such file, not yaml, cut off, an unknown option, a value that is refused.
    """
    fields = fields_of(cls)
    try:
        text = Path(path).read_text(encoding="utf-8")
        values = yaml.load(text, _Loader)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: expected a yaml file of options") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or " ".join(str(error).split())
        line = f", line {where.line + 1}" if where else ""
        raise UserError(f"{path}{line}: not a yaml file of options: {what}") from None
    if text.startswith(_HEADER) and not text.rstrip().endswith(_END.strip()):
        raise UserError(f"{path}: cut off, its last line is not '...': take an older copy, or write the options again")
    if not isinstance(values, dict):
        raise UserError(
            f"{path}: expected lines 'option: value', found {'nothing' if values is None else type(values).__name__}"
        )
    for key, value in values.items():
        if key not in fields:
            raise UserError(f"{path}: unknown option {key}{closest(str(key), fields)}")
        if isinstance(value, str) and fields[key].type in (float, float | None) and _NUMBER.fullmatch(value):
            value = float(value)
        try:
            values[key] = checked(fields[key], value)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    return values


def to_yaml(opt: Any, groups: Mapping[str, str]) -> str:
    """Every option of a dataclass, under the titles of its groups."""
    lines = [_HEADER, "# Read by val.py and by train.py --config; meanings: train.py --help.\n"]
    for group, title in groups.items():
        values = {f.name: getattr(opt, f.name) for f in dataclasses.fields(opt) if f.metadata["group"] == group}
        plain = not any("\x85" in str(value) for value in values.values())  # which a reader takes for a line break
        lines.append(f"\n# {group}: {title}\n")
        lines.append(yaml.safe_dump(values, sort_keys=False, allow_unicode=plain, width=4096))
    return "".join(lines) + _END
