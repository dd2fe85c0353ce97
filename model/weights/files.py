"""Other systems' weights in and out: official names, strict loading and export, file formats, finding.

A network's state-dict keys are the official (PyTorch) names; only the weights of `paddle.nn.Linear` differ in layout:
Paddle keeps them [in, out], torch [out, in]. Inside this module weights are {official name: array in torch's layout}.
"""

import io
import math
import os
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
import safetensors
import safetensors.numpy

from model.errors import UserError, listed
from model.files import replacing
from model.options import OPT
from model.training import checkpoint
from model.training.checkpoint import read_pdparams, write_state
from model.weights.kinds import VGG_NAMES, VGG_UNUSED, Found, recognise
from model.weights.mindspore_file import read_mindspore, to_mindspore, write_mindspore
from model.weights.torch_file import BROKEN_ZIP, LEGACY_START, from_bfloat16, read_torch, write_torch

SAFETENSORS_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
                     "I8": "<i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "?"}  # fmt: skip


# ---- networks ----


def official_names(net: paddle.nn.Layer) -> dict[str, str]:
    """The official torch name of every entry of `net.state_dict()`, which covers `net.named_parameters()` too."""
    return {key: key for key in net.state_dict()}


def parameter_count(net: paddle.nn.Layer) -> int:
    """Numbers that a network learns."""
    return sum(math.prod(p.shape) for p in net.parameters())


def load_official(
    net: paddle.nn.Layer,
    weights: Mapping[str, np.ndarray],
    source: str = "weights",
    advice: str = "build the network with the options that the weights were trained with",
) -> list[str]:
    """Fill a network from official names and torch layouts, strictly: all entries or none.

    Args:
        net: any network of this project.
        weights: {official name: array in torch's layout}; floating entries may be of any floating type.
        source: what error messages call the weights, a file name for instance.
        advice: how the message of an error ends.

    Returns:
        The names that were not needed: VGG19's later layers, everything else is an error.

    Raises:
        UserError: names are missing or unexpected, or shapes differ; one line that lists them. Only
            `num_batches_tracked`, which old torch files lack, may be absent.
    """
    names, state, transposed = official_names(net), net.state_dict(), _linear_weights(net)
    allowed = VGG_UNUSED if VGG_NAMES == set(names.values()) else frozenset()
    ignored = [name for name in weights if name in allowed]
    known = set(names.values())
    unexpected = [name for name in weights if name not in known and name not in allowed]
    missing = [n for n in known if n not in weights and not n.endswith("num_batches_tracked")]
    values, shapes = {}, []
    for key, name in names.items():
        if name not in weights:
            continue
        value = np.asarray(weights[name])
        if name.endswith("num_batches_tracked") and value.size == 1:
            value = value.reshape(())
        want = tuple(state[key].shape)
        want = want[::-1] if key in transposed else want
        if value.shape != want:
            shapes.append(f"{name} is {list(value.shape)}, the network's is {list(want)}")
        values[key] = value.T if key in transposed else value
    problems = [
        f"{len(items)} {what}: {listed(items)}"
        for what, items in (("missing", sorted(missing)), ("unexpected", unexpected), ("of another shape", shapes))
        if items
    ]
    if problems:
        raise UserError(f"{source} does not fit {type(net).__name__}: {'; '.join(problems)}; {advice}")
    for key, value in values.items():
        target = state[key]
        dtype = str(target.dtype).rpartition(".")[2]
        target.set_value(np.ascontiguousarray(value, dtype=dtype).reshape(value.shape))
    return ignored


def export_official(net: paddle.nn.Layer) -> dict[str, np.ndarray]:
    """A network's whole state under official names, in torch's layouts; the inverse of `load_official`."""
    names, transposed = official_names(net), _linear_weights(net)
    arrays = {}
    for key, tensor in net.state_dict().items():
        value = tensor.numpy()
        # A copy: the caller's arrays must not change when training goes on.
        arrays[names[key]] = np.array(value.T if key in transposed else value, order="C")
    return arrays


def _linear_weights(net: paddle.nn.Layer) -> set[str]:
    """State-dict keys of the weights that Paddle stores transposed."""
    layers = net.named_sublayers(include_self=True)
    return {f"{path}.weight".lstrip(".") for path, layer in layers if isinstance(layer, paddle.nn.Linear)}


# ---- files ----


@dataclass(frozen=True)
class FileInfo:
    """What a weight file turned out to be.

    Args:
        format: for people, such as "PyTorch (zip)".
        layout: whose names and axes it uses: "torch", "paddle" or "mindspore".
    """

    format: str
    layout: str


