"""Optimisers' state under the networks' own keys, so that a checkpoint does not depend on Paddle's names."""

import os
from collections.abc import Mapping
from typing import Any

from model.errors import UserError, listed
from model.weights.paddle_file import plain


def _parameter_names(nets: Mapping[str, Any]) -> dict[str, str]:
    """{Paddle's process-wide parameter name: `net.key`}."""
    return {
        parameter.name: f"{prefix}.{key}" for prefix, net in nets.items() for key, parameter in net.named_parameters()
    }


def optimizer_state(optimizer: Any, nets: Mapping[str, Any]) -> dict:
    """An optimiser's state under the networks' own keys.

    Paddle's keys contain process-wide counters (`conv2d_17.w_0_moment1_0`) that change with the order in which networks
    are built; a checkpoint must not depend on that.

    Args:
        optimizer: a `paddle.optimizer.Optimizer`.
        nets: the networks whose parameters it holds, by any names that are the same when it is loaded.

    Returns:
        {"net.key:accumulator": array} and the schedule under "LR_Scheduler".
    """
    names = _parameter_names(nets)
    result = {}
    for key, value in optimizer.state_dict().items():
        if key in ("LR_Scheduler", "master_weights"):
            result[key] = {names.get(k, k): v for k, v in value.items()}
            continue
        # The longest name that fits: `w_1` also begins `w_10`'s keys.
        owner = max((name for name in names if key.startswith(f"{name}_")), key=len, default=None)
        if owner is None:
            raise KeyError(f"optimiser state {key} belongs to none of {', '.join(nets)}")
        result[f"{names[owner]}:{key[len(owner) + 1 :]}"] = value
    return plain(result)


def load_optimizer(optimizer: Any, nets: Mapping[str, Any], state: Mapping[str, Any], where: str | os.PathLike) -> None:
    """Put back what `optimizer_state` returned.

    Raises:
        UserError: the state names parameters that the networks do not have.
    """
    from model.ops.device import as_tensor

    own = {ours: theirs for theirs, ours in _parameter_names(nets).items()}
    unknown = [key for key in state if ":" in key and key.rpartition(":")[0] not in own]
    if unknown:
        raise UserError(f"{where}: optimiser state for {len(unknown)} unknown parameters ({listed(unknown)})")
    translated: dict[str, Any] = {}
    for key, value in state.items():
        if ":" in key:
            name, _, accumulator = key.rpartition(":")
            translated[f"{own[name]}_{accumulator}"] = as_tensor(value)
        elif key == "master_weights":
            translated[key] = {own.get(k, k): as_tensor(v) for k, v in value.items()}
        else:
            translated[key] = dict(value)
    optimizer.set_state_dict(translated)
