"""Trained models outside of Paddle's training code: export, and the engines that run an exported folder."""

from pathlib import Path

FILE = "model.json"  # an exported folder's description
FORMS = ("pattern", "dense")  # of a generator's graph
RUNTIMES = ("onnx", "paddle")


def is_exported(path: str | Path) -> bool:
    """Whether a path is a folder that tools/export.py wrote, whose model runs without Paddle's networks."""
    return (Path(path) / FILE).is_file()
