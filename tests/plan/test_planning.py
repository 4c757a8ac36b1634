"""Plans on the CPU's devices: bytes that are exact, collectives, operations, and what would fit."""

import jax
import numpy as np
import pytest

from funcnn.config import Config, ConfigError, DataConfig, ModelConfig, TrainConfig
from funcnn.config.schema import MeshConfig
from funcnn.experiment import build_experiment
from funcnn.gradient.cost.flops import count_operations, count_products
from funcnn.plan import planning
from funcnn.plan.changes import changes
from funcnn.plan.chips import CHIPS
from funcnn.plan.compiling import Setting, compile_step
from funcnn.plan.devices import devices_of
from funcnn.plan.figures import Memory, Plan
from funcnn.plan.planning import plan
from funcnn.plan.traffic import Traffic
from funcnn.train import make_mesh

CPU = CHIPS["cpu"]
ROWS, WIDTH = 64, 64  # of a batch, of the hidden layer


def experiment_of(steps_per_call=1, hidden=(WIDTH,), **data):
    model = ModelConfig(name="mlp", options={"hidden": list(hidden)})
    train = TrainConfig(steps_per_call=steps_per_call)
    chosen = DataConfig(name="digits", batch_size=ROWS, **data)
    return build_experiment(Config(model=model, data=chosen, train=train), draw=False)


@pytest.fixture(scope="module")
def plans():
    experiment = experiment_of()
    return {count: plan(experiment, CPU, count) for count in (1, 2, 8)}


def memory_of(program):
    found = program.compiled.memory_analysis()
    assert found is not None
    return found


