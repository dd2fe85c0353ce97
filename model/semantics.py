"""Label and instance maps as networks read them: class codes, one-hot channels, numbered neighbourhoods.

The numbering itself is `model.neighbourhoods`, NumPy alone, and runs in the data loader's workers.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import paddle
import paddle.nn.functional as F

from model.configuration.texts import parse_norm_g
from model.neighbourhoods import class_codes, numbered, resized
from model.ops.device import as_tensor


@dataclass(frozen=True)
class Patterns:
    """Numbered neighbourhoods of a batch at one resolution.

    Args:
        labels: int64 [K], the label of each code that occurs.
        edges: float32 [K], 1 where the code's pixel is on an instance edge; None without instances.
        inner: int32 [Q, s*s] codes, K is outside.
        outer: int32 [P, s*s] inner numbers, Q is outside.
        index: int32 [N,H,W], 0 .. P-1.
    """

    labels: np.ndarray
    edges: np.ndarray | None
    inner: np.ndarray
    outer: np.ndarray
    index: np.ndarray

    @classmethod
    def find(cls, codes, with_edges, size):
        """Number the neighbourhoods of code maps [N,H,W] for kernels of size 3 or 5."""
        present, inner, outer, index = numbered(codes, size)
        labels = present // 2 if with_edges else present
        edges = (present % 2).astype(np.float32) if with_edges else None
        return cls(labels.astype(np.int64), edges, inner, outer, index)

    @cached_property
    def flat_index(self):
        """index as one row, int32 [N*H*W]."""
        return np.ascontiguousarray(self.index.ravel())

    @cached_property
    def order(self):
        """The pixels' places in the order of their rows, int64 [N*H*W], and each one's row, int32, as tensors."""
        places = np.argsort(self.flat_index, kind="stable")
        return as_tensor(places), as_tensor(self.flat_index[places])

    @cached_property
    def device(self):
        """labels, edges, inner, outer and index as tensors on the default device, for the form that runs there."""
        return tuple(None if a is None else as_tensor(np.ascontiguousarray(a)) for a in
                     (self.labels, self.edges, self.inner, self.outer, self.index))  # fmt: skip


_FIELDS = ("labels", "edges", "inner", "outer", "index")


def encode(label, instance, opt):
    """Code maps [N,H,W]: the label, or with instances 2 * label + edge."""
    return class_codes(label, None if opt.no_instance else np.asarray(instance))


def pattern_arrays(label, instance, opt):
    """Neighbourhoods at every resolution of the generator, as plain arrays for a batch dict; NumPy only.

    Args:
        label: integer array [N,H,W], unknown is label_nc. instance: integer array [N,H,W] or None.
        opt: norm_G gives the kernel size; the sizes come from start_size.

    Returns:
        {"patterns/HxW/FIELD": array} for the fields of `Patterns`.
    """
    codes, size = encode(label, instance, opt), parse_norm_g(opt.norm_G)[2]
    arrays = {}
    for height, width in opt.spade_sizes:
        patterns = Patterns.find(resized(codes, height, width), not opt.no_instance, size)
        for field in _FIELDS:
            value = getattr(patterns, field)
            if value is not None:
                arrays[f"patterns/{height}x{width}/{field}"] = value
    return arrays


class Semantics:
    """N label maps, with instance edges if the options have them.

    Args:
        label: integer array [N,H,W], ids 0 .. label_nc - 1, unknown is label_nc.
        instance: integer array [N,H,W], or None without instances.
        opt: label_nc, contain_dontcare_label, no_instance and modulation are read.
        arrays: what `pattern_arrays` made of these maps; numbered here on first use otherwise.
    """

    def __init__(self, label, instance, opt, arrays=None):
        self.classes = opt.label_nc + int(opt.contain_dontcare_label)
        self.with_edges = not opt.no_instance
        self.dense, self.sorted = opt.modulation == "dense", opt.modulation == "sorted"
        self.codes = encode(label, instance, opt)
        self._one_hot, self._patterns = {}, {}
        for key, value in (arrays or {}).items():
            _, size, field = key.split("/")
            height, width = map(int, size.split("x"))
            self._patterns.setdefault((height, width), {})[field] = value

    @classmethod
    def from_batch(cls, batch, opt):
        """From a batch of the data loader, or a dict of arrays: label, instance, and patterns if they are there."""
        data = {k: np.asarray(v) for k, v in batch.items() if k in ("label", "instance") or k.startswith("patterns/")}
        label, instance = data.pop("label"), data.pop("instance", None)
        return cls(label, instance, opt, data)

    def __len__(self):
        return len(self.codes)

    def one_hot(self, height=None, width=None):
        """The dense form [N, semantic_nc, height, width] of 0 and 1; edges are the last channel.

        Built once per size and kept as long as this object.
        """
        size = height or self.codes.shape[1], width or self.codes.shape[2]
        if size not in self._one_hot:
            codes = resized(self.codes, *size)
            label = codes // 2 if self.with_edges else codes
            dense = F.one_hot(paddle.to_tensor(label.astype("int64")), self.classes).transpose([0, 3, 1, 2])
            dense = dense.astype(paddle.get_default_dtype())
            if self.with_edges:
                edge = paddle.to_tensor(codes % 2).unsqueeze(1).astype(dense.dtype)
                dense = paddle.concat([dense, edge], axis=1)
            self._one_hot[size] = dense
        return self._one_hot[size]

    def patterns(self, height, width, kernel_size):
        """The `Patterns` at a size."""
        found = self._patterns.get((height, width))
        if isinstance(found, dict):
            found = Patterns(**{field: found.get(field) for field in _FIELDS})
            self._patterns[height, width] = found
        if found is None or found.outer.shape[1] != kernel_size**2:
            found = Patterns.find(resized(self.codes, height, width), self.with_edges, kernel_size)
            self._patterns[height, width] = found
        return found

    @cached_property
    def occurring(self):
        """The channels of the dense form in which anything occurs.

        A float32 tensor [N,K,H,W] and their numbers, int64 tensor [K]; the edges' channel is the last one.
        """
        label = self.codes // 2 if self.with_edges else self.codes
        labels = np.flatnonzero(np.bincount(label.ravel()))
        dense = label[:, None] == labels[None, :, None, None]
        if self.with_edges:
            dense = np.concatenate([dense, (self.codes % 2)[:, None] == 1], axis=1)
            labels = np.append(labels, self.classes)
        return paddle.to_tensor(dense.astype(np.float32)), paddle.to_tensor(labels.astype(np.int64))


def _keep(numbers, rows):
    """Number anew the rows that occur in `numbers`: the numbers, and the rows of them alone; the last id stays last."""
    used = np.zeros(len(rows) + 1, bool)  # one more id, for outside
    used[numbers] = True
    kept = used[:-1]
    place = np.cumsum(used, dtype=np.int32) - np.int32(1)
    place[-1] = kept.sum()
    return place[numbers], rows[kept]


class Part(Semantics):
    """The maps [begin, end) of a `Semantics`, with the neighbourhoods that occur in them."""

    def __init__(self, whole, begin, end):
        self.classes, self.with_edges = whole.classes, whole.with_edges
        self.dense, self.sorted = whole.dense, whole.sorted
        self.codes = whole.codes[begin:end]
        self._one_hot, self._patterns = {}, {}
        self._whole, self._range = whole, slice(begin, end)

    def patterns(self, height, width, kernel_size):
        """The `Patterns` at a size."""
        key = height, width, kernel_size
        if key not in self._patterns:
            whole = self._whole.patterns(*key)
            index, outer = _keep(whole.index[self._range], whole.outer)
            outer, inner = _keep(outer, whole.inner)
            self._patterns[key] = Patterns(whole.labels, whole.edges, inner, outer, index)
        return self._patterns[key]
