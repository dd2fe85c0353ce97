"""Ways from one style vector to another; NumPy alone."""

import numpy as np


def arc(start: np.ndarray, end: np.ndarray, steps: int) -> list[np.ndarray]:
    """Styles [N, z_dim] from one draw of noise to another, both included, on the way as long as noise is."""
    return [on_arc(start, end, t) for t in np.linspace(0, 1, steps)]


def on_line(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    """The style float32 [..., z_dim] at `share` (0..1) of the straight line between two."""
    return (start + (end - start) * np.float32(share)).astype(np.float32)


def on_arc(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    """The style float32 [..., z_dim] at `share` (0..1) of the way between two, on the way as long as the ends are.

    In the middle of a straight line noise would be too short, and the pictures dull. Where there is no arc, or none in
    particular (the same direction, the opposite one, no length), it is the straight line.
    """
    length = [np.linalg.norm(z, axis=-1, keepdims=True) for z in (start, end)]
    cosine = np.sum(start * end, axis=-1, keepdims=True) / np.maximum(length[0] * length[1], 1e-12)
    angle = np.arccos(np.clip(cosine, -1, 1))
    sine = np.sin(angle)
    if (sine < 1e-4).any() or not (length[0] * length[1]).all():
        return on_line(start, end, share)
    return ((np.sin((1 - share) * angle) * start + np.sin(share * angle) * end) / sine).astype(np.float32)
