"""Options in yaml files, such as opt.yaml beside a checkpoint; read so that a stranger's file runs nothing."""

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from model.configuration.fields import check_range, closest, fields_of, typed
from model.errors import UserError

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
            values[key] = typed(fields[key], value)
            check_range(fields[key], values[key])
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
