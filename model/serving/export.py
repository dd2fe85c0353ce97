"""Exporting a trained model: graphs for inference engines, and beside them everything that a stranger needs."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from model.errors import UserError, utf8
from model.options import OPT
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
    _refuse_to_replace(folder, force)
    utf8(folder.absolute(), "the library that writes and runs models")
    graphs = {form: graph.generator(painter.G, painter.opt, form) for form in forms}
    style = None if painter.E is None else graph.encoder(painter.E, painter.opt.generator_size)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        files = {}
        for runtime in runtimes:
            before = _bytes(work)
            files[runtime] = {"onnx": _write_onnx, "paddle": _write_paddle}[runtime](graphs, style, painter.opt, work)
            say(f"{runtime}: {_bytes(work) - before:.0f} MB, {' and '.join(forms)} form")
        description = Description.of(painter.opt, step=painter.step, parameters=painter.info["parameters"], **files)
        painter.opt.save(work / OPT_FILE)
        for source in SHIPPED:
            text = source.read_text(encoding="utf-8")  # modules that lie side by side there
            text = re.sub(r"from model\.(\w+\.)*", "from ", text)
            (work / source.name).write_text(text, encoding="utf-8")
        (work / FILE).write_text(description.to_json(), encoding="utf-8")
        work.chmod(0o755)
        _put(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return description


def _refuse_to_replace(folder: Path, force: bool) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / FILE).is_file():
        raise UserError(f"{folder} exists and is no exported model: give another --output")
    if not force:
        raise UserError(f"{folder} exists: give another --output, or --force to replace it")


def _put(work: Path, folder: Path) -> None:
    """Move the finished folder to its place, and what was there out of it; back again if that fails."""
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    moved = folder.exists()
    try:
        if moved:
            os.replace(folder, old)
        os.replace(work, folder)
    except OSError:
        if moved and not folder.exists():
            os.replace(old, folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _bytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


def _write_onnx(graphs: dict[str, graph.Graph], style: graph.Graph | None, opt: OPT, folder: Path) -> dict:
    try:
        from model.serving.onnx_ops import WeightStore, save
    except ImportError:
        raise UserError(
            "ONNX files need the onnx package: pip install -r requirements-app.txt, or give --runtimes paddle"
        ) from None
    files = {"generator": {form: f"generator_{form}.onnx" for form in graphs}}
    with WeightStore(folder / "generator.weights") as store:  # both forms read one file
        for form, found in graphs.items():
            shape = ["batch", opt.output_nc, *opt.generator_size]
            save(found, folder / files["generator"][form], "picture", shape, store)
    if style is not None:
        files["encoder"] = "encoder.onnx"
        with WeightStore(folder / "encoder.weights") as store:
            save(style, folder / "encoder.onnx", "mean", ["batch", opt.z_dim], store)
    return files


def _write_paddle(graphs: dict[str, graph.Graph], style: graph.Graph | None, opt: OPT, folder: Path) -> dict:
    def write(name, found):
        return paddle_ops.save(found, folder / name, folder / f"{name.split('_')[0]}.pdiparams").name

    files = {"generator": {form: write(f"generator_{form}", found) for form, found in graphs.items()}}
    if style is not None:
        files["encoder"] = write("encoder", style)
    return files
