"""`Description`: what a model expects and knows apart from its weights; an exported folder's model.json."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.configuration.texts import parse_norm_g
from model.data.label_ids import unknown_class, unknown_id, unknown_ids
from model.data.palettes import channel_names, palette
from model.errors import UserError
from model.serving import FILE

OPT_FILE = "opt.yaml"
FORMAT = "paddle-spade exported model, version 1"
OF_OPTIONS = ("size", "label_nc", "unknown", "uses_instances", "z_dim", "spade_sizes", "kernel_size")
MOST_PIXELS, MOST_CLASSES, MOST_STYLE = 1 << 26, 1 << 16, 1 << 16  # beyond these a file is damaged or hostile


@dataclass(frozen=True)
class Description:
    """A model from outside.

    Attributes:
        names: class names in the order of the ids, the unknown one included.
        colours: (red, green, blue) of each id, 0..255.
        size: (height, width) of the pictures in pixels.
        label_nc: number of classes without the unknown one.
        unknown: the id of unlabelled pixels; None if every pixel needs a class.
        file_unknown: the last of `unknown_ids`; 255 or 65535 without any. For programs that know of one such id only.
        uses_instances: whether it sees edges between instances.
        z_dim: length of its style vectors; 0 without styles.
        spade_sizes: (height, width) of its SPADE layers. kernel_size: theirs, 3 or 5.
        step: steps of training, where they are known. parameters: their number.
        unknown_ids: all ids that stand for unlabelled in files, `unknown` among them.
        onnx, paddle: {"generator": {form: file}, "encoder": file} in an exported folder.
    """

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    size: tuple[int, int]
    label_nc: int
    unknown: int | None
    file_unknown: int
    uses_instances: bool
    z_dim: int
    spade_sizes: tuple[tuple[int, int], ...]
    kernel_size: int
    step: int | None = None
    parameters: int = 0
    unknown_ids: tuple[int, ...] = ()
    onnx: dict[str, Any] = field(default_factory=dict)
    paddle: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, opt, **more) -> "Description":
        """That of a generator with these options; `more` are the fields that options do not tell."""
        count = opt.label_nc + opt.contain_dontcare_label
        marks = unknown_ids(opt)
        return cls(
            names=tuple(channel_names(opt)[:count]),
            colours=tuple(tuple(int(part) for part in row) for row in palette(opt.dataset_mode, count)),
            size=opt.generator_size,
            label_nc=opt.label_nc,
            unknown=unknown_class(opt),
            file_unknown=marks[-1] if marks else unknown_id(opt.label_nc),
            unknown_ids=marks,
            uses_instances=not opt.no_instance,
            z_dim=opt.z_dim if opt.use_vae else 0,
            spade_sizes=opt.spade_sizes,
            kernel_size=parse_norm_g(opt.norm_G)[2],
            **more,
        )

    def to_json(self) -> str:
        """As text, a line for each field."""
        fields = {"format": FORMAT, **dataclasses.asdict(self)}
        return "{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in fields.items()) + "\n}\n"

    @classmethod
    def read(cls, folder: Path, opt) -> "Description":
        """The description in an exported folder, checked with the options beside it: both may come from a stranger.

        Raises:
            UserError: the file is damaged, of another version or model, or holds values that no export writes.
        """
        file, (height, width) = folder / FILE, opt.generator_size
        try:
            if height * width > MOST_PIXELS or opt.z_dim > MOST_STYLE:
                raise ValueError(f"{OPT_FILE} asks for unreasonable sizes")
            own = cls.of(opt)
            values = {name: _tuples(value) for name, value in json.loads(file.read_text(encoding="utf-8")).items()}
            if values.pop("format") != FORMAT:
                raise ValueError(f"not the format {FORMAT!r}")
            if any(values.pop(name) != getattr(own, name) for name in OF_OPTIONS):
                raise ValueError(f"{OPT_FILE} and {FILE} beside it are of different models")
            if own.unknown is not None:
                values.setdefault("unknown_ids", (values["file_unknown"],))  # which earlier exports do not have
            found = dataclasses.replace(own, **values)
            found._check(folder, len(own.names))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{file} is no description of an exported model ({error}): export it again") from None
        return found

    def _check(self, folder: Path, classes: int) -> None:
        """Raise ValueError where what the options do not tell is not as an export writes it, or unreasonably large."""

        def need(condition, what):
            if not condition:
                raise ValueError(what)

        def whole(value, low, high):
            return type(value) is int and low <= value <= high

        need(len(self.names) == classes and all(isinstance(name, str) for name in self.names), "names")
        colours = all(len(c) == 3 and all(whole(part, 0, 255) for part in c) for c in self.colours)
        need(len(self.colours) == classes and colours, "colours")
        marks = self.unknown_ids
        need(all(whole(i, 0, 1 << 16) for i in (self.file_unknown, *marks)), "unknown_ids")
        need(len(marks) <= MOST_CLASSES and (not marks or self.unknown is not None), "unknown_ids")
        need(self.step is None or whole(self.step, 0, 1 << 62), "step")
        need(whole(self.parameters, 0, 1 << 62), "parameters")
        for files in (self.onnx, self.paddle):
            need(isinstance(files, dict) and files.keys() <= {"generator", "encoder"}, "files")
            for name in [*files.get("generator", {}).values(), *filter(None, [files.get("encoder")])]:
                need(isinstance(name, str) and name == Path(name).name, "files")
                need((folder / name).is_file(), f"{name} is missing")


def _tuples(value):
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
