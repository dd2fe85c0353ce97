"""What tests of every module share: programs run as their users run them, and how near numbers must be."""

import contextlib
import os
import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.errors import UserError

ROOT = Path(__file__).resolve().parents[1]

# How far float32 numbers of size 1 may differ.
ROUNDING = 1e-5  # the same sums in another order
GRADIENT = 1e-4  # long sums, such as gradients, and numeric derivatives
PARITY = 1e-3  # whole networks in the released code or another framework
# And float64 numbers.
DOUBLE = 1e-12  # closed forms, a few operations
DOUBLE_SUMS = 1e-9  # long sums, roots of matrices


def close(got, want, atol, rtol=0.0, what=""):
    """Assert |got - want| <= atol + rtol |want| everywhere; says where it is worst."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    assert np.isfinite(got).all(), f"{what}: not finite"
    ratio = np.abs(got - want) / np.maximum(atol + rtol * np.abs(want), np.finfo(float).tiny)
    assert ratio.max() <= 1, f"{what}: {ratio.max():.3g} times its tolerance"


def same(one, other, what=""):
    """Assert that arrays, or those in dictionaries and lists, are equal to the last bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), what
        for key, value in one.items():
            same(value, other[key], f"{what} {key}")
    elif isinstance(one, list):
        assert len(one) == len(other), what
        for i, value in enumerate(one):
            same(value, other[i], f"{what} {i}")
    else:
        np.testing.assert_array_equal(one, other, what)


def refuses(pattern, call, *arguments, **options):
    """Assert that a call ends in a UserError, which is of one line, with this pattern; returns the line."""
    with pytest.raises(UserError, match=pattern) as caught:
        call(*arguments, **options)
    return str(caught.value)


@contextlib.contextmanager
def files_up_to(size):
    """No file may grow beyond so many bytes, as if the disk were full."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


# ---- programs ----


def python(*words, cwd=None, status=0, **variables):
    """Run Python in a process of its own, with these environment variables too.

    It must end with this status and without a traceback. Returns the process, whose .stdout and .stderr are text.
    """
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True,
        encoding="utf-8", timeout=300,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def refused(*words, **how):
    """The one line of stderr, without 'error: ', with which Python refuses these words."""
    said = python(*words, status=2, **how).stderr
    assert said.startswith("error: ") and said.count("\n") == 1, said
    return said.removeprefix("error: ").rstrip("\n")


def started(*words):
    """Start Python as the leader of a group of processes that can import this project; its stdout is a pipe of text."""
    return subprocess.Popen(
        [sys.executable, *map(str, words)], stdout=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@contextlib.contextmanager
def held(code):
    """A process that has run this code of the project and waits; killed at the end."""
    code += "\nprint('ready', flush=True); input()"
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def gone(*pids, seconds=8):
    """Whether all these processes end in time."""
    paths = [Path(f"/proc/{pid}") for pid in pids]
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(path.exists() for path in paths):
        time.sleep(0.1)
    return not any(path.exists() for path in paths)


def rewrite_zip(path, change):
    """Change each member's content in a zip archive, such as an .npz file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(content))


def save(path, array, **options):
    """Write an array as a picture, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


class Call:
    """Unpickled naively, this calls a function."""

    def __init__(self, function, *arguments):
        self.how = function, arguments

    def __reduce__(self):
        return self.how
