"""The kernels for other processors as they are compiled, without such a processor: pytest -m device (.ci/device).

What is compiled holds no operation but those that are rounded once, and an emulator of it gives the CPU's bits.
"""

import os
import re
import subprocess
from collections import Counter
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("nothing is compiled where TRITON_INTERPRET is 1", allow_module_level=True)

from device_cases import CASES, GUARD, NAME, SEED, conversion_of, memory, run, scheme_of  # noqa: E402
from ptx import BASE, Program, operations_of  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource, make_backend  # noqa: E402
from triton.runtime.jit import create_function_from_signature  # noqa: E402

from winit_fast import fill_rows  # noqa: E402
from winit_fast.adapters._device import kernels  # noqa: E402
from winit_fast.adapters._device import launch as launching  # noqa: E402
from winit_fast.adapters._device.launch import lay_out, values_of  # noqa: E402
from winit_fast.adapters._memory.torch import array_of, name_of  # noqa: E402
from winit_fast.initializer import Initializer  # noqa: E402

pytestmark = pytest.mark.device

NVIDIA = {f"sm_{number}": GPUTarget("cuda", number, 32) for number in (80, 90, 100)}
AMD = GPUTarget("hip", "gfx942", 64)
POINTERS = {torch.float32: "*fp32", torch.float64: "*fp64", torch.int16: "*i16", torch.int8: "*i8", torch.int64: "*i64"}
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@cache
def compiled(kernel, target, pointer, is_aligned, constants, fuses=False, warps=launching.WARPS):
    """What Triton would compile at a launch."""
    constants = dict(constants)
    names = kernel.arg_names
    signature = dict.fromkeys(names, "i64") | dict.fromkeys(constants, "constexpr")
    signature |= {name: kind for name, kind in (("out", pointer), ("row_list", "*i64")) if name in names}
    attributes = {(names.index("out"),): [["tt.divisibility", 16]]} if is_aligned else {}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=target, options={"num_warps": warps, "enable_fp_fusion": fuses}).asm


def specialized_by_nothing(kernel):
    return {parameter.name for parameter in kernel.params if parameter.do_not_specialize}


class Emulated:
    """Stands for a kernel where it is launched: compiles it, and has an emulator run it on the tensor's memory."""

    def __init__(self, kernel, target, fuses=False):
        self.kernel, self.target, self.fuses = kernel, target, fuses

    def __getitem__(self, grid):
        return partial(self.launch, grid[0])

    def launch(self, blocks, *arguments, num_warps, enable_fp_fusion, **constants):
        assert enable_fp_fusion is False
        out = arguments[0]
        storage = out.untyped_storage()
        octets = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
        places = [
            BASE + argument.data_ptr() - storage.data_ptr() if isinstance(argument, torch.Tensor) else argument
            for argument in arguments
        ]
        assert storage.data_ptr() % 16 == 0
        is_aligned = "out" not in specialized_by_nothing(self.kernel) and places[0] % 16 == 0
        asm = compiled(
            self.kernel, self.target, POINTERS[out.dtype], is_aligned, tuple(constants.items()), self.fuses, num_warps
        )
        Program(asm["ptx"], 32 * num_warps, self.fuses).run(places, octets, blocks)


def launch(tensor, values, layout, target, fuses=False):
    """As `launching.launch`, on an emulated processor."""
    with pytest.MonkeyPatch.context() as patch:
        for name in kernels.__all__:
            patch.setattr(kernels, name, Emulated(getattr(kernels, name), target, fuses))
        launching.launch(tensor, values, layout)


def fill_both(initializer, make, shape, offset, target, fuses=False):
    """The memory that the emulator and the CPU filled, as bytes."""
    (one, whole), (other, expected) = make(), make()
    values = values_of(conversion_of(initializer, shape, one.dtype), SEED, initializer.stream)
    if one.is_complex():
        one, shape_of_parts, start = torch.view_as_real(one), (*shape, 2), (*offset, 0)
    else:
        shape_of_parts, start = shape, offset
    launch(one, values, lay_out(one, shape_of_parts, start), target, fuses)
    initializer.fill(array_of(other), seed=SEED, shape=shape, offset=offset, threads=1)
    return whole.view(torch.uint8), expected.view(torch.uint8)


