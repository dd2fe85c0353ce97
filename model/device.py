"""Where networks compute, and arrays on their way there."""

import paddle

from model.errors import UserError


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
    """A tensor as it is, an array as a tensor (Paddle's own conversion copies tensors and warns of it)."""
    return array if isinstance(array, paddle.Tensor) else paddle.to_tensor(array)
