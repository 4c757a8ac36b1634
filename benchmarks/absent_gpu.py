"""Memory and kernels of gradients on an H200 that is not there, by hand and by autodiff; no times.

pip install --no-deps jax-cuda13-plugin==V jax-cuda13-pjrt==V   # V: the version of jax
JAX_PLATFORMS=cpu python benchmarks/absent_gpu.py
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp

import funcnn as fnn
from funcnn.bench.absent import described_device, figures
from funcnn.bench.networks import Network, loss_of
from funcnn.bench.training import CNN, MLP

RESULTS = Path(__file__).parent / "results" / "absent_h200.jsonl"
BF16 = jnp.bfloat16


def shapes(*leaves):
    return [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in leaves]


def gradient(loss, argnums=(0, 1)):
    return jax.jit(jax.value_and_grad(loss, argnums))


def network(made: Network):
    """The gradient of a training step's loss; float32."""
    loss = loss_of(made)

    def at(params, x, y):
        return loss(params, {"x": x, "y": y}, None)

    params = jax.eval_shape(lambda: made.params)
    data = shapes(((made.batch, *made.shape), jnp.float32), ((made.batch,), jnp.int32))
    arms = {"by hand": at, "autodiff": fnn.without_rules(at)}
    return {name: gradient(f, 0) for name, f in arms.items()}, [params, *data]


def stack():
    """`repeat` of 12 blocks, dense 512 and gelu, on 8,192 rows; bfloat16."""
    block = fnn.chain(fnn.dense(512), fnn.gelu())
    model = fnn.repeat(block, 12)

    def loss(params, x):
        return jnp.mean(model(params, x).astype(jnp.float32) ** 2)

    def checkpointed(params, x):
        body = jax.checkpoint(fnn.without_rules(lambda x, p: block(p, x)))
        y, _ = jax.lax.scan(lambda x, p: (body(x, p), None), x, params)
        return jnp.mean(y.astype(jnp.float32) ** 2)

    (x,) = shapes(((8192, 512), BF16))
    params = jax.eval_shape(lambda key: model.init(key, x), jax.random.key(0))
    arms = {"by hand": loss, "autodiff": fnn.without_rules(loss)}
    arms["autodiff + checkpoint"] = checkpointed
    return {name: gradient(f) for name, f in arms.items()}, [params, x]


def cross_entropy():
    """8,192 rows of width 768 into 50,304 classes and their cross entropy; bfloat16."""

    def loss(x, w, labels):
        return fnn.rules.linear_cross_entropy(x, w, labels)

    def plain(x, w, labels):
        logits = jnp.matmul(x, w, preferred_element_type=jnp.float32)
        return fnn.without_rules(fnn.rules.softmax_cross_entropy)(logits, labels).mean()

    args = shapes(((8192, 768), BF16), ((768, 50304), BF16), ((8192,), jnp.int32))
    return {"by hand": gradient(loss), "autodiff": gradient(plain)}, args


def lstm():
    """LSTM over 128 steps of 64 sequences, 256 wide; float32."""

    def loss(x, h, c, w, u, b):
        return jnp.sum(fnn.rules.lstm(x, h, c, w, u, b)[0] ** 2)

    f = jnp.float32
    args = shapes(
        *(((64, 128, 256), f), ((64, 256), f), ((64, 256), f)),
        *(((256, 1024), f), ((256, 1024), f), ((1024,), f)),
    )
    arms = {"by hand": loss, "autodiff": fnn.without_rules(loss)}
    return {name: gradient(g, (0, 3, 4, 5)) for name, g in arms.items()}, args


WORKS = {
    "cnn_step": lambda: network(CNN),
    "mlp_step": lambda: network(MLP),
    "scanned_stack": stack,
    "linear_cross_entropy": cross_entropy,
    "lstm": lstm,
}


def main():
    device = described_device("h200")
    lines = [json.dumps({"device": "NVIDIA H200, described and absent", "jax": jax.__version__})]
    for work, make in WORKS.items():
        arms, args = make()
        for arm, f in arms.items():
            found = figures(f, *args, device=device)
            row = {"work": work, "arm": arm, "temporary_bytes": found.temporary_bytes}
            lines.append(json.dumps({**row, "kernels": found.kernels}))
            print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
