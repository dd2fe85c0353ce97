"""The command lines of `train.py` and `val.py`."""

import argparse
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from model.configuration.fields import closest, fields_of, from_text, range_text, read_yaml
from model.configuration.presets import PRESETS, layered
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
    return {"None": "null", "True": "true", "False": "false", "": "empty"}.get(str(value), str(value))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


class _Formatter(argparse.HelpFormatter):
    def _fill_text(self, text, width, indent):
        return "\n".join(textwrap.fill(line, width, subsequent_indent="    ") for line in text.split("\n"))


def _given(
    cls: type, argv: Sequence[str] | None, program: str, description: str, groups: Mapping[str, str], epilog: str = ""
) -> dict[str, Any]:
    """The options that a command line gives, in flags or in its --config file, brought to their types; flags win."""
    argv, fields = sys.argv[1:] if argv is None else list(argv), fields_of(cls)
    for name in sorted({word[2:].partition("=")[0] for word in argv if word.startswith("--")}):
        if name not in ("config", "help", *fields):
            raise UserError(_unknown(name, cls))
    parser = _Parser(
        prog=program,
        description=description,
        epilog=epilog,
        formatter_class=_Formatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        usage="%(prog)s [--option VALUE ...]",
    )
    parser.add_argument("--config", metavar="FILE", help="yaml file of options; flags win over it")
    titled = {group: parser.add_argument_group(group, title) for group, title in groups.items()}
    for name, f in fields.items():
        value = dict(nargs="?", const="true", metavar="true|false") if f.type is bool else dict(metavar="VALUE")
        about = "; ".join(filter(None, (f.metadata["help"], range_text(f.metadata))))
        titled[f.metadata["group"]].add_argument(f"--{name}", help=f"{about} (default: {_shown(f.default)})", **value)
    texts = vars(parser.parse_args(argv))
    config = read_yaml(cls, texts.pop("config")) if "config" in texts else {}
    return {**config, **{name: from_text(fields[name], text) for name, text in texts.items()}}


def _unknown(name: str, cls: type) -> str:
    """What is said to who gives an option that is not there."""
    fields, positive = fields_of(cls), re.sub("^no[_-]", "", name)
    if positive != name and positive in fields and fields[positive].type is bool:
        return f"unknown option --{name}: to switch it off, give --{positive} false"
    if name in RENAMED:
        return f"unknown option --{name}: here it is {RENAMED[name]}"
    if cls is OPT and name in fields_of(ValOPT):
        return f"--{name} is an option of val.py alone"
    if cls is ValOPT and name in fields_of(OPT):
        return f"--{name} is an option of train.py alone: options travel with the checkpoint"
    return f"unknown option --{name}{closest(name, ['config', 'help', *fields], '--') or '; see --help'}"


def parse_train(argv: Sequence[str] | None = None) -> OPT:
    """Options of training from a command line (default: the process's): flags > --config > --preset > defaults.

    Raises:
        UserError: an unknown option, a wrong value, options that contradict each other or cannot be trained.
    """
    about = "Train SPADE. Flags win over --config, which wins over --preset, which wins over the defaults."
    recipes = {name: ", ".join(f"{k}={_shown(v)}" for k, v in values.items()) for name, values in PRESETS.items()}
    presets = "\n".join(["presets:", *(f"  {k}: {v or 'the defaults as shown'}" for k, v in recipes.items())])
    given = _given(OPT, argv, "train.py", about, GROUPS, presets)
    opt = OPT(**layered(fields_of(OPT), given))
    if opt.dataset_mode == "custom" and "contain_dontcare_label" not in given:
        from model.data.dataset import with_unknown_class  # which reads files, and only these options depend on them

        opt = with_unknown_class(opt)
    opt.check_training()
    return opt


def parse_val(argv: Sequence[str] | None = None) -> ValOPT:
    """Options of validation from a command line (default: the process's): flags > --config > defaults.

    Raises:
        UserError: an unknown option, a wrong value, options that contradict each other.
    """
    groups = {
        "data": "checkpoint and pictures",
        "style": "the look of the pictures",
        "output": "what is written",
        "metrics": "what the pictures are judged by",
    }
    about = "Generate pictures from a validation split with a trained checkpoint."
    return ValOPT(**_given(ValOPT, argv, "val.py", about, groups))
