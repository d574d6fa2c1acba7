"""What else fills memory with random numbers, each bound to one buffer: the methods that the benchmarks compare.

A method that is not installed, or that this machine cannot run, raises `UnavailableError` when it is bound.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import winit_fast
from winit_fast import dispatch
from winit_fast.dispatch import ISA, usable_isas

SCHEMES = {"uniform": "uniform", "normal": "normal", "truncated_normal": "truncated_normal"}
ISAS = tuple(isa for isa in ("avx512", "avx2", "neon", "baseline") if isa in usable_isas())
SEED = 7


class UnavailableError(Exception):
    """This method cannot run here; the text says why."""


@dataclass(frozen=True)
class Method:
    """One way to fill a buffer.

    `bind(buffer)` gives a function of no arguments that fills it once. `share` is the part of the buffer that a slow
    method is given. `isa` is the copy of our kernels that runs; None for others.
    """

    label: str
    bind: Callable[[np.ndarray], Callable[[], Any]]
    threads: int = 1
    isa: str | None = None
    share: float = 1.0

    def __str__(self) -> str:
        return self.label + (f", {self.threads} threads" if self.threads > 1 else "")


@contextmanager
def kernels_of(isa: str | None) -> Iterator[None]:
    """Let the kernels of another ISA run, which `WINIT_FAST_ISA` does for a whole process."""
    usual = dispatch.kernels
    if isa is not None and isa != ISA:
        dispatch.kernels = import_module(f"winit_fast._kernels_{isa}")
    try:
        yield
    finally:
        dispatch.kernels = usual


def ours(
    scheme: str,
    isas: tuple[str, ...] = ISAS,
    threads: tuple[int, ...] = (1, 2),
    shape: tuple[int, ...] | None = None,
    offset: tuple[int, ...] | None = None,
    **arguments: Any,
) -> list[Method]:
    """winit_fast with every ISA asked for, by one thread and by two; the buffer is the whole or a part of `shape`."""
    arguments |= {"seed": SEED, "name": "table", "shape": shape, "offset": offset}

    def method(isa: str, count: int) -> Method:
        def bind(buffer: np.ndarray) -> Callable[[], Any]:
            return lambda: winit_fast.fill(buffer, scheme, threads=count, **arguments)

        return Method(f"winit_fast {isa}", bind, count, isa)

    return [method(isa, count) for isa in isas for count in threads]


def renamed(method: Method, label: str) -> Method:
    """The same under another name."""
    return replace(method, label=label)


def memset() -> list[Method]:
    """The ceiling: the same byte everywhere."""
    return [
        Method("memset", lambda buffer: in_parts(buffer, 1, set_bytes)),
        Method("memset", lambda buffer: in_parts(buffer, 2, set_bytes), threads=2),
        Method("ndarray.fill", lambda buffer: lambda: buffer.fill(0)),
    ]


def set_bytes(part: np.ndarray) -> None:
    ctypes.memset(part.ctypes.data, 0, part.nbytes)


def in_parts(buffer: np.ndarray, count: int, work: Callable[[np.ndarray], None]) -> Callable[[], None]:
    """Work on contiguous parts, each in a thread of its own, of which the caller's is one."""
    first, *others = np.array_split(buffer, count)

    def run() -> None:
        helpers = [threading.Thread(target=work, args=(part,)) for part in others]
        for helper in helpers:
            helper.start()
        work(first)
        for helper in helpers:
            helper.join()

    return run


def numpy_generators(distribution: str) -> list[Method]:
    """NumPy's own bit generators."""
    return [
        Method(f"NumPy {name}", _generator(lambda name=name: getattr(np.random, name)(SEED), distribution))
        for name in ("PCG64", "SFC64", "Philox")
    ]


def randomgen_generators(distribution: str) -> list[Method]:
    """Some of randomgen's under NumPy's distributions."""

    def bit_generator(name: str) -> Any:
        return getattr(_module("randomgen"), name)(SEED)

    return [
        Method(f"randomgen {name}", _generator(lambda name=name: bit_generator(name), distribution))
        for name in ("AESCounter", "SFMT", "Xoshiro256")
    ]


def _generator(bit_generator: Callable[[], Any], distribution: str) -> Callable[[np.ndarray], Callable[[], Any]]:
    def bind(buffer: np.ndarray) -> Callable[[], Any]:
        if buffer.dtype not in (np.float32, np.float64):
            raise UnavailableError(f"no {buffer.dtype}")
        generator = np.random.Generator(bit_generator())
        draw = generator.random if distribution == "uniform" else generator.standard_normal
        return lambda: draw(out=buffer, dtype=buffer.dtype)

    return bind


def numpy_cast(distribution: str) -> list[Method]:
    """What a NumPy user does for a type that NumPy does not draw: float32, then a cast."""

    def bind(buffer: np.ndarray) -> Callable[[], Any]:
        generator = np.random.Generator(np.random.SFC64(SEED))
        draw = generator.random if distribution == "uniform" else generator.standard_normal

        def run() -> None:
            buffer[:] = draw(buffer.size, dtype=np.float32)

        return run

    return [Method("NumPy SFC64, cast", bind)]


