"""The coefficients that kernels in other languages read."""

import re
from pathlib import Path

import numpy as np

from winit_fast._coefficients import coefficients

HEADER = Path(__file__).parent.parent / "winit_fast" / "include" / "coefficients.h"


def test_the_coefficients_of_other_languages_are_those_of_the_header():
    found = {}
    for kind, name, numbers in re.findall(
        r"static const (\w+) (\w+)[^=]*= ([^;]*);", HEADER.read_text(encoding="utf-8")
    ):
        number = np.float32 if kind == "float" else np.float64
        digits = re.findall(r"-?\d[\d.e-]*", numbers)
        found[name] = tuple(float(number(text)) for text in digits)
    assert coefficients() == found
