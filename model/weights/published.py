"""The networks of others that training and the metrics need: where they are published, and finding their files."""

import os
from pathlib import Path
from typing import NamedTuple

import paddle

from model.errors import UserError
from model.weights.files import build, read_network


class _Published(NamedTuple):
    name: str
    site: str
    folder: str
    patterns: tuple[str, ...]
    size: int = 0  # bytes; 0 and "" where they are not known
    sha256: str = ""
    hint: str = ""


PUBLISHED = {
    "vgg19": _Published(
        "vgg19-dcbb9e9d.pth",
        "https://download.pytorch.org/models/",
        "vgg",
        ("vgg19pretrain.pdparams", "vgg19*.pdparams", "vgg19*.pth", "vgg19*.safetensors"),
        574_673_361,
        "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        ", or train without the perceptual loss: --no_vgg_loss",
    ),
    "inception": _Published(
        "pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/",
        "inception",
        ("*inception*.pdparams", "pt_inception*.pth", "*inception*.safetensors"),
        95_628_359,
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
    "deeplab": _Published(
        "deeplabv2_resnet101_msc-cocostuff164k-100000.pth",
        "https://github.com/kazuto1011/deeplab-pytorch/releases/download/v1.0/",
        "deeplab",
        ("deeplab*.pdparams", "deeplab*cocostuff164k*.pth", "deeplab*.safetensors"),
    ),
}


def find_weights(kind: str, path: str | os.PathLike | None = None) -> Path:
    """The file with the weights of an auxiliary network.

    Args:
        kind: vgg19, inception or deeplab.
        path: a file, or a folder to look in; by default the folder `vgg`, `inception` or `deeplab`. Where a named file
            is missing, its folder is searched for the network under its other usual names.

    Raises:
        UserError: nothing found; says the official name, where it is published and where to put it.
    """
    published = PUBLISHED[kind]
    path = Path(path or published.folder)
    if path.is_file():
        return path
    folder = path if path.is_dir() or not path.suffix else path.parent
    there = (file for pattern in published.patterns for file in sorted(folder.glob(pattern)) if file.is_file())
    if file := next(there, None):
        return file
    known = f" ({published.size:,} bytes, sha256 {published.sha256})" if published.sha256 else ""
    raise UserError(
        f"{path}: no {kind} weights there; download {published.name}{known} from {published.site}{published.name} "
        f"and put it in the folder {folder}{os.sep}{published.hint}"
    )


def find_network(kind: str, path: str | os.PathLike | None = None) -> paddle.nn.Layer:
    """An auxiliary network with its weights, from the file that `find_weights` finds.

    Raises:
        UserError: there is none, it cannot be read, or holds another network.
    """
    file = find_weights(kind, path)
    found, _ = read_network(file)
    if found.kind != kind:
        raise UserError(f"{file} holds the weights of a {found.kind}, expected {kind}")
    return build(found)