@pytest.mark.covering
@pytest.mark.parametrize("target", NVIDIA)
@pytest.mark.parametrize("place", ["at the beginning", "odd", "across the boundary of 2^32 blocks"])
@pytest.mark.parametrize(("transform", "dtype"), CASES)
def test_emulated_runs_have_the_bits_of_fill(transform, dtype, place, target):
    initializer = Initializer(scheme_of(transform, dtype), name=NAME, in_axis=0, out_axis=0)
    per_block = 1 if dtype is torch.complex128 else 2 if dtype.itemsize == 8 else 4
    start, count = {
        "at the beginning": (0, 2048 + 33),
        "odd": (32 * 12345 + 7, 1033),
        "across the boundary of 2^32 blocks": (per_block * 2**32 - 333, 777),
    }[place]
    one, other = fill_both(initializer, lambda: run(count, dtype), (2, 2**60), (0, start), NVIDIA[target])
    assert torch.equal(one, other)


@pytest.mark.parametrize("target", NVIDIA)
def test_emulated_runs_in_aligned_memory_have_the_bits_of_fill(target):
    def make():
        whole = memory(5000, torch.bfloat16)
        return whole[None, 32:4500], whole

    for start in (0, 48):
        one, other = fill_both(Initializer("normal", name=NAME), make, (2, 10**6), (0, start), NVIDIA[target])
        assert torch.equal(one, other)


@pytest.mark.parametrize("target", NVIDIA)
def test_the_conversion_to_bfloat16_that_is_not_used_has_the_same_bits(target):
    """So a measurement may choose between the two."""
    initializer = Initializer("normal", name=NAME)
    (one, whole), (other, expected) = run(2048 + 33, torch.bfloat16), run(2048 + 33, torch.bfloat16)
    values = values_of(conversion_of(initializer, (2, 2**60), torch.bfloat16), SEED, NAME)
    layout = lay_out(one, (2, 2**60), (0, 7))
    launch(one, values._replace(store="bfloat16_by_conversion"), layout, NVIDIA[target])
    initializer.fill(array_of(other), seed=SEED, shape=(2, 2**60), offset=(0, 7), threads=1)
    assert torch.equal(whole.view(torch.uint8), expected.view(torch.uint8))


PANELS = {
    "rows": lambda whole: whole.view(30, 100)[:20, 3:90],
    "across": lambda whole: whole.view(30, 100)[:, :70].t(),
    "four axes": lambda whole: whole.view(6, 5, 10, 10)[::2, :4, 1:9, :7].permute(2, 0, 3, 1),
}


@pytest.mark.covering
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=name_of)
@pytest.mark.parametrize("layout", PANELS)
@pytest.mark.parametrize("target", NVIDIA)
def test_emulated_panels_have_the_bits_of_fill(layout, dtype, target):
    def make():
        whole = memory(3000, dtype)
        return PANELS[layout](whole), whole

    extent = make()[0].shape
    shape, offset = tuple(size + 37 for size in extent), tuple(range(1, 1 + len(extent)))
    one, other = fill_both(Initializer("truncated_normal(std=0.1)", name=NAME), make, shape, offset, NVIDIA[target])
    assert torch.equal(one, other)


