"""Seeds and names: which stream of Philox a tensor draws from (STREAM.md, section 2)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from winit_fast.messages import as_int, class_name, quote, roots_of

__all__ = ["UNNAMED", "seed_key", "stream_of"]


class _Unnamed(int):
    """The number 0 as the default name: such streams repeat by accident, others on purpose."""

    def __reduce__(self) -> str:
        return "UNNAMED"  # copied and unpickled, it stays the same object


#: The default of `name`.
UNNAMED = _Unnamed(0)


def seed_key(seed: object) -> int:
    """The key of Philox for a seed.

    Raises
    ------
    TypeError, ValueError
        If `seed` is not an integer in [0, 2^64).

    Examples
    --------
    >>> seed_key(7)
    7
    """
    return _word64("seed", seed, "an int")


def stream_of(name: object) -> int:
    """The stream of a tensor's name: an integer is the stream itself, a string is hashed by BLAKE2b.

    Raises
    ------
    TypeError, ValueError
        If `name` is neither a str that UTF-8 can encode nor an integer in [0, 2^64).

    Examples
    --------
    >>> stream_of(3)
    3
    >>> hex(stream_of("user_id"))
    '0x2879a7cec01d2b2'
    """
    if isinstance(name, str):
        text = str.__str__(name)  # the text itself, even of a subclass that claims another
        return _hash_name(text) if len(text) <= _LONGEST_KEPT else _hash_name.__wrapped__(text)
    return _word64("name", name, "a str or an int")


_LONGEST_KEPT = 256  # characters; longer names are hashed each time, to keep little memory


@lru_cache(maxsize=4096)
def _hash_name(name: str) -> int:
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"name must be text that UTF-8 can encode, got {quote(name)}") from None
    return int.from_bytes(_load_blake2b()(encoded, digest_size=8).digest(), "little")


@lru_cache(maxsize=1)
def _load_blake2b() -> Callable[..., Any]:
    # It loads OpenSSL, a tenth of the package's import time. Only names that are texts need it.
    from hashlib import blake2b

    return blake2b


def _name_adapter(value: object) -> str:
    """A hint at the adapter that takes this generator or key."""
    roots = roots_of(value)
    if "numpy" in roots and class_name(value) in ("Generator", "SeedSequence"):
        return "; winit_fast.adapters.numpy takes it"
    if "torch" in roots and class_name(value) == "Generator":
        return "; winit_fast.adapters.torch takes it as generator="
    if "jaxlib" in roots or "jax" in roots:
        return "; winit_fast.adapters.jax takes a key as key="
    return ""


def _word64(argument: str, value: object, kind: str) -> int:
    needed = f"{kind} in [0, 2^64)"
    try:
        word = as_int(argument, value, needed)
    except TypeError as error:
        raise TypeError(f"{error}{_name_adapter(value)}") from None
    if not 0 <= word < 1 << 64:
        raise ValueError(f"{argument} must be {needed}, got {quote(value)}")
    return word
