"""Operators that Paddle computes with float32 factors in every dtype, and with float64's for float64 maps."""

import numpy as np
import paddle
import paddle.nn.functional as F


def leaky_relu(x, slope):
    """Leaky ReLU; Paddle 2.6 keeps the slope in float32."""
    if x.dtype == paddle.float64:
        return paddle.where(x > 0, x, slope * x)
    return F.leaky_relu(x, slope)


def inverse_deviation(var, epsilon):
    """1 / sqrt(var + epsilon), with epsilon in var's own precision: as a plain number Paddle 2.6 makes it float32."""
    return (var + paddle.full([], epsilon, var.dtype)).rsqrt()


def halved(x):
    """3x3 averages at stride 2 of the pixels inside the picture: [N,C,H,W] -> [N,C,ceil(H/2),ceil(W/2)]."""
    if x.dtype == paddle.float64:
        return _products(x, *(_average_weights(size) for size in x.shape[2:]))
    return F.avg_pool2d(x, 3, stride=2, padding=1, exclusive=True)


def resized(x, size):
    """Bilinear resizing without antialias, corners not aligned: [N,C,H,W] -> [N,C,*size]."""
    if x.dtype == paddle.float64:
        return _products(x, *(_bilinear_weights(*sizes) for sizes in zip(x.shape[2:], size, strict=True)))
    return F.interpolate(x, size=size, mode="bilinear")


def _products(x, rows, columns):
    """rows x columns^T of every map of x [N,C,H,W]: rows [h,H], columns [w,W] -> [N,C,h,w]."""
    return paddle.matmul(paddle.matmul(paddle.to_tensor(rows), x), paddle.to_tensor(columns), transpose_y=True)


def _average_weights(size):
    distance = 2 * np.arange((size + 1) // 2)[:, None] - np.arange(size)
    inside = (np.abs(distance) <= 1).astype(np.float64)
    return inside / inside.sum(1, keepdims=True)


def _bilinear_weights(size, target):
    at = np.clip((np.arange(target) + 0.5) * size / target - 0.5, 0, size - 1)  # in the source's pixels
    return np.maximum(1 - np.abs(at[:, None] - np.arange(size)), 0)
