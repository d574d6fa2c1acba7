"""adapters.torch on sharded tensors: every rank its own part, together the bits of the whole.

One group of real processes over gloo for each number of ranks; each runs all the checks below, and the tests look up
how they went.
"""

import copy
import importlib.util
import itertools
import multiprocessing
import pickle
import traceback
from datetime import timedelta

import pytest
from processes import PATIENCE

import winit_fast
from winit_fast import adapters

torch = pytest.importorskip("torch")
from winit_fast.adapters.torch.dtensor import _chunks  # noqa: E402

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed"),
]

init, init_, megatron = adapters.torch.init, adapters.torch.init_, adapters.torch.megatron_init_method
SCHEMES = ["he_normal", "xavier_uniform", "truncated_normal(std=0.02)", "orthogonal", "sparse(0.5)"]
CHECKS = {}


def check(*worlds):
    """Have these numbers of ranks run a check, which is called with the rank and their number."""

    def register(function):
        CHECKS[function.__name__] = function, worlds
        return function

    return register


# What every rank runs


def meshes(world):
    """Meshes of one axis, and of two where the ranks make up a rectangle."""
    from torch.distributed.device_mesh import init_device_mesh

    shapes = {4: [(4,), (2, 2)], 8: [(8,), (2, 4), (2, 2, 2)]}
    return [init_device_mesh("cpu", shape) for shape in shapes.get(world, [(world,)])]


