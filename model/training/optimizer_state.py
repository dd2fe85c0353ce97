"""Optimisers' state under the networks' own keys, so that a checkpoint does not depend on Paddle's names."""

import os
from collections.abc import Mapping
from typing import Any

from model.errors import UserError, listed
from model.ops.device import as_tensor
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
        {"net.key:accumulator": array}.
    """
    names, result = _parameter_names(nets), {}
    for key, value in optimizer.state_dict().items():
        # The longest name that fits: `w_1` also begins `w_10`'s keys.
        owner = max((name for name in names if key.startswith(f"{name}_")), key=len)
        result[f"{names[owner]}:{key[len(owner) + 1 :]}"] = value
    return plain(result)


def load_optimizer(optimizer: Any, nets: Mapping[str, Any], state: Mapping[str, Any], where: str | os.PathLike) -> None:
    """Put back what `optimizer_state` returned.

    Raises:
        UserError: the state names parameters that the networks do not have.
    """
    own = {ours: theirs for theirs, ours in _parameter_names(nets).items()}
    places = {key: key.rpartition(":") for key in state}
    unknown = [key for key, (name, _, _) in places.items() if name not in own]
    if unknown:
        raise UserError(f"{where}: optimiser state for {len(unknown)} unknown parameters ({listed(unknown)})")
    optimizer.set_state_dict(
        {f"{own[name]}_{accumulator}": as_tensor(state[key]) for key, (name, _, accumulator) in places.items()}
    )
