"""How the code is laid out: folders and files import each other in one direction."""

import ast
import graphlib
from pathlib import Path

from common import ROOT

FILES = {path.relative_to(ROOT).as_posix() for path in (ROOT / "model").rglob("*.py")}


def file_of(module):
    """The file of a module of the project's, None for another name."""
    place = module.replace(".", "/")
    return next((name for name in (f"{place}.py", f"{place}/__init__.py") if name in FILES), None)


def imports(name):
    """The project's files that a file imports, at its top or within functions."""
    for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [full if file_of(full) else node.module for full in names]
        else:
            continue
        yield from filter(None, map(file_of, names))


def room(name):
    """A file directly in model/ by itself, others by their folder."""
    parts = Path(name).parts
    return name if len(parts) == 2 else parts[1]


def test_nothing_imports_in_a_circle():
    """`prepare` raises CycleError, which names the circle."""
    rooms = {}
    for name in FILES:
        rooms.setdefault(room(name), set()).update(room(other) for other in imports(name))
    assert len(rooms) > 20 and "model/trainer.py" in rooms["model/run.py"]
    for graph in ({name: set(imports(name)) - {name} for name in FILES}, {a: b - {a} for a, b in rooms.items()}):
        graph.pop("model/__init__.py")  # loads the public names on first use, and says the number of threads to all
        graphlib.TopologicalSorter({a: b - {"model/__init__.py"} for a, b in graph.items()}).prepare()


def test_the_machine_knows_nothing_of_the_paper():
    seen = {other for name in FILES if room(name) == "ops" for other in imports(name)}
    assert {room(name) for name in seen} <= {"ops", "model/__init__.py", "model/errors.py"}
