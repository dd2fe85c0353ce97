"""Options that are written as text: the norms' names, lists of ids and of metrics."""

import re
from collections.abc import Iterable, Mapping

from model.configuration.fields import closest
from model.errors import UserError

_NORMS = ("instance", "batch", "syncbatch", "none")
# What a norm's name means: (spectral norm, norm), for G with the kernel size.
_NORMS_DE = {word + norm: (bool(word), norm) for word in ("spectral", "") for norm in _NORMS}
_NORMS_G = {
    f"{word}spade{norm}{size}x{size}": (bool(word), norm, size)
    for word in ("spectral", "")
    for norm in ("batch", "syncbatch", "instance")
    for size in (3, 5)
}

METRICS = ("fid", "seg", "kid", "pr")


def parse_norm_g(text: str) -> tuple[bool, str, int]:
    """Split the generator's norm, such as `spectralspadesyncbatch3x3`.

    Returns:
        (spectral norm on the convolutions, parameter-free norm `batch|syncbatch|instance`, kernel size 3 or 5).

    Raises:
        UserError: the text is not of the form [spectral]spade{batch,syncbatch,instance}{3x3,5x5}.
    """
    return _looked_up(text, "norm_G", _NORMS_G, "[spectral]spade{batch,syncbatch,instance}{3x3,5x5}")


def parse_norm(text: str, option: str = "norm") -> tuple[bool, str]:
    """Split the discriminator's or encoder's norm, such as `spectralinstance`.

    Returns:
        (spectral norm on the convolutions, norm `instance|batch|syncbatch|none`; instance has no parameters).

    Raises:
        UserError: the text is not of the form [spectral]{instance,batch,syncbatch,none}; `option` names it.
    """
    return _looked_up(text, option, _NORMS_DE, "[spectral]{instance,batch,syncbatch,none}")


def _looked_up(text: str, option: str, known: Mapping[str, tuple], form: str) -> tuple:
    if text not in known:
        raise UserError(f"{option} {text!r} is unknown: expected {form}{closest(text, known)}")
    return known[text]


def parse_ids(text: str, option: str = "unknown_ids", ranges: bool = False) -> tuple[int, ...]:
    """Ids in an option's text, such as `0,255`, in their order.

    Args:
        option: names it in messages.
        ranges: take `0-90` for all the ids from 0 to 90.

    Raises:
        UserError: something between the commas is no whole number from 0 to 65535, and no range of them that rises.
    """
    ids: list[int] = []
    for word in [word.strip() for word in text.split(",")] if text.strip() else []:
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?" if ranges else "([0-9]{1,5})()", word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= 65535:
            what, form = ("no id and no range", ", or ranges such as 0-90") if ranges else ("no id", "")
            raise UserError(
                f"{option} {text!r}: {word!r} is {what}: expected whole numbers 0..65535 with commas between{form}"
            )
        ids += range(first, last + 1)
    return tuple(ids)


def parse_metrics(words: str | Iterable[str]) -> tuple[str, ...]:
    """The scores asked for, such as `fid,kid`, each once, in their order; "" asks for none.

    Raises:
        UserError: a word that is none of METRICS.
    """
    words = words.split(",") if isinstance(words, str) else words
    names = tuple(dict.fromkeys(word.strip() for word in words if word.strip()))
    for name in names:
        if name not in METRICS:
            raise UserError(
                f"metrics {name!r} is unknown: expected {', '.join(METRICS)}, or several with commas between"
                f"{closest(name, METRICS)}"
            )
    return names
