"""What cuDNN is asked for, when, and that it means what the blocks mean; without a GPU.

The calls are read from programs lowered for CUDA. What they mean is written out here, and stands in
for cuDNN on a CPU; what cuDNN itself computes is compared in tests/test_gpu.py.
"""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import funcnn as fnn
from funcnn.rules import attention, attention_implementation
from funcnn.rules.attention import cudnn

B, T, H, W = 2, 12, 4, 8


def drawn(keys=H, queries=T, places=T, dtype=jnp.bfloat16, width=W, samples=B):
    random = np.random.default_rng(0)
    of_queries, of_keys = (samples, queries, H, width), (samples, places, keys, width)
    shapes = [of_queries, of_keys, of_keys, of_queries]
    return [jnp.asarray(random.standard_normal(shape), dtype) for shape in shapes]


def gradient(q, k, v, do, lengths=None, *, rule=attention, **options):
    """y and the gradients of q, k and v."""

    options = {"implementation": "cudnn", **options}

    def both(q, k, v, do, lengths):
        def f(q, k, v):
            return rule(q, k, v, None, None, lengths, **options)

        y, pullback = jax.vjp(f, q, k, v)
        return [y, *pullback(do)]

    return jax.jit(both)(q, k, v, do, lengths)


def lowered(f, *args, platform="cuda"):
    return jax.jit(f).trace(*args).lower(lowering_platforms=(platform,)).as_text()


def calls_in(text):
    """(name, config, types) of each call of cuDNN in a lowered program."""
    lines = [line for line in text.splitlines() if "custom_call @__cudnn" in line]
    configs = [re.findall(r'backend_config = "((?:[^"\\]|\\.)*)"', line)[0] for line in lines]
    names = [re.findall(r"@(__cudnn[\w$]+)", line)[0] for line in lines]
    layouts = [re.findall(r"(?:operand|result)_layouts = \[.*?\](?=[,}])", line) for line in lines]
    types = [line.rpartition(" : ")[2] for line in lines]
    configs = [json.loads(re.sub(r"\\22", '"', text)) for text in configs]
    return list(zip(names, configs, types, layouts, strict=True))


