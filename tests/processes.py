"""Python in a process of its own, with the sources under test and none of the environment that winit_fast reads."""

import os
import subprocess
import sys
from pathlib import Path

import winit_fast

#: Seconds after which a process is taken to hang. That says nothing about speed: a busy machine may take minutes.
PATIENCE = 1800

#: Put in front of code whose memory is measured: stacks, pools and the kernel's own counting grow with the CPUs used.
ON_TWO_CPUS = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
"""


#: Put in front of code that signals are sent to: nohup, and a shell in the background, have children ignore them.
HEAR_SIGNALS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("SIGTERM", "SIGHUP"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
"""

#: As ``python -m winit_fast``, and hears signals.
_RUN = "import runpy\nrunpy.run_module('winit_fast', run_name='__main__', alter_sys=True)"
COMMAND = [sys.executable, "-c", HEAR_SIGNALS + _RUN]


def python(*arguments, cwd=None, timeout=PATIENCE, **environment):
    """Run a fresh Python, without the variables that winit_fast reads unless given here."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd, env=_environment() | environment, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def started(code):
    """The code in a fresh Python that goes on beside the test."""
    return subprocess.Popen(
        [sys.executable, "-c", HEAR_SIGNALS + code], env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def _environment():
    # Tests of Keras in this process may have chosen its backend.
    left = ("WINIT_FAST", "LOCAL_WORLD_SIZE", "KERAS_BACKEND")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left)}
    places = [str(Path(winit_fast.__file__).parents[1]), str(Path(__file__).parent), kept.get("PYTHONPATH", "")]
    return kept | {"PYTHONPATH": os.pathsep.join(place for place in places if place)}


def printed(code, *, cwd=None, **environment):
    """What the code prints in a fresh Python; it must end well."""
    done = python("-c", code, cwd=cwd, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout
