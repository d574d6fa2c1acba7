"""Zarr's arrays: the types of ml_dtypes, which zarr lacks, and how chunks are written."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar

import numpy as np

from winit_fast.memory import dtype_of

from .. import needs

with needs("'zarr>=3.1'", "tables"):
    import zarr
    from zarr.core.dtype.npy.common import endianness_to_numpy_str
    from zarr.core.dtype.npy.float import BaseFloat
    from zarr.dtype import data_type_registry

__all__ = ["is_in_memory", "register", "with_all_chunks", "zarr"]


def with_all_chunks(array: Any) -> Any:
    """The same array, but chunks that equal the fill value are written too."""
    if not isinstance(array, zarr.Array):
        return array
    # As Array.with_config does, which zarr 3.1.5 has not.
    return zarr.Array(zarr.AsyncArray(array.metadata, array.store_path, config={"write_empty_chunks": True}))


def is_in_memory(array: Any) -> bool:
    """Whether it is an array of Zarr in this process's memory."""
    return isinstance(array, zarr.Array) and isinstance(array.store, zarr.storage.MemoryStore)


class _Narrow(BaseFloat):  # type: ignore[misc]
    """A type of ml_dtypes. It has an endianness, as other floats have: without one tensorstore refuses bfloat16."""

    dtype_cls: ClassVar[Any]
    _zarr_v2_names = ()

    def to_native_dtype(self) -> np.dtype[Any]:
        # Not by `dtype_cls()`, which NumPy has for its own types alone.
        return dtype_of(self._zarr_v3_name).newbyteorder(endianness_to_numpy_str(self.endianness))

    def to_json(self, zarr_format: int) -> Any:
        if zarr_format == 2:
            raise ValueError(f"Zarr format 2 has no {self._zarr_v3_name}: use zarr_format=3")
        return self._zarr_v3_name

    @property
    def item_size(self) -> int:
        return self.to_native_dtype().itemsize


class BFloat16(_Narrow):
    """bfloat16."""

    _zarr_v3_name = "bfloat16"


class Float8E4M3FN(_Narrow):
    """float8_e4m3fn."""

    _zarr_v3_name = "float8_e4m3fn"


class Float8E5M2(_Narrow):
    """float8_e5m2."""

    _zarr_v3_name = "float8_e5m2"


def register() -> None:
    """Make the types of ml_dtypes known to zarr, as far as it lacks them and ml_dtypes is installed."""
    for made in (BFloat16, Float8E4M3FN, Float8E5M2):
        with suppress(TypeError):  # without ml_dtypes
            made.dtype_cls = type(dtype_of(made._zarr_v3_name))
            if made._zarr_v3_name not in data_type_registry.contents:
                data_type_registry.register(made._zarr_v3_name, made)


register()  # here, and not where it is called for: a worker that unpickles such an array needs it too
