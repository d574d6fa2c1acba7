"""Read JSON that may be anybody's, value by value, where the reader says what must come next.

Nothing is made of what nobody asked for, however deep or long it is; so no text takes much more memory than it has
characters, and none exhausts the stack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import NoReturn

from winit_fast.messages import quote

__all__ = ["JsonText"]


class JsonText:
    """A text, and how far it is read. Every fault is a ValueError that says where it is.

    Parameters
    ----------
    text : str

    Examples
    --------
    >>> text = JsonText('{"shape": [2, 3], "more": {"a": [[]]}, "dtype": "F32"}')
    >>> for key in text.members():
    ...     if key == "shape":
    ...         print(text.read_ints())
    ...     else:
    ...         text.skip()
    (2, 3)
    >>> text.end()
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def peek(self) -> str:
        """The next character that is no space, or an empty text at the end."""
        self._at = _SPACES.match(self._text, self._at).end()  # type: ignore[union-attr]
        return self._text[self._at : self._at + 1]

    def members(self) -> Iterator[str]:
        """The keys of an object; the value of each must be read before the next is asked for. Each key comes once."""
        known: set[str] = set()
        for _ in self._list("{", "}"):
            key = self.read_str()
            if key in known:
                self.refuse(f"{quote(key)} is there twice")
            known.add(key)
            self._take(":")
            yield key

    def items(self) -> Iterator[None]:
        """The items of an array; each must be read before the next is asked for."""
        yield from self._list("[", "]")

    def read_str(self) -> str:
        """Text, which UTF-8 can encode."""
        self._take('"')
        try:
            text, self._at = scanstring(self._text, self._at)
            text.encode()
        except JSONDecodeError as error:
            self.refuse(error.msg)
        except UnicodeEncodeError:
            self.refuse("a text has half of a surrogate pair")
        return str(text)

    def read_int(self) -> int:
        """An integer of at most 20 digits: any of 64 bits."""
        self.peek()
        found = _INT.match(self._text, self._at)
        if found is None:
            self.refuse("an integer of at most 20 digits must be here")
        self._at = found.end()
        return int(found[0])

    def read_ints(self) -> tuple[int, ...]:
        """An array of at most 1024 integers."""
        numbers: list[int] = []
        for _ in self.items():
            numbers.append(self.read_int())
            if len(numbers) > _MOST_INTS:
                self.refuse(f"an array has more than {_MOST_INTS} integers")
        return tuple(numbers)

    def read_null(self) -> None:
        """Nothing."""
        self.peek()
        if not self._text.startswith("null", self._at):
            self.refuse("null must be here")
        self._at += 4

    def skip(self) -> None:
        """Pass over a value of any kind, of which nothing is made."""
        closing = bytearray()  # of what is open: as deep as the text is long, at one byte each
        while True:
            character = self.peek()
            if character == '"':
                self.read_str()
            elif character in ("{", "["):
                self._at += 1
                closing.append(ord("}" if character == "{" else "]"))
                if self.peek() != chr(closing[-1]):
                    self._pass_key(closing)
                    continue
            elif found := _SCALAR.match(self._text, self._at):
                self._at = found.end()
            else:
                self.refuse("a value must be here")
            while closing and self.peek() == chr(closing[-1]):
                self._at += 1
                closing.pop()
            if not closing:
                return
            self._take(",")
            self._pass_key(closing)

    def end(self) -> None:
        """Nothing but spaces may follow."""
        if self.peek():
            self.refuse("the text must end here")

    def refuse(self, fault: str) -> NoReturn:
        """Raise a ValueError that says what is wrong, and where."""
        raise ValueError(f"at character {self._at}: {fault}")

    def _list(self, opening: str, closing: str) -> Iterator[None]:
        self._take(opening)
        if self.peek() == closing:
            self._at += 1
            return
        while True:
            yield
            if self.peek() == closing:
                self._at += 1
                return
            self._take(",")

    def _pass_key(self, closing: bytearray) -> None:
        if closing[-1] == ord("}"):
            self.read_str()
            self._take(":")

    def _take(self, character: str) -> None:
        if self.peek() != character:
            self.refuse(f"{character} must be here")
        self._at += 1


_SPACES = re.compile(r"[ \t\n\r]*")
_INT = re.compile(r"-?(?:0|[1-9][0-9]{0,19})(?![0-9.eE])")
_SCALAR = re.compile(r"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_MOST_INTS = 1024
