"""Tables larger than memory: written to files in bounded memory, by many workers in any order, resumed, verified."""

from winit_fast.files.pairs import iterate_rows
from winit_fast.files.specs import Recipe, TensorSpec
from winit_fast.files.writes import write
from winit_fast.files.writing import Unfinished, Written, clean, read_unfinished

__all__ = ["Recipe", "TensorSpec", "Unfinished", "Written", "clean", "iterate_rows", "read_unfinished", "write"]
