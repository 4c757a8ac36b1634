"""What a step of GPT-2 keeps on an H200 that is not there: by hand, by autodiff, with checkpoints.

AdamW on float32 params, products in bfloat16. Temporary bytes are the compiler's for the described
device; operations are counted on the program, loop bodies as often as they run, those of cuDNN's
calls not at all. The plain arms are JAX as users write it, with XLA's attention or cuDNN's, without
a checkpoint or with those that users take.

    pip install --no-deps jax-cuda13-plugin==V jax-cuda13-pjrt==V   # V: the version of jax
    JAX_PLATFORMS=cpu python benchmarks/gpt_memory.py [--size NAME ...] [--arm NAME ...] [--out F]
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.ad_checkpoint import checkpoint_name

import funcnn as fnn
from funcnn.bench.absent import described_device, figures
from funcnn.core.stack import Kept
from funcnn.gradient.cost.flops import count_products
from funcnn.task.kinds.language import language
from funcnn.task.losses.softmax_cross_entropy import softmax_cross_entropy
from funcnn.task.measured import Measured

ROOT = Path(__file__).parent.parent


class Size(NamedTuple):
    """A GPT-2, and its batch."""

    width: int
    depth: int
    heads: int
    rows: int
    vocabulary: int = 50304
    places: int = 1024


SIZES = {
    "124M": Size(768, 12, 12, 32),
    "350M": Size(1024, 24, 16, 16),
    "1558M": Size(1600, 48, 25, 8),
}
Loss = Callable[[Any, Any, Any], Any]


def model_of(size: Size, keep: Kept = "residuals", implementation: str = "blocks") -> fnn.Layer:
    """The model by hand."""
    of_size = size.vocabulary, size.places, size.width, size.depth, size.heads
    return fnn.models.gpt(*of_size, keep=keep, implementation=implementation)


def by_hand(size: Size, keep: Kept, implementation: str = "blocks") -> Loss:
    """The rules, head and loss in one."""
    model = fnn.compute_in(model_of(size, keep, implementation), "bfloat16")
    losses = functools.partial(softmax_cross_entropy)
    measured = Measured(model, language(fused=True), losses, {})
    return lambda params, x, y: measured.loss(params, {"x": x, "y": y}, None)[0]


def normed(x: Any, params: Any) -> Any:
    """A layer norm as one writes it."""
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, -1, keepdims=True)
    variance = jnp.mean((wide - mean) ** 2, -1, keepdims=True)
    y = (wide - mean) * jax.lax.rsqrt(variance + 1e-5) * params["scale"] + params["bias"]
    return y.astype(x.dtype)


def dense(x: Any, params: Any) -> Any:
    """A product and a bias."""
    return x @ params["w"] + params["b"]


def plain_block(size: Size, attention: str, x: Any, params: Any) -> Any:
    """The block in plain JAX; what a block by hand keeps has names, for a policy to save."""
    of_heads = params["attention"]["body"]
    n = normed(x, of_heads["inputs"]["norm"])
    apart = (*x.shape[:2], size.heads, size.width // size.heads)
    q, k, v = (
        checkpoint_name(dense(n, of_heads["inputs"]["heads"][name]).reshape(apart), name)
        for name in "qkv"
    )
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=attention)
    y = checkpoint_name(y.reshape(x.shape), "o")
    z = checkpoint_name(x + dense(y, of_heads["out"]), "z")
    of_mlp = params["mlp"]["body"]
    u = checkpoint_name(dense(normed(z, of_mlp["inputs"]["norm"]), of_mlp["inputs"]["up"]), "u")
    return z + dense(jax.nn.gelu(u), of_mlp["out"]["dense"])


def cudnn_is_there() -> None:
    """cuDNN and an H200, to JAX, which asks for them on this machine before it calls cuDNN."""
    if jax.default_backend() == "gpu":
        return
    from jax._src.cudnn import fused_attention_stablehlo as asked

    asked.check_cudnn_version = lambda: 91000
    asked.check_compute_capability = lambda wanted: wanted <= "9.0"
    asked.is_cuda_compute_capability_equal = lambda wanted: wanted == "9.0"


def plain(
    size: Size, attention: str = "xla", wrap: Callable[..., Any] = lambda f: f, scanned: bool = True
) -> Loss:
    """Autodiff of plain JAX; `wrap` is put round each block."""
    if attention == "cudnn":
        cudnn_is_there()
    block = wrap(functools.partial(plain_block, size, attention))

    def loss(params: Any, x: Any, y: Any) -> Any:
        params = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
        table = params["tokens"]["table"]
        h = table[x] + params["places"]["table"][: x.shape[1]]
        if scanned:
            h, _ = jax.lax.scan(lambda h, own: (block(h, own), None), h, params["blocks"])
        else:
            for i in range(size.depth):
                h = block(h, jax.tree.map(lambda a, i=i: a[i], params["blocks"]))
        logits = (normed(h, params["norm"]) @ table.T).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    return loss


_POLICIES = jax.checkpoint_policies


def checkpoint(policy: Any = None) -> Callable[..., Any]:
    """`jax.checkpoint` with what it saves beside the inputs of a block."""
    return functools.partial(jax.checkpoint, policy=policy)


BY_CUDNN = {
    f"by hand, {keep}, cuDNN": functools.partial(by_hand, keep=keep, implementation="cudnn")
    for keep in ("residuals", "inputs")
}
_NAMES = _POLICIES.save_only_these_names(*"qkvozu")
ARMS: dict[str, Callable[[Size], Loss]] = {
    "by hand, residuals": lambda size: by_hand(size, "residuals"),
    "by hand, inputs": lambda size: by_hand(size, "inputs"),
    **BY_CUDNN,
    "scanned, XLA": lambda size: plain(size),
    "unrolled, XLA": lambda size: plain(size, scanned=False),
    "scanned, cuDNN": lambda size: plain(size, "cudnn"),
    "unrolled, cuDNN": lambda size: plain(size, "cudnn", scanned=False),
    "checkpoint, XLA": lambda size: plain(size, wrap=checkpoint()),
    "checkpoint, cuDNN": lambda size: plain(size, "cudnn", checkpoint()),
    "checkpoint, dots saved, cuDNN": lambda size: plain(
        size, "cudnn", checkpoint(_POLICIES.dots_saveable)
    ),
    "checkpoint, products with weights saved, cuDNN": lambda size: plain(
        size, "cudnn", checkpoint(_POLICIES.dots_with_no_batch_dims_saveable)
    ),
    "checkpoint, names saved, cuDNN": lambda size: plain(size, "cudnn", checkpoint(_NAMES)),
    "checkpoint, names saved, XLA": lambda size: plain(size, wrap=checkpoint(_NAMES)),
}


RATE = 1e-4


def step_of(loss: Loss) -> Callable[..., Any]:
    """AdamW: (params, state, x, y) become the next params and state, and the loss."""
    optimizer = optax.adamw(RATE)

    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(params, x, y)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    return step


def measured_row(name: str, arm: str) -> dict[str, Any]:
    """One arm at one size."""
    size = SIZES[name]
    tokens = jax.ShapeDtypeStruct((size.rows, size.places), jnp.int32)
    params = jax.eval_shape(model_of(size).init, jax.random.key(0), tokens)
    state = jax.eval_shape(optax.adamw(RATE).init, params)
    step, args = step_of(ARMS[arm](size)), (params, state, tokens, tokens)
    found = figures(step, *args, device=described_device("h200"), donate=(0, 1))
    products = sum(count_products(jax.make_jaxpr(step)(*args)).values())
    unit = (
        size.rows * size.places * size.width * size.depth * 2
    )  # bytes of x (B, T, D) in each block
    return {
        "size": name,
        "rows": size.rows,
        "places": size.places,
        "arm": arm,
        "temporary_bytes": found.temporary_bytes,
        "argument_bytes": found.argument_bytes,
        "temporaries_over_x": round(found.temporary_bytes / unit, 2),
        # Of a rule it is what runs on this machine that is counted: the blocks.
        "operations_of_products": None if arm in BY_CUDNN else products,
    }


def main() -> None:
    """Compile all, one line each."""
    options = argparse.ArgumentParser()
    options.add_argument("--size", action="append", choices=SIZES)
    options.add_argument("--arm", action="append", choices=ARMS)
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/gpt_h200.jsonl")
    asked = options.parse_args()
    lines = [json.dumps({"device": "NVIDIA H200, described and absent", "jax": jax.__version__})]
    for name in asked.size or SIZES:
        for arm in asked.arm or ARMS:
            lines.append(json.dumps(measured_row(name, arm)))
            print(lines[-1], flush=True)
    asked.out.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
