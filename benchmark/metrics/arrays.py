"""What callers hand over as numbers: lists, arrays of any layout and byte order, tensors, table columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from vbench.core.errors import BadInput

#: Booleans, whole numbers with and without sign, floating point: NumPy's letters for them.
_NUMBERS = "biuf"


def plain_array(name: str, values: Any) -> np.ndarray:
    """``values`` as an array of the machine's byte order, contiguous and writable; copied only if it is not.

    Takes what NumPy takes, and tensors: on any device, with gradients, of any floating type. ``name`` is what
    the message calls them. Raises :class:`BadInput` for what is not numbers: text, objects, complex values.
    """
    if hasattr(values, "detach"):
        # A tensor, of which NumPy knows neither bfloat16 nor those on a GPU. No torch is imported for it.
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O":
            # Columns of tables may hold numbers as objects.
            array = np.asarray(array.tolist())
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} must be numbers in an array, got {type(values).__name__}") from error
    if array.dtype.kind not in _NUMBERS:
        raise BadInput(f"{name} must be real numbers, got {array.dtype.name}")
    # By kind and size: C has two names for a type of eight bytes, and torch knows one.
    return np.require(array, f"={array.dtype.str[1:]}", ("C_CONTIGUOUS", "WRITEABLE"))


def real_array(name: str, values: Any) -> np.ndarray:
    """``values`` as float64; see :func:`plain_array`."""
    return plain_array(name, values).astype(np.float64)
