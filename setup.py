"""Extension modules: the plan, the coefficients, and the kernels once for each ISA of the target machine.

The rest is in pyproject.toml, but for the text of an index's page.
"""

import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import PlatformError
from setuptools.modified import newer_group

# The machine the build is for, which a cross build says in _PYTHON_HOST_PLATFORM. macOS's universal2, 32-bit Pythons
# and all others get the baseline alone.
PLATFORM = sysconfig.get_platform()
MACHINE = PLATFORM.rpartition("-")[2].lower() if struct.calcsize("P") == 8 else "32-bit"
IS_X86_64 = MACHINE in ("x86_64", "amd64")
IS_ARM64 = MACHINE in ("aarch64", "arm64")
IS_MSVC = PLATFORM.startswith("win")

# One build for CPython 3.10 and all later ones; 64 x 64 values take as long, 6.3 us. Free-threaded Pythons have no
# stable ABI before 3.15, and others none at all.
IS_STABLE_ABI = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")


# Of systems other than Windows, where setuptools looks for Visual Studio.
COMPILER = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def is_gcc() -> bool:
    """Whether the compiler is gcc by its own word; its name may be anything (``cc`` is clang on macOS)."""
    try:
        said = subprocess.run([*COMPILER, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return False
    return "Free Software Foundation" in said


# Promise 1 hangs on these. Both compilers fuse a*b+c by default where the CPU can; /fp:strict is MSVC's word for not
# doing so. No errno from sqrt and no traps: neither changes a value, and loops vectorize. Reassociation of integer
# expressions (floating-point ones are never touched) puts a shift's result late into the xors of Philox: 10 % slower.
if IS_MSVC:
    FLAGS = ["/O2", "/fp:strict"]
else:
    FLAGS = [
        "-O3",
        "-fno-fast-math",
        "-ffp-contract=off",
        "-fno-math-errno",
        "-fno-trapping-math",
        "-fno-strict-overflow",
        "-g0",  # Python's own -g makes wheels three times as large
    ]
    FLAGS += ["-fno-tree-reassoc", "-fno-single-precision-constant"] if is_gcc() else []  # clang knows neither

# CFLAGS stand in the command that links, too: with -Ofast there, gcc adds code that ends subnormal numbers in whatever
# process imports the module.
LINK_FLAGS = [] if IS_MSVC else ["-O3", "-fno-fast-math", "-fno-unsafe-math-optimizations", "-pthread"]

ISA_FLAGS = {"baseline": []}
if IS_X86_64:
    ISA_FLAGS["avx2"] = ["/arch:AVX2"] if IS_MSVC else ["-mavx2"]
    ISA_FLAGS["avx512"] = (
        ["/arch:AVX512"]
        if IS_MSVC
        else ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
    )
elif IS_ARM64:
    ISA_FLAGS["neon"] = []

# Of the public repository, such as https://host/owner/name: only the workflow that publishes knows it.
ADDRESS = os.environ.get("WINIT_FAST_ADDRESS", "").rstrip("/")
if ADDRESS and not re.fullmatch(r"https?://[\w.:/~%-]+", ADDRESS):
    raise ValueError(f"WINIT_FAST_ADDRESS must be as https://host/owner/name, got {ADDRESS!r}")

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "freethreading_compatible": True,  # Python's lock guards nothing here; see winit_fast/parallel.py
}


def can_load(module: str) -> bool:
    """Whether a compiled module is one of this machine; the name of the stable ABI's says neither system nor processor.

    A folder may be shared, such as with a container. In a process of its own, or Windows would not let it be replaced.
    """
    command = [sys.executable, "-c", "import ctypes, sys; ctypes.PyDLL(sys.argv[1])", os.path.abspath(module)]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0


def read_readme(version: str) -> str:
    """README.md; where the address is known its links are absolute, to the files of that version's tag."""

    def resolve(link: re.Match) -> str:
        kind = "raw" if link[1] else "blob"
        return f"{link[1]}{link[2]}({ADDRESS}/{kind}/v{version}/{link[3]})"

    text = Path("README.md").read_text(encoding="utf-8")
    return re.sub(r"(!?)(\[[^\]]*\])\((?!#|[a-z]+:)([^)]+)\)", resolve, text) if ADDRESS else text


def extension(name: str, flags: list[str]) -> Extension:
    """One Cython module of the engine."""
    macros = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION")]
    macros += [("Py_LIMITED_API", "0x030A0000")] if IS_STABLE_ABI else []
    if name == "_kernels_baseline" and IS_ARM64:
        macros.append(("WINIT_FAST_PORTABLE", "1"))  # so that Arm, too, has two kernels to compare
    return Extension(
        f"winit_fast.{name}",
        [f"winit_fast/{name}.pyx"],
        include_dirs=["winit_fast/include", numpy.get_include()],
        depends=[f"winit_fast/{file}" for file in os.listdir("winit_fast") if file.endswith((".pxi", ".pxd"))]
        + [f"winit_fast/include/{file}" for file in os.listdir("winit_fast/include")],
        define_macros=macros,
        extra_compile_args=FLAGS + flags,
        extra_link_args=LINK_FLAGS,
        py_limited_api=IS_STABLE_ABI,
    )


class BuildExtensions(build_ext):
    """Modules are compiled side by side, and ``pip install -e`` does not make again what it did before."""

    def finalize_options(self) -> None:
        """Choose how many at once."""
        super().finalize_options()
        if self.parallel is None and not IS_MSVC:  # whose driver is not made for threads
            self.parallel = os.cpu_count()

    def build_extensions(self) -> None:
        """Translate and compile the modules that are not taken from the source tree as they are.

        cythonize alone would translate all: NumPy's declarations, which pip has just unpacked, are always newer.
        """
        stale = [ext for ext in self.extensions if not self.take_present(ext)]
        if stale and not IS_MSVC and shutil.which(COMPILER[0]) is None:
            raise PlatformError(
                f"winit_fast needs a C compiler, and there is no {COMPILER[0]}: install gcc or clang, or name one in CC"
            )
        # Anew: where the disk was full, half a translation is newer than its source.
        for ext, translated in zip(stale, cythonize(stale, compiler_directives=DIRECTIVES, force=True), strict=True):
            ext.sources = translated.sources
        every, self.extensions = self.extensions, stale
        super().build_extensions()
        self.extensions = every

    def take_present(self, ext: Extension) -> bool:
        """Take the module in the source tree if nothing that it is made of is newer, and if it is for this machine.

        Whoever names a compiler or its flags in the environment wants them used.
        """
        wanted = self.get_ext_fullpath(ext.name)
        present = os.path.join("winit_fast", os.path.basename(wanted))
        sources = ["setup.py", f"{present.partition('.')[0]}.pyx"]
        sources += [file for file in ext.depends if not os.path.isabs(file)]
        names_tools = {"CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "LDSHARED"} & os.environ.keys()
        if not self.editable_mode or names_tools or newer_group(sources, present) or not can_load(present):
            return False
        self.mkpath(os.path.dirname(wanted))
        self.copy_file(present, wanted)
        return True

    def copy_extensions_to_source(self) -> None:
        """Put the modules into the source tree, without an older build by another name, which Python would take."""
        super().copy_extensions_to_source()
        for ext in self.extensions:
            built = os.path.basename(self.get_ext_filename(ext.name))
            for suffix in EXTENSION_SUFFIXES:
                other = built.partition(".")[0] + suffix
                if other != built and os.path.exists(os.path.join("winit_fast", other)):
                    os.remove(os.path.join("winit_fast", other))


VERSION = re.search(r'^__version__ = "(.+)"', Path("winit_fast/config.py").read_text(encoding="utf-8"), re.MULTILINE)[1]

setup(
    version=VERSION,
    long_description=read_readme(VERSION),
    long_description_content_type="text/markdown",
    project_urls={"Source": ADDRESS, "Changes": f"{ADDRESS}/blob/v{VERSION}/CHANGELOG.md"} if ADDRESS else {},
    cmdclass={"build_ext": BuildExtensions},
    ext_modules=[extension(name, []) for name in ("_plan", "_coefficients")]
    + [extension(f"_kernels_{isa}", flags) for isa, flags in ISA_FLAGS.items()],
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if IS_STABLE_ABI else {},
)
