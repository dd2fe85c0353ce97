"""What SPADE's networks read of label and instance maps: class codes, edges, numbered neighbourhoods; NumPy alone.

SPADE's gamma and beta at a pixel depend on nothing but the labels and edges in a small neighbourhood of it (5x5 for 3x3
kernels), and a label map has few distinct ones. So the neighbourhoods are numbered here, once per batch and resolution:

    inner   the distinct s x s windows of codes: what the shared convolution sees,
    outer   the distinct s x s windows of inner numbers: what the gamma and beta convolutions see,
    index   each pixel's outer number.

This file is also copied into the folder of an exported model, where it needs errors.py beside it.
"""

import numpy as np

from model.errors import UserError


def instance_edges(instance):
    """Where a pixel's instance id differs from one of its four neighbours' (SPADE, appendix A; pix2pixHD, section 3.3).

    Args:
        instance: integer array [N,H,W].

    Returns:
        bool array [N,H,W].
    """
    edge = np.zeros(instance.shape, bool)
    for axis in (1, 2):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        differ = instance[low] != instance[high]
        edge[low] |= differ
        edge[high] |= differ
    return edge


def nearest_indices(size, target):
    """Source rows of a nearest-neighbour resize from `size` to `target`, torch's rule floor(i * size / target)."""
    scale = np.float32(size) / np.float32(target)
    return np.minimum((np.arange(target, dtype=np.float32) * scale).astype(np.int64), size - 1)


def resized(maps, height, width):
    """Nearest-neighbour resize of [N,H,W]."""
    if maps.shape[1:] == (height, width):
        return maps
    rows, cols = nearest_indices(maps.shape[1], height), nearest_indices(maps.shape[2], width)
    return maps[:, rows[:, None], cols]


def _number(keys):
    """Number equal keys: first positions of the distinct ones, and each key's number; runs of equal keys cost one."""
    flat = keys.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    _, first, inverse = np.unique(flat[starts], return_index=True, return_inverse=True)
    lengths = np.diff(np.append(starts, flat.size))
    return starts[first], np.repeat(inverse.astype(np.int32).ravel(), lengths).reshape(keys.shape)