class Asked:
    """Stands for a kernel where it is launched: keeps the number of blocks and the arguments."""

    def __getitem__(self, grid):
        def keep(*arguments, num_warps, enable_fp_fusion, **constants):
            self.blocks, self.arguments, self.constants = grid[0], arguments[1:], tuple(constants.items())

        return keep


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
def test_what_stands_more_than_32_bits_of_elements_behind_the_beginning_has_the_bits_of_fill(dtype):
    """The last blocks alone are run, with memory that only they write to."""
    initializer, shape = Initializer("normal", name=NAME), (10**6, 2**20)
    values, pointer = values_of(conversion_of(initializer, shape, dtype), SEED, NAME), {2: "*i16", 4: "*fp32"}
    out = torch.empty(1, dtype=dtype).view({2: torch.int16, 4: torch.float32}[dtype.itemsize])

    def run_last(asked, kernel, before, size):
        whole = memory(size, dtype)
        asm = compiled(kernel, NVIDIA["sm_90"], pointer[dtype.itemsize], False, asked.constants)
        where = [BASE - before * dtype.itemsize, *asked.arguments]
        where = [BASE if isinstance(each, torch.Tensor) else each for each in where]  # there is no list of rows
        Program(asm["ptx"], 32 * launching.WARPS).run(where, whole.view(torch.uint8).numpy(), 2, asked.blocks - 2)
        return whole

    count, asked = (1 << 32) + 12345, Asked()
    launching._launch_run(SimpleNamespace(fill_run=asked), out, values, launching.Run(77, count))
    before = (asked.blocks - 2) * launching.GROUPS * 32 - 77
    one = run_last(asked, kernels.fill_run, before, count - before + GUARD)
    other = memory(len(one), dtype)
    initializer.fill(array_of(other[None, :-GUARD]), seed=SEED, shape=(2, 2**60), offset=(0, 77 + before), threads=1)
    assert torch.equal(one.view(torch.uint8), other.view(torch.uint8))

    # Rows of 40, each 65,541 elements behind the one before, in a global tensor of more than 2^39.
    rows, stride, asked = 70_000, 65_541, Asked()
    panels = launching.Panels(5 * 2**20 + 7, 0, (40, 1, 1), ((rows, stride, 2**20),))
    launching._launch_panels(SimpleNamespace(fill_panels=asked), out, values, panels)
    skipped = (asked.blocks - 2) * launching.GROUPS // panels.pieces(32) + 1  # of the last one these write a part
    one = run_last(asked, kernels.fill_panels, (skipped - 1) * stride, (rows - skipped + 1) * stride)[stride:]
    assert skipped * stride > 1 << 32
    other = memory((rows - skipped) * stride, dtype)
    part = other.view(rows - skipped, stride)[:, :40]
    initializer.fill(array_of(part), seed=SEED, shape=shape, offset=(5 + skipped, 7), threads=1)
    assert torch.equal(one.view(torch.uint8), other.view(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float8_e5m2, torch.float64], ids=name_of)
@pytest.mark.parametrize("target", NVIDIA)
def test_emulated_lists_of_rows_have_the_bits_of_fill_rows(dtype, target):
    rows = np.array([998, 3, 3, 0, 999, 17, 4])
    room = torch.full(
        (8 * len(rows) + 1024 * dtype.itemsize,), 77, dtype=torch.uint8
    )  # both in memory that one base has
    listed = room[: 8 * len(rows)].view(torch.int64)
    listed.copy_(torch.from_numpy(rows))
    part = room[8 * len(rows) :].view(dtype).view(8, 128)[:7, 5:105]
    other = torch.empty(7, 100, dtype=dtype)
    initializer = Initializer("normal", name=NAME)
    values = values_of(conversion_of(initializer, (1000, 100), dtype), SEED, NAME)
    launch(part, values, lay_out(part, (1000, 100), (0, 0), listed, 3), NVIDIA[target])
    fill_rows(array_of(other), rows, "normal", seed=SEED, name=NAME, shape=(1000, 100), padding_idx=3)
    assert torch.equal(part.contiguous().view(torch.uint8), other.view(torch.uint8))
    part.view(torch.uint8)[:] = 77
    assert bool((room[8 * len(rows) :] == 77).all())


@pytest.mark.parametrize("scheme", ["uniform(low=-0.1, high=0.3)", "normal", "truncated_normal"])
def test_with_contraction_on_the_bits_differ(scheme):
    """So the tests above would see it, and ``enable_fp_fusion=False`` is what keeps the bits."""
    initializer = Initializer(scheme, name=NAME)
    one, other = fill_both(
        initializer, lambda: run(2048, torch.float32), (2, 2**60), (0, 0), NVIDIA["sm_90"], fuses=True
    )
    different = (one.view(torch.float32) != other.view(torch.float32)).float().mean()
    assert different > 0.1
    program = Program(compiled(*variant("normal32", torch.float32), fuses=True)["ptx"])
    with pytest.raises(NotImplementedError, match=r"fma|is not \.rn"):
        program.run([BASE, 0, 2048], np.zeros(8192, np.uint8), 1)


# What is compiled