def torch_in_place(distribution: str) -> list[Method]:
    """torch's in-place methods on the same memory."""

    def method(threads: int, share: float) -> Method:
        def bind(buffer: np.ndarray) -> Callable[[], Any]:
            torch = _module("torch")
            tensor = (
                torch.from_numpy(buffer.view(np.int16)).view(torch.bfloat16)
                if buffer.dtype.name == "bfloat16"
                else torch.from_numpy(buffer)
            )
            fill = {
                "uniform": tensor.uniform_,
                "normal": tensor.normal_,
                "truncated_normal": lambda: torch.nn.init.trunc_normal_(tensor, a=-2.0, b=2.0),
            }[distribution]

            def run() -> None:
                torch.set_num_threads(threads)
                fill()

            return run

        return Method("torch", bind, threads, share=share)

    share = 1 / 8 if distribution == "truncated_normal" else 1.0
    return [method(1, share), method(2, share)]


def torch_init(name: str, **arguments: Any) -> list[Method]:
    """An initializer of torch.nn.init on the same memory, with one thread and with two."""

    def method(threads: int) -> Method:
        def bind(buffer: np.ndarray) -> Callable[[], Any]:
            torch = _module("torch")
            tensor, fill = torch.from_numpy(buffer), getattr(torch.nn.init, name)

            def run() -> None:
                torch.set_num_threads(threads)
                fill(tensor, **arguments)

            return run

        return Method(f"torch {name}", bind, threads)

    return [method(1), method(2)]


def scipy_truncated() -> list[Method]:
    """scipy's truncnorm, which draws float64 and returns a new array."""

    def bind(buffer: np.ndarray) -> Callable[[], Any]:
        truncated = _module("scipy.stats").truncnorm(-2.0, 2.0)
        generator = np.random.Generator(np.random.SFC64(SEED))

        def run() -> None:
            buffer[:] = truncated.rvs(buffer.size, random_state=generator)

        return run

    return [Method("scipy truncnorm", bind, share=1 / 64)]


def mkl_random_generators(distribution: str) -> list[Method]:
    """mkl_random draws float64 and returns a new array: it has no out=."""

    def method(brng: str) -> Method:
        def bind(buffer: np.ndarray) -> Callable[[], Any]:
            if buffer.dtype != np.float64:
                raise UnavailableError("float64 only")
            state = _module("mkl_random").MKLRandomState(SEED, brng)
            draw = state.random_sample if distribution == "uniform" else state.standard_normal
            return lambda: draw(buffer.size)

        return Method(f"mkl_random {brng}, new array", bind)

    return [method("SFMT19937"), method("ARS5")]


# mkl_vsl_defines.h: basic generators count in steps of 2^20; the first method of every distribution is 0.
_VSL_GENERATORS = {"SFMT19937": 13 << 20, "ARS5": 15 << 20, "PHILOX4X32X10": 16 << 20}
_VSL_UNIFORM_STD, _VSL_GAUSSIAN_ICDF = 0, 2


def mkl_vsl(distribution: str) -> list[Method]:
    """MKL's vector statistics library, called directly: the fastest generators for CPUs that one can install."""

    def method(generator: str) -> Method:
        def bind(buffer: np.ndarray) -> Callable[[], Any]:
            mkl = _mkl()
            kind, scalar = {"float32": ("s", ctypes.c_float), "float64": ("d", ctypes.c_double)}[buffer.dtype.name]
            stream = ctypes.c_void_p()
            status = mkl.vslNewStream(ctypes.byref(stream), _VSL_GENERATORS[generator], SEED)
            if status != 0:
                raise UnavailableError(f"vslNewStream({generator}) gave {status}")
            uniform = distribution == "uniform"
            draw = getattr(mkl, f"v{kind}Rng{'Uniform' if uniform else 'Gaussian'}")
            draw.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, scalar, scalar]
            way = _VSL_UNIFORM_STD if uniform else _VSL_GAUSSIAN_ICDF

            def run() -> None:
                status = draw(way, stream, buffer.size, buffer.ctypes.data, 0.0, 1.0)
                if status != 0:
                    raise RuntimeError(f"MKL gave {status}")

            return run

        return Method(f"MKL {generator}", bind)

    return [method(generator) for generator in _VSL_GENERATORS]


@lru_cache(maxsize=1)
def _mkl() -> ctypes.CDLL:
    os.environ.setdefault("MKL_THREADING_LAYER", "SEQUENTIAL")
    patterns = ("lib/libmkl_rt.so.*", "lib/libmkl_rt*.dylib", "Library/bin/mkl_rt*.dll")  # Linux, macOS, Windows
    for path in (found for pattern in patterns for found in sorted(Path(sys.prefix).glob(pattern))):
        return ctypes.CDLL(str(path))
    raise UnavailableError("MKL is not installed")


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UnavailableError(str(error)) from None


def of(distribution: str) -> list[Method]:
    """Every method that draws this distribution in float32 or float64, ours first."""
    mine = ours(SCHEMES[distribution])
    if distribution == "truncated_normal":  # NumPy and MKL have none: their normal is the least it would cost
        return mine + torch_in_place(distribution) + scipy_truncated()
    return (
        mine + mkl_vsl(distribution) + numpy_generators(distribution) + randomgen_generators(distribution)
        + torch_in_place(distribution)
    )  # fmt: skip
