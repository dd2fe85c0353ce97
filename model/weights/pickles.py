"""Pickles read without running them: the one reader for the weight files of Paddle and of PyTorch, which are pickles.

A pickle is a program for a small stack machine, and may import and call whatever it likes. The machine here knows only
the operations of plain data. A name stays a name; it is called if the format's allow-list has a function for it, and
these functions build numbers, arrays and containers alone.
"""

import os
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

# Far above what weights need (those of 1,000 arrays take 0.05 million), far below what would hurt.
MAX_OPERATIONS = 2_000_000
_LONGEST_LINE = 10_000
_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = frozenset(
    "BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINSTRING SHORT_BINSTRING "
    "BINBYTES SHORT_BINBYTES BINBYTES8".split()
)


class Damaged(Exception):
    """What is wrong with a file; its reader adds the file's name."""


class Forbidden(Exception):
    """What a pickle asks for and plain data has no use for: a name, a call, an object."""


@dataclass(frozen=True)
class Name:
    """A name that a pickle mentions, such as "torch.FloatStorage". Nothing is imported."""

    text: str


class Bounded:
    """A file that raises EOFError rather than return less, and never allocates more than it still holds."""

    def __init__(self, file: BinaryIO) -> None:
        start = file.tell()
        self._file, self._left = file, file.seek(0, os.SEEK_END) - start
        file.seek(start)

    def read(self, size: int) -> bytes:
        """The next `size` bytes, all of them."""
        if not 0 <= size <= self._left:
            raise EOFError
        self._left -= size
        return self._file.read(size)

    def readline(self) -> bytes:
        """The next line, or the beginning of a very long one."""
        line = self._file.readline(_LONGEST_LINE)
        self._left -= len(line)
        return line


def read_pickle(
    file: Bounded, functions: Mapping[str, Callable], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """Interpret one pickle and stop behind it.

    Args:
        file: the open file, at the pickle's start.
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
    machine = _Machine(functions, persistent)
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
            if count > MAX_OPERATIONS:
                raise Damaged("its pickle is unreasonably long")
            if operation.name == "STOP":
                return machine.stack.pop()
            machine.do(operation.name, argument)
    except (
        ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, MemoryError, RecursionError,
    ) as error:  # fmt: skip  # whatever nonsense bytes can make the machine trip over
        raise Damaged(f"its pickle is damaged ({error or type(error).__name__})") from error
    raise EOFError


class _Machine:
    """The stack, the memo and the operations, each named as in `pickletools`."""

    def __init__(self, functions: Mapping[str, Callable], persistent: Callable[[Any], Any] | None) -> None:
        self.functions, self.persistent = functions, persistent
        self.stack: list = []
        self.memo: dict[int, Any] = {}

    def do(self, operation: str, argument: Any) -> None:
        """Carry out one operation."""
        if operation in _LITERALS:
            self.stack.append(argument)
        elif operation in _CONSTANTS:
            self.stack.append(_CONSTANTS[operation])
        elif (method := getattr(self, f"op_{operation}", None)) is not None:
            method(argument)
        else:
            raise Forbidden(f"the operation {operation}")

    def since_mark(self) -> list:
        """Take the items above the last mark, and the mark, from the stack."""
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def op_PROTO(self, version: int) -> None:
        pass

    def op_FRAME(self, length: int) -> None:
        pass

    def op_MARK(self, _: None) -> None:
        self.stack.append(_MARK)

    def op_POP(self, _: None) -> None:
        self.stack.pop()

    def op_PUT(self, key: int) -> None:
        self.memo[key] = self.stack[-1]

    op_BINPUT = op_LONG_BINPUT = op_PUT

    def op_MEMOIZE(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def op_GET(self, key: int) -> None:
        self.stack.append(self.memo[key])

    op_BINGET = op_LONG_BINGET = op_GET

    def op_EMPTY_DICT(self, _: None) -> None:
        self.stack.append({})

    def op_EMPTY_LIST(self, _: None) -> None:
        self.stack.append([])

    def op_TUPLE(self, _: None) -> None:
        self.stack.append(tuple(self.since_mark()))

    def op_TUPLE1(self, _: None) -> None:
        self.stack[-1:] = [(self.stack[-1],)]

    def op_TUPLE2(self, _: None) -> None:
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def op_TUPLE3(self, _: None) -> None:
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    def op_SETITEM(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def op_SETITEMS(self, _: None) -> None:
        self._fill(self.since_mark())

    def _fill(self, items: list) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise Damaged("its pickle sets an item of something that is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):
                raise Damaged("a dictionary has a key that is neither text nor a number")
            target[key] = value

    def op_APPEND(self, _: None) -> None:
        value = self.stack.pop()
        self._extend([value])

    def op_APPENDS(self, _: None) -> None:
        self._extend(self.since_mark())

    def _extend(self, items: list) -> None:
        if not isinstance(self.stack[-1], list):
            raise Damaged("its pickle appends to something that is no list")
        self.stack[-1].extend(items)

    def op_GLOBAL(self, names: str) -> None:
        module, _, name = names.partition(" ")
        module = "builtins" if module == "__builtin__" else module  # protocol 2 keeps Python 2's names
        self.stack.append(Name(f"{module}.{name}"))

    def op_STACK_GLOBAL(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Name(f"{module}.{name}"))

    def op_BINPERSID(self, _: None) -> None:
        if self.persistent is None:
            raise Forbidden("an object from outside")
        self.stack.append(self.persistent(self.stack.pop()))

    def op_REDUCE(self, _: None) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name):
            raise Forbidden("a call of something that is no function")
        if function.text not in self.functions:
            raise Forbidden(function.text[:100])
        self.stack.append(self.functions[function.text](*arguments))

    def op_NEWOBJ(self, _: None) -> None:
        kind = self.stack[-2]
        raise Forbidden(f"an object of {kind.text[:100] if isinstance(kind, Name) else 'something'}")

    def op_BUILD(self, _: None) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not hasattr(target, "set_state"):
            raise Forbidden(f"the state of a {type(target).__name__}")
        target.set_state(state)