def sharded(shape, mesh, placements, dtype=torch.float32):
    """A parameter of 9s that is a DTensor."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    tensor = distribute_tensor(torch.full(shape, 9.0).to(dtype), mesh, placements, src_data_rank=None)
    assert isinstance(tensor, DTensor)
    return torch.nn.Parameter(tensor)


def gathered(tensor):
    return tensor.detach().full_tensor()


@check(1, 2, 3, 4, 8)
def dtensors(rank, world):
    from itertools import product

    from torch.distributed.tensor import Replicate, Shard

    kinds = [Replicate(), Shard(0), Shard(1), Shard(-1)]
    for mesh in meshes(world):
        for number, placements in enumerate(product(kinds, repeat=mesh.ndim)):
            shape = (13, 10) if number % 2 else (5, 16)  # uneven, and fewer rows than ranks: some hold nothing
            scheme = SCHEMES[number % len(SCHEMES)]
            tensor = sharded(shape, mesh, placements)
            assert init_(tensor, scheme, seed=7, name="weight", padding_idx=3) is tensor
            whole = init(shape, scheme, seed=7, name="weight", padding_idx=3)
            assert torch.equal(gathered(tensor), whole), (placements, shape, scheme)
            assert tensor._version > 0


@check(2)
def dtensors_of_every_type_and_rank(rank, world):
    from torch.distributed.tensor import Shard

    (mesh,) = meshes(world)
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        for shape, axis in (((6, 4, 3, 3), 1), ((8, 5, 4), 0), ((9,), 0)):
            scheme = "normal" if len(shape) == 1 else "he_normal"
            axes = {"batch_axis": 0} if len(shape) == 3 else {}
            tensor = init_(sharded(shape, mesh, [Shard(axis)], dtype), scheme, seed=7, **axes)
            assert torch.equal(gathered(tensor), init(shape, scheme, dtype=dtype, seed=7, **axes)), (dtype, shape)


@check(4, 8)
def strided_shards(rank, world):
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.placement_types import _StridedShard

    mesh = meshes(world)[1]
    for rows in (16, 13, 3):
        for placements in ([_StridedShard(0, split_factor=mesh.shape[1]), Shard(0)],
                           [_StridedShard(0, split_factor=2), Replicate()]):  # fmt: skip
            local = chunked(torch.arange(rows), placements, mesh)
            tensor = torch.distributed.tensor.DTensor.from_local(
                torch.full((len(local), 6), 9.0), mesh, placements, run_check=False, shape=(rows, 6), stride=(6, 1)
            )
            for scheme in SCHEMES:
                init_(tensor, scheme, seed=7)
                assert torch.equal(tensor.to_local(), init((rows, 6), scheme, seed=7)[local]), (
                    rows,
                    placements,
                    scheme,
                )


def chunked(indices, placements, mesh):
    """The indices that this rank holds, split by torch.chunk from the left to the right."""
    for place, placement, count in zip(mesh.get_coordinate(), placements, mesh.shape, strict=True):
        if placement.is_replicate():
            continue
        parts = [chunk(piece, count) for piece in chunk(indices, getattr(placement, "split_factor", 1))]
        indices = torch.cat([part[place] for part in parts])
    return indices


def chunk(indices, count):
    parts = list(torch.chunk(indices, count)) if len(indices) else []
    return parts + [indices[:0]] * (count - len(parts))


@check(4, 8)
def fully_sharded_over_tensor_parallel(rank, world):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    mesh = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("dp", "tp"))
    for width in (16, 13):
        with torch.device("meta"):
            model = torch.nn.Sequential(torch.nn.Linear(12, width), torch.nn.Linear(width, 12))
        parallelize_module(model, mesh["tp"], {"0": ColwiseParallel(), "1": RowwiseParallel()})
        for layer in model:
            fully_shard(layer, mesh=mesh["dp"])
        fully_shard(model, mesh=mesh["dp"])
        filled_after_meta(model)
        kinds = [type(placement).__name__ for placement in model[0].weight.placements]
        assert kinds == ["_StridedShard", "Shard"]


@check(1, 2, 3, 4)
def fully_sharded(rank, world):
    from torch.distributed.fsdp import fully_shard

    with torch.device("meta"):
        model = torch.nn.Sequential(torch.nn.Linear(7, 13), torch.nn.Linear(13, 5), torch.nn.Embedding(11, 4))
    fully_shard(model, mesh=meshes(world)[0])
    filled_after_meta(model)


def filled_after_meta(model):
    """From meta to memory, parameter by parameter, as FSDP2 and torchtitan do."""
    for name, parameter in model.named_parameters():
        assert init_(parameter, "normal", name=name) is parameter  # meta: nothing happens, nothing is drawn
        assert parameter.is_meta
    model.to_empty(device="cpu")
    for name, parameter in model.named_parameters():
        scheme = "normal(std=0.02)" if parameter.dim() == 1 else "he_normal"
        init_(parameter, scheme, seed=7, name=name)
        whole = init(parameter.shape, scheme, seed=7, name=name)
        assert torch.equal(gathered(parameter), whole), (name, parameter.placements)


@check(2, 3)
def one_draw_of_equal_generators(rank, world):
    from torch.distributed.tensor import Shard

    (mesh,) = meshes(world)
    torch.manual_seed(5)
    tensors = [init_(sharded((2, 3), mesh, [Shard(0)]), "normal") for _ in range(3)]  # of 3 ranks, one holds nothing
    torch.manual_seed(5)
    for tensor in tensors:
        assert torch.equal(gathered(tensor), init((2, 3), "normal"))


@check(2)
def functions_of_nn_init(rank, world):
    from torch.distributed.tensor import Shard

    (mesh,) = meshes(world)
    functions = adapters.torch
    for fill_it in (
        functions.kaiming_uniform_, functions.xavier_normal_, functions.orthogonal_, functions.trunc_normal_,
        functions.eye_, functions.ones_, lambda tensor: functions.sparse_(tensor, 0.5),
    ):  # fmt: skip
        tensor = sharded((5, 6), mesh, [Shard(0)])
        torch.manual_seed(5)
        fill_it(tensor)
        torch.manual_seed(5)
        assert torch.equal(gathered(tensor), fill_it(torch.empty(5, 6)))


@check(2)
def pieces_along_an_axis_that_is_whole(rank, world):
    from torch.distributed.tensor import Shard

    (mesh,) = meshes(world)
    weight = torch.nn.Parameter(sharded((8, 6), mesh, [Shard(0)]))
    for number, piece in enumerate(weight.chunk(2, 1)):
        init_(piece, "he_normal", seed=1, name=number)
    expected = [init((8, 3), "he_normal", seed=1, name=number) for number in range(2)]
    assert torch.equal(gathered(weight.detach()), torch.cat(expected, 1))


@check(2)
def refusals(rank, world):
    from torch.distributed.tensor import DTensor, Partial, Shard

    (mesh,) = meshes(world)
    partial = DTensor.from_local(torch.full((4, 4), 9.0), mesh, [Partial()], run_check=False)
    wrong = DTensor.from_local(torch.full((3, 4), 9.0), mesh, [Shard(0)], run_check=False, shape=(10, 4), stride=(4, 1))
    right = sharded((4, 4), mesh, [Shard(0)])
    integers = DTensor.from_local(torch.full((2, 4), 9), mesh, [Shard(0)], run_check=False)
    for tensor, error, words, arguments in (
        (partial, ValueError, "must be sharded or replicated, got one of placement P", {}),
        (wrong, ValueError, r"must hold \(5, 4\) here by its placements, got a local tensor of \(3, 4\)", {}),
        (integers, TypeError, "must be of dtype .*, got torch.int64", {}),
        (
            right,
            ValueError,
            r"shape must be left out for a DTensor, which has its own, got \(8, 4\)",
            {"shape": (8, 4)},
        ),
        (right, ValueError, r"offset must be left out", {"offset": (0, 0)}),
        (right, ValueError, "he_nrmal", {"scheme": "he_nrmal"}),
    ):
        with pytest.raises(error, match=words):
            init_(tensor, **({"scheme": "he_normal", "seed": 0} | arguments))
        assert bool((tensor.to_local() == 9).all())
    with pytest.raises(ValueError, match="he_nrmal"):  # a rank that holds nothing knows it too
        init_(sharded((1, 4), mesh, [Shard(0)]), "he_nrmal", seed=0)


@check(2)
def a_mesh_of_other_ranks(rank, world):
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Shard

    mesh = DeviceMesh("cpu", [0])
    local = torch.full((4, 4) if rank == 0 else (0,), 9.0)
    tensor = DTensor.from_local(local, mesh, [Shard(0)], run_check=False, shape=(4, 4), stride=(4, 1))
    init_(tensor, "normal", seed=7)
    assert rank == 1 or torch.equal(tensor.to_local(), init((4, 4), "normal", seed=7))


@check(1, 2, 3)
def sharded_tensors(rank, world):
    from torch.distributed._shard import sharded_tensor
    from torch.distributed._shard.sharding_spec import ChunkShardingSpec

    for axis in (
        0,
        1,
    ):  # rows, columns: of 4 and of 7, so that they are uneven, and with 3 ranks the last may hold none
        for shape in ((7, 4), (4, 7)):
            spec = ChunkShardingSpec(axis, [f"rank:{number}/cpu" for number in range(world)])
            for scheme in SCHEMES:
                torch.manual_seed(5)
                tensor = sharded_tensor.full(spec, shape, 9.0)
                assert adapters.torch.init_sharded_(tensor, scheme, name="table", padding_idx=2) is tensor
                torch.manual_seed(5)
                whole = init(shape, scheme, name="table", padding_idx=2)
                for shard in tensor.local_shards():
                    (first, left), (rows, columns) = shard.metadata.shard_offsets, shard.metadata.shard_sizes
                    assert torch.equal(shard.tensor, whole[first : first + rows, left : left + columns])
    with pytest.raises(ValueError, match="he_nrmal"):
        adapters.torch.init_sharded_(tensor, "he_nrmal", seed=0)


@check(1, 2, 3)
def torchrec_tables(rank, world):
    import torchrec.distributed as distributed
    from torchrec import EmbeddingBagCollection, EmbeddingBagConfig
    from torchrec.distributed import sharding_plan
    from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder

    shapes = {"rows": (11, 8), "columns": (10, 12), "table": (6, 8), "copies": (4, 8)}
    scheme = "he_normal"
    tables = [
        EmbeddingBagConfig(
            num_embeddings=shape[0], embedding_dim=shape[1], name=name, feature_names=[name],
            init_fn=adapters.torch.torchrec_init_fn(scheme, shape, seed=7, name=name),
        )
        for name, shape in shapes.items()
    ]  # fmt: skip
    wholes = {name: init(shape, scheme, seed=7, name=name) for name, shape in shapes.items()}
    unsharded = EmbeddingBagCollection(tables)
    assert all(torch.equal(unsharded.embedding_bags[name].weight, wholes[name]) for name in shapes)

    sharder = EmbeddingBagCollectionSharder()
    per_table = {
        "rows": sharding_plan.row_wise(),
        "columns": sharding_plan.column_wise(ranks=list(range(world))),
        "table": sharding_plan.table_wise(rank=world - 1),
        "copies": sharding_plan.data_parallel(),
    }
    module = EmbeddingBagCollection(tables, device=torch.device("meta"))
    plan = sharding_plan.construct_module_sharding_plan(
        module, per_table, local_size=world, world_size=world, device_type="cpu", sharder=sharder
    )
    model = distributed.DistributedModelParallel(
        torch.nn.ModuleDict({"tables": module}),
        env=distributed.types.ShardingEnv.from_process_group(torch.distributed.group.WORLD),
        device=torch.device("cpu"),
        plan=distributed.types.ShardingPlan(plan={"tables": plan}),
        sharders=[sharder],
    )
    for name, shape in shapes.items():
        table = model.state_dict()[f"tables.embedding_bags.{name}.weight"]
        if name == "copies":
            assert torch.equal(table, wholes[name])
            continue
        for shard in table.local_shards():  # filled by the init_fn, which was not told where it stands
            assert abs(shard.tensor.std() / (2 / shape[1]) ** 0.5 - 1) < 0.4
            assert torch.equal(shard.tensor, wholes[name]) is (tuple(shard.tensor.shape) == shape)
        assert adapters.torch.init_sharded_(table, scheme, seed=7, name=name) is table
    parameters = dict(model.named_parameters())
    for name in shapes:
        held = parameters[f"tables.embedding_bags.{name}.weight"]
        shards = [] if name == "copies" else model.state_dict()[f"tables.embedding_bags.{name}.weight"].local_shards()
        for shard in shards:
            (first, left), (rows, columns) = shard.metadata.shard_offsets, shard.metadata.shard_sizes
            assert torch.equal(held, wholes[name][first : first + rows, left : left + columns])
        assert shards or held.numel() == 0 or torch.equal(held, wholes[name])


@check(1, 2, 3)
def computed_weights(rank, world):
    from torch.distributed.fsdp import fully_shard
    from torch.nn.utils import parametrizations

    rules = {"*.weight": "he_normal", "*": "zeros"}
    for size, device in itertools.product(((6, 8), (5, 2)), ("cpu", "meta")):
        with torch.device(device):
            model = torch.nn.Sequential(parametrizations.weight_norm(torch.nn.Linear(*size)))
        fully_shard(model, mesh=meshes(world)[0])
        function = adapters.torch.init_module_ if device == "cpu" else adapters.torch.materialize_
        function(model, rules, seed=7)
        whole = init((size[1], size[0]), "he_normal", seed=7, name="0.weight")
        torch.testing.assert_close(gathered(model[0].weight), whole)
        inputs = torch.ones(2, size[0])
        torch.testing.assert_close(model(inputs), inputs @ whole.T)
    model = torch.nn.Sequential(parametrizations.spectral_norm(torch.nn.Linear(6, 8)))
    fully_shard(model, mesh=meshes(world)[0])
    with pytest.raises(ValueError, match=r"0\.weight: its parametrization SpectralNorm cannot be computed"):
        adapters.torch.init_module_(model, rules, seed=7)


@check(2)
def a_layer_of_transformers_sharded_by_itself(rank, world):
    from torch.distributed.fsdp import fully_shard

    if importlib.util.find_spec("transformers") is None:
        return
    from transformers.pytorch_utils import Conv1D

    layer = fully_shard(Conv1D(8, 6), mesh=meshes(world)[0])
    adapters.torch.init_module_(layer, {"weight": "he_normal", "bias": "zeros"}, seed=7)
    expected = init((6, 8), "he_normal", seed=7, name="weight", in_axis=0, out_axis=1)
    assert torch.equal(gathered(layer.weight.detach()), expected)


@check(2)
def megatron_in_more_processes_than_a_group(rank, world):
    weight = torch.full((4, 6), 9.0)
    alone = {"rank": 0, "world_size": 1, "seed": 7}
    with pytest.raises(ValueError, match=r"pipeline_rank must be given where there are more processes \(2\) than"):
        megatron("normal", **alone)(weight)
    with pytest.raises(ValueError, match="expert_rank must be given"):
        megatron("normal", pipeline_rank=0, **alone)(weight)
    assert bool((weight == 9).all())
    megatron("normal", **alone)(weight, "by name")
    megatron("normal", pipeline_rank=rank, expert_rank=0, **alone)(weight)
    weight.partition_dim = 0
    megatron("normal", rank=rank, world_size=2, seed=7)(weight)  # all processes are one group


# The processes

# Imported once for all ranks, where they can be forked.
PRELOADED = [
    "pytest",
    "torch._dynamo",
    "torch.distributed._shard.sharded_tensor",
    "torch.distributed.fsdp",
    "torch.distributed.tensor.parallel",
    "torchrec",
    "winit_fast.adapters.torch",
]


def run_checks(rank, world, folder):
    """What one rank does: all checks of this number of ranks, and a report of those that failed."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/rendezvous", rank=rank, world_size=world, timeout=timedelta(seconds=PATIENCE)
    )
    for name, (function, worlds) in CHECKS.items():
        if world in worlds:
            try:
                function(rank, world)
                report = "passed"
            except Exception:
                report = traceback.format_exc()
            (folder / f"{name}.{rank}").write_text(report)
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Start the ranks when they are first asked for; what each reports."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
    else:
        context = multiprocessing.get_context("spawn")
    folders = {}

    def of(name, world):
        if world not in folders:
            folders[world] = tmp_path_factory.mktemp(f"ranks{world}")
            ranks = [context.Process(target=run_checks, args=(rank, world, folders[world])) for rank in range(world)]
            for process in ranks:
                process.start()
            for process in ranks:
                process.join(PATIENCE)
                if process.is_alive():
                    process.kill()
        paths = [folders[world] / f"{name}.{rank}" for rank in range(world)]
        return [path.read_text() if path.exists() else "did not end" for path in paths]

    return of


