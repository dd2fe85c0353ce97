"""Paddle's inference engine for the evaluation networks on CPUs, where its oneDNN kernels are several times faster."""

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
from paddle import inference, nn
from paddle.static import InputSpec


class _Part(nn.Layer):
    """One method of a network, as a layer that can be exported."""

    def __init__(self, net: nn.Layer, method: str):
        super().__init__()
        self.net = net
        self.method = method
        self.eval()

    def forward(self, x):
        return getattr(self.net, self.method)(x)


def compiled(net: nn.Layer, method: str, example: np.ndarray) -> Callable[[np.ndarray], np.ndarray] | None:
    """A method of a network, float32 [N, C, H, W] of any size to one output, as a function of arrays.

    The engine's answer to `example` is compared with the network's own: where Paddle cannot build the engine, cannot
    run it or computes something else, there is none.

    Args:
        net: any network, in evaluation mode.
        method: which of its methods.
        example: an input, small.

    Returns:
        The function, or None where the plain network has to do: on a GPU, or when the engine fails.
    """
    if not paddle.get_device().startswith("cpu"):
        return None
    try:
        with tempfile.TemporaryDirectory() as folder, _quiet():
            run = _build(_Part(net, method), folder)
            got = run(example)
            with paddle.no_grad():
                want = getattr(net, method)(paddle.to_tensor(example)).numpy()
    except Exception as error:  # the engine's failures are of many kinds, and none matters: the network itself remains
        logging.getLogger(__name__).info("the inference engine does not serve here: %s", error)
        return None
    scale = float(np.abs(want).max())
    return run if got.shape == want.shape and np.allclose(got, want, rtol=0, atol=1e-4 * scale) else None


def _build(part: nn.Layer, folder: str) -> Callable[[np.ndarray], np.ndarray]:
    prefix = Path(folder, "part")
    paddle.jit.save(part, str(prefix), input_spec=[InputSpec([None, 3, None, None], "float32")])
    program = next(path for path in prefix.parent.glob("part.*") if path.suffix in (".json", ".pdmodel"))
    config = inference.Config(str(program), str(prefix) + ".pdiparams")
    config.disable_gpu()
    config.enable_mkldnn()
    config.set_cpu_math_library_num_threads(len(os.sched_getaffinity(0)))
    config.disable_glog_info()
    predictor = inference.create_predictor(config)
    source = predictor.get_input_handle(predictor.get_input_names()[0])
    sink = predictor.get_output_handle(predictor.get_output_names()[0])

    def run(x: np.ndarray) -> np.ndarray:
        source.reshape(list(x.shape))
        source.copy_from_cpu(np.ascontiguousarray(x, np.float32))
        predictor.run()
        return sink.copy_to_cpu()

    return run


@contextlib.contextmanager
def _quiet():
    """Exporting prints what only the writer of an export wants to know."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
