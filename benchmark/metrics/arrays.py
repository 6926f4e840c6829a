"""Convert callers' numbers to arrays: lists, arrays of any layout and byte order, tensors, table columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from vbench.core.errors import BadInput

#: NumPy's kinds: bool, signed and unsigned integer, floating point.
_NUMBERS = "biuf"


def plain_array(name: str, values: Any) -> np.ndarray:
    """``values`` as an array in native byte order, contiguous and writable; copied only if it is not.

    Accepts all that NumPy does, and tensors on any device, with gradients, of any floating type. ``name`` is
    used in messages. Raises :class:`BadInput` for text, objects and complex values.
    """
    if hasattr(values, "detach"):
        # A tensor, recognised without importing torch. NumPy supports neither bfloat16 nor GPU tensors.
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O":
            # Table columns may hold numbers as objects.
            array = np.asarray(array.tolist())
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} must be numbers in an array, got {type(values).__name__}") from error
    if array.dtype.kind not in _NUMBERS:
        raise BadInput(f"{name} must be real numbers, got {array.dtype.name}")
    # By kind and size: NumPy has two types of eight-byte integers on some systems, torch accepts one.
    return np.require(array, f"={array.dtype.str[1:]}", ("C_CONTIGUOUS", "WRITEABLE"))


def real_array(name: str, values: Any) -> np.ndarray:
    """``values`` as float64; see :func:`plain_array`."""
    return plain_array(name, values).astype(np.float64)
