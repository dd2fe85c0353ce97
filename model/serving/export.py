"""Exporting a trained model: graphs for inference engines, and beside them everything that a stranger needs."""

import dataclasses
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from model.errors import UserError, utf8
from model.serving import FILE, FORMS, RUNTIMES, graph, paddle_ops
from model.serving.description import OPT_FILE, Description
from model.serving.painter import Painter

_HERE = Path(__file__).parent
SHIPPED = (
    *(_HERE.parent / name for name in ("errors.py", "neighbourhoods.py", "data/pictures.py", "data/reading.py")),
    *(_HERE / name for name in ("predict.py", "README.md")),
)


def export(
    painter: Painter,
    folder: str | os.PathLike,
    *,
    forms: Sequence[str] = FORMS,
    runtimes: Sequence[str] = RUNTIMES,
    force: bool = False,
    say: Callable[[str], object] = lambda text: None,
) -> Description:
    """Write a folder from which a model runs without its training code; it appears whole or not at all.

    Args:
        painter: the trained model.
        folder: to be made.
        forms: of the generator's graph: pattern, dense; the first is the one that is used unless asked otherwise.
        runtimes: onnx, paddle.
        force: replace the folder if it is an earlier export.
        say: is told what was written.

    Returns:
        What model.json says.

    Raises:
        UserError: the folder exists, or the onnx package is missing.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        if not (folder / FILE).is_file():
            raise UserError(f"{folder} exists and is no exported model: give another --output")
        if not force:
            raise UserError(f"{folder} exists: give another --output, or --force to replace it")
    utf8(folder.absolute(), "the library that writes and runs models")
    writers = {"paddle": paddle_ops.save}
    if "onnx" in runtimes:
        try:
            from model.serving import onnx_ops
        except ImportError:
            needed = "pip install -r requirements-app.txt, or give --runtimes paddle"
            raise UserError(f"ONNX files need the onnx package: {needed}") from None
        writers["onnx"] = onnx_ops.save
    graphs = {f"generator_{form}": graph.generator(painter.G, painter.opt, form) for form in forms}
    if painter.E is not None:
        graphs["encoder"] = graph.encoder(painter.E, painter.opt.generator_size)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent, ignore_cleanup_errors=True)
    with aside as place:
        new, old = Path(place, "new"), Path(place, "old")
        new.mkdir()
        files = {}
        for runtime in runtimes:
            before = _bytes(new)
            saved = writers[runtime](graphs, new)
            files[runtime] = {"generator": {form: saved.pop(f"generator_{form}") for form in forms}} | saved
            say(f"{runtime}: {_bytes(new) - before:.0f} MB, {' and '.join(forms)} form")
        description = dataclasses.replace(painter.description, **files)
        painter.opt.save(new / OPT_FILE)
        for source in SHIPPED:
            text = source.read_text(encoding="utf-8")  # modules that lie side by side there
            text = re.sub(r"from model\.(\w+\.)*", "from ", text)
            (new / source.name).write_text(text, encoding="utf-8")
        (new / FILE).write_text(description.to_json(), encoding="utf-8")
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(new, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise
    return description


def _bytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6
