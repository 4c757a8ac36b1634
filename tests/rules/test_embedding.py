"""The embedding against NumPy, jnp.take and flax; repeated, odd and missing indices."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from on_devices import mesh_of
from witness import finite_difference_error, gradient_errors

from funcnn.bench.absent import described_device, figures, missing_wheels
from funcnn.core.devices import device_count
from funcnn.plan.hlo import collectives_of
from funcnn.rules import embedding
from funcnn.rules.embedding import add_rows_by_scatter, add_rows_by_sorting

CASES = embedding.cases()
FORMS = {
    "scatter": add_rows_by_scatter,
    "sorting": add_rows_by_sorting,
    # Of an odd number of rows it is one piece.
    "sorting halves": lambda table, indices, rows: add_rows_by_sorting(
        table, indices, rows, math.gcd(indices.size, 2)
    ),
}


def problem(rows=11, width=3, shape=(4, 9), dtype="float32"):
    random = np.random.default_rng(0)
    table, dy = random.standard_normal((rows, width)), random.standard_normal((*shape, width))
    indices = random.integers(0, rows, shape)
    return jnp.asarray(table, dtype), jnp.asarray(indices), jnp.asarray(dy, dtype)


def table_gradient(rule, table, indices, dy):
    return jax.vjp(lambda t: rule(t, indices), table)[1](dy)[0]


def test_value_and_gradient_equal_those_of_flax_and_numpy():
    with jax.enable_x64(True):
        table, indices, dy = problem(dtype="float64")
        embed = linen.Embed(11, 3, param_dtype=jnp.float64)

        def flax(table):
            with jax.numpy_rank_promotion("allow"):
                return embed.apply({"params": {"embedding": table}}, indices)

        y, pullback = jax.vjp(flax, table)
        np.testing.assert_array_equal(embedding(table, indices), y)
        np.testing.assert_array_equal(y, jnp.take(table, indices, axis=0))
        found = table_gradient(embedding, table, indices, dy)
        np.testing.assert_allclose(found, pullback(dy)[0], rtol=1e-13)
        expected = np.zeros(table.shape)
        np.add.at(expected, np.asarray(indices), np.asarray(dy))
        np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [0, 1, 2, 7, 64, 100])
@pytest.mark.parametrize("rows", [1, 5, 50])
def test_both_forms_add_as_numpy_does(form, count, rows):
    with jax.enable_x64(True):
        random = np.random.default_rng(count + rows)
        indices = random.integers(-2, rows + 3, count)  # some of them outside
        new = random.standard_normal((count, 4))
        expected = np.zeros((rows, 4))
        inside = (indices >= 0) & (indices < rows)
        np.add.at(expected, indices[inside], new[inside])
        found = jax.jit(FORMS[form])(jnp.zeros((rows, 4)), jnp.asarray(indices), jnp.asarray(new))
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)


def test_every_case_in_float64():
    assert max(gradient_errors(embedding, CASES).values()) < 1e-12


@pytest.mark.parametrize("through", ["eager", "vmap", "scan"])
def test_through_transformations(through):
    assert max(gradient_errors(embedding, CASES[:1], through=through).values()) < 1e-12


def sorting_backward(res, dy):
    nothing, indices = res
    rows = dy.reshape(indices.size, dy.shape[-1])
    zeros = jnp.zeros((nothing.shape[0], dy.shape[-1]), dy.dtype)
    return add_rows_by_sorting(zeros, indices.ravel(), rows), None


@pytest.mark.parametrize("through", ["jit", "vmap", "scan"])
def test_the_form_of_other_platforms_is_right_too(through):
    rule = embedding.replace(backward=sorting_backward)
    assert max(gradient_errors(rule, CASES[:2], through=through).values()) < 1e-12


def test_the_reference_agrees_with_finite_differences(key):
    for case in CASES[:4]:
        assert finite_difference_error(embedding.reference, case.args, key)["table"] < 1e-7


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_sum_over_repeated_indices_is_taken_in_float32(dtype):
    """A sum of 5000 ones in bfloat16 stops at 256, in float16 at 2048."""
    table, indices = jnp.zeros((2, 1), dtype), jnp.ones(5000, int)
    dy = jnp.ones((5000, 1), dtype)
    found = table_gradient(embedding, table, indices, dy)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.astype("float32"), [[0], [np.asarray(5000.0, dtype)]])
    automatic = table_gradient(embedding.reference, table, indices, dy)
    assert float(automatic[1, 0]) < 3000


@pytest.mark.parametrize("index", [-1, -3, 3, 100, -100])
def test_an_index_outside_is_nan_and_moves_no_row(index):
    table, indices = jnp.arange(6.0).reshape(3, 2), jnp.array([1, index])
    for f in (embedding, embedding.reference):
        y, pullback = jax.vjp(lambda t, f=f: f(t, indices), table)
        np.testing.assert_array_equal(y[0], table[1])
        assert np.all(np.isnan(y[1]))
        np.testing.assert_array_equal(pullback(jnp.ones((2, 2)))[0], [[0, 0], [1, 1], [0, 0]])


def test_narrow_indices_count_beyond_their_range():
    table = jnp.arange(300.0)[:, None]
    indices = jnp.array([255, 0, 255], jnp.uint8)
    np.testing.assert_array_equal(embedding(table, indices).ravel(), [255, 0, 255])
    small = jnp.array([127, -128], jnp.int8)
    assert np.isnan(embedding(table, small)[1, 0])
    dtable = table_gradient(embedding, table, small, jnp.ones((2, 1)))
    np.testing.assert_array_equal(np.flatnonzero(dtable), [127])


def test_nan_in_a_row_shows_where_it_is_used():
    table = jnp.ones((3, 2)).at[1].set(jnp.nan)
    y = np.asarray(embedding(table, jnp.array([0, 1, 2])))
    np.testing.assert_array_equal(np.isnan(y).all(1), [False, True, False])


def test_the_residuals_are_the_indices_alone():
    table, indices, _ = problem()
    _, res = embedding.forward(table, indices)
    assert sum(a.nbytes for a in jax.tree.leaves(res)) == indices.nbytes


def test_no_two_rows_meet_in_one_place_on_an_absent_gpu():
    """The sort, and a scatter that is told that its places are unique."""
    table, indices, dy = problem()
    pull = functools.partial(table_gradient, embedding)
    program = str(jax.make_jaxpr(pull)(table, indices, dy))
    assert program.count("unique_indices=True") == 1
    assert program.count("unique_indices=False") >= 1  # on a CPU
    if reason := missing_wheels():
        pytest.skip(reason)
    struct = jax.ShapeDtypeStruct
    args = struct((50304, 64), "bfloat16"), struct((4096,), "int32"), struct((4096, 64), "bfloat16")
    found = figures(pull, *args, device=described_device("h200"))
    rows, summed = 4096 * 64 * 4, 50304 * 64 * 4
    assert found.temporary_bytes < summed + 8 * rows


# On many devices


def on_devices(columns=1):
    """The gradient of a table, of rows on eight devices: a compiled program, and what it takes."""
    kind = (AxisType.Auto,) * 2
    mesh = jax.make_mesh((8 // columns, columns), ("rows", "columns"), axis_types=kind)
    in_rows, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["rows"], []))
    table, indices, dy = problem(shape=(16, 32))
    args = jax.device_put((table, indices, dy), (whole, in_rows, in_rows))
    pull = functools.partial(table_gradient, embedding)
    return jax.jit(lambda *args: pull(*args)).lower(*args).compile(), args


@pytest.fixture(params=["cpu", "other"])
def platform(request, monkeypatch):
    """The form of a CPU, and that of other platforms, compiled for this one all the same."""
    if request.param == "other":
        take = lambda *args, cpu, default: default(*args)  # noqa: E731
        monkeypatch.setattr(jax.lax, "platform_dependent", take)


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.usefixtures("platform")
def test_rows_stay_on_the_devices_where_they_lie(columns):
    """Only the table is summed: neither the indices of all devices meet, nor their cotangents."""
    compiled, (table, indices, dy) = on_devices(columns)
    found = collectives_of(compiled.as_text() or "")
    assert [(c.kind, c.operand_bytes) for c in found] == [("all-reduce", table.nbytes)]
    expected = np.zeros(table.shape)
    np.add.at(expected, np.asarray(indices), np.asarray(dy))
    np.testing.assert_allclose(compiled(table, indices, dy), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("platform", ["other"], indirect=True)
@pytest.mark.usefixtures("platform")
def test_sorted_all_together_they_would_not(monkeypatch):
    """The planted mistake: one sort over the rows of all devices gathers them on each."""
    monkeypatch.setitem(embedding.backward.__globals__, "device_count", lambda *arrays: 1)
    compiled, (table, *_) = on_devices()
    found = collectives_of(compiled.as_text() or "")
    assert [(c.kind, c.operand_bytes) for c in found] != [("all-reduce", table.nbytes)]


def test_each_device_of_a_shard_map_sorts_its_own_rows_at_once():
    mesh = mesh_of(8)
    assert device_count(jax.device_put(jnp.ones(8), NamedSharding(mesh, PartitionSpec("d")))) == 8
    counted = []
    jax.shard_map(
        lambda x: (counted.append(device_count(x)), x)[1],
        mesh=mesh,
        in_specs=PartitionSpec("d"),
        out_specs=PartitionSpec("d"),
    )(jnp.ones(8))
    assert counted == [1]


def changed(change):
    return embedding.replace(backward=change)


def overwritten(res, dy):
    nothing, indices = res
    zeros = jnp.zeros((nothing.shape[0], dy.shape[-1]), dy.dtype)
    return zeros.at[indices].set(dy), None


def counted_from_the_end(res, dy):
    nothing, indices = res
    return embedding.backward((nothing, nothing.shape[0] - 1 - indices), dy)


def mean_of_a_row(res, dy):
    nothing, indices = res
    counts = jnp.maximum(jnp.bincount(indices.ravel(), length=nothing.shape[0]), 1)
    return embedding.backward(res, dy)[0] / counts[:, None].astype(dy.dtype), None


@pytest.mark.parametrize("backward", [overwritten, counted_from_the_end, mean_of_a_row])
def test_planted_mistakes_are_rejected(backward):
    assert gradient_errors(changed(backward), CASES[:1])["repeated", "table"] > 0.1


BAD = {
    "floats": ((jnp.ones((3, 2)), jnp.ones(2)), "indices must be integers, found float32[2]"),
    "bools": ((jnp.ones((3, 2)), jnp.ones(2, bool)), "indices must be integers, found bool[2]"),
    "integer table": ((jnp.ones((3, 2), int), jnp.ones(2, int)), "table must be floating point"),
    "vector": ((jnp.ones(3), jnp.ones(2, int)), "table must have shape (V, D), found float32[3]"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_one_clear_line(name):
    args, message = BAD[name]
    for f in (embedding, embedding.reference):
        with pytest.raises((TypeError, ValueError)) as caught:
            f(*args)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
