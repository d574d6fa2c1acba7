"""What TensorFlow's and JAX's adapters keep between calls, under signal handlers and interrupts."""

import threading

import numpy as np
import pytest

from winit_fast import adapters

pytestmark = pytest.mark.frameworks


def test_a_signal_handler_may_make_a_part_of_a_tensor_amid_another(monkeypatch):
    tf = pytest.importorskip("tensorflow")
    from winit_fast.adapters import tensorflow as adapter

    initializer, drawn = adapters.tensorflow.Initializer("normal"), []

    def part(rows):
        return initializer((rows, 3), partition_shape=(rows // 2, 3), partition_offset=(0, 0)).numpy()

    def draw():  # as if a signal came now
        if not drawn:
            drawn.append(1)
            drawn.append(part(8))
        return 5

    monkeypatch.setattr(adapter, "_draw_seed", draw)
    found = []
    thread = threading.Thread(target=lambda: found.append(part(4)), daemon=True)
    thread.start()
    thread.join(60)
    assert found, "it waits for itself"
    assert isinstance(drawn[1], np.ndarray)
    assert tf.executing_eagerly()


def test_an_interrupt_leaves_no_error_of_a_callback_for_later():
    pytest.importorskip("jax")
    from winit_fast.adapters._memory import jax as memory

    def part(*_, **__):
        memory._stopped.error = ValueError("of the callback")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        memory._make_now(part, None, None, (2,))
    assert memory._stopped.error is None


def test_a_signal_handler_may_make_an_array_amid_another():
    pytest.importorskip("jax")
    from winit_fast.adapters._memory import jax as memory

    def part(*_, **__):
        memory._stopped.error = KeyboardInterrupt()
        adapters.jax.init((2, 2), "normal", seed=0)  # as if a signal came now
        raise RuntimeError("as XLA says it")

    with pytest.raises(KeyboardInterrupt):
        memory._make_now(part, None, None, (2,))