def assert_passed(reports):
    failed = [f"rank {rank}: {report}" for rank, report in enumerate(reports) if report != "passed"]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_a_gathered_dtensor_has_the_bits_of_the_whole(reports, world):
    assert_passed(reports("dtensors", world))


def test_dtensors_of_every_type_and_rank_take_their_fans_from_the_global_shape(reports):
    assert_passed(reports("dtensors_of_every_type_and_rank", 2))


@pytest.mark.parametrize("world", [4, 8])
def test_strided_shards_hold_the_rows_that_torch_gives_them(reports, world):
    assert_passed(reports("strided_shards", world))


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_fully_sharded_models_go_from_meta_to_the_bits_of_the_whole(reports, world):
    assert_passed(reports("fully_sharded", world))


@pytest.mark.parametrize("world", [4, 8])
def test_models_fully_sharded_over_tensor_parallelism_have_the_bits_of_the_whole(reports, world):
    assert_passed(reports("fully_sharded_over_tensor_parallel", world))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_with_equal_generators_draw_one_seed_though_some_hold_nothing(reports, world):
    assert_passed(reports("one_draw_of_equal_generators", world))


def test_the_functions_of_nn_init_take_dtensors(reports):
    assert_passed(reports("functions_of_nn_init", 2))


def test_pieces_of_a_dtensor_are_filled_one_after_the_other(reports):
    assert_passed(reports("pieces_along_an_axis_that_is_whole", 2))


def test_dtensors_that_cannot_be_filled_are_refused_before_anything_is_written(reports):
    assert_passed(reports("refusals", 2))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_fully_sharded_weight_under_weight_norm_is_assigned(reports, world):
    assert_passed(reports("computed_weights", world))


def test_a_sharded_layer_of_transformers_has_the_fans_of_the_whole(reports):
    pytest.importorskip("transformers")
    assert_passed(reports("a_layer_of_transformers_sharded_by_itself", 2))


def test_ranks_of_megatron_that_the_method_does_not_know_must_be_told(reports):
    assert_passed(reports("megatron_in_more_processes_than_a_group", 2))


def test_a_rank_outside_the_mesh_has_nothing_to_fill(reports):
    assert_passed(reports("a_mesh_of_other_ranks", 2))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_shards_of_a_sharded_tensor_are_slices_of_the_whole(reports, world):
    assert_passed(reports("sharded_tensors", world))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_torchrec_fills_its_tables_and_their_shards_become_slices_of_the_whole(reports, world):
    pytest.importorskip("torchrec", exc_type=ImportError)
    assert_passed(reports("torchrec_tables", world))


# Without processes


def test_what_is_no_sharded_tensor_is_refused():
    with pytest.raises(TypeError, match=r"tensor must be a ShardedTensor \(init_ fills others\), got Tensor"):
        adapters.torch.init_sharded_(torch.empty(3), "normal", seed=0)


def test_an_init_fn_of_torchrec_gives_parts_values_of_their_own_with_the_fans_of_the_table():
    whole = init((300, 200), "he_normal", seed=7, name="table")
    init_fn = adapters.torch.torchrec_init_fn("he_normal", (300, 200), seed=7, name="table")
    assert torch.equal(init_fn(torch.nn.Parameter(torch.empty(300, 200))), whole)
    parts = [init_fn(torch.empty(100, 200)) for _ in range(2)] + [init_fn(torch.empty(300, 50))]
    for number, part in enumerate(parts):
        assert abs(part.std() / 0.1 - 1) < 0.03  # sqrt(2 / 200)
        stream = f"table, part {number} of rank 0"
        assert torch.equal(part, init((300, 200), "he_normal", seed=7, name=stream)[: len(part), : part.shape[1]])
    assert init_fn(torch.empty(0)).shape == (0,)
    torch.manual_seed(5)
    unseeded = adapters.torch.torchrec_init_fn("normal", (4, 3))
    first, second = unseeded(torch.empty(4, 3)), unseeded(torch.empty(2, 3))
    torch.manual_seed(5)
    assert torch.equal(first, init((4, 3), "normal"))
    assert not torch.equal(second, first[:2])


@pytest.mark.parametrize("rows", [0, 3])
def test_a_rank_that_does_not_say_which_part_it_holds_is_refused(rows):
    part = torch.full((rows, 4), 9.0)
    with pytest.raises(ValueError, match="offset must be given where out is smaller than shape"):
        init_(part, "normal", seed=7, shape=(9, 4))
    assert bool((part == 9).all())
    init_(part, "normal", seed=7, shape=(9, 4), offset=(3, 0))
    assert torch.equal(part, init((9, 4), "normal", seed=7)[3 : 3 + rows])


def test_an_init_fn_of_torchrec_can_be_pickled_and_a_copy_repeats_no_part():
    for arguments in ({"seed": 7, "name": "table"}, {"generator": torch.Generator().manual_seed(3)}):
        init_fn = adapters.torch.torchrec_init_fn("he_normal", (30, 20), in_axis=1, out_axis=0, **arguments)
        sent = pickle.loads(pickle.dumps(init_fn))
        for rows in (30, 5, 0, 5):
            assert torch.equal(sent(torch.empty(rows, 20)), init_fn(torch.empty(rows, 20)))
        assert not torch.equal(copy.deepcopy([init_fn])[0](torch.empty(5, 20)), init_fn(torch.empty(5, 20)))