def _merge(parts, count):
    """Number the tuples that equal-shaped id arrays (ids below `count`) make; first positions and numbers."""
    bits = max(1, int(count - 1).bit_length())
    fit = 62 // bits
    while len(parts) > 1:
        key = parts[0].astype(np.int64)
        for part in parts[1:fit]:
            key = (key << bits) | part
        first, numbers = _number(key)
        parts = [numbers, *parts[fit:]]
        if len(parts) > 1:  # longer than one word: number what was packed, go on with that
            bits = max(bits, max(1, int(len(first) - 1).bit_length()))
            fit = max(2, 62 // bits)
    return first, numbers, len(first)


def distinct_windows(ids, size):
    """Number the distinct size x size windows of id maps, whose outside is one more id.

    Args:
        ids: integer array [N,H,W], 0 .. K-1.
        size: odd.

    Returns:
        windows int32 [P, size*size] with K for outside, and numbers int32 [N,H,W].
    """
    outside, margin = int(ids.max()) + 1, size // 2
    n, height, width = ids.shape
    padded = np.pad(ids, ((0, 0), (margin, margin), (margin, margin)), constant_values=outside)
    _, rows, count = _merge([padded[:, :, i : i + width] for i in range(size)], outside + 1)
    first, index, _ = _merge([rows[:, i : i + height] for i in range(size)], count)
    image, rest = np.divmod(first, height * width)
    y, x = np.divmod(rest, width)
    windows = [padded[image, y + i, x + j] for i in range(size) for j in range(size)]
    return np.stack(windows, axis=1).astype(np.int32), index.astype(np.int32)


def class_codes(label, instance=None):
    """Code maps [N,H,W] int32: the label, or with instances 2 * label + edge."""
    codes = np.asarray(label).astype(np.int32)
    return codes if instance is None else 2 * codes + instance_edges(np.asarray(instance))


def numbered(codes, size):
    """Number the neighbourhoods of code maps [N,H,W] for kernels of size 3 or 5.

    Returns:
        present: the K codes that occur, ascending. inner int32 [Q, size*size]: their numbers, K is outside.
        outer int32 [P, size*size]: inner numbers, Q is outside. index int32 [N,H,W]: outer numbers.
    """
    present, numbers = np.unique(codes, return_inverse=True)
    inner, inner_index = distinct_windows(numbers.reshape(codes.shape).astype(np.int32), size)
    outer, index = distinct_windows(inner_index, size)
    return present, inner, outer, index


def graph_inputs(label, instance, sizes, kernel_size, classes):
    """The integer tables that an exported model takes for a batch of maps.

    Args:
        label: integer [N,H,W], 0 .. classes - 1. instance: integer [N,H,W], or None for a model without instances.
        sizes: the (height, width) of the model's SPADE layers. kernel_size: theirs, 3 or 5.
        classes: number of ids, the unknown one included.

    Returns:
        {"inner_HxW": int32 [Q, kernel_size**2] codes, "outer_HxW": int32 [P, kernel_size**2] rows of inner, Q is
        outside, "index_HxW": int32 [N,H,W] rows of outer} for each size. The code of outside is 2 * classes with
        instances, classes without.
    """
    codes = class_codes(label, instance)
    outside = classes if instance is None else 2 * classes
    tables = {}
    for height, width in sizes:
        present, inner, outer, index = numbered(resized(codes, height, width), kernel_size)
        tables[f"inner_{height}x{width}"] = np.append(present, outside).astype(np.int32)[inner]
        tables[f"outer_{height}x{width}"] = outer
        tables[f"index_{height}x{width}"] = index
    return tables


def style_noise(seed, number, z_dim):
    """The style float32 [z_dim] that a seed draws for a picture's number: standard normal."""
    draw = np.random.Generator(np.random.Philox(key=[seed, 2], counter=[0, 0, 0, int(number)]))
    return draw.standard_normal(z_dim, dtype=np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# Maps in arrays


def array_ids(array, what):
    """Integer or bool [H,W] as ids int32.

    Raises:
        UserError: it holds other numbers, none, or some beyond 32 bits.
    """
    if array.ndim != 2 or array.dtype.kind not in "iub":
        raise UserError(
            f"{what} is an array {array.dtype} {list(array.shape)}: expected integer ids [H,W] or uint8 colours [H,W,3]"
        )
    if not array.size or int(array.min()) < -(2**31) or int(array.max()) >= 2**31:
        raise UserError(f"{what} of shape {list(array.shape)} holds no ids or ids beyond 32 bits")
    return array.astype(np.int32)


def array_colours(array, what):
    """Colours uint8 [H,W,3] of an array uint8 [H,W,3 or 4].

    Raises:
        UserError: it is another one.
    """
    if array.ndim != 3 or array.shape[2] not in (3, 4) or array.dtype != np.uint8 or not array.size:
        raise UserError(
            f"{what} is an array {array.dtype} {list(array.shape)}: expected integer ids [H,W] or uint8 colours [H,W,3]"
        )
    return array[..., :3]


def colour_codes(rgb: np.ndarray) -> np.ndarray:
    """Colours uint8 [..., 3] as one number each, 0xRRGGBB, int32."""
    return rgb[..., 0].astype(np.int32) << 16 | rgb[..., 1].astype(np.int32) << 8 | rgb[..., 2]


def places_of(rgb: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The places [...] of colours uint8 [..., 3] among rising `colour_codes`; -1 for one that is not there."""
    wanted = colour_codes(rgb)
    place = np.searchsorted(codes, wanted).clip(max=len(codes) - 1)
    return np.where(codes[place] == wanted, place, -1)


def ids_of_colours(rgb, colours):
    """The ids int32 [H,W] of colours uint8 [H,W,3]: their first place in uint8 [n,3], -1 where they are not there."""
    codes, first = np.unique(colour_codes(colours), return_index=True)
    place = places_of(rgb, codes)
    return np.where(place < 0, -1, first[place]).astype(np.int32)


def array_classes(array, colours, what):
    """A label map in an array, integer ids [H,W] or colours uint8 [H,W,3 or 4], as `reading.class_map` gives it.

    Colours whose channels are equal hold ids, unless all are a model's colours.

    Returns:
        (ids int32 [H,W], None), or where some colours are not among `colours`, (ids with -1 there, those uint8 [m,3]).

    Raises:
        UserError: neither ids nor colours.
    """
    if array.ndim == 2:
        return array_ids(array, what), None
    rgb = array_colours(array, what)
    ids = ids_of_colours(rgb, colours)
    if (ids >= 0).all():
        return ids, None
    return (rgb[..., 0].astype(np.int32), None) if (rgb == rgb[..., :1]).all() else (ids, rgb[ids < 0])