def read_weights(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], FileInfo]:
    """Read a weight file of any known format, recognised by its content. Nothing in the file is ever run.

    Args:
        path: PyTorch (zip or legacy), safetensors, Paddle, MindSpore or NumPy (.npz).

    Returns:
        {name: array}, floats in Paddle's default dtype, names and axes as the file has them; and what the file is.

    Raises:
        UserError: unreadable, damaged, unreasonable or of an unknown format; one line that names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; expected a weight file")
    reader, info = _format(path)
    arrays = reader(path)
    for name, array in arrays.items():
        if not name.isprintable():  # it would be printed
            raise UserError(f"{path}: the name {name[:40]!r} is not plain text")
        if array.dtype.kind == "f":
            arrays[name] = array.astype(paddle.get_default_dtype(), copy=False)
        elif array.dtype.kind not in "fiub":
            raise UserError(f"{path}: {name} is of type {array.dtype}, expected numbers")
    return arrays, info


def _format(path: Path) -> tuple[Callable[[Path], dict[str, np.ndarray]], FileInfo]:
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(512)
    if not start:
        raise UserError(f"{path} is empty: the download or the disk failed; get the file again")
    if start.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except BROKEN_ZIP as error:
            raise UserError(f"{path} is a damaged or truncated zip archive ({error}); get the file again") from error
        if names and all(name.endswith(".npy") for name in names):
            return _read_npz, FileInfo("NumPy", "torch")
        return read_torch, FileInfo("PyTorch (zip)", "torch")
    if start.startswith(LEGACY_START):
        return read_torch, FileInfo("PyTorch (legacy)", "torch")
    if start[:1] == b"\x80":
        return read_pdparams, FileInfo("Paddle", "paddle")
    if len(start) > 9 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= size - 8:
        return _read_safetensors, FileInfo("safetensors", "torch")
    if start[:1] == b"\n":
        return read_mindspore, FileInfo("MindSpore", "mindspore")
    hint = ""
    if start.lstrip()[:1] == b"<":
        hint = ": it is a web page, so the download went wrong"
    elif start.startswith(b"version https://git-lfs"):
        hint = ": it is a Git LFS pointer, the file itself was not fetched"
    elif start[257:262] == b"ustar":
        hint = ": it is a tar archive; unpack it first (PyTorch before 0.1.10 is not supported)"
    raise UserError(
        f"{path} is not a weight file known here{hint}; expected PyTorch, safetensors, Paddle, MindSpore or NumPy .npz"
    )


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            claimed, held = sum(info.file_size for info in infos), path.stat().st_size
            if claimed > 50 * held + (1 << 20):
                raise UserError(f"{path}: {held} bytes claim to hold {claimed}, which weights never do (a zip bomb?)")
            for info in infos:
                stream = io.BytesIO(archive.read(info))
                version = np.lib.format.read_magic(stream)
                header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, fortran, dtype = header[version](stream)
                if dtype.hasobject or math.prod(shape) * dtype.itemsize != info.file_size - stream.tell():
                    raise ValueError(f"array {info.filename!r} is not what its header says")
                array = np.frombuffer(stream.read(), dtype)
                arrays[info.filename[: -len(".npy")]] = array.reshape(shape, order="F" if fortran else "C")
    except UserError:
        raise
    except (*BROKEN_ZIP, KeyError, EOFError) as error:
        raise UserError(f"{path}: cannot read these NumPy arrays: {error}") from error
    return arrays


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        entries = safetensors.deserialize(path.read_bytes())
    except (safetensors.SafetensorError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read these safetensors: {' '.join(str(error).split())}") from error
    arrays = {}
    for name, entry in entries:
        if entry["dtype"] not in SAFETENSORS_TYPES:
            raise UserError(f"{path}: {name} is of type {entry['dtype']}, which weights here never have")
        array = np.frombuffer(entry["data"], SAFETENSORS_TYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":
            array = from_bfloat16(array)
        arrays[name] = array.reshape(entry["shape"])
    return arrays


def write_weights(path: str | os.PathLike, found: Found) -> str:
    """Write recognised weights in the format of the file's ending, all or nothing.

    Args:
        path: .pdparams, .pth/.pt, .safetensors, .npz or .ckpt (MindSpore; SPADE's generator and discriminator).
        found: weights with official names, see `read_network`.

    Returns:
        The format's name.

    Raises:
        UserError: an unknown ending, a network that MindSpore's SPADE does not have, no space, no permission.
    """
    path = Path(path)
    arrays = found.weights
    if path.suffix == ".pdparams":
        transposed = {name: np.ascontiguousarray(a.T) if a.ndim == 2 else a for name, a in arrays.items()}
        with replacing(path, sync=True) as temporary:
            write_state(temporary, transposed)
        return "Paddle"
    if path.suffix in (".pth", ".pt"):
        with replacing(path, sync=True) as temporary, open(temporary, "wb") as file:
            write_torch(file, arrays)
        return "PyTorch (zip)"
    if path.suffix == ".safetensors":
        data = safetensors.numpy.save({name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()})
        with replacing(path, sync=True) as temporary:
            temporary.write_bytes(data)
        return "safetensors"
    if path.suffix == ".npz":
        with replacing(path, sync=True) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
        return "NumPy"
    if path.suffix == ".ckpt":
        _check_mindspore(path, found)
        named = to_mindspore(arrays)
        with replacing(path, sync=True) as temporary, open(temporary, "wb") as file:
            write_mindspore(file, named)
        return "MindSpore"
    raise UserError(
        f"{path}: cannot write a {path.suffix or 'file without ending'}: use .pdparams .pth .safetensors .npz or .ckpt"
    )


def _check_mindspore(path: Path, found: Found) -> None:
    options = found.options
    if found.kind == "generator":
        fits = not options["use_vae"] and options["num_upsampling_layers"] != "most"
        fits = fits and options["norm_G"].startswith("spectralspadesyncbatch")
        wanted = "no VAE, num_upsampling_layers not most, norm_G spectralspadesyncbatch"
    elif found.kind == "discriminator":
        fits = (options["num_D"], options["n_layers_D"], options["norm_D"]) == (2, 4, "spectralinstance")
        wanted = "num_D 2, n_layers_D 4, norm_D spectralinstance"
    else:
        raise UserError(f"{path}: MindSpore's SPADE has no {found.kind} that reads weights; use .safetensors or .pth")
    if not fits:
        raise UserError(f"{path}: MindSpore's SPADE has only the {found.kind} with {wanted}; this one differs")


def read_network(path: str | os.PathLike) -> tuple[Found, FileInfo]:
    """Read a weight file and recognise whose weights they are. See `read_weights` and `recognise`."""
    arrays, info = read_weights(path)
    return recognise(arrays, info.layout, str(path)), info


def build(found: Found) -> paddle.nn.Layer:
    """The network that recognised weights belong to, filled strictly."""
    net = found.construct()
    load_official(net, found.weights, found.source)
    return net


# ---- finding ----


@dataclass(frozen=True)
class _Published:
    name: str
    where: str
    folder: str
    patterns: tuple[str, ...]
    size: int = 0  # bytes; 0 and "" where they are not known
    sha256: str = ""
    hint: str = ""

    @property
    def known(self) -> str:
        """Size and digest for messages."""
        return f" ({self.size:,} bytes, sha256 {self.sha256})" if self.sha256 else ""


PUBLISHED = {
    "vgg19": _Published(
        "vgg19-dcbb9e9d.pth",
        "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        "vgg",
        ("vgg19pretrain.pdparams", "vgg19*.pdparams", "vgg19*.pth", "vgg19*.safetensors"),
        574_673_361,
        "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        ", or train without the perceptual loss: --no_vgg_loss",
    ),
    "inception": _Published(
        "pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "inception",
        ("*inception*.pdparams", "pt_inception*.pth", "*inception*.safetensors"),
        95_628_359,
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
    "deeplab": _Published(
        "deeplabv2_resnet101_msc-cocostuff164k-100000.pth",
        "https://github.com/kazuto1011/deeplab-pytorch/releases/download/v1.0/"
        "deeplabv2_resnet101_msc-cocostuff164k-100000.pth",
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
    for pattern in published.patterns:
        for candidate in sorted(folder.glob(pattern)):
            if candidate.is_file():
                return candidate
    raise UserError(
        f"{path}: no {kind} weights there; download {published.name}{published.known} from {published.where} "
        f"and put it in the folder {folder}{os.sep}{published.hint}"
    )


def _find(kind: str, path: str | os.PathLike | None) -> paddle.nn.Layer:
    file = find_weights(kind, path)
    found, _ = read_network(file)
    if found.kind != kind:
        raise UserError(f"{file} holds the weights of a {found.kind}, expected {kind}")
    return build(found)


def find_vgg(path: str | os.PathLike | None = None) -> paddle.nn.Layer:
    """`VGG19` with its weights, from `vgg/vgg19pretrain.pdparams` or a torchvision file. See `find_weights`."""
    return _find("vgg19", path)


def find_inception(path: str | os.PathLike | None = None) -> paddle.nn.Layer:
    """`FIDInception` with its weights, from the folder `inception`. See `find_weights`."""
    return _find("inception", path)


def find_deeplab(path: str | os.PathLike | None = None) -> paddle.nn.Layer:
    """`DeepLabV2` with its weights, from the folder `deeplab`. See `find_weights`."""
    return _find("deeplab", path)


# ---- networks to start from ----

_KINDS = {"n_g": "generator", "n_d": "discriminator", "n_e": "encoder"}
_SUFFIXES = (".pdparams", ".pth", ".pt", ".safetensors", ".npz", ".ckpt")
_LETTERED = re.compile(r"(.*(?:n_|net_?))([gdeGDE])(?![A-Za-z])(.*)")  # n_g, latest_net_G, MindSpore's netG_epoch_200


def weight_files(folder: Path) -> list[Path]:
    """The files of a folder that have a suffix of weights."""
    return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())


def network_files(path: str | os.PathLike) -> dict[str, Path]:
    """The files of the networks that a path leads to: {"n_g": file}, with "n_d" and "n_e" where they lie beside it.

    Args:
        path: `output`, `output/model`, a checkpoint's folder, `latest` or `best`; a generator's file; or another folder
            that holds one, of which `n_g` and `latest_net_G` come first. D's and E's files have its name with their
            letter; beside averaged weights, `n_g_ema`, D's is `n_d`.

    Raises:
        UserError: There is no generator, or several; a run's folder without a whole checkpoint.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"init_from {path} does not exist: expected a run's folder, or a generator's weights")
    if path.is_file() and path.name not in (checkpoint.LATEST, checkpoint.BEST):
        whole = path.resolve()  # the link of a run, which moves with its next checkpoint
        file = whole if (whole.parent / checkpoint.META_FILE).is_file() else path
    elif checkpoint.exists(path):
        file = checkpoint.load(path, nets=lambda _: (), with_state=False, verify=True).path / "n_g.pdparams"
    else:
        file = _generator_in(path / "model" if (path / "model").is_dir() else path)
    name = _LETTERED.match(file.name)
    if name is None:
        return {"n_g": file}
    start, own, end = name.groups()
    found = {}
    for network in _KINDS:
        letter = network[-1].upper() if own.isupper() else network[-1]
        for ending in (end, end.replace("_ema", "")):
            if (candidate := file.with_name(start + letter + ending)).is_file():
                found.setdefault(network, candidate)
    if "n_g" not in found:
        raise UserError(f"init_from {file}: a run starts from a generator, and there is none beside this file")
    return found


def _generator_in(folder: Path) -> Path:
    names = {file: _LETTERED.match(file.name) for file in weight_files(folder)}
    files = [file for file, name in names.items() if name and name[2] in "gG" and not name[3].startswith("_ema")]
    files = [file for file in files if file.stem in ("n_g", "latest_net_G")] or files
    if len(files) != 1:
        what = f"several generators ({listed(file.name for file in files)})" if files else "no generator's weights"
        raise UserError(
            f"init_from {folder} holds no checkpoint and {what}: expected n_g.pdparams or latest_net_G.pth there, or "
            "the file's own path"
        )
    return files[0]


def begin_from(path: str | os.PathLike, nets: Mapping[str, paddle.nn.Layer], opt: OPT) -> list[str]:
    """Fill the networks of a new run from given ones, strictly.

    Args:
        path: see `network_files`.
        nets: `Trainer.networks()`.
        opt: the run's options, for messages.

    Returns:
        What was taken, a line for each network; D or E that is not there stays as it is.

    Raises:
        UserError: a file cannot be read, or holds other names, shapes or another network than the run's.
    """
    files, told = network_files(path), []
    for name, net in nets.items():
        if name not in files:
            told.append(f"{name[-1].upper()} is new: there is none beside {files['n_g']}")
            continue
        found, info = read_network(files[name])
        if found.kind != _KINDS[name]:
            raise UserError(f"{files[name]} holds weights of the kind {found.kind}, expected {_KINDS[name]}")
        broken = [key for key, array in found.weights.items() if not np.isfinite(array).all()]
        if broken:
            raise UserError(f"{files[name]}: not all numbers are finite in {listed(broken)}; take an earlier copy")
        load_official(net, found.weights, str(files[name]), found.advice(opt))
        told.append(f"{name[-1].upper()} taken from {files[name]} ({info.format}, {found.parameters():,} parameters)")
    return told
