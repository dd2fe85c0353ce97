"""The types of the numbers in weight files: what each format calls them."""

import numpy as np

_BFLOAT16 = "u2"  # which NumPy lacks: it comes as the upper half of a float32
# NumPy's, torch's storages, safetensors', MindSpore's.
_NAMES = (
    ("f8", "DoubleStorage", "F64", "Float64"),
    ("f4", "FloatStorage", "F32", "Float32"),
    ("f2", "HalfStorage", "F16", "Float16"),
    (_BFLOAT16, "BFloat16Storage", "BF16", "BFloat16"),
    ("i8", "LongStorage", "I64", "Int64"),
    ("i4", "IntStorage", "I32", "Int32"),
    ("i2", "ShortStorage", "I16", "Int16"),
    ("i1", "CharStorage", "I8", "Int8"),
    ("u8", None, "U64", "UInt64"),
    ("u4", None, "U32", "UInt32"),
    ("u2", None, "U16", "UInt16"),
    ("u1", "ByteStorage", "U8", "UInt8"),
    ("b1", "BoolStorage", "BOOL", "Bool"),
)
TORCH, SAFETENSORS, MINDSPORE = ({row[i]: row[0] for row in _NAMES if row[i]} for i in (1, 2, 3))


def name_of(dtype: np.dtype, names: dict[str, str]) -> str:
    """A format's name of a NumPy type. KeyError: it has none."""
    return {code: name for name, code in names.items() if not name.startswith("BF")}[dtype.str[1:]]


def decoded(array: np.ndarray, name: str) -> np.ndarray:
    """An array of a format's type `name`, of any shape and byte order, in NumPy's terms: bfloat16 as float32."""
    if not name.startswith("BF"):
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    return (array.astype("=u4") << np.uint32(16)).view(np.float32).reshape(array.shape)  # <<: a scalar of shape []
