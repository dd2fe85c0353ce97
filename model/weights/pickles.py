"""Pickles read without running them: the one reader for the weight files of Paddle and of PyTorch, which are pickles.

A pickle is a program for a small stack machine, and may import and call whatever it likes. The machine here knows only
the operations of plain data. A name stays a name; it is called if the format's allow-list has a function for it, and
these functions build numbers, arrays and containers alone.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from model.weights.damage import Damaged, Forbidden

# Far above what weights need (those of 1,000 arrays take 0.05 million), far below what would hurt.
MAX_OPERATIONS = 2_000_000
_MARK = object()
# How many items an operation takes from the stack; None stands for those above the last mark.
_TAKES = {
    "TUPLE": None, "SETITEMS": None, "APPENDS": None, "POP": 1, "TUPLE1": 1, "APPEND": 1, "BUILD": 1, "BINPERSID": 1,
    "TUPLE2": 2, "SETITEM": 2, "STACK_GLOBAL": 2, "REDUCE": 2, "NEWOBJ": 2, "TUPLE3": 3,
}  # fmt: skip
_NEW = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "MARK": lambda: _MARK,
    "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_LIST": list,
}  # fmt: skip
_LITERALS = frozenset(
    "BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINSTRING SHORT_BINSTRING "
    "BINBYTES SHORT_BINBYTES BINBYTES8".split()
)
# What nonsense bytes can make the machine trip over.
_NONSENSE = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, MemoryError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True)
class Name:
    """A name that a pickle mentions, such as "torch.FloatStorage". Nothing is imported."""

    text: str


def read_pickle(
    file: BinaryIO, functions: Mapping[str, Callable], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """Interpret one pickle and stop behind it.

    Args:
        file: the open file, at the pickle's start; no more is read of it than it holds.
        functions: the allow-list: by full name, what may be called. Each must check its arguments, which may be any
            plain data, and raise Damaged or ValueError for nonsense. A result may take a state by its `set_state`.
        persistent: makes the object that a persistent id stands for; None where there are none.

    Returns:
        The pickled value: plain data, what `functions` and `persistent` made, and `Name`s.

    Raises:
        Forbidden: it asks for anything else; nothing of it was run.
        EOFError: it is cut short.
        Damaged: it is no pickle, or an unreasonable one.
    """
    stack: list = []
    memo: dict[int, Any] = {}
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
            if count > MAX_OPERATIONS:
                raise Damaged("its pickle is unreasonably long")
            items = _taken(stack, _TAKES.get(operation.name, 0))
            match operation.name:
                case "STOP":
                    return stack.pop()
                case "PROTO" | "FRAME" | "POP":
                    pass
                case name if name in _LITERALS:
                    stack.append(argument)
                case name if name in _NEW:
                    stack.append(_NEW[name]())
                case "PUT" | "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "GET" | "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                    stack.append(tuple(items))
                case "SETITEM" | "SETITEMS":
                    _fill(items, stack[-1])
                case "APPEND" | "APPENDS":
                    if not isinstance(stack[-1], list):
                        raise Damaged("its pickle appends to something that is no list")
                    stack[-1].extend(items)
                case "GLOBAL":
                    module, _, name = argument.partition(" ")
                    module = "builtins" if module == "__builtin__" else module  # protocol 2 keeps Python 2's names
                    stack.append(Name(f"{module}.{name}"))
                case "STACK_GLOBAL":
                    stack.append(Name(".".join(items)))
                case "REDUCE":
                    function, arguments = items
                    if not isinstance(function, Name):
                        raise Forbidden("a call of something that is no function")
                    if function.text not in functions:
                        raise Forbidden(function.text[:100])
                    stack.append(functions[function.text](*arguments))
                case "BINPERSID" if persistent:
                    stack.append(persistent(*items))
                case "BUILD":
                    if not hasattr(stack[-1], "set_state"):
                        raise Forbidden(f"the state of a {type(stack[-1]).__name__}")
                    stack[-1].set_state(*items)
                case "NEWOBJ":
                    kind = items[0].text[:100] if isinstance(items[0], Name) else "something"
                    raise Forbidden(f"an object of {kind}")
                case name:
                    raise Forbidden(f"the operation {name}")
    except _NONSENSE as error:
        if not file.read(1):
            raise EOFError from error
        raise Damaged(f"its pickle is damaged ({error or type(error).__name__})") from error


def _taken(stack: list, count: int | None) -> list:
    """Take so many items from the stack; None takes those above the last mark, and the mark."""
    if count is not None:
        return [stack.pop() for _ in range(count)][::-1]
    items = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]


def _fill(items: list, target: Any) -> None:
    if not isinstance(target, dict):
        raise Damaged("its pickle sets an item of something that is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | int):
            raise Damaged("a dictionary has a key that is neither text nor a number")
        target[key] = value
