"""SPADE / GauGAN in PaddlePaddle: the public names.

Names load on first use, so that `model.options` (and `--help`) never waits for Paddle.
"""

import importlib
import os
import re
import sys
import warnings
import zlib  # noqa: F401  before Paddle: 2.6.2 brings its own copy, which breaks Python's if that loads later
from pathlib import Path

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
CORES = max(1, CORES // int(os.environ.get("PADDLE_LOCAL_SIZE", "1")))
PADDLE_CAME_FIRST = "paddle" in sys.modules

# Paddle sets OMP_NUM_THREADS to 1 when it is imported, half the speed on two cores, and complains of a larger number
# that it finds. So nothing is set here, and `model.ops.device` puts it right. A 1 that Paddle may have written, here or
# in paddle.distributed.launch, which hands it on to the processes it starts, is taken for Paddle's.
if os.environ.get("OMP_NUM_THREADS") == "1" and (PADDLE_CAME_FIRST or "PADDLE_TRAINER_ID" in os.environ):
    del os.environ["OMP_NUM_THREADS"]
OMP_NUM_THREADS = os.environ.get("OMP_NUM_THREADS")  # the user's
# Threads that share our own work, Paddle's products and an engine's.
THREADS = int(OMP_NUM_THREADS) if (OMP_NUM_THREADS or "").isdecimal() and int(OMP_NUM_THREADS) else CORES
# Paddle's idle threads spin for 200 ms after a product, on cores that our own threads need: a third of a step's time.
os.environ.setdefault("KMP_BLOCKTIME", "1")  # ms


def takes_slow_path(cpuinfo: str) -> bool:
    """Whether MKL 2019, which Paddle's CPU builds bring, has faster products for a processor than it would choose.

    It asks for the maker: on AMD's (and Hygon's) it takes its code for any processor, at 0.4 of the speed.

    Args:
        cpuinfo: text of Linux's /proc/cpuinfo.
    """
    first = cpuinfo.partition("\n\n")[0]
    return bool(re.search("AuthenticAMD|HygonGenuine", first)) and {"avx2", "fma"} <= set(first.split())


_CPUINFO = Path("/proc/cpuinfo")
TAKES_SLOW_PATH = _CPUINFO.exists() and takes_slow_path(_CPUINFO.read_text())
if TAKES_SLOW_PATH:
    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")  # its code for AVX2; read at the first product
warnings.filterwarnings("ignore", "No ccache found")  # Paddle says so at every start, of extensions that we don't build


_HOME = {
    "OPT": "options",
    "Semantics": "semantics",
    "Synthesizer": "serving.synthesizer",
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
