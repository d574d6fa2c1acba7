"""Blocks of accelerate and recordings, under forks, interrupts and threads, and where they end in any order."""

import asyncio
import contextlib
import copy
import gc
import os
import random
import signal
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from injection import Injected, inject, positions, sample

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from winit_fast import adapters  # noqa: E402
from winit_fast.adapters.torch import asking, blocks, recording  # noqa: E402
from winit_fast.adapters.torch.recording import Recorder  # noqa: E402

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

accelerate, init_, INIT = adapters.torch.accelerate, adapters.torch.init_, nn.init
FUNCTIONS = {name: value for name, value in vars(INIT).items() if isinstance(value, types.FunctionType)}
STATE_OF_TORCH = torch.get_rng_state


def are_torchs():
    """Whether all is as without a block, for this thread and what modules hold."""
    return (
        all(getattr(INIT, name) is function for name, function in FUNCTIONS.items())
        and torch.get_rng_state is STATE_OF_TORCH
        and not blocks._open
        and torch.overrides._len_torch_function_stack() == 0
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch.utils._python_dispatch.is_in_torch_dispatch_mode()
        and torch.is_grad_enabled()
        and draws_as_torch()
    )


def draws_as_torch():
    one, other = (torch.Generator().manual_seed(3) for _ in range(2))
    drawn = INIT.normal_(torch.empty(8), generator=one), torch.empty(8).normal_(generator=one)
    expected = [torch.randn(8, generator=other) for _ in range(2)]
    return all(map(torch.equal, drawn, expected))


def draws(seed, number=0):
    """Whether the next two calls fill as those of a block with this seed, of which so many are done."""
    drawn = INIT.normal_(torch.empty(8)), torch.empty(8).uniform_()
    schemes = "normal", "uniform(0, 1, 'below_high')"
    expected = [init_(torch.empty(8), scheme, seed=seed, name=number + n) for n, scheme in enumerate(schemes)]
    return all(map(torch.equal, drawn, expected))


def a_block_works():
    with accelerate(seed=5):
        works = draws(5) and INIT.normal_ is not FUNCTIONS["normal_"]
    return works and are_torchs()


