"""Compiling the CPU's loops ahead: a second process fills Numba's cache while the command still imports Paddle.

Loops are compiled for the processor that they run on, once, and kept on the disk; so the first start on a machine has
seconds of compiling to do, which need nothing but the loops' own two modules. `start` begins it in a process of its
own, `finish` does what is left. The process goes through the loops from the first, `finish` from the last, and each
takes from the cache what the other has put there. So neither waits for the other, and a process that was killed or
could not start costs time alone; Numba writes each file whole, by renaming it.
"""

import atexit
import gc
import os
import subprocess
import sys
from pathlib import Path

from model import CORES

_CODE = "import sys; sys.path[0] = sys.argv[1]; from model.ops import ahead; ahead.fill_cache(*sys.argv[2:])"
STARTED = []  # the process and what it compiles


def start(device: str, training: bool = False) -> None:
    """Begin to compile the loops of networks, with `training` those of its steps too, in another process.

    Nothing happens for GPUs, where there is no core for it, and where the cache seems to have them: a process that
    finds all of them there takes half a second of a core. The process ends with this one.
    """
    if CORES < 2 or device.startswith("gpu") or STARTED or _seem_compiled(training):
        return
    root, what = Path(__file__).resolve().parents[2], "training" if training else "painting"
    try:  # in a session of its own: Ctrl-C is for this process to answer
        process = subprocess.Popen(
            [sys.executable, "-c", _CODE, str(root), what],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    except OSError:
        return
    STARTED.extend([process, what])
    atexit.register(process.kill)


def _seem_compiled(training):
    """Whether loops of the kind were compiled before, perhaps not all and of other sources: a guess without Numba."""
    cache = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parent / "__pycache__")
    return any(cache.rglob("loops.*_grad-*.nbi" if training else "loops.*.nbi"))


def finish() -> None:
    """Have the loops ready that `start` began to compile; without it they are compiled when they are first called."""
    if not STARTED:
        return
    import paddle

    if paddle.get_device() == "cpu":
        from model.ops import jit

        kernels = _loops(STARTED[1])
        jit.Compilations.told = jit.is_cached  # by that process
        _compile(reversed(kernels))


def fill_cache(what: str) -> None:
    """What the process does."""
    from model.ops import jit

    gc.disable()  # it ends before there is much to collect
    kernels = _loops(what)
    if jit.is_cached:
        _compile(kernels)


def _compile(kernels):
    from model.ops import jit

    for kernel in kernels:
        kernel.compile(jit.SIGNATURES[kernel])


def _loops(what):
    """Kernels, those that take longest first."""
    from model.ops import jit, loops, winograd

    painting = [
        loops.columns, winograd.input_tiles, winograd.output_tiles, winograd.weight_tiles, loops.window_sums,
        loops.moments, loops.window_hidden, loops.window_filters,
    ]  # fmt: skip
    return [*painting, *(kernel for kernel in jit.SIGNATURES if what == "training" and kernel not in painting)]