def test_what_was_pickled_or_imported_from_where_these_stood_before_is_found():
    from winit_fast.adapters.torch import sharding

    assert sharding.init_sharded_ is adapters.torch.init_sharded_
    for method, weight in (
        (adapters.torch.torchrec_init_fn("normal", (3, 4), seed=7, name="table"), torch.empty(3, 4)),
        (adapters.torch.megatron_init_method("normal", rank=0, world_size=1, seed=7), torch.empty(3, 4)),
    ):
        sent = pickle.dumps(method, protocol=2).replace(b"torch.integrations", b"torch.sharding")
        assert b"torch.sharding" in sent
        assert torch.equal(pickle.loads(sent)(weight.clone()), method(weight))


def test_bad_arguments_of_an_init_fn_of_torchrec_are_refused():
    for error, words, arguments in (
        (ValueError, "he_nrmal", {"scheme": "he_nrmal"}),
        (TypeError, "shape must be a sequence of int, got 5", {"shape": 5}),
        (ValueError, "shape must not be negative", {"shape": (-1, 4)}),
    ):
        with pytest.raises(error, match=words):
            adapters.torch.torchrec_init_fn(**({"scheme": "normal", "shape": (8, 4)} | arguments))
    weight = torch.full((9, 4), 9.0)
    with pytest.raises(ValueError, match=r"\(9, 4\)"):
        adapters.torch.torchrec_init_fn("normal", (8, 4), seed=7)(weight)
    assert bool((weight == 9).all())


def test_one_shard_that_cannot_be_written_leaves_all_as_they_are():
    from types import SimpleNamespace

    tensors = [torch.full((2, 3), 9.0), torch.full((1, 3), 9.0).expand(2, 3)]
    shards = [
        SimpleNamespace(tensor=tensor, metadata=SimpleNamespace(shard_offsets=[2 * number, 0]))
        for number, tensor in enumerate(tensors)
    ]
    sharded = SimpleNamespace(local_shards=lambda: shards, size=lambda: (4, 3), dtype=torch.float32)
    with pytest.raises(ValueError, match="tensor must not overlap itself in memory"):
        adapters.torch.init_sharded_(sharded, "normal", seed=7)
    assert all(bool((tensor == 9).all()) for tensor in tensors)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_chunks_are_those_of_torch(count):
    for size in range(1, 20):
        parts = [list(run) for part in _chunks([range(size)], count) for run in part]
        assert parts == [part.tolist() for part in torch.chunk(torch.arange(size), count)]