def in_another_thread(function, timeout=60.0):
    """What a function returns there; it must come to an end."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()), daemon=True)
    thread.start()
    thread.join(timeout)
    assert found, "it has not come to an end"
    return found[0]


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    assert are_torchs()


@pytest.fixture
def few_modules(monkeypatch):
    """Fewer modules to look through, where that is done thousands of times."""
    few = {name: sys.modules[name] for name in ("torch", "torch.nn.init", "torch.random", __name__)}
    monkeypatch.setattr(blocks, "sys", types.SimpleNamespace(modules=few, _getframe=sys._getframe))


# Blocks that end in any order


def block_of(seed):
    with accelerate(seed=seed):
        while True:
            yield


def test_generators_that_are_closed_out_of_order():
    first, second = block_of(1), block_of(2)
    next(first)
    next(second)
    first.close()
    assert draws(2)
    next(second)
    assert draws(2, 2)
    second.close()
    assert are_torchs()


def test_the_inner_of_two_generators_may_be_closed_first():
    first, second, third = (block_of(seed) for seed in (1, 2, 3))
    for each in (first, second, third):
        next(each)
    second.close()
    assert draws(3)
    third.close()
    assert draws(1)
    first.close()
    assert are_torchs()


def test_a_generator_that_is_deleted_ends_its_block():
    generator = block_of(1)
    next(generator)
    with accelerate(seed=2):
        del generator
        assert draws(2)


def test_overlapping_blocks_keep_nothing_of_those_before():
    blocks_open = [block_of(0)]
    next(blocks_open[0])
    for seed in range(1, 50):
        blocks_open.append(block_of(seed))
        next(blocks_open[-1])
        blocks_open.pop(0).close()
        assert draws(seed)
    chain, block = 0, blocks.block_here()
    while block is not None:
        chain, block = chain + 1, block.around
    assert chain < 4
    blocks_open.pop().close()


def test_a_generator_may_be_closed_in_another_thread():
    generator = block_of(1)
    next(generator)
    in_another_thread(generator.close)
    assert draws_as_torch()
    assert INIT.normal_ is FUNCTIONS["normal_"]
    assert a_block_works()


def test_a_block_that_skips_may_end_among_others():
    first, second = contextlib.ExitStack(), contextlib.ExitStack()
    first.enter_context(accelerate(skip=True))
    second.enter_context(accelerate(seed=2))
    first.close()
    assert draws(2)
    assert not torch.equal(INIT.normal_(torch.ones(8)), torch.ones(8))
    second.close()


def test_exit_stacks_whose_contents_are_moved():
    outer = contextlib.ExitStack()
    with contextlib.ExitStack() as stack:
        stack.enter_context(accelerate(seed=1))
        with accelerate(seed=2):
            outer = stack.pop_all()
            outer.close()
            assert draws(2)
        assert draws_as_torch()


@pytest.mark.parametrize("is_ours_first", [True, False])
@pytest.mark.parametrize("is_ours_outside", [True, False])
def test_modes_of_others_are_kept_where_blocks_end_out_of_order(is_ours_outside, is_ours_first):
    ours, theirs = accelerate(seed=1), torch.device("meta")
    for each in (ours, theirs) if is_ours_outside else (theirs, ours):
        each.__enter__()
    if is_ours_first:
        ours.__exit__(None, None, None)
        assert torch.empty(3).is_meta
        theirs.__exit__(None, None, None)
    else:
        theirs.__exit__(None, None, None)
        ours.__exit__(None, None, None)
    assert not torch.empty(3).is_meta


def test_each_task_of_asyncio_has_its_own_block():
    async def work(seed, pauses):
        with accelerate(seed=seed):
            for number in range(pauses):
                await asyncio.sleep(0)
                assert draws(seed, 2 * number)

    async def without():
        for _ in range(9):
            await asyncio.sleep(0)
            assert draws_as_torch()

    async def inside():
        with accelerate(seed=9):
            task = asyncio.ensure_future(work(10, 4))  # whose context is a copy of this one
            await asyncio.sleep(0)
            assert draws(9)
        assert draws_as_torch()
        await task

    async def all_of_them():
        await asyncio.gather(work(1, 2), work(2, 7), without(), work(3, 1), work(4, 5), inside(), without())

    asyncio.run(all_of_them())


def test_a_task_begun_in_a_block_is_without_one_after_its_end():
    async def drawing(is_over):
        await is_over.wait()
        return draws_as_torch()

    async def both():
        is_over = asyncio.Event()
        with accelerate(seed=1):
            task = asyncio.ensure_future(drawing(is_over))
            await asyncio.sleep(0)
        is_over.set()
        return await task

    assert asyncio.run(both())


def test_an_error_of_torchs_leaves_the_block_governing():
    with accelerate(seed=1):
        with pytest.raises(RuntimeError):
            INIT.normal_(torch.empty(5), std=-1.0)
        assert draws(1)


# Forks


def in_child(function):
    """Whether a function is true in a forked process, and comes to an end there."""
    child = os.fork()
    if not child:
        status = 2
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        try:
            status = 0 if function() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class Stopping:
    """In the place of a module: whoever looks what it holds waits, but for forked processes and whom it is told."""

    def __init__(self):
        self.process, self.waits = os.getpid(), False
        self.has_come, self.may_go = threading.Event(), threading.Event()

    @property
    def __dict__(self):
        if self.waits and os.getpid() == self.process:
            self.has_come.set()
            assert self.may_go.wait(60)
        return {}


@needs_fork
@pytest.mark.parametrize("when", ["enters", "leaves"])
@pytest.mark.parametrize("is_early", [True, False])
def test_a_child_has_torchs_functions_where_another_thread_was_half_way(monkeypatch, when, is_early):
    stopping = Stopping()
    modules = {"stopping": stopping, **sys.modules} if is_early else {**sys.modules, "stopping": stopping}
    monkeypatch.setattr(blocks, "sys", types.SimpleNamespace(modules=modules, _getframe=sys._getframe))

    def work():
        stopping.waits = when == "enters"
        with accelerate(seed=1):
            stopping.waits = when == "leaves"

    thread = threading.Thread(target=work)
    thread.start()
    assert stopping.has_come.wait(60)
    good = in_child(lambda: are_torchs() and a_block_works() and in_another_thread(a_block_works))
    stopping.may_go.set()
    thread.join()
    assert good


@needs_fork
def test_children_forked_while_another_thread_enters_and_leaves(few_modules):
    is_over = threading.Event()

    def work():
        while not is_over.is_set():
            with accelerate(seed=1), accelerate(seed=2):
                INIT.normal_(torch.empty(3))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert all(in_child(lambda: are_torchs() and a_block_works()) for _ in range(60))
    finally:
        is_over.set()
        thread.join()


@needs_fork
def test_a_child_forked_in_a_block_leaves_it():
    is_entered, is_over = threading.Event(), threading.Event()

    def work():
        with accelerate(seed=1):
            is_entered.set()
            assert is_over.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    assert is_entered.wait(60)
    block = contextlib.ExitStack()
    block.enter_context(accelerate(seed=2))

    def check():
        is_replaced = INIT.normal_ is not FUNCTIONS["normal_"] and list(blocks._open) == [blocks._BLOCK.get()]
        is_governed = not draws_as_torch()
        with accelerate(seed=3):
            works = draws(3)
        block.close()
        return is_replaced and not is_governed and works and are_torchs() and a_block_works()

    try:
        assert in_child(check)
        assert draws(2)
    finally:
        block.close()
        is_over.set()
        thread.join()


@needs_fork
def test_a_child_of_multiprocessing_is_as_any_other():
    import multiprocessing

    context = multiprocessing.get_context("fork")
    is_entered, is_over = threading.Event(), threading.Event()

    def work():
        with accelerate(seed=1):
            is_entered.set()
            assert is_over.wait(60)

    def check(queue):
        queue.put(are_torchs() and a_block_works())

    thread = threading.Thread(target=work)
    thread.start()
    assert is_entered.wait(60)
    queue = context.SimpleQueue()
    child = context.Process(target=check, args=(queue,))
    child.start()
    child.join(60)
    has_ended = child.exitcode == 0
    if child.exitcode is None:
        child.kill()
    is_over.set()
    thread.join()
    assert has_ended
    assert queue.get()


# Recordings


def test_a_block_in_one_thread_while_another_records():
    is_recording, is_over = threading.Event(), threading.Event()
    thread = threading.Thread(
        target=lambda: Recorder().record(lambda: (is_recording.set(), is_over.wait(60))), daemon=True
    )
    thread.start()
    assert is_recording.wait(60)
    try:
        with accelerate(seed=5):
            drawn = INIT.orthogonal_(torch.empty(8, 8))
    finally:
        is_over.set()
        thread.join()
    assert torch.equal(drawn, init_(torch.empty(8, 8), "orthogonal", seed=5, name=0))


def test_a_recording_may_end_in_a_block_of_another_thread():
    with accelerate(seed=5):
        assert in_another_thread(lambda: str(adapters.torch.recipes.own(nn.Linear(8, 6))))
        drawn = INIT.orthogonal_(torch.empty(8, 8))
    assert torch.equal(drawn, init_(torch.empty(8, 8), "orthogonal", seed=5, name=0))


def test_threads_record_one_after_another():
    state = torch.get_rng_state()

    def work(_):
        model = nn.Sequential(nn.Linear(8, 6), nn.Embedding(5, 3))
        adapters.torch.init_module_(model, adapters.torch.recipes.own(model), seed=3)
        return model.state_dict()

    torch.set_rng_state(state)
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(work, range(8)))
    torch.manual_seed(0)
    expected = work(0)
    assert all(torch.equal(model[name], expected[name]) for model in models for name in expected)
    torch.set_rng_state(before)


def test_a_model_recorded_while_another_is():
    outside, inside = Recorder(), Recorder()

    def both():
        INIT.xavier_normal_(first)
        inside.record(lambda: INIT.xavier_uniform_(second))
        INIT.xavier_normal_(first)

    first, second = (recorder.stand_in(torch.empty(4, 4), "w") for recorder in (outside, inside))
    outside.record(both)
    assert str(outside.store_of(first).law) == "xavier_normal"
    assert str(inside.store_of(second).law) == "xavier_uniform"


@needs_fork
@pytest.mark.parametrize("when", ["has the turn and has not begun", "has ended and has the turn"])
def test_a_child_records_where_another_thread_was_at_the_edge_of_a_recording(monkeypatch, when):
    has_come, may_go = threading.Event(), threading.Event()
    module, name = (recording, "outside_modes") if when.endswith("begun") else (blocks, "_settle")
    original = getattr(module, name)
    threads = []

    def stopping():
        if threading.get_ident() in threads and recording._turn and not blocks._open:
            has_come.set()
            assert may_go.wait(60)
        return original()

    def work():
        threads.append(threading.get_ident())
        Recorder().record(lambda: None)

    monkeypatch.setattr(module, name, stopping)
    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert has_come.wait(60)
        assert in_child(lambda: Recorder().record(lambda: True) and not recording._turn and are_torchs())
    finally:
        may_go.set()
        thread.join()


def test_a_model_has_all_of_its_own_at_every_bytecode_of_an_end_that_is_cut(few_modules):
    code, met, place = asking._StandIns.end.__code__, 0, 0

    def trace(frame, event, _):
        nonlocal met
        if frame.f_code is not code:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            met += 1
            if met > place:
                raise KeyboardInterrupt
        return trace

    model = nn.Linear(3, 3)
    names, weight, before = set(model.__dict__), model.weight, sys.gettrace()
    while True:
        standing_in, met = asking._StandIns(model, [], Recorder()), 0
        standing_in.begin()
        model.surplus = 1
        sys._getframe().f_trace_opcodes = True  # Python 3.12 looks at this in settrace
        sys.settrace(trace)
        try:
            standing_in.end()
            break
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
            assert names <= set(model.__dict__)
            standing_in.end()
        assert set(model.__dict__) == names
        assert model.weight is weight
        place += 1
    assert place > 30


@needs_fork
def test_a_child_forked_while_another_thread_records_is_as_without():
    model = nn.Linear(8, 6)
    weight, values, state = model.weight, model.weight.detach().clone(), torch.get_rng_state()
    is_recording, is_over = threading.Event(), threading.Event()

    class Waiting(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def reset_parameters(self):
            is_recording.set()
            assert is_over.wait(60)

    thread = threading.Thread(target=lambda: adapters.torch.recipes.own(Waiting()), daemon=True)
    thread.start()
    assert is_recording.wait(60)

    def check():
        is_same = model.weight is weight and torch.equal(weight, values) and torch.equal(torch.get_rng_state(), state)
        adapters.torch.init_module_(other, adapters.torch.recipes.own(other), seed=3)
        return is_same and are_torchs() and a_block_works()

    other = nn.Linear(3, 3)
    try:
        assert in_child(check)
    finally:
        is_over.set()
        thread.join()


# Interrupts

OURS = "torch/acceleration.py", "torch/blocks.py", "torch/recording.py", "torch/asking.py", "winit_fast/locks.py"


def enter_and_leave():
    with accelerate(seed=5):
        pass


def enter_and_leave_in_another():
    with accelerate(skip=True), accelerate(seed=5):
        torch.empty(8).normal_()


def out_of_order():
    first, second = block_of(1), block_of(5)
    next(first)
    next(second)
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("run", "most"),
    [
        (enter_and_leave, 120),
        (enter_and_leave_in_another, 40),
        (out_of_order, 40),
        *[
            pytest.param(run, None, marks=pytest.mark.sweep)
            for run in (enter_and_leave, enter_and_leave_in_another, out_of_order)
        ],
    ],
)
def test_an_exception_at_any_bytecode_leaves_a_block_open_and_working_or_none(few_modules, run, most):
    files = (*OURS, "contextlib.py", os.path.basename(__file__))
    run()
    found = positions(run, files)
    assert len(found) > 150
    for position, occurrence in sample(found, most):
        try:
            inject(run, files, position, occurrence)
        except Injected:
            # Where the exception came before contextlib or after it, it may hold a block.
            if blocks._open:
                assert run is not enter_and_leave or draws(5), position
            else:
                assert are_torchs(), position
        else:
            pytest.fail(f"not raised at {position}")
        if blocks._open and sys.version_info >= (3, 12):
            gc.collect()  # there contextlib's frames are in a cycle with what came through their generator
        assert are_torchs(), position
        assert a_block_works(), position
        assert in_another_thread(a_block_works), position


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other, self.held = nn.Linear(4, 4), nn.Linear(4, 4, bias=False), [1]
        self.other.weight = self.one.weight
        self.register_buffer("kept", torch.ones(3))


@pytest.mark.parametrize("most", [60, pytest.param(2000, marks=pytest.mark.sweep)])
def test_an_exception_at_any_bytecode_of_a_recording_leaves_the_model_and_all_else(few_modules, most):
    model = Tied()
    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    values = copy.deepcopy(model.state_dict())
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()

    def run():
        adapters.torch.recipes.own(model, build=Tied)
        adapters.torch.recipes.own(model)

    run()
    files = (*OURS, "utils/_python_dispatch.py")
    found = positions(run, files)
    assert len(found) > 1000
    putting_back = [
        (position, count)
        for position, count in found.items()
        if position[0].co_name == "end" and position[0].co_filename.endswith("asking.py")
    ]
    assert len(putting_back) > 50
    for position, occurrence in putting_back + sample(found, most):
        with pytest.raises(BaseException) as caught:  # noqa: PT011 (or what is raised from it)
            inject(run, files, position, occurrence)
        assert are_torchs(), position
        assert isinstance(caught.value, Injected) or caught.value.__context__, position
        now = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
        assert all(now[name] is tensor for name, tensor in tensors.items()), position
        assert now.keys() == tensors.keys()
        assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items()), position
        assert torch.equal(torch.get_rng_state(), before[0]), position
        assert random.getstate() == before[1]
        assert np.random.get_state()[1].tolist() == before[2]
        assert not blocks._open
    assert in_another_thread(lambda: str(adapters.torch.recipes.own(model)))
    assert a_block_works()


def test_an_exception_amid_what_torch_draws_itself_leaves_the_block_governing(few_modules):
    def run():
        INIT.normal_(torch.empty(8, dtype=torch.complex64))

    with accelerate(seed=5):
        for position in positions(run, OURS):
            with pytest.raises(Injected):
                inject(run, OURS, position)
            assert INIT.normal_ is not FUNCTIONS["normal_"]
            assert blocks.block_here() is not None, position
        assert draws(5)