FORWARD, BACKWARD = "__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"
LENGTHS = jnp.array([5, 12], jnp.int32)
# Options and lengths that cuDNN takes, and the same of `jax.nn.dot_product_attention`.
TAKEN = {
    "plain": ({}, None, {}, H),
    "causal": ({"causal": True}, None, {"is_causal": True}, H),
    "grouped": ({"causal": True}, None, {"is_causal": True}, 2),
    "one key head": ({"scale": 0.3}, None, {"scale": 0.3}, 1),
    "window": (
        {"causal": True, "window": 3},
        None,
        {"is_causal": True, "local_window_size": (3, 0)},
        H,
    ),
    "lengths": ({}, LENGTHS, {"key_value_seq_lengths": LENGTHS}, H),
    "causal lengths": (
        {"causal": True},
        LENGTHS,
        {"is_causal": True, "key_value_seq_lengths": LENGTHS},
        2,
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_program_for_cuda_calls_cudnn_both_ways_and_no_blocks(name):
    options, lengths, _, keys = TAKEN[name]
    f = functools.partial(gradient, lengths=lengths, **options)
    text = lowered(f, *drawn(keys))
    assert [call[0] for call in calls_in(text)] == [FORWARD, BACKWARD]
    assert "dot_general" not in text
    assert "stablehlo.while" not in text
    on_cpu = lowered(f, *drawn(keys), platform="cpu")
    assert calls_in(on_cpu) == []
    assert "dot_general" in on_cpu
    assert attention_implementation(
        *drawn(keys)[:3], None, None, lengths, implementation="cudnn", **options
    ) == ("cudnn", "asked for, on CUDA; on other platforms the blocks")


def test_without_its_name_nothing_changes():
    q, k, v, _ = drawn()
    assert calls_in(lowered(functools.partial(gradient, implementation="blocks"), *drawn())) == []
    assert calls_in(lowered(attention, q, k, v)) == []
    assert attention_implementation(q, k, v) == ("blocks", "asked for")


def as_jax_calls_it(monkeypatch, options, q, k, v, do):
    """The calls in the program of `jax.nn`, which asks this machine for a GPU first."""
    from jax._src.cudnn import fused_attention_stablehlo as asked

    monkeypatch.setattr(asked, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(asked, "check_compute_capability", lambda wanted: wanted <= "9.0")
    monkeypatch.setattr(asked, "is_cuda_compute_capability_equal", lambda wanted: wanted == "9.0")

    def f(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn", **options)

    def both(q, k, v, do):
        y, pullback = jax.vjp(f, q, k, v)
        return [y, *pullback(do)]

    return calls_in(lowered(both, q, k, v, do))


UNSET = ({}, [], "0", False, None, "PRIMITIVE_TYPE_INVALID")  # the defaults of XLA's messages


def beyond(theirs, ours):
    """What one config has that the other has not, or has otherwise."""
    if isinstance(theirs, dict):
        assert set(ours) <= set(theirs)
        left = {n: beyond(v, ours[n]) if n in ours else v for n, v in theirs.items()}
        return {n: v for n, v in left.items() if v not in UNSET}
    if isinstance(theirs, float):
        return None if theirs == pytest.approx(ours, rel=1e-12) else (theirs, ours)
    return None if theirs == ours else (theirs, ours)


@pytest.mark.parametrize("name", TAKEN)
def test_it_is_called_as_jax_calls_it(monkeypatch, name):
    options, lengths, theirs, keys = TAKEN[name]
    args = drawn(keys)
    ours = calls_in(lowered(functools.partial(gradient, lengths=lengths, **options), *args))
    of_jax = as_jax_calls_it(monkeypatch, theirs, *args)
    assert len(ours) == len(of_jax) == 2
    for (name, config, types, layouts), (their_name, their_config, *their_rest) in zip(
        ours, of_jax, strict=True
    ):
        assert name == their_name
        assert beyond(their_config, config) == {}
        assert [types, layouts] == their_rest


Q, K, V, _ = drawn()
REFUSED = {
    "float32": (drawn(dtype=jnp.float32)[:3], {}, "float32"),
    "wide heads": (drawn(width=136)[:3], {}, "at most 128"),
    "odd heads": (drawn(width=12)[:3], {}, "a multiple of 8"),
    "two widths": ((Q, K, drawn(width=16)[2]), {}, "8 and 16 wide"),
    "one query": ((Q[:, :1], K, V), {}, "one query"),
    "one key": ((Q, K[:, :1], V[:, :1]), {}, "one key"),
    "no queries": ((Q[:, :0], K, V), {}, "empty"),
    "no samples": ((Q[:0], K[:0], V[:0]), {}, "empty"),
    "a bias": ((Q, K, V, jnp.zeros((1, 1, T, T), jnp.bfloat16)), {}, "a bias"),
    "a mask": ((Q, K, V, None, jnp.ones((B, 1, 1, T), bool)), {}, "a mask"),
    "soft cap": ((Q, K, V), {"soft_cap": 1.0}, "soft cap"),
    "dropout": (
        (Q, K, V, None, None, None, jax.random.key(0)),
        {"dropout": 0.5},
        "not from a key",
    ),
    "negative scale": ((Q, K, V), {"scale": -1.0}, "not positive"),
    "a window to both sides": ((Q, K, V), {"window": 3}, "ends at the place"),
    "a window ahead": ((Q, K, V), {"window": (None, 2)}, "ends at the place"),
    "a window behind": ((Q, K, V), {"window": (2, None)}, "ends at the place"),
    "causal, fewer keys": ((Q, K[:, :5], V[:, :5]), {"causal": True}, "other places"),
    "lengths and a window": (
        (Q, K, V, None, None, LENGTHS),
        {"causal": True, "window": 2},
        "lengths and a window",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cudnn_does_not_do_stays_with_the_blocks_and_says_why(name):
    args, options, reason = REFUSED[name]
    options = {**options, "implementation": "cudnn"}
    found = attention_implementation(*args, **options)
    assert found.name == "blocks"
    assert reason in found.reason
    assert "\n" not in found.reason

    def loss(*floats):
        return jnp.sum(attention(*floats, *args[3:], **options))

    assert calls_in(lowered(jax.value_and_grad(loss, (0, 1, 2)), *args[:3])) == []


def test_dropout_without_a_key_and_shapes_alone_are_taken():
    q = jax.ShapeDtypeStruct((B, T, H, W), jnp.float16)
    assert attention_implementation(q, q, q, dropout=0.5, implementation="cudnn").name == "cudnn"


@pytest.mark.parametrize("call", [attention, attention_implementation])
def test_a_name_that_nobody_has_is_one_line(call):
    with pytest.raises(ValueError, match="attention: implementation is one of") as error:
        call(Q, K, V, implementation="cuDNN")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="attention: implementation is one of"):
        fnn.attend(2, implementation="flash")  # pyright: ignore[reportArgumentType]


def stand_in(direction, call, results, operands, lengths):
    """What cuDNN computes, written out, of its config; NaN where it says nothing."""
    q, k, v = (a.astype(jnp.float32) for a in operands[:3])
    config = json.loads(cudnn._config(direction, call, bool(lengths), *operands[:2]))
    config = config["cudnn_fmha_backend_config"]
    group = q.shape[2] // k.shape[2]
    wide_k, wide_v = (jnp.repeat(a, group, 2) for a in (k, v))
    z = config["fmha_scale"] * jnp.einsum("bthw,bshw->bhts", q, wide_k)
    t = jnp.arange(q.shape[1]).reshape(1, 1, -1, 1)
    s = jnp.arange(k.shape[1]).reshape(1, 1, 1, -1)
    seen = jnp.broadcast_to(s >= 0, z.shape)
    if "CAUSAL" in config["mask_type"]:
        seen &= s <= t
    if config["sliding_window_length"]:
        seen &= s > t - config["sliding_window_length"]
    if "PADDING" in config["mask_type"]:
        seen &= s < lengths[0][:, None, None, None]
    if direction == "forward":
        logarithm = jax.nn.logsumexp(z, -1, where=seen)
        p = jnp.where(seen, jnp.exp(z - logarithm[..., None]), 0)
        y = jnp.einsum("bhts,bshw->bhtw", p, wide_v)
        found = [y, logarithm]
    else:
        logarithm, dy, y = (a.astype(jnp.float32) for a in operands[3:])
        p = jnp.where(seen, jnp.exp(z - logarithm[..., None]), 0)
        dp = jnp.einsum("bthw,bshw->bhts", dy, wide_v)
        delta = jnp.einsum("bthw,bthw->bht", dy, y)
        dz = config["fmha_scale"] * p * (dp - delta[..., None])
        dk = jnp.einsum("bhts,bthw->bhsw", dz, q)
        dv = jnp.einsum("bhts,bthw->bhsw", p, dy)
        apart = (k.shape[0], k.shape[2], group, *k.shape[1::2])
        dk, dv = (a.reshape(apart).sum(2) for a in (dk, dv))
        if lengths:
            there = s.reshape(1, 1, -1, 1) < lengths[0][:, None, None, None]
            dk, dv = (jnp.where(there, a, jnp.nan) for a in (dk, dv))
        found = [jnp.einsum("bhts,bshw->bhtw", dz, wide_k), dk, dv]
    if lengths:
        legal = (lengths[0] >= 1) & (lengths[0] <= k.shape[1])
        found = [jnp.where(legal.reshape(-1, *(1,) * (a.ndim - 1)), a, jnp.nan) for a in found]
    for a, shape in zip(found, results, strict=True):
        assert a.shape == shape.shape
    return [a.astype(shape.dtype) for a, shape in zip(found, results, strict=True)]


@pytest.fixture
def as_on_cuda(monkeypatch):
    """The rule on a CPU as on CUDA, with a stand-in for cuDNN."""
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *a, cuda, default: cuda(*a))
    monkeypatch.setattr(cudnn, "_called", stand_in)
    cudnn._pass.cache_clear()
    yield attention.replace()
    cudnn._pass.cache_clear()


def largest_distance(found, wanted):
    """Over the largest element of each array, at least 0.1; NaN where one is."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    wide = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    return float(np.max([np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 0.1) for a, b in wide]))


NEAR = 0.02  # bfloat16 is rounded at other places
MEANT = {
    **{name: (options, lengths, keys) for name, (options, lengths, _, keys) in TAKEN.items()},
    "window of one": ({"causal": True, "window": 0}, None, H),
    "window without causal": ({"window": (2, 0)}, None, 2),
    "window of all": ({"causal": True, "window": T - 1}, None, H),
    "a sample that sees nothing": ({}, jnp.array([0, 7]), 2),
    "causal, a sample that sees nothing": ({"causal": True}, jnp.array([3, 0]), H),
    "more lengths than keys": ({}, jnp.array([99, -1]), H),
    "float16": ({"causal": True}, None, H),
}


@pytest.mark.parametrize("name", MEANT)
def test_what_it_is_asked_means_what_the_blocks_mean(as_on_cuda, name):
    options, lengths, keys = MEANT[name]
    args = drawn(keys, dtype=jnp.float16 if name == "float16" else jnp.bfloat16)
    found = gradient(*args, lengths=lengths, rule=as_on_cuda, **options)
    wanted = gradient(*args, lengths=lengths, implementation="blocks", **options)
    assert [a.dtype for a in found] == [a.dtype for a in wanted]
    assert largest_distance(found, wanted) < NEAR
    if lengths is not None:
        blind = np.asarray(lengths) <= 0
        for a in found:
            assert not np.any(np.asarray(a, np.float32)[blind])


def wrong_calls():
    """cuDNN asked for something else, and what it says misread."""
    right = cudnn.call_of

    def window_without_its_end(blocks):
        call = right(blocks)
        return call._replace(window=max(call.window - 1, 0))

    return {
        "a window less its own place": ("call_of", window_without_its_end, "window"),
        "no mask": ("call_of", lambda b: right(b)._replace(causal=False), "causal"),
        "no scale": ("call_of", lambda b: right(b)._replace(scale=1.0), "one key head"),
        "blind rows as they are": (
            "_without_the_blind",
            lambda given, a: a,
            "a sample that sees nothing",
        ),
        "unclipped lengths": (
            "_seen_at_least_one",
            lambda given: (given.lengths,) if given.lengths is not None else (),
            "a sample that sees nothing",
        ),
    }


@pytest.mark.parametrize("name", wrong_calls())
def test_a_wrong_call_is_found(monkeypatch, as_on_cuda, name):
    where, wrong, case = wrong_calls()[name]
    monkeypatch.setattr(cudnn, where, wrong)
    options, lengths, keys = MEANT[case]
    found = gradient(*drawn(keys), lengths=lengths, rule=as_on_cuda, **options)
    wanted = gradient(*drawn(keys), lengths=lengths, implementation="blocks", **options)
    assert not largest_distance(found, wanted) < NEAR


def stacked(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@pytest.mark.parametrize("transform", ["vmap", "vmap of lengths", "scan", "checkpoint"])
def test_transformations_leave_it(as_on_cuda, transform):
    args = drawn(2)
    twice = [jnp.stack([a, 2 * a]) for a in args]
    f = functools.partial(gradient, rule=as_on_cuda, causal=True)
    plain = functools.partial(gradient, implementation="blocks", causal=True)
    lengths = jnp.array([[5, 12], [0, 3]], jnp.int32)
    if transform == "vmap":
        found = jax.vmap(f, (0, 0, None, 0))(twice[0], twice[1], args[2], twice[3])
        wanted = stacked(plain(twice[0][i], twice[1][i], args[2], twice[3][i]) for i in range(2))
    elif transform == "vmap of lengths":
        found = jax.vmap(lambda args, n: f(*args, lengths=n))(twice, lengths)
        wanted = stacked(plain(*(a[i] for a in twice), lengths=lengths[i]) for i in range(2))
    elif transform == "scan":
        _, found = jax.lax.scan(lambda c, args: (c, f(*args)), None, tuple(twice))
        wanted = stacked(plain(*(a[i] for a in twice)) for i in range(2))
    else:
        rule = jax.checkpoint(functools.partial(as_on_cuda, causal=True, implementation="cudnn"))
        y, pullback = jax.vjp(rule, *args[:3])
        found, wanted = [y, *pullback(args[3])], plain(*args)
    assert largest_distance(found, wanted) < NEAR


def placed(args, mesh, specs):
    return [jax.device_put(a, NamedSharding(mesh, s)) for a, s in zip(args, specs, strict=True)]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("keys", [4, 2])
def test_each_device_takes_its_samples_and_heads(as_on_cuda, kind, keys):
    mesh = jax.make_mesh(
        (2, 2), ("data", "tensor"), axis_types=(kind,) * 2, devices=jax.devices()[:4]
    )
    args, lengths = drawn(keys, samples=4), jnp.array([3, 0, 12, 5], jnp.int32)
    wanted = gradient(*args, lengths=lengths, implementation="blocks")
    spec = PartitionSpec("data", None, "tensor")
    given = placed([*args, lengths], mesh, [spec] * 4 + [PartitionSpec("data")])
    with jax.set_mesh(mesh):
        f = jax.jit(functools.partial(gradient, rule=as_on_cuda))
        compiled = f.lower(*given).compile()
        found = compiled(*given)
    assert largest_distance(found, wanted) < NEAR
    # The numbers of the rows, which Explicit has lie as the samples do, are no array of heads.
    moved = re.findall(r"= (\w+)\[\S* all-(?:gather|to-all)\(", compiled.as_text() or "")
    assert set(moved) <= ({"f32"} if kind is AxisType.Explicit else set())
    assert all(
        a.sharding.is_equivalent_to(g.sharding, 4)
        for a, g in zip(found, given[:1] + given[:3], strict=True)
    )


def test_it_runs_inside_a_shard_map(as_on_cuda):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    q, k, v, do = drawn(2, samples=4)
    lengths = jnp.array([3, 0, 12, 5], jnp.int32)
    rows = PartitionSpec("data")

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(rows, PartitionSpec(), rows, rows, rows), out_specs=rows
    )
    def value(q, k, v, do, lengths):
        return as_on_cuda(q, k, v, None, None, lengths, implementation="cudnn") * do

    def loss(rule, q, k, v):
        if rule == "blocks":
            y = attention(q, jnp.concatenate([k, k]), v, None, None, lengths) * do
        else:
            y = value(q, k, v, do, lengths)
        return jnp.sum(y.astype(jnp.float32))

    found, wanted = (
        jax.jit(jax.value_and_grad(functools.partial(loss, rule), (0, 1, 2)))(q, k[:2], v)
        for rule in ("cudnn", "blocks")
    )
    assert largest_distance(found[1], wanted[1]) < NEAR


def test_models_and_their_configs_carry_the_name():
    options = {"width": 16, "depth": 2, "heads": 2, "implementation": "cudnn"}
    for make in (fnn.models.gpt, fnn.models.llama):
        model = fnn.compute_in(make(11, **options), "bfloat16")
        assert "implementation" not in make(11, **options).options
        x = jnp.zeros((2, 8), jnp.int32)
        params = model.init(jax.random.key(0), x)

        def loss(params, x, model=model):
            return jnp.sum(model(params, x).astype(jnp.float32))

        names = [call[0] for call in calls_in(lowered(jax.grad(loss), params, x))]
        assert set(names) == {FORWARD, BACKWARD}


def test_a_second_derivative_is_refused():
    q, k, v, do = drawn()

    def loss(q, **options):
        return jnp.sum((attention(q, k, v, **options) * do).astype(jnp.float32) ** 2)

    def second(**options):
        first = jax.grad(functools.partial(loss, **options))
        return jax.grad(lambda q: jnp.sum((first(q) * do).astype(jnp.float32)))(q)

    with pytest.raises((NotImplementedError, ValueError, TypeError), match="ifferentia"):
        jax.jit(functools.partial(second, implementation="cudnn"))()
    assert bool(jnp.all(jnp.isfinite(second())))