@pytest.mark.parametrize("name", kernels.__all__)
@pytest.mark.parametrize("target", [NVIDIA["sm_90"], AMD], ids=["cuda", "hip"])
def test_integers_of_any_size_are_launched_with_one_kernel(name, target):
    kernel, backend = getattr(kernels, name), make_backend(target)
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    constants = {parameter.name: 1 for parameter in kernel.params if parameter.is_constexpr}
    pointers = {"out": torch.zeros(4), "row_list": torch.zeros(4, dtype=torch.int64)}
    found = set()
    for number in (0, 1, -1, 16, 17, 2**31, 2**33 + 1, -(2**63), 2**63 - 1):
        arguments = [pointers.get(name, number) for name in kernel.arg_names if name not in constants]
        _, kinds, options = bind(*arguments, **constants, num_warps=4, enable_fp_fusion=False)
        found.add(tuple(kind for kind, _ in kinds))
        assert backend.parse_options(options).enable_fp_fusion is False
    (kinds,) = found
    assert set(kinds) == {"i64", "constexpr", "*fp32"} | ({"*i64"} if "row_list" in kernel.arg_names else set())


ALLOWED = re.compile(
    r"""(add|sub|mul|div|sqrt)\.rn\.f(32|64) | (add|sub|mul)\.rn\.f32x2 | (max|min|abs|neg)\.f(32|64)
    | cvt\.rn\.f(32|64)\.[su](16|32) | cvt\.[us]\d+\.[us]\d+
    | (setp\.[a-z]+|selp|mov)\.[a-z]+\d* | (and|or|xor|not|shl)\.[a-z]+\d* | prmt\.b32
    | (shr|add|sub|neg|div|rem|bfe|min|max)\.[us]\d+ | (add|sub)\.[us]16x2 | (mul|mad)\.(lo|hi|wide)\.[us]\d+
    | (ld|st)\.(param|global|shared)(\.v[24])?\.[a-z]\d+ | stmatrix\.sync\.aligned\.m8n8\.x[124]\.shared\.b16
    | bra(\.uni)? | bar\.sync | ret""",
    re.VERBOSE,
)


@pytest.mark.parametrize("name", kernels.__all__)
@pytest.mark.parametrize("target", [NVIDIA["sm_90"], AMD], ids=["cuda", "hip"])
def test_of_memory_only_the_alignment_of_runs_decides_which_kernel_is_compiled(name, target, monkeypatch):
    """So what is compared in little memory, of whichever view, is what runs in much."""
    monkeypatch.setattr(torch.version, "hip", "6.4" if target is AMD else None)
    kernel, backend = getattr(kernels, name), make_backend(target)
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    constants = {parameter.name: 1 for parameter in kernel.params if parameter.is_constexpr}
    little = torch.zeros(8)
    found = {}
    for what, out in (("aligned", little[4:]), ("odd", little[1:]), ("much", torch.empty(1 << 30, device="meta"))):
        pointers = {"out": launching._pointer_to(out), "row_list": launching._pointer_to(little[:2].view(torch.int64))}
        arguments = [pointers.get(name, 1) for name in kernel.arg_names if name not in constants]
        _, found[what], _ = bind(*arguments, **constants, num_warps=4, enable_fp_fusion=False)
    assert found["aligned"] == found["much"]
    assert (found["aligned"] == found["odd"]) == (name == "fill_panels")


