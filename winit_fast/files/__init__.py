"""Tables larger than memory: written to files in bounded memory, by many workers in any order, resumed, verified."""

from winit_fast.files.specs import Recipe, TensorSpec
from winit_fast.files.writes import write
from winit_fast.files.writing import Written, clean

__all__ = ["Recipe", "TensorSpec", "Written", "clean", "write"]
