"""Per-query arrays inside a JSON record: little-endian bytes, compressed, as base64 text."""

from __future__ import annotations

import base64
import math
import zlib
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from vbench.errors import BadInput

#: The most bytes that one array may take once it is unpacked.
LIMIT = 1 << 28


class Packed(BaseModel):
    """One array: ``dtype`` and ``shape`` in NumPy's words, ``data`` as base64 of zlib-compressed bytes."""

    dtype: Literal["<i4", "<f4"]
    shape: tuple[int, ...]
    data: str

    @classmethod
    def pack(cls, array: Any) -> Packed:
        """Pack integers as 32-bit integers, anything else as 32-bit floats."""
        array = np.asarray(array)
        array = array.astype("<i4" if np.issubdtype(array.dtype, np.integer) else "<f4")
        raw = zlib.compress(np.ascontiguousarray(array).tobytes(), 6)
        return cls(dtype=array.dtype.str, shape=array.shape, data=base64.b64encode(raw).decode())

    def unpack(self) -> np.ndarray:
        """The array; raises :class:`BadInput` when the text does not hold what the shape says."""
        try:
            size = math.prod(self.shape) * 4
            # The limit keeps a hostile record from unpacking into all memory.
            raw = zlib.decompressobj().decompress(
                base64.b64decode(self.data, validate=True), min(size, LIMIT) + 1
            )
            return np.frombuffer(raw, self.dtype).reshape(self.shape)
        except (ValueError, OverflowError, zlib.error) as error:
            raise BadInput(f"a packed array of a record is broken: {error}") from error