def size(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@pytest.mark.slow
def test_nothing_is_drawn():
    experiment = experiment_of()
    assert all(isinstance(p, jax.ShapeDtypeStruct) for p in jax.tree.leaves(experiment.params))
    drawn = build_experiment(experiment.config).params
    shapes = jax.tree.map(lambda p: (p.shape, p.dtype), drawn)
    assert shapes == jax.tree.map(lambda p: (p.shape, p.dtype), experiment.params)


def test_arguments_are_the_state_and_a_share_of_the_rows(plans):
    experiment = experiment_of()
    state = size(jax.eval_shape(experiment.first_state, experiment.params))
    assert state == 3 * size(experiment.params) + (3 + 7) * 4  # adam's two moments, three counters
    row = 64 * 4 + 4  # an image of 8x8 and its label
    for count, found in plans.items():
        assert found.memory.arguments == state + row * ROWS // count
        there = found.memory.arguments + found.memory.outputs + found.memory.temporary
        assert found.memory.peak == there - state
        # All of the state that is returned lies where the one that was given lay.
        assert found.memory.aliased == state


def test_gradients_are_summed_once(plans):
    params = size(experiment_of().params)
    assert plans[1].traffic == ()
    for count in (2, 8):
        total = sum(t.bytes for t in plans[count].traffic)
        # With them the loss, the accuracy and their counts: scalars.
        assert 0 <= total - params <= 8 * 4
        assert {(t.kind, t.group, t.nodes) for t in plans[count].traffic} == {
            ("all-reduce", count, 1)
        }
        link = sum(t.link for t in plans[count].traffic)
        assert link == pytest.approx(2 * (count - 1) / count * total)


def test_operations_are_shared_and_products_counted_by_hand(plans):
    for count, found in plans.items():
        assert found.flops == plans[1].flops / count
    # Forward and by the weights each, by the images nothing is asked for, between the layers one.
    products = 2 * ROWS * (2 * 64 * WIDTH + 3 * WIDTH * 10)
    assert plans[1].products == {"float32": products}


def test_without_peaks_no_time_is_guessed(plans):
    for found in plans.values():
        assert set(found.seconds.values()) == {None}
        assert found.bound is None
        assert found.fits is None


def test_several_steps_a_call_are_figures_of_one_step(plans):
    steps = 4
    found, one = plan(experiment_of(steps), CPU, 2), plans[2]
    assert found.steps_per_call == steps
    assert found.flops == pytest.approx(one.flops, rel=1e-3)
    assert found.products == one.products
    assert sum(t.bytes for t in found.traffic) == sum(t.bytes for t in one.traffic)
    row = 64 * 4 + 4
    assert found.memory.arguments - one.memory.arguments == (steps - 1) * row * ROWS // 2
    batches = found.memory.arguments - found.bytes + found.memory.outputs + found.memory.temporary
    assert batches == pytest.approx((steps - 1) * row * ROWS // 2)


@pytest.mark.slow
def test_rows_that_do_not_divide():
    found = plan(experiment_of(), CPU, 5)
    assert found.setting.rows == 65
    assert found.notes[0] == "64 rows do not divide by 5: planned with 65, 13 a device"
    given = plan(experiment_of(), CPU, 2, rows_per_device=3)
    assert given.setting.rows == 6
    assert given.notes == ()


def test_rows_of_each_part_that_is_accumulated_are_shared_evenly():
    train = TrainConfig(accumulate=4)
    chosen = Config(model=ModelConfig(name="mlp"), data=DataConfig(batch_size=ROWS), train=train)
    setting, (note,) = planning._start(chosen, 5, None)
    assert setting.rows == 80
    assert note == "64 rows do not divide by 20: planned with 80, 16 a device"
    assert planning._start(chosen, 8, None) == (setting._replace(rows=64), ())
    # More than the data has: a plan takes none of them.
    large = experiment_of()
    assert large.dataset.train.rows < 2000
    assert plan(large, CPU, 2, rows_per_device=1000).setting.rows == 2000


@pytest.mark.slow
def test_a_carry_has_as_many_rows():
    options = {"limit": 3000, "length": 4}
    data = DataConfig(name="text", batch_size=2, order="streams", options=options)
    model = ModelConfig(name="char_rnn", options={"width": 4, "hidden": [4]})
    train = TrainConfig(steps_per_call=1, carry=True)
    chosen = {"data": data, "model": model, "train": train, "task": {"name": "language"}}
    experiment = build_experiment(Config.model_validate(chosen), draw=False)
    found = {rows: compile_step(experiment, Setting(rows), devices_of(CPU, 1)) for rows in (2, 6)}
    extra = [memory_of(p).argument_size_in_bytes for p in found.values()]
    # A row: 4 inputs and 4 targets, whether it is the first, and what it carries.
    carried = size(experiment.network.carry) // 2
    assert carried > 0
    assert extra[1] - extra[0] == 4 * (8 * 4 + 1 + carried)


def test_fsdp_cuts_the_state():
    experiment = experiment_of(hidden=(64,))
    settings, devices = (Setting(64), Setting(64, fsdp=8)), devices_of(CPU, 8)
    compiled = [compile_step(experiment, setting, devices) for setting in settings]
    arguments = [memory_of(p).argument_size_in_bytes for p in compiled]
    matrices = (64 * 64 + 64 * 10) * 4  # of float32; biases are whole
    assert arguments[0] - arguments[1] == 3 * matrices * 7 // 8


def on_mesh(axes, hidden=(64,)):
    model = ModelConfig(name="mlp", options={"hidden": list(hidden)})
    sharding = {"**/w": ["fsdp", "tensor"]} if "tensor" in axes else {}
    train = TrainConfig.model_validate({"steps_per_call": 1, "sharding": sharding})
    chosen, mesh = DataConfig(name="digits", batch_size=ROWS), MeshConfig(**axes)
    return build_experiment(Config(model=model, data=chosen, train=train, mesh=mesh), draw=False)


@pytest.mark.parametrize(
    "axes",
    [{"data": 1, "fsdp": -1}, {"data": 1, "tensor": -1}, {"data": 2, "fsdp": -1, "tensor": 2}],
)
def test_the_rest_is_that_of_a_training(axes):
    found, wanted = plan(on_mesh(axes), CPU, 8), make_mesh(**axes).shape
    setting = found.setting
    assert (setting.fsdp, setting.tensor) == (wanted["fsdp"], wanted["tensor"])
    # Devices along `tensor` have the same rows.
    assert (setting.rows, setting.parts(8)) == (ROWS, wanted["data"] * wanted["fsdp"])


@pytest.mark.parametrize(
    ("axes", "line"),
    [
        ({"fsdp": 3}, "--count 8: the mesh has fsdp 3 x tensor 1, which do not divide it"),
        (
            {"data": 3, "fsdp": -1},
            "--count 8: the mesh has data 3 x tensor 1, which do not divide it",
        ),
        ({"fsdp": -1}, "mesh: data and fsdp are both -1, and only one can be the rest"),
    ],
)
def test_a_mesh_that_is_none_of_so_many_devices_is_one_line(axes, line):
    with pytest.raises(ConfigError) as caught:
        plan(on_mesh(axes), CPU, 8)
    assert caught.value.problems == (line,)


def test_what_is_tried_beside_a_tensor_axis_is_a_mesh():
    found = dict(changes(Setting(rows=16, tensor=2), 8))
    assert {s.fsdp * s.tensor for s in found.values()} == {2, 8}
    assert found["mesh.fsdp = 4"] == Setting(rows=16, fsdp=4, tensor=2)
    assert found["train.accumulate = 4"].rows == 16
    assert "mesh.data = 1, mesh.fsdp = 8" in dict(changes(Setting(rows=16, fsdp=4), 8, data=2))


@pytest.mark.slow
def test_a_tensor_axis_stays_in_what_fits():
    experiment = on_mesh({"tensor": 2}, hidden=(256,))
    first = plan(experiment, CPU, 8)
    remedy = plan(experiment, with_memory(first.memory.peak * 0.7), 8).remedy
    assert remedy is not None
    assert (remedy.change, remedy.setting.tensor) == ("mesh.fsdp = 4", 2)


def with_memory(peak):
    return CPU._replace(memory=peak)


@pytest.mark.slow
def test_the_first_change_that_fits_is_reported_as_compiled():
    experiment = experiment_of(hidden=(256,))
    first = plan(experiment, CPU, 8)
    assert plan(experiment, with_memory(first.memory.peak), 8).remedy is None
    found = plan(experiment, with_memory(first.memory.peak * 0.7), 8)
    assert not found.fits
    remedy = found.remedy
    assert remedy is not None
    assert remedy.fits
    assert remedy.setting == Setting(rows=64, fsdp=8)
    assert remedy.change == "mesh.fsdp = 8"
    tried = ["train.accumulate = 2", "train.accumulate = 4", "train.accumulate = 8"]
    assert list(found.tried) == [*tried, 'train.remat = ["*"]']
    again = compile_step(experiment, remedy.setting, devices_of(CPU, 8))
    assert remedy.memory.temporary == memory_of(again).temp_size_in_bytes


@pytest.mark.slow
def test_a_smaller_batch_and_what_fits_in_no_way():
    experiment = experiment_of()
    lines = []
    found = plan(experiment, with_memory(1), 1, progress=lines.append)
    assert found.remedy is None
    parts, remat, rows = 4, 2, 6  # 2, 4, 8, 16 parts; alone and with 16 parts; 32, 16, ... 1
    assert len(found.tried) == len(lines) - 1 == parts + remat + rows
    assert found.tried[-1] == 'train.remat = ["*"], data.batch_size = 1'


def made(products, size, traffic, chip="h200", count=16):
    memory = Memory(0, 0, 0, 0)
    return Plan(
        CHIPS[chip], count, 8, Setting(16), 1, memory, 0, products, size, tuple(traffic), (), 0.0
    )


def test_bounds_by_hand():
    crossing = Traffic("all-reduce", 16, 2, 1, 800, 4.5e9, 1e9)
    found = made({"bfloat16": 989.4e9, "float32": 494.7e9}, 4.8e9, [crossing])
    # 1 ms in each dtype; 1 ms; 10 ms over the link, 20 over the network, at the same time.
    expected = {"compute": 2e-3, "memory": 1e-3, "network": 20e-3}
    assert found.seconds == pytest.approx(expected)
    assert found.bound == "network"
    within = made({"bfloat16": 989.4e9}, 4.8e9, [crossing._replace(network=0.0)])
    assert within.seconds["network"] == pytest.approx(10e-3)
    assert made({"bfloat16": 989.4e9}, 0.0, []).bound == "compute"


def test_what_is_not_known_is_not_guessed():
    assert made({"float8_e4m3fn": 1.0}, 4.8e9, []).seconds["compute"] is None
    assert made({"float8_e4m3fn": 1.0}, 4.8e9, []).bound is None
    crossing = Traffic("all-reduce", 512, 2, 1, 800, 4.5e9, 1e9)
    assert made({}, 1.0, [crossing], chip="v5e", count=512).seconds["network"] is None


def test_the_branch_of_the_platform_that_is_compiled_for_counts():
    def chosen(x):
        return jax.lax.platform_dependent(x, cpu=lambda x: x @ x, default=lambda x: x @ x @ x)

    program = jax.make_jaxpr(chosen)(np.ones((4, 4), np.float32))
    assert count_operations(program, "cpu").flops == 2 * 4**3
    assert count_operations(program, "cuda").flops == 2 * 2 * 4**3
    assert count_products(program, "cuda") == {"float32": 2 * 2 * 4**3}


def test_products_by_dtype_in_a_loop():
    def loop(x, y):
        return jax.lax.scan(lambda c, _: (c @ x.astype(c.dtype), None), y, None, 3)[0], x @ x

    shapes = [jax.ShapeDtypeStruct((4, 4), d) for d in ("bfloat16", "float32")]
    program = jax.make_jaxpr(loop)(*shapes)
    assert count_products(program) == {"float32": 3 * 2 * 4**3, "bfloat16": 2 * 4**3}


def test_more_devices_than_here():
    with pytest.raises(ConfigError) as caught:
        devices_of(CPU, 4096)
    assert "4096 devices wanted" in caught.value.problems[0]


@pytest.mark.parametrize("chip", CHIPS.values(), ids=lambda chip: chip.name)
def test_nodes_are_as_full_as_the_number_divides(chip, monkeypatch):
    monkeypatch.setattr("funcnn.plan.devices._gpus", lambda chip, n, per_node: [None] * n)
    monkeypatch.setattr("funcnn.plan.devices._tpus", lambda chip, n, per_node: [None] * n)
    monkeypatch.setattr("funcnn.plan.devices._cpus", lambda chip, n, per_node: [None] * n)
    full = chip.per_node
    assert [devices_of(chip, n).nodes for n in (1, full, 2 * full)] == [1, 1, 2]
    assert devices_of(chip, 12).per_node == (12 if full > 8 else 6)
    assert chip.sources
