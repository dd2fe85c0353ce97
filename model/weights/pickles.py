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
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
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
            if operation.name == "STOP":
                return stack.pop()
            if operation.name == "BINPERSID" and persistent:
                stack.append(persistent(stack.pop()))
            elif operation.name == "REDUCE":
                function, arguments = _last(stack, 2)
                stack.append(_called(functions, function, arguments))
            else:
                _do(operation.name, argument, stack, memo)
    except _NONSENSE as error:
        if not file.read(1):
            raise EOFError from error
        raise Damaged(f"its pickle is damaged ({error or type(error).__name__})") from error


def _called(functions: Mapping[str, Callable], function: Any, arguments: Any) -> Any:
    if not isinstance(function, Name):
        raise Forbidden("a call of something that is no function")
    if function.text not in functions:
        raise Forbidden(function.text[:100])
    return functions[function.text](*arguments)


def _do(operation: str, argument: Any, stack: list, memo: dict[int, Any]) -> None:
    """Carry out one operation on plain data, named as in `pickletools`."""
    match operation:
        case "PROTO" | "FRAME":
            pass
        case _ if operation in _LITERALS:
            stack.append(argument)
        case _ if operation in _CONSTANTS:
            stack.append(_CONSTANTS[operation])
        case "PUT" | "BINPUT" | "LONG_BINPUT":
            memo[argument] = stack[-1]
        case "MEMOIZE":
            memo[len(memo)] = stack[-1]
        case "GET" | "BINGET" | "LONG_BINGET":
            stack.append(memo[argument])
        case "MARK":
            stack.append(_MARK)
        case "POP":
            stack.pop()
        case "EMPTY_DICT":
            stack.append({})
        case "EMPTY_LIST":
            stack.append([])
        case "TUPLE":
            stack.append(tuple(_since_mark(stack)))
        case "TUPLE1" | "TUPLE2" | "TUPLE3":
            stack.append(tuple(_last(stack, int(operation[-1]))))
        case "SETITEM":
            _fill(_last(stack, 2), stack[-1])
        case "SETITEMS":
            _fill(_since_mark(stack), stack[-1])
        case "APPEND":
            _extend(_last(stack, 1), stack[-1])
        case "APPENDS":
            _extend(_since_mark(stack), stack[-1])
        case "GLOBAL":
            module, _, name = argument.partition(" ")
            module = "builtins" if module == "__builtin__" else module  # protocol 2 keeps Python 2's names
            stack.append(Name(f"{module}.{name}"))
        case "STACK_GLOBAL":
            stack.append(Name(".".join(_last(stack, 2))))
        case "BUILD":
            (state,) = _last(stack, 1)
            if not hasattr(stack[-1], "set_state"):
                raise Forbidden(f"the state of a {type(stack[-1]).__name__}")
            stack[-1].set_state(state)
        case "NEWOBJ":
            kind = stack[-2]
            raise Forbidden(f"an object of {kind.text[:100] if isinstance(kind, Name) else 'something'}")
        case _:
            raise Forbidden(f"the operation {operation}")


def _last(stack: list, count: int) -> list:
    """Take items from the stack."""
    return [stack.pop() for _ in range(count)][::-1]


def _since_mark(stack: list) -> list:
    """Take the items above the last mark, and the mark, from the stack."""
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


def _extend(items: list, target: Any) -> None:
    if not isinstance(target, list):
        raise Damaged("its pickle appends to something that is no list")
    target.extend(items)