def variant(transform, dtype, target=NVIDIA["sm_90"], **panels):
    """The arguments of `compiled` for a kernel as it is launched."""
    kernel = kernels.fill_panels if panels else kernels.fill_run
    values = values_of(conversion_of(Initializer(scheme_of(transform, dtype)), (4, 4), dtype), 1, 2)
    assert values.transform == transform
    constants = {"TRANSFORM": transform, "STORE": values.store, "BITS": values.bits, "GROUPS": launching.GROUPS}
    pointer = {1: "*i8", 2: "*i16", 4: "*fp32", 8: "*fp64"}[dtype.itemsize // (2 if dtype.is_complex else 1)]
    return kernel, target, pointer, not panels, tuple({**constants, **(panels or {"ALIGNED": True})}.items())


@pytest.mark.covering
@pytest.mark.parametrize("target", NVIDIA)
@pytest.mark.parametrize(("transform", "dtype"), CASES)
def test_only_operations_that_are_rounded_once_are_compiled(transform, dtype, target):
    operations = operations_of(compiled(*variant(transform, dtype, NVIDIA[target]))["ptx"])
    assert not [operation for operation in operations if not ALLOWED.fullmatch(operation)]
    assert any(operation.startswith("st.global") for operation in operations)


@pytest.mark.parametrize(("dtype", "store"), [
    (torch.float32, "st.global.v4.b32"), (torch.bfloat16, "st.global.v4.b32"), (torch.float64, "st.global.v2.b64"),
])  # fmt: skip
def test_whole_tiles_of_aligned_memory_are_stored_in_vectors(dtype, store):
    transform = "normal64" if dtype is torch.float64 else "normal32"
    assert store in operations_of(compiled(*variant(transform, dtype))["ptx"])


@pytest.mark.covering
@pytest.mark.parametrize("target", NVIDIA)
@pytest.mark.parametrize("axes", range(1, 5))
@pytest.mark.parametrize(("listed", "across"), [(False, False), (False, True), (True, False)])
def test_panels_are_compiled_to_the_same_operations(axes, listed, across, target):
    dtype = (torch.float32, torch.bfloat16, torch.float64, torch.float8_e4m3fn)[axes - 1]
    transform = "truncated64" if dtype is torch.float64 else "truncated_near32"
    panels = {"AXES": axes, "LISTED": listed, "ACROSS": across}
    operations = operations_of(compiled(*variant(transform, dtype, NVIDIA[target], **panels))["ptx"])
    assert not [operation for operation in operations if not ALLOWED.fullmatch(operation)]


def test_the_list_of_operations_refuses_what_rounds_otherwise():
    for operation in (
        "fma.rn.f32", "fma.rn.f64", "mad.rn.f32", "add.f32", "mul.f32", "add.rn.ftz.f32", "mul.ftz.f32", "div.full.f32",
        "sqrt.approx.f32", "div.approx.f32", "rcp.rn.f32", "fma.rn.f32x2", "add.rz.f32", "cvt.rn.bf16x2.f32",
        "ex2.approx.f32", "cvt.f32.f64", "cvt.rn.f32.f64", "max.ftz.f32",
    ):  # fmt: skip
        assert not ALLOWED.fullmatch(operation), operation


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
@pytest.mark.parametrize(("transform", "dtype"), [case for case in CASES if case[1] is torch.float32])
def test_machine_code_has_as_many_products_and_sums_as_the_program(transform, dtype, target, tmp_path):
    """So what translates PTX has joined none and dropped none. Products that are added stand in sqrt and div alone."""
    asm = compiled(*variant(transform, dtype, NVIDIA[target]))
    if not (TOOLS / "nvdisasm").exists() or "cubin" not in asm:
        pytest.skip("Triton came without NVIDIA's tools")
    (tmp_path / "kernel.cubin").write_bytes(asm["cubin"])
    command = [TOOLS / "nvdisasm", "-c", tmp_path / "kernel.cubin"]
    listing = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    machine = Counter(
        re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\d+ )?([A-Z0-9.]+)", listing.stdout, flags=re.MULTILINE)
    )
    count = len(re.findall(r"\b(?:mul|add|sub)\.rn\.f32\b", asm["ptx"]))
    assert machine["FMUL"] + machine["FADD"] == count
    assert bool(machine["FFMA"]) <= bool(re.search(r"\b(?:sqrt|div)\.rn\.f32\b", asm["ptx"]))


# How many fused operations AMD's compiler makes of a root and of a quotient, which it rounds once by them.
FUSED_IN = {"v_rsq_f32": 5, "v_sqrt_f32": 2, "v_div_fixup_f32": 5, "v_rsq_f64": 7, "v_div_fixup_f64": 5}


@pytest.mark.covering(1)
@pytest.mark.parametrize(("transform", "dtype"), CASES)
def test_for_amd_nothing_is_fused_but_in_roots_and_quotients(transform, dtype):
    asm = compiled(*variant(transform, dtype, AMD))
    assert not re.search(r"\bf(?:add|sub|mul|div|neg) (?:[a-z]+ )*(?:fast|contract|reassoc|arcp|afn)\b", asm["llir"])
    assert '"denormal-fp-math-f32"="ieee"' in asm["llir"]
    count = Counter(re.findall(r"^\s+(v_[a-z_]+_f(?:32|64))", asm["amdgcn"], flags=re.MULTILINE))
    fused = sum(
        times * (2 if "pk_" in name else 1) for name, times in count.items() if re.search("_(fma|fmac|mad)_", name)
    )
    assert fused == sum(times * count[name] for name, times in FUSED_IN.items())
    assert count.total() > fused or transform.startswith("constant")
