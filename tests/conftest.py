"""What several test files share."""

from importlib import import_module

import pytest

from winit_fast import parallel
from winit_fast.dispatch import usable_isas


@pytest.fixture(params=usable_isas())
def isa(request, monkeypatch):
    """Each compiled copy of the kernels that this CPU runs, in turn."""
    kernels = import_module(f"winit_fast._kernels_{request.param}")
    monkeypatch.setattr(parallel, "fill_units", kernels.fill_units)
    return request.param
