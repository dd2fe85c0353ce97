"""Where networks compute, with how many threads, and arrays on their way there."""

import ctypes
import os
import sys
from pathlib import Path

import paddle
from threadpoolctl import ThreadpoolController

import model
from model.errors import UserError


def _give_threads() -> None:
    """Let Paddle's products use `model.THREADS`, where its import has set one.

    Its OpenMP library reads the variable when it starts, which asking for the libraries makes it do; where Paddle has
    computed before, it takes the number as this thread's. The variable is left to child processes as the user set it.
    """
    os.environ["OMP_NUM_THREADS"] = str(model.THREADS)
    ThreadpoolController().limit(limits=model.THREADS, user_api="openmp")
    if model.OMP_NUM_THREADS is None:
        del os.environ["OMP_NUM_THREADS"]


def _check_products() -> None:
    """Say so where Paddle's products have chosen their slow path before `model` could name the fast one."""
    try:
        library = ctypes.CDLL(str(Path(paddle.__file__).parent / "libs" / "libmklml_intel.so"))
        is_slow = library.mkl_serv_cpu_detect() == 0  # its name for "any processor"
    except (OSError, AttributeError):  # another build of Paddle
        return
    if is_slow:
        print(
            "note: Paddle computed before this project was imported, so its matrix products stay at 0.4 of the speed "
            "that this AMD processor has: restart, and import model first or set "
            f"MKL_DEBUG_CPU_TYPE={model.MKL_CODE}",
            file=sys.stderr,
        )


_give_threads()
if model.MKL_CODE and model.PADDLE_CAME_FIRST:
    _check_products()


def set_device(name: str) -> str:
    """Compute on `auto` (a GPU when there is one), `cpu`, `gpu` or `gpu:N`; returns what it is.

    Raises:
        UserError: There is no such device, or this Paddle is built without it.
    """
    if name != "auto":
        try:
            paddle.set_device(name)
        except (ValueError, RuntimeError, OSError) as error:
            reason = str(error).strip().splitlines()[-1]
            if name.startswith("gpu") and not paddle.is_compiled_with_cuda():
                reason = "this PaddlePaddle is built without CUDA; paddlepaddle-gpu has it"
            raise UserError(f"device {name} cannot be used ({reason}): give --device cpu or auto") from None
    return paddle.get_device()


def as_tensor(array):
    """An array as a tensor, a tensor as it is; floating numbers in Paddle's default dtype, as the networks' are."""
    # Paddle's own conversion copies tensors and warns of it.
    tensor = array if isinstance(array, paddle.Tensor) else paddle.to_tensor(array)
    dtype = getattr(paddle, paddle.get_default_dtype())
    return tensor.astype(dtype) if tensor.is_floating_point() and tensor.dtype != dtype else tensor
