"""cuDNN's attention on NVIDIA GPUs: a call for each pass, which XLA's compiler knows by its name.

The names and what stands in their configs are XLA's, as `jax.nn.dot_product_attention` has them;
of JAX only what is public is used. The forward pass keeps y and of each row the logarithm of its
sum, log Σ_s exp(z_ts); from these, q, k and v the backward pass makes its gradients in blocks, as
blocks.py does. choice.py says which calls of the rule cuDNN may take.

On many devices each takes its samples and its heads. Derivatives of the second order stop here with
an error of JAX: cuDNN has none.
"""

from __future__ import annotations

import functools
import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from funcnn.core.devices import varying_as
from funcnn.rules.attention.arguments import Given
from funcnn.rules.attention.blocks import Blocks, Rows
from funcnn.rules.shared.numerics import accumulator
from funcnn.types import Array, Function

NAMES = {"forward": "__cudnn$fmhaSoftmax", "backward": "__cudnn$fmhaSoftmaxBackward"}


class Call(NamedTuple):
    """What cuDNN is told beside the arrays; two that are equal share their programs."""

    scale: float
    causal: bool
    window: int  # how many keys a query sees, its own place and those before; 0 for no bound
    group: int  # query heads that share a key head


def call_of(blocks: Blocks) -> Call:
    """The call of cuDNN that has the blocks' meaning.

    A query at t sees `before` keys and its own: XLA counts both. A bound that no row reaches is
    left out.
    """
    sight, grid = blocks.sight, blocks.grid
    bound = sight.before is not None and sight.before < grid.keys - 1
    return Call(
        scale=float(blocks.scale),
        causal=sight.after == 0,
        window=1 + (sight.before or 0) if bound else 0,
        group=blocks.group,
    )


def forward_by_cudnn(blocks: Blocks, given: Given) -> tuple[Array, Rows]:
    """y (B, T, H, V), and of each row what its p is made with, as the blocks have it."""
    operands = varying_as((given.q, given.k, given.v, *_seen_at_least_one(given)), given)
    y, logarithm = _pass("forward", call_of(blocks))(*operands)  # (B, T, H, V), (B, H, T)
    y = _without_the_blind(given, y)
    shift = logarithm.transpose(0, 2, 1)  # (B, T, H)
    return y, Rows(shift, varying_as(jnp.ones_like(shift), shift))


def backward_by_cudnn(
    blocks: Blocks, given: Given, y: Array, of_rows: Rows, dy: Array
) -> tuple[Array, Array, Array]:
    """dq, dk, dv as the arguments lie."""
    logarithm = of_rows.shift + jnp.log(of_rows.total)  # (B, T, H)
    dy = _without_the_blind(given, dy)
    operands = (given.q, given.k, given.v, logarithm.transpose(0, 2, 1), dy, y)
    operands = varying_as((*operands, *_seen_at_least_one(given)), given, dy)
    dq, dk, dv = _pass("backward", call_of(blocks))(*operands)
    if given.lengths is not None:  # what cuDNN leaves at keys that nobody sees, it does not say
        places = jnp.arange(dk.shape[1], dtype=given.lengths.dtype)[None]
        there = (places < given.lengths[:, None])[..., None, None]  # (B, S, 1, 1)
        dk, dv = (jnp.where(there, a, 0) for a in (dk, dv))
    return dq, dk, dv


def _seen_at_least_one(given: Given) -> tuple[Array, ...]:
    """The keys of each sample, at least one: of a row that sees none cuDNN says nothing."""
    if given.lengths is None:
        return ()
    return (jnp.clip(given.lengths, 1, given.k.shape[1]).astype(jnp.int32),)


def _without_the_blind(given: Given, a: Array) -> Array:
    """Rows (B, T, H, V), 0 in the samples in which no key is seen."""
    if given.lengths is None:
        return a
    return jnp.where((given.lengths > 0)[:, None, None, None], a, 0)


