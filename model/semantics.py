"""Label and instance maps as networks read them: class codes, instance edges, one-hot channels."""

import copy

import numpy as np
import paddle
import paddle.nn.functional as F


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


class Semantics:
    """N label maps, with instance edges if the options have them.

    Args:
        label: integer array [N,H,W], ids 0 .. label_nc - 1, unknown is label_nc.
        instance: integer array [N,H,W], or None without instances.
        opt: label_nc, contain_dontcare_label and no_instance are read.
    """

    def __init__(self, label, instance, opt):
        self.classes = opt.label_nc + int(opt.contain_dontcare_label)
        self.label = np.asarray(label)
        self.edge = None if opt.no_instance else instance_edges(np.asarray(instance))
        self._one_hot = {}

    def one_hot(self, height=None, width=None):
        """The dense form [N, semantic_nc, height, width], float32; edges are the last channel.

        Built once per size and kept as long as this object.
        """
        size = height or self.label.shape[1], width or self.label.shape[2]
        if size not in self._one_hot:
            rows, cols = (nearest_indices(s, t) for s, t in zip(self.label.shape[1:], size, strict=True))
            at = np.ix_(range(len(self.label)), rows, cols)
            dense = F.one_hot(paddle.to_tensor(self.label[at].astype("int64")), self.classes).transpose([0, 3, 1, 2])
            if self.edge is not None:
                edge = paddle.to_tensor(self.edge[at].astype("float32")).unsqueeze(1)
                dense = paddle.concat([dense, edge], axis=1)
            self._one_hot[size] = dense
        return self._one_hot[size]

    def twice(self):
        """The same maps once more behind themselves, for fakes and photos in one batch."""
        double = copy.copy(self)
        double.label = np.concatenate([self.label, self.label])
        double.edge = None if self.edge is None else np.concatenate([self.edge, self.edge])
        double._one_hot = {size: paddle.concat([dense, dense]) for size, dense in self._one_hot.items()}
        return double
