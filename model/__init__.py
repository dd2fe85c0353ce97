"""SPADE / GauGAN in PaddlePaddle: the public names.

Names load on first use, so that `model.options` (and `--help`) never waits for Paddle.
"""

import importlib
import os
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


def mkl_code(cpuinfo: str) -> str | None:
    """The code of MKL 2019, which Paddle's CPU builds bring, that is faster on a processor than what it would choose.

    It asks for the maker: on AMD's (and Hygon's) it takes its code for any processor, at 0.4 of the speed.

    Args:
        cpuinfo: text of Linux's /proc/cpuinfo.

    Returns:
        Its number in MKL_DEBUG_CPU_TYPE: 7 for AVX-512, where products of 512 bits take one step (Zen 5 and later:
        1.8 times the speed of AVX2's), 5 for AVX2, None where MKL chooses well or has nothing better.
    """
    lines = cpuinfo.partition("\n\n")[0].replace("\t", "").splitlines()
    fields = dict(line.split(": ", 1) for line in lines if ": " in line)
    flags = set(fields.get("flags", "").split())
    if fields.get("vendor_id") not in ("AuthenticAMD", "HygonGenuine") or not {"avx2", "fma"} <= flags:
        return None
    is_wide = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"} <= flags
    return "7" if is_wide and int(fields.get("cpu family", 0)) >= ZEN_5 else "5"


ZEN_5 = 26  # its "cpu family"
_CPUINFO = Path("/proc/cpuinfo")
MKL_CODE = mkl_code(_CPUINFO.read_text()) if _CPUINFO.exists() else None
if MKL_CODE:
    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", MKL_CODE)  # read at the first product
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
