"""SPADE / GauGAN in PaddlePaddle: the public names.

Names load on first use, so that `model.options` (and `--help`) never waits for Paddle.
"""

import functools
import importlib
import os
import sys
import warnings
import zlib  # noqa: F401  before Paddle: 2.6.2 brings its own copy, which breaks Python's if that loads later

# Paddle sets OMP_NUM_THREADS to 1 when it is imported, unless the user chose a value: half the speed on two cores.
# Where Paddle came first its 1 cannot be told from a user's, and is taken for Paddle's.
# paddle.distributed.launch hands its own 1 on to the processes it starts, which share the cores of a machine.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
CORES = max(1, CORES // int(os.environ.get("PADDLE_LOCAL_SIZE", "1")))
PADDLE_CAME_FIRST = "paddle" in sys.modules
if "PADDLE_TRAINER_ID" in os.environ and os.environ.get("OMP_NUM_THREADS") == "1":
    os.environ["OMP_NUM_THREADS"] = str(CORES)
os.environ.setdefault("OMP_NUM_THREADS", str(CORES))
# Paddle's idle threads spin for 200 ms after a product, on cores that our own threads need: a third of a step's time.
os.environ.setdefault("KMP_BLOCKTIME", "1")  # ms
warnings.filterwarnings("ignore", "No ccache found")  # Paddle says so at every start, of extensions that we don't build


@functools.cache
def threads() -> int:
    """Threads that share our own work and an engine's: OMP_NUM_THREADS, else the cores this process may use."""
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    if PADDLE_CAME_FIRST and chosen == "1" and "PADDLE_TRAINER_ID" not in os.environ:
        return CORES
    return int(chosen) if chosen.isdecimal() and int(chosen) else CORES


_HOME = {
    "OPT": "options",
    "Semantics": "semantics",
    "Synthesizer": "synthesizer",
    "Trainer": "trainer",
    "define_D": "discriminator",
    "define_E": "encoder",
    "define_G": "generator",
}
__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
