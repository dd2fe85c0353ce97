"""The command lines of `train.py` and `val.py`."""

import argparse
import dataclasses
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from model.configuration.fields import closest, expected, fields_of, range_text
from model.configuration.presets import PRESETS, layered
from model.configuration.yaml_file import read_yaml
from model.errors import UserError
from model.options import GROUPS, OPT
from model.serving.val_options import ValOPT

# Options of the released code and its ports under another name here, so that old command lines explain themselves.
RENAMED = {
    "cache_filelist_read": "not needed, listing a folder is quick",
    "cache_filelist_write": "not needed, listing a folder is quick",
    "checkpoints_dir": "--output, in val.py --checkpoint",
    "ckpt_dir": "--output, in val.py --checkpoint",
    "coco_no_portraits": "done by moving the folders *_portrait away; they are read where they exist",
    "continue_train": "a run resumes by itself; --fresh starts anew",
    "datasetdir": "--dataroot",
    "debug": "--max_steps N --print_freq 1 --display_freq 1",
    "decay_epoch": "--niter, the epochs before the decay",
    "display_winsize": "not needed, pictures are written in their own size",
    "distribute": "python -m paddle.distributed.launch train.py",
    "fid_eval_ckpt_dir": "val.py --metrics fid, which reads the weights in inception/",
    "gpu_ids": "--device",
    "id": "--device gpu:N",
    "lastoutput": "--output, from which a run resumes by itself",
    "load_from_opt_file": "options travel with the checkpoint; --config FILE reads others",
    "model": "not needed, there is one",
    "nef": "--ngf, which is the encoder's width too, as in the released code",
    "netD": "not needed, there is one, the multi-scale discriminator",
    "netG": "not needed, there is one, SPADE",
    "no_html": "--display_freq 0, which writes no pictures",
    "no_pairing_check": "not needed, files are paired by name, always",
    "now_epoch": "a run resumes by itself; --fresh starts anew",
    "optimizer": "not needed, it is Adam",
    "predict_inst": "val.py --label_dir FOLDER --instance_dir FOLDER",
    "predict_result": "val.py --label_dir FOLDER, which writes to --results_dir",
    "semantic_nc": "computed from label_nc, contain_dontcare_label and no_instance",
    "tf_log": "not needed, VisualDL records are always written, in --log_dir",
    "total_epoch": "--niter and --niter_decay, the sum of which is the number of epochs",
    "vgg_ckpt_path": "--vgg_path",
    "vggwpath": "--vgg_path",
}


def _shown(value: Any) -> str:
    """A value as the command line and yaml write it."""
    words = {None: "null", True: "true", False: "false", "": "empty"}
    return words[value] if value is None or isinstance(value, bool) or value == "" else str(value)


def _parser(cls: type, prog: str, description: str, groups: Mapping[str, str], epilog: str = ""):
    import jsonargparse  # here, since reading a checkpoint's options needs no parser

    class Formatter(argparse.HelpFormatter):
        def _fill_text(self, text, width, indent):
            return "\n".join(textwrap.fill(line, width, subsequent_indent="    ") for line in text.split("\n"))

    parser = jsonargparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=Formatter,
        exit_on_error=False,
        allow_abbrev=False,
        usage="%(prog)s [--option VALUE ...]",
    )
    parser.add_argument("--config", type=str, metavar="FILE", help="yaml file of options; flags win over it")
    titled = {group: parser.add_argument_group(group, title) for group, title in groups.items()}
    for f in dataclasses.fields(cls):
        extra = dict(nargs="?", const=True) if f.type is bool else {}
        allowed = range_text(f.metadata)
        titled[f.metadata["group"]].add_argument(
            f"--{f.name}",
            type=f.type,
            default=f.default,
            metavar="true|false" if f.type is bool else "VALUE",
            help=f"{f.metadata['help']}{'; ' if allowed else ''}{allowed} (default: {_shown(f.default)})",
            **extra,
        )
    return parser


def _flags(cls: type, parser: Any, argv: Sequence[str]) -> dict[str, Any]:
    """The options given on a command line, by name, brought to their types."""
    fields = fields_of(cls)
    known = ["config", "help", *fields]
    given = {word[2:].split("=", 1)[0] for word in argv if word.startswith("--")}
    for name in sorted(given):
        if name in known:
            continue
        positive = re.sub("^no[_-]", "", name)
        if positive != name and positive in fields and fields[positive].type is bool:
            raise UserError(f"unknown option --{name}: to switch it off, give --{positive} false")
        if name in RENAMED:
            raise UserError(f"unknown option --{name}: here it is {RENAMED[name]}")
        other = ValOPT if cls is OPT else OPT
        if name in {f.name for f in dataclasses.fields(other)}:
            program, why = ("val.py", "") if cls is OPT else ("train.py", ": options travel with the checkpoint")
            raise UserError(f"--{name} is an option of {program} alone{why}")
        raise UserError(f"unknown option --{name}{closest(name, known, '--') or '; see --help'}")
    try:
        values = parser.parse_args(list(argv))
    except argparse.ArgumentError as error:
        raise UserError(_one_line(str(error), fields)) from None
    return {name: values[name] for name in given if name != "help"}


def _one_line(message: str, fields: Mapping[str, dataclasses.Field]) -> str:
    """The parser's messages without the names of Python's types."""
    text = " ".join(message.split())
    match = re.fullmatch(r"Parser key \"(\w+)\": .*?(?:Got|Given) value: (.*)", text)
    if match and match[1] in fields:
        return f"--{match[1]} {match[2]} is not {expected(fields[match[1]])}"
    return text[:1].lower() + text[1:]


def parse_train(argv: Sequence[str] | None = None) -> OPT:
    """Options of training from a command line (default: the process's): flags > --config > --preset > defaults.

    Raises:
        UserError: an unknown option, a wrong value, options that contradict each other or cannot be trained.
    """
    argv = sys.argv[1:] if argv is None else argv
    recipes = {name: ", ".join(f"{k}={_shown(v)}" for k, v in values.items()) for name, values in PRESETS.items()}
    epilog = "\n".join(["presets:", *(f"  {k}: {v or 'the defaults as shown'}" for k, v in recipes.items())])
    parser = _parser(
        OPT,
        "train.py",
        "Train SPADE. Flags win over --config, which wins over --preset, which wins over the defaults.",
        GROUPS,
        epilog,
    )
    flags = _flags(OPT, parser, argv)
    config = read_yaml(OPT, flags.pop("config")) if "config" in flags else {}
    opt = OPT(**layered(fields_of(OPT), flags, config))
    if opt.dataset_mode == "custom" and "contain_dontcare_label" not in {**config, **flags}:
        from model.data.dataset import with_unknown_class  # which reads files, and only these options depend on them

        opt = with_unknown_class(opt)
    opt.check_training()
    return opt


def parse_val(argv: Sequence[str] | None = None) -> ValOPT:
    """Options of validation from a command line (default: the process's): flags > --config > defaults.

    Raises:
        UserError: an unknown option, a wrong value, options that contradict each other.
    """
    argv = sys.argv[1:] if argv is None else argv
    groups = {
        "data": "checkpoint and pictures",
        "style": "the look of the pictures",
        "output": "what is written",
        "metrics": "what the pictures are judged by",
    }
    parser = _parser(ValOPT, "val.py", "Generate pictures from a validation split with a trained checkpoint.", groups)
    flags = _flags(ValOPT, parser, argv)
    config = read_yaml(ValOPT, flags.pop("config")) if "config" in flags else {}
    return ValOPT(**{**config, **flags})