@functools.cache
def _pass(direction: str, call: Call) -> Function:
    """One pass as a function of its arrays, under vmap, and in parts on many devices."""
    run = functools.partial(_forward if direction == "forward" else _backward, call)
    in_parts = {n: _in_parts(direction, run, call.group, padded=n) for n in (False, True)}
    plain = 3 if direction == "forward" else 6

    @custom_vmap
    def mapped(*operands: Array) -> tuple[Array, ...]:
        return in_parts[len(operands) > plain](*operands)

    def over_samples(
        size: int, batched: list[bool], *operands: Array
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        whole = (
            a if own else jnp.broadcast_to(a, (size, *a.shape))
            for a, own in zip(operands, batched, strict=True)
        )
        found = mapped(*(a.reshape(-1, *a.shape[2:]) for a in whole))
        apart = tuple(a.reshape(size, -1, *a.shape[1:]) for a in found)
        return apart, (True,) * len(apart)

    mapped.def_vmap(over_samples)
    return mapped


def _in_parts(direction: str, run: Function, group: int, padded: bool) -> Function:
    """A pass of which each device takes its samples and heads; all else of an array lies whole."""
    heads = "(k g)" if group > 1 else "k"
    of_queries, of_keys, of_rows = f"b t {heads} w", "b s k w", f"b {heads} t"
    arrays = [of_queries, of_keys, of_keys]
    results = [of_queries, of_rows]
    if direction == "backward":
        arrays, results = [*arrays, of_rows, of_queries, of_queries], arrays
    arrays = [*arrays, *(["b"] if padded else [])]

    def partition(
        mesh: Mesh, operands: tuple[jax.ShapeDtypeStruct, ...], _: object
    ) -> tuple[Mesh, Function, tuple[NamedSharding, ...], tuple[NamedSharding, ...]]:
        of = _padded_spec(operands[1])  # of k: its heads may be fewer than those of q
        places = {"b": of[0], "k": of[2], "(k g)": of[2]}

        def sharding(axes: str) -> NamedSharding:
            names = axes.replace("(k g)", "k").split()
            return NamedSharding(mesh, PartitionSpec(*(places.get(n) for n in names)))

        alone = functools.partial(_on_one_device, run)
        return mesh, alone, tuple(map(sharding, results)), tuple(map(sharding, arrays))

    function = custom_partitioning(run)
    whole = ("t", *("g" for _ in range(group > 1)), "w", "s")  # in the order of the rule
    define = functools.partial(
        function.def_partition,
        partition,
        sharding_rule=f"{', '.join(arrays)} -> {', '.join(results)}",
        need_replication_factors=whole,
    )
    define(g=group) if group > 1 else define()
    return function


def _on_one_device(run: Function, *operands: Array) -> tuple[Array, ...]:
    """A pass on the part of a device, which is told of no mesh around it."""
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
        return run(*operands)


def _padded_spec(a: jax.ShapeDtypeStruct) -> tuple[object, ...]:
    spec = a.sharding.spec if isinstance(a.sharding, NamedSharding) else ()
    return (*spec, *(None,) * (len(a.shape) - len(spec)))


def _forward(call: Call, q: Array, k: Array, v: Array, *lengths: Array) -> tuple[Array, ...]:
    b, t, h, _ = q.shape
    results = _like(q, (b, h, t, v.shape[3]), q.dtype), _like(q, (b, h, t), accumulator(q))
    y, logarithm = _called("forward", call, results, (q, k, v), lengths)
    return y.transpose(0, 2, 1, 3), logarithm  # (B, T, H, V), (B, H, T)


def _backward(
    call: Call, q: Array, k: Array, v: Array, logarithm: Array, dy: Array, y: Array, *lengths: Array
) -> tuple[Array, ...]:
    first = tuple(_like(a, tuple(a.shape[i] for i in (0, 2, 1, 3)), a.dtype) for a in (q, k, v))
    found = _called("backward", call, first, (q, k, v, logarithm, dy, y), lengths)
    return tuple(a.transpose(0, 2, 1, 3) for a in found)


def _like(a: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=jax.typeof(a).manual_axis_type)


def _called(
    direction: str,
    call: Call,
    results: tuple[jax.ShapeDtypeStruct, ...],
    operands: tuple[Array, ...],
    lengths: tuple[Array, ...],
) -> list[Array]:
    """The results, heads before places in shape, and places before heads in memory."""
    q, k = operands[:2]
    if lengths:
        operands = (*operands, jnp.full_like(lengths[0], q.shape[1]), *lengths)
    room = _like(q, (0,), jnp.dtype(jnp.uint8))  # of which XLA makes what cuDNN needs
    function = jax.ffi.ffi_call(
        NAMES[direction],
        (*results, room),
        output_layouts=[(0, 2, 1, 3) if len(r.shape) == 4 else None for r in (*results, room)],
        custom_call_api_version=2,  # that of the calls which XLA itself replaces
        legacy_backend_config=_config(direction, call, bool(lengths), q, k),
    )
    *found, _ = function(*operands)
    return found


# Of each product of a pass: the axes of either side that are summed over, and those of samples and
# heads. The scores are (B, H, T, S), all else (B, T, H, W).
_PRODUCTS = {
    "forward": {
        "bmm1": ((3, 3), ((0, 2), (0, 2))),  # q kᵀ
        "bmm2": ((3, 1), ((0, 1), (0, 2))),  # p v
    },
    "backward": {
        "bmm1_grad_gemm1": ((2, 1), ((0, 1), (0, 2))),  # dzᵀ q
        "bmm1_grad_gemm2": ((3, 1), ((0, 1), (0, 2))),  # dz k
        "bmm2_grad_gemm1": ((2, 1), ((0, 1), (0, 2))),  # pᵀ dy
        "bmm2_grad_gemm2": ((3, 3), ((0, 2), (0, 2))),  # dy vᵀ
    },
}


def _config(direction: str, call: Call, padded: bool, q: Array, k: Array) -> str:
    """What XLA's GpuBackendConfig asks of such a call, as JSON; integers of 64 bits are strings."""
    b, t, h, _ = q.shape
    masks = {(False, False): "NO_MASK", (True, False): "CAUSAL"}
    masks |= {(False, True): "PADDING", (True, True): "PADDING_CAUSAL"}
    of_scores = {
        "element_type": {"bfloat16": "BF16", "float16": "F16"}[q.dtype.name],
        "dimensions": [str(n) for n in (b, h, t, k.shape[1])],
        "layout": {"minor_to_major": ["3", "2", "1", "0"]},
        "is_dynamic_dimension": [False] * 4,
    }
    config = {
        "algorithm": {
            "algo_id": "0",
            "math_type": "TENSOR_OP_MATH",
            "tuning_knobs": {"17": "1", "24": "0"},
            "is_cudnn_frontend": True,
            "workspace_size": "0",
        },
        "fmha_scale": call.scale,
        "intermediate_tensor_shape": of_scores,
        "is_flash_attention": True,
        "mask_type": masks[call.causal, padded],
        "dropout_rate": 0.0,
        "seed": 42,
        "sliding_window_length": call.window,
        "max_seg_per_batch": 1,
        "is_paged_attention": False,
    }
    for name, (summed, shared) in _PRODUCTS[direction].items():
        sides = zip(("lhs", "rhs"), summed, shared, strict=True)
        axes: dict[str, list[str]] = {}
        for side, over, of in sides:
            axes[f"{side}_contracting_dimensions"] = [str(over)]
            axes[f"{side}_batch_dimensions"] = [str(n) for n in of]
        config[f"{name}_dot_dimension_numbers"] = axes
    return json.dumps({"operation_queue_id": "0", "cudnn_fmha_backend_config": config})