def partitions(whole, axis, world, stride):
    """Megatron's own split: stride times as many pieces as ranks, dealt out in turn."""
    pieces = torch.split(whole, whole.shape[axis] // (world * stride), axis)
    return [torch.cat(pieces[rank::world], axis) for rank in range(world)]


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize(("axis", "stride"), [(0, 1), (1, 1), (0, 2), (1, 3)])
@pytest.mark.parametrize("scheme", ["he_normal", "orthogonal"])
def test_a_partition_of_megatron_is_its_part_of_the_whole(world, axis, stride, scheme):
    whole = init((16, 24), scheme, seed=7, name="layers.0.weight")
    for rank, expected in enumerate(partitions(whole, axis, world, stride)):
        weight = torch.nn.Parameter(torch.empty_like(expected))
        weight.partition_dim, weight.partition_stride = axis, stride
        method = megatron(scheme, rank=rank, world_size=world, seed=7)
        assert method(weight, "layers.0.weight") is weight
        assert torch.equal(weight, expected)
        assert weight._version > 0


def weights(count, shape=(40, 50), **marks):
    """Parameters as Megatron-LM marks them."""
    made = [torch.nn.Parameter(torch.full(shape, 9.0)) for _ in range(count)]
    for weight in made:
        vars(weight).update({"partition_dim": -1, "partition_stride": 1, **marks})
    return made


def correlation(one, other):
    return abs(torch.corrcoef(torch.stack([one.detach().flatten(), other.detach().flatten()]))[0, 1].item())


def test_a_weight_that_megatron_does_not_split_is_the_whole():
    (weight,) = weights(1)
    megatron("he_normal", rank=1, world_size=2, seed=7)(weight, "weight")
    assert torch.equal(weight, init((40, 50), "he_normal", seed=7, name="weight"))


def test_an_unmarked_weight_is_refused_where_ranks_share_weights_and_taken_as_it_is_told():
    weight = torch.full((4, 6), 9.0)
    with pytest.raises(ValueError, match=r"weight must carry partition_dim, .* 2 ranks .* by partition_dim= what"):
        megatron("he_normal", rank=1, world_size=2, seed=7)(weight)
    assert bool((weight == 9).all())
    for axis, shape in ((0, (8, 6)), (1, (4, 12)), (-1, (4, 6))):
        whole = init(shape, "he_normal", seed=7, name="weight")
        for rank in range(2):
            weight = megatron("he_normal", rank=rank, world_size=2, seed=7, partition_dim=axis)(
                torch.empty(4, 6), "weight"
            )
            part = whole if axis == -1 else torch.chunk(whole, 2, axis)[rank]
            assert torch.equal(weight, part)
    marked = torch.empty(4, 6)
    marked.partition_dim, marked.partition_stride = 1, 1  # what a weight says itself comes first
    megatron("he_normal", rank=1, world_size=2, seed=7, partition_dim=0)(marked, "weight")
    assert torch.equal(marked, init((4, 12), "he_normal", seed=7, name="weight")[:, 6:])
    alone = megatron("he_normal", rank=0, world_size=1, seed=7)(torch.empty(4, 6), "weight")
    assert torch.equal(alone, init((4, 6), "he_normal", seed=7, name="weight"))


def test_a_weight_of_megatron_that_deepspeed_holds_in_parts_is_refused():
    weight = torch.empty(0)
    weight.partition_dim, weight.partition_stride, weight.ds_shape = 0, 1, torch.Size([4, 6])
    with pytest.raises(ValueError, match="GatheredParameters"):
        megatron("normal", rank=0, world_size=2, seed=7)(weight, "weight")


def test_no_two_methods_of_one_seed_give_weights_that_correlate():
    arguments = {"rank": 0, "world_size": 2, "seed": 7}
    methods = [
        megatron("normal(std=0.02)", **arguments),
        megatron("normal(std=0.01)", **arguments),
        megatron("residual_normal(layers=8)", **arguments),
        megatron("normal(std=0.02)", name="output_layer_init_method", **arguments),
        megatron("normal(std=0.02)", name="embedding_init_method", **arguments),
    ]
    filled = [method(weight) for method in methods for weight in weights(2)]
    for one, other in itertools.combinations(filled, 2):
        assert correlation(one, other) < 0.15  # 6.7 standard errors of 2000 pairs


def test_a_second_method_of_one_seed_and_scheme_repeats_the_first_and_warns_once():
    arguments = {"rank": 0, "world_size": 1, "seed": 71}
    method = megatron("normal", **arguments)
    first = [method(weight) for weight in weights(3)]
    again = megatron("normal", **arguments)
    with pytest.warns(winit_fast.RepeatedValuesWarning, match="two methods of one seed and one scheme") as seen:
        second = [again(weight) for weight in weights(3)]
    assert len(seen) == 1
    assert seen[0].filename == __file__
    assert all(map(torch.equal, first, second))


@pytest.mark.filterwarnings("error")
def test_methods_that_repeat_no_values_do_not_warn():
    kept, other, third = weights(3)
    arguments = {"rank": 0, "world_size": 1, "seed": 72}
    method = megatron("normal", **arguments)
    method(kept)
    for place in ({"pipeline_rank": 1}, {"seed": 73}, {"name": "other"}, {"names": lambda: "other"}):
        assert correlation(megatron("normal", **{**arguments, **place})(other), kept) < 0.15
    before = kept.detach().clone()
    assert torch.equal(megatron("normal", **arguments)(kept), before)  # the same weight again
    sent = pickle.loads(pickle.dumps(method))
    assert correlation(sent(third), kept) < 0.15
    for _ in range(2):
        megatron("zeros", **arguments)(torch.empty(4, 4))


def test_stages_of_a_pipeline_and_experts_hold_weights_of_their_own_and_all_else_is_the_same():
    def filled(stage, expert, **marks):
        arguments = {"rank": 0, "world_size": 1, "seed": 7, "name": "method"}
        return megatron("normal", pipeline_rank=stage, expert_rank=expert, **arguments)(*weights(1, **marks))

    places = list(itertools.product((0, 1), (0, 1)))
    experts = [filled(*place, allreduce=False) for place in places]
    for one, other in itertools.combinations(experts, 2):
        assert correlation(one, other) < 0.15
    dense = {place: filled(*place, allreduce=True) for place in places}
    assert torch.equal(dense[0, 0], dense[0, 1])
    assert torch.equal(dense[1, 0], dense[1, 1])
    assert correlation(dense[0, 0], dense[1, 0]) < 0.15
    with pytest.raises(ValueError, match=r"weight must carry allreduce, .* where expert_rank is 1"):
        filled(0, 1)


def test_weights_of_megatron_have_the_names_that_they_are_given():
    names = iter(["layers.0.weight", "layers.1.weight"])
    named = megatron("normal", rank=0, world_size=1, seed=7, names=lambda: next(names))
    for name in ("layers.0.weight", "layers.1.weight"):
        assert torch.equal(named(torch.empty(4, 4)), init((4, 4), "normal", seed=7, name=name))
    assert torch.equal(named(torch.empty(4, 4), "mine"), init((4, 4), "normal", seed=7, name="mine"))
    numbered = megatron("normal", rank=0, world_size=1, seed=7, names=itertools.count().__next__)
    for number in range(3):  # as in the first releases
        assert torch.equal(numbered(torch.empty(4, 4)), init((4, 4), "normal", seed=7, name=number))


def test_a_copy_of_a_method_counts_with_it_and_a_pickled_one_goes_on_from_there():
    method = megatron("normal", rank=0, world_size=1, seed=7, name="method")
    first, second, third, fourth = weights(4)
    method(first)
    sent = pickle.loads(pickle.dumps(method))
    copy.deepcopy({"init_method": method})["init_method"](second)
    method(third)
    assert correlation(second, third) < 0.15
    assert torch.equal(sent(fourth), second)


def test_megatron_without_a_seed_draws_one_for_every_weight():
    method = megatron("normal", rank=0, world_size=1)
    torch.manual_seed(5)
    first, second = method(torch.empty(4, 4)), method(torch.empty(4, 4))
    torch.manual_seed(5)
    assert torch.equal(first, init((4, 4), "normal", name=0))
    assert torch.equal(second, init((4, 4), "normal", name=1))
    later = megatron("normal", rank=0, world_size=1, pipeline_rank=1)
    torch.manual_seed(5)  # every stage may hold the same state
    assert not torch.equal(first, later(torch.empty(4, 4)))


def test_what_draws_nothing_takes_no_draw_of_the_generator():
    before = torch.get_rng_state()
    megatron("zeros", rank=0, world_size=1)(torch.empty(4, 4))
    init_fn = adapters.torch.torchrec_init_fn("ones", (8, 4))
    for rows in (8, 3, 0):
        init_fn(torch.empty(rows, 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_megatron_takes_axes_and_matrices():
    method = megatron("he_normal", rank=0, world_size=1, seed=7, in_axis=0, out_axis=1)
    for _ in range(2):
        assert method(torch.empty(8, 200)).std() > 0.4  # sqrt(2 / 8), not sqrt(2 / 200)
    whole = init((24, 8), "xavier_uniform", seed=7, name="qkv", matrices=3)
    for rank, expected in enumerate(partitions(whole, 0, 2, 3)):
        weight = torch.empty(12, 8)
        weight.partition_dim, weight.partition_stride = 0, 3
        megatron("xavier_uniform", rank=rank, world_size=2, seed=7, matrices=3)(weight, "qkv")
        assert torch.equal(weight, expected)


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, r"rank must be in \[0, world_size\) = \[0, 2\), got 2", {"rank": 2}),
        (ValueError, r"rank must be in \[0, world_size\) = \[0, 2\), got -1", {"rank": -1}),
        (TypeError, "world_size must be an int, got 2.0", {"world_size": 2.0}),
        (ValueError, "he_nrmal", {"scheme": "he_nrmal"}),
        (TypeError, "name must be a str, the method's, got 3", {"name": 3}),
        (TypeError, "names must be a callable", {"names": ["a", "b"]}),
        (ValueError, "pipeline_rank must be 0 or more, got -1", {"pipeline_rank": -1}),
        (TypeError, "expert_rank must be an int or None, got '1'", {"expert_rank": "1"}),
        (ValueError, "partition_dim must be an axis, or -1 for whole weights, got -2", {"partition_dim": -2}),
    ],
)
def test_bad_arguments_of_megatron_are_refused_before_there_is_a_weight(error, words, arguments):
    with pytest.raises(error, match=words):
        megatron(**({"scheme": "normal", "rank": 0, "world_size": 2} | arguments))


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        ((0, 2), r"weight must have a multiple of 2 along axis 0, got \(5, 4\)"),
        ((2, 1), r"weight must have the axis of its partition_dim, 2, got shape \(5, 4\)"),
        ((0, 0), "weight must have a partition_stride of 1 or more, got 0"),
    ],
)
def test_marks_of_megatron_that_do_not_fit_are_refused(marks, words):
    weight = torch.full((5, 4), 9.0)
    weight.partition_dim, weight.partition_stride = marks
    with pytest.raises(ValueError, match=words):
        megatron("normal", rank=0, world_size=2, seed=7)(weight)
    assert bool((weight == 9).all())


@pytest.mark.parametrize("make", [
    lambda **arguments: adapters.torch.torchrec_init_fn("normal", (4, 4), **arguments),
    lambda **arguments: megatron("normal", rank=0, world_size=1, **arguments),
])  # fmt: skip
def test_arguments_that_no_call_could_take_are_refused_when_a_method_is_made(make):
    with pytest.raises(TypeError, match="got 'sead'; did you mean 'seed'"):
        make(sead=1)
    for wrong, argument in (({"seed": -1}, "seed"), ({"seed": "1"}, "seed"), ({"threads": 0}, "threads")):
        with pytest.raises((TypeError, ValueError), match=f"^{argument} must be"):
            make(**wrong)
    make(in_axis=0, out_axis=1, matrices=2, threads=1)
