"""Docstrings for the manual: each of the parameters that share a description gets its own copy.

numpydoc reads ``seed, name, threads`` as three parameters. mkdocstrings does too, but gives all three the type and the
default of the first.
"""

import re
from typing import Any

from griffe import Extension, Object

PARAMETERS = re.compile(r"(?<=^Parameters\n----------\n)(?:.+\n?|\n(?!\w+\n-+\n))+", re.MULTILINE)
SHARED = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)+)\n((?: {4}.*(?:\n|$))*)", re.MULTILINE)


class OneByOne(Extension):
    """Repeats the description that several parameters share."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = PARAMETERS.sub(
                lambda section: SHARED.sub(repeat_for_each, section[0]), obj.docstring.value, count=1
            )


def repeat_for_each(found: re.Match[str]) -> str:
    """Repeat the description for each of the names."""
    return "".join(f"{name}\n{found[2]}" for name in found[1].split(", "))
