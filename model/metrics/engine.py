"""Paddle's inference engine: for our evaluation networks on CPUs, where its oneDNN kernels are several times faster,
and for other people's programs, which it takes without unpickling anything.
"""

import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from paddle.static import InputSpec

from model.errors import UserError
from model.serving.runtime import OPERATIONS, check_program, paddle_engine, save_program

# What a foreign network may consist of, by the names in .pdmodel and in .json files: tensors go in and come out. All
# else is refused, for Paddle has over a thousand operations, some of which read and write files, open connections or
# call back (save, load_combine, send, py_func). Left out on purpose are also those that write where an index points
# (scatter, put_along_axis), and control flow.
NETWORK_OPERATIONS = OPERATIONS | frozenset(
    # layers
    "affine_grid batch_norm batch_norm_ bicubic_interp bicubic_interp_v2 bilinear_interp bilinear_interp_v2 bmm "
    "channel_shuffle conv2d_transpose depthwise_conv2d depthwise_conv2d_transpose dropout einsum embedding fold "
    "grid_sample grid_sampler group_norm layer_norm log_softmax lookup_table_v2 max_pool2d_with_index mul "
    "nearest_interp nearest_interp_v2 pad pad2d pad3d pixel_shuffle pixel_unshuffle pool2d pool3d softmax "
    "sync_batch_norm sync_batch_norm_ unfold "
    # activations
    "brelu celu elu gelu hard_shrink hard_sigmoid hard_swish hardshrink hardsigmoid hardswish hardtanh leaky_relu "
    "logsigmoid mish prelu relu6 selu sigmoid silu softplus softshrink softsign swish tanh_shrink "
    # numbers one by one
    "abs add_n atan atan2 bitwise_and bitwise_or bitwise_xor ceil clip cos divide elementwise_div elementwise_fmax "
    "elementwise_fmin elementwise_min elementwise_pow elementwise_sub equal erf exp expm1 floor fmax fmin "
    "greater_equal greater_than increment increment_ isfinite isfinite_v2 isinf isinf_v2 isnan isnan_v2 lerp "
    "less_equal less_than log log1p log2 logical_and logical_not logical_or logical_xor logit minimum pow reciprocal "
    "round rsqrt sign sin sinh sqrt square subtract tan trunc where "
    # reductions and orders
    "all any arg_max arg_min argmax argmin argsort cumsum frobenius_norm logsumexp max mean min norm p_norm prod "
    "reduce_all reduce_any reduce_max reduce_mean reduce_min reduce_prod top_k_v2 topk "
    # shapes and constants
    "arange assign expand expand_as expand_as_v2 expand_v2 eye fill_any_like fill_constant_batch_size_like flatten2 "
    "flip full_like full_with_tensor kron linspace meshgrid numel range roll shape shape64 share_data share_data_ "
    "size slice split split_with_num squeeze squeeze2 stack strided_slice tril tril_triu triu unbind unstack".split()
)


def accelerate(net: nn.Layer, method: str, shape: Sequence[int]) -> None:
    """Let the engine compute a method of a network from now on, with the weights that it has now.

    The engine's answer to an example is compared with the network's own: where Paddle cannot build the engine, cannot
    run it or computes something else, the network stays as it is, and so it does on a GPU.

    Args:
        net: any network, in evaluation mode.
        method: which of its methods, from a float32 tensor [N, C, H, W] of any size to one output.
        shape: of the example, small.
    """
    if method in vars(net) or not paddle.get_device().startswith("cpu"):
        return
    example = np.zeros(shape, np.float32)
    try:
        with tempfile.TemporaryDirectory() as folder, paddle.no_grad():
            part = paddle.jit.to_static(getattr(net, method), full_graph=True)
            program = save_program(part, Path(folder, "part"), [InputSpec([None, 3, None, None], "float32")])
            run = _engine(program, onednn=True)
            got = run(example)
            want = getattr(net, method)(paddle.to_tensor(example)).numpy()
    except Exception as error:  # the engine's failures are of many kinds, and none matters: the network itself remains
        logging.getLogger(__name__).info("the inference engine does not serve here: %s", error)
        return
    if got.shape == want.shape and np.allclose(got, want, rtol=0, atol=1e-4 * float(np.abs(want).max())):
        setattr(net, method, lambda x: paddle.to_tensor(run(x.numpy())))


def load_program(program: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Another's exported network with one image input, as a function of arrays to its first output.

    `paddle.jit.load` would unpickle the .pdiparams.info beside it, which can run anything; the engine reads the program
    and its numbers alone. It computes with Paddle's own kernels, as the network's authors did: nothing is there to
    compare oneDNN's answers with.

    Args:
        program: .json or .pdmodel; its numbers lie beside it, .pdiparams.

    Raises:
        UserError: it is no program, holds operations that are not in NETWORK_OPERATIONS, or has several inputs.
    """
    check_program(
        program,
        NETWORK_OPERATIONS,
        "are not known to be harmless",
        ". Give an ONNX model, or a Python file of yours, FILE.py:NAME",
    )
    try:
        return _engine(program, onednn=False)
    except UserError:
        raise
    except Exception as error:  # a foreign program fails in many ways, in C++ too
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise UserError(f"{program} cannot be read as a Paddle inference model: {reason}") from error


def _engine(program: Path, onednn: bool) -> Callable[[np.ndarray], np.ndarray]:
    inputs, run = paddle_engine(program, program.with_suffix(".pdiparams"), paddle.get_device(), onednn)
    if len(inputs) != 1:
        raise UserError(f"{program} takes {', '.join(inputs) or 'nothing'}; expected one input [n, 3, h, w]")
    (name,) = inputs
    return lambda x: run({name: np.asarray(x, np.float32)})
