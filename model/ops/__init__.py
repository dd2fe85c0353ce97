"""The machine: what networks are made of, in the layout, on the threads and by the kernels of a backend.

`feature_map.FeatureMap` says what a backend supplies; `plain` and `cpu` are the two that there are.
"""

from model.errors import UserError


def backend(kernels: str) -> type:
    """The class of feature maps that the option `kernels` means: auto is `cpu` on CPUs in float32, `plain` elsewhere.

    Raises:
        UserError: blocked, and Paddle's default dtype is another one.
    """
    import paddle

    dtype = paddle.get_default_dtype()
    if kernels == "blocked" and dtype != "float32":
        raise UserError(f"kernels blocked compute in float32, and Paddle's default dtype is {dtype}: give kernels auto")
    if kernels == "blocked" or (kernels == "auto" and dtype == "float32" and paddle.get_device() == "cpu"):
        from model.ops.cpu import Map
    else:
        from model.ops.plain import Map
    return Map
