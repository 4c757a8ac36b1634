r"""
Step 5: the block, and who keeps what
=====================================

A block of a transformer is attention and a small network for each place, each added to what came
in. Its backward pass is a page of code. It needs a choice: which arrays does the forward pass keep?
Autodiff keeps what each operation asks for; by hand, one keeps what cannot be had again cheaply.
"""

import contextlib
import io
import linecache
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import print_saved_residuals
from the_lecture import COLOURS, Verification, new_figure, save

import funcnn as fnn

jax.config.update("jax_enable_x64", True)
verification = Verification("Attention, step 5, the ledger")

# %%
# The block
# ---------
# With :math:`x` of :math:`B \times T \times D`, layer norm, and an mlp four times as wide:
#
# .. math:: (q, k, v) = \mathrm{norm}(x) \, (W_q, W_k, W_v), \qquad o = \mathrm{attention}(q, k, v)
#
# .. math:: z = x + o \, W_o
#
# .. math:: y = z + \mathrm{gelu}(u) \, W_2, \qquad u = \mathrm{norm}(z) \, W_1
#
# and a bias after each product. Here it is in plain JAX, one operation a line. The softmax is in
# float32 at least, as in ``jax.nn.dot_product_attention``.

SLOPE, CUBE = math.sqrt(2 / math.pi), 0.044715  # of gelu's tanh form


def norm(x, own):
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    root = jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
    normed = centred * root
    return normed * own["scale"] + own["bias"]


def attention(q, k, v):
    wide = jnp.promote_types(q.dtype, jnp.float32)
    scores = jnp.einsum("bthw,bshw->bhts", q, k, preferred_element_type=wide) * q.shape[-1] ** -0.5
    seen = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    masked = jnp.where(seen, scores, -jnp.inf)
    softmax = jax.nn.softmax(masked, axis=-1)
    p = softmax.astype(v.dtype)
    return jnp.einsum("bhts,bshw->bthw", p, v)


def gelu(u):
    inner = SLOPE * (u + CUBE * u**3)
    tanh = jnp.tanh(inner)
    return 0.5 * u * (1 + tanh)


def dense(x, own):
    return x @ own["w"] + own["b"]


def plain(own, x, heads):
    n1 = norm(x, own["norm1"])
    apart = (*x.shape[:2], heads, x.shape[2] // heads)
    q = dense(n1, own["q"]).reshape(apart)
    k = dense(n1, own["k"]).reshape(apart)
    v = dense(n1, own["v"]).reshape(apart)
    o = attention(q, k, v).reshape(x.shape)
    z = x + dense(o, own["out"])
    n2 = norm(z, own["norm2"])
    u = dense(n2, own["up"])
    g = gelu(u)
    return z + dense(g, own["down"])


# %%
# The same block is a layer of funcnn, whose params lie in a tree. Here they get short names.


def short(params):
    first, second = params["attention"]["body"], params["mlp"]["body"]
    inputs = first["inputs"]
    in_mlp = {"norm2": second["inputs"]["norm"], "up": second["inputs"]["up"]}
    in_mlp["down"] = second["out"]["dense"]
    return {"norm1": inputs["norm"], **inputs["heads"], "out": first["out"], **in_mlp}


B, T, D, H = 2, 6, 8, 2
layer: Any = fnn.transformer_block(D, H, causal=True)
random = np.random.default_rng(5)
x, dy = random.normal(size=(B, T, D)), random.normal(size=(B, T, D))
shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
params = jax.tree.map(lambda a: 0.5 * random.normal(size=a.shape), shapes)
own = short(params)

# %%
# Kept by hand
# ------------
# ``layer.forward`` returns the output and what the backward pass needs. We leave out the params,
# which are there anyway, and count an array that is there twice once. Which arrays are these? We
# compute the block once more in NumPy, and look for each.


def kept_beside(params, res):
    """The arrays among a layer's residuals that are not its params."""
    different = {id(a): a for a in jax.tree.leaves(res)}
    of_params = set(map(id, jax.tree.leaves(params)))
    return [a for n, a in different.items() if n not in of_params]


@jax.jit
def of_funcnn(params, x, dy):
    y, res = layer.forward(params, x, None)
    dparams, dx, _ = layer.recursion(params, res, dy)
    return y, dparams, dx, kept_beside(params, res)


@jax.jit
def of_plain(own, x, dy):
    y, pullback = jax.vjp(lambda own, x: plain(own, x, H), own, x)
    return y, *pullback(dy)


y, fnn_dparams, fnn_dx, kept = of_funcnn(params, x, dy)
true_y, true_dparams, true_dx = of_plain(own, x, dy)
verification.equal("A17", "y of fnn.transformer_block", y, true_y, "plain jax.numpy")

# %%
# One of these nine names belongs to each.


def norm_again(x, own):
    """hat, the root and the output of a layer norm."""
    root = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    hat = (x - x.mean(axis=-1, keepdims=True)) * root
    return hat, root, hat * own["scale"] + own["bias"]


def scores_of(q, k):
    z = np.einsum("bthw,bshw->bths", q, k) * q.shape[-1] ** -0.5
    return np.where(np.tril(np.ones((z.shape[1], z.shape[3]), bool))[:, None], z, -np.inf)


named = {"x": x}
_, _, n1 = norm_again(x, own["norm1"])
for name in "qkv":
    named[name] = (n1 @ own[name]["w"] + own[name]["b"]).reshape(B, T, H, D // H)
scores = scores_of(named["q"], named["k"])  # (B, T, H, T)
named["m"] = scores.max(axis=-1)  # (B, T, H)
e = np.exp(scores - named["m"][..., None])
named["n"] = e.sum(axis=-1)
p = e / named["n"][..., None]
named["o"] = np.einsum("bths,bshw->bthw", p, named["v"]).reshape(x.shape)
named["z"] = x + named["o"] @ own["out"]["w"] + own["out"]["b"]
named["u"] = norm_again(named["z"], own["norm2"])[2] @ own["up"]["w"] + own["up"]["b"]


def name_of(array):
    """The name of the array with these numbers."""
    same = [
        name
        for name, a in named.items()
        if a.size == array.size and np.allclose(a.ravel(), np.ravel(array), rtol=1e-12, atol=1e-12)
    ]
    return same[0] if same else "unknown"


kept_names = [name_of(a) for a in kept]
print("kept by hand:", *kept_names)
verification.holds("A18", "kept by hand: x q k v m n o z u", sorted(kept_names) == sorted(named))

# %%
# Backward, from these alone
# --------------------------
# Six arrays like :math:`x`, and :math:`u`, which is four times as large: ten times
# :math:`B \times T \times D` numbers, and two for each query and head. The rest is made again: the
# norms, gelu, and the scores. No product with a weight is computed a second time.
#
# Each line undoes one line of the block. What is added forwards is handed to both branches
# backwards: :math:`dz` is :math:`dy` and what comes out of the mlp, :math:`dx` is :math:`dz` and
# what comes out of attention. With :math:`\hat{x} = (x - \mu) \, r`, the normed row, and
# :math:`d\hat{x} = dn \odot \mathrm{scale}`, the norm is step 1 once more, with two means in the
# place of one:
#
# .. math:: dx = r \bigl( d\hat{x} - \mathrm{mean}(d\hat{x}) -
#           \hat{x} \, \mathrm{mean}(d\hat{x} \odot \hat{x}) \bigr)


def dense_back(x, own, dy):
    """dx, and the gradients of w and b."""
    rows = dy.reshape(-1, dy.shape[-1])
    return dy @ own["w"].T, {"w": x.reshape(-1, x.shape[-1]).T @ rows, "b": rows.sum(axis=0)}


def norm_back(x, own, dn):
    hat, root, _ = norm_again(x, own)
    dhat = dn * own["scale"]
    mean, slope = (a.mean(axis=-1, keepdims=True) for a in (dhat, dhat * hat))
    gradients = {"scale": np.sum(dn * hat, axis=(0, 1)), "bias": np.sum(dn, axis=(0, 1))}
    return root * (dhat - mean - hat * slope), gradients


def attention_back(kept, do):
    """Steps 2 to 4, all at once; step 3 has the blocks."""
    q, k, v = kept["q"], kept["k"], kept["v"]
    do, o = (a.reshape(q.shape) for a in (do, kept["o"]))
    p = np.exp(scores_of(q, k) - kept["m"][..., None]) / kept["n"][..., None]
    delta = np.sum(do * o, axis=-1)  # (B, T, H)
    dz = p * (np.einsum("bthw,bshw->bths", do, v) - delta[..., None]) * q.shape[-1] ** -0.5
    dq, dk = np.einsum("bths,bshw->bthw", dz, k), np.einsum("bths,bthw->bshw", dz, q)
    return dq, dk, np.einsum("bths,bthw->bshw", p, do)


def block_back(own, kept, dy):
    d = {}  # the gradients of the params
    u, tanh = kept["u"], np.tanh(SLOPE * (kept["u"] + CUBE * kept["u"] ** 3))
    dg, d["down"] = dense_back(0.5 * u * (1 + tanh), own["down"], dy)
    du = dg * 0.5 * (1 + tanh + u * (1 - tanh**2) * SLOPE * (1 + 3 * CUBE * u**2))
    dn2, d["up"] = dense_back(norm_again(kept["z"], own["norm2"])[2], own["up"], du)
    back, d["norm2"] = norm_back(kept["z"], own["norm2"], dn2)
    dz = dy + back
    do, d["out"] = dense_back(kept["o"], own["out"], dz)
    n1 = norm_again(kept["x"], own["norm1"])[2]
    dn1 = 0
    for name, delta in zip("qkv", attention_back(kept, do), strict=True):
        back, d[name] = dense_back(n1, own[name], delta.reshape(dz.shape))
        dn1 = dn1 + back
    back, d["norm1"] = norm_back(kept["x"], own["norm1"], dn1)
    return d, dz + back


dparams, dx = block_back(own, named, dy)
verification.equal("A17", "dx of the block", dx, true_dx, "jax.vjp of plain")
# Added to every key, the bias of k adds the same q . b to all scores of a query. No weight hears of
# that, and since the dz of a row sum to 0, neither does the bias.
verification.holds("A17", "d k b is 0", np.max(np.abs(dparams["k"].pop("b"))) < 1e-14)
for name, gradients in dparams.items():
    for leaf, found in gradients.items():
        verification.equal("A17", f"d {name} {leaf}", found, true_dparams[name][leaf], "jax.vjp")
verification.equal("A17", "funcnn's own pass: dx", fnn_dx, dx, "dx by hand")
found = short(fnn_dparams)["up"]["w"]
verification.equal("A17", "funcnn's own pass: d up w", found, dparams["up"]["w"], "by hand")

# %%
# The ledger
# ----------
# Now as large as the small GPT-2: :math:`D = 768`, 12 heads, 1,024 places, in bfloat16. Shapes are
# enough, nothing is computed. What autodiff keeps, JAX prints, with the line of code that made each
# array; the name before the = of that line is its name here. All is counted in arrays like
# :math:`x`, of :math:`B \times T \times D` numbers of two bytes.

ARRAY = re.compile(r"(\w+)\[([\d,]*)\] (.*)")
MADE_AT = re.compile(r"from (\S+?):(\d+):\d+ \((\w+)\)")
DTYPES = {"bf16": jnp.bfloat16, "f32": jnp.float32, "bool": bool, "i32": jnp.int32}
x_large = jax.ShapeDtypeStruct((1, 1024, 768), jnp.bfloat16)
large: Any = fnn.transformer_block(768, 12, causal=True)
params_large = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, jnp.bfloat16),
    jax.eval_shape(large.init, jax.random.key(0), x_large),
)


def size_of(shape, dtype):
    return math.prod(shape) * jnp.dtype(dtype).itemsize / (2 * math.prod(x_large.shape))


def kept_by_autodiff(f, *args):
    """name -> size, of what autodiff keeps; the arguments among it are one entry, ""."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        print_saved_residuals(f, *args)
    sizes = {}
    for dtype, shape, origin in ARRAY.findall(printed.getvalue()):
        made, name = MADE_AT.search(origin), ""
        if made:
            path, line, function = made.groups()
            assigned = re.match(r"\s*(\w+) = ", linecache.getline(path, int(line)))
            name = assigned[1] if assigned else function
        shape = [int(n) for n in shape.split(",") if n]
        sizes[name] = sizes.get(name, 0) + size_of(shape, DTYPES[dtype])
    return sizes


def plain_large(own, x):
    return plain(own, x, 12)


arguments = short(params_large), x_large
autodiff = kept_by_autodiff(plain_large, *arguments)
_, pullback = jax.eval_shape(lambda *args: jax.vjp(plain_large, *args), *arguments)
all_of_it = sum(size_of(a.shape, a.dtype) for a in jax.tree.leaves(pullback))
verification.equal(
    "A18", "what is printed is all", sum(autodiff.values()), all_of_it, "jax.vjp", limit=1e-5
)
del autodiff[""]  # weights, which are there anyway

kept = jax.eval_shape(
    lambda params, x: kept_beside(params, large.forward(params, x, None)[1]), params_large, x_large
)
by_hand = {name: size_of(a.shape, a.dtype) for name, a in zip(kept_names, kept, strict=True)}
rows = 2 * 2 * 12 / 768  # m and n of each head in float32
verification.equal("A18", "by hand: 10 arrays like x", sum(by_hand.values()), 10 + rows, "count")
total, total_by_hand = sum(autodiff.values()), sum(by_hand.values())
verification.holds("A18", "autodiff keeps more than 11 times as much", total > 11 * total_by_hand)
of_pairs = sum(autodiff[name] for name in ("masked", "softmax", "p"))
print(f"autodiff keeps {total:.2f}, of which {of_pairs:.2f} are T x T; by hand {total_by_hand:.2f}")

# %%
# **The picture.** Each bar is an array that is kept, or several that one line of the code makes, in
# the order of the block. The long ones are :math:`T \times T` for each of 12 heads: scores and
# their exponentials in float32, the weights, and masks. Next to them the rest looks small, and is
# not: autodiff keeps six arrays made of :math:`u`, each as large as :math:`u`. It does not keep
# :math:`x, z` and :math:`u` themselves, because no derivative asks for them. By hand they are kept
# in the place of all that is made of them.
#
# These are the arrays of this plain code. Other code for the same block keeps others; and where
# both passes are compiled as one, without a loop between them, XLA may choose to make some again.

LABELS = {
    "x": "x",
    "centred": "x - mean, of both norms",
    "root": "for the norms' roots",
    "normed": "normed, of both norms",
    "norm": "outputs of both norms",
    "q": "q",
    "k": "k",
    "v": "v",
    "masked": "scores, and their mask",
    "softmax": "softmax, float32",
    "p": "weights p, bfloat16",
    "m": "m, largest of a row",
    "n": "n, sum of a row",
    "o": "o, outputs of the heads",
    "z": "z",
    "u": "u",
    "inner": "inside gelu's tanh",
    "tanh": "gelu's tanh",
    "gelu": "gelu's products",
}
verification.holds("A18", "each kept array has its bar", {*autodiff, *by_hand} == {*LABELS})
figure, axis = new_figure(1, 1, width=9, height=6.4)
places = np.arange(len(LABELS))
for shift, sizes, colour, who, sum_of in (
    (-0.2, autodiff, COLOURS[1], "autodiff", total),
    (0.2, by_hand, COLOURS[0], "by hand", total_by_hand),
):
    values = [sizes.get(name, 0) for name in LABELS]
    axis.barh(places + shift, values, 0.4, color=colour, label=f"{who}: {sum_of:.1f} in all")
    for place, value in zip(places, values, strict=True):
        if value:
            axis.text(value + 0.3, place + shift, f"{value:.2g}", va="center", fontsize=8)
axis.set_yticks(places, list(LABELS.values()))
axis.set(ylim=(len(LABELS) - 0.4, -0.6), xlabel="arrays like x (B x T x D numbers, bfloat16)")
axis.set_title("kept for the backward pass: a block of GPT-2, small")
axis.legend(loc="lower right", fontsize=11)
save(figure, "step_5_ledger")

# %%
# The memory of a whole step
# --------------------------
# A small GPT of 6 blocks, in float32: the gradient of its loss. The blocks stand in a loop, so what
# one of them keeps is kept six times. The memory is the compiler's own count for a CPU: what a call
# needs beside its arguments and results. ``jax.checkpoint`` is the other cure: it keeps :math:`x`
# of each block, and computes the block a second time, with all that it makes. ``fnn.gpt`` may do
# that by hand, too (``keep="inputs"``), in blocks; or keep the ten, and compute no product with a
# weight again.

DEPTH, D, H, T, B, VOCABULARY = 6, 64, 4, 256, 2, 65
tokens = jax.ShapeDtypeStruct((B, T), jnp.int32)


def cost(logits, labels):
    log_p = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(log_p, labels[..., None], axis=-1))


def by_autodiff(wrap):
    def logits(params, x):
        table = params["tokens"]["table"]
        block = wrap(lambda own, x: plain(own, x, H))
        x = table[x] + params["places"]["table"]
        x, _ = jax.lax.scan(lambda x, own: (block(short(own), x), None), x, params["blocks"])
        return norm(x, params["norm"]) @ table.T

    return logits


def gpt(keep):
    return fnn.gpt(VOCABULARY, T, D, DEPTH, H, keep=keep)


drawn = jax.eval_shape(gpt("inputs").init, jax.random.key(0), tokens)
params = jax.tree.map(lambda a: 0.1 * random.normal(size=a.shape).astype(np.float32), drawn)
x, labels = random.integers(0, VOCABULARY, (2, B, T)).astype(np.int32)
ways = {
    "autodiff": by_autodiff(lambda block: block),
    "autodiff, jax.checkpoint": by_autodiff(jax.checkpoint),
    'by hand, keep="residuals"': gpt("residuals"),
    'by hand, keep="inputs"': gpt("inputs"),
}
memory, gradients = {}, {}
for name, model in ways.items():
    step = jax.jit(jax.grad(lambda params, model=model: cost(model(params, x), labels)))
    compiled = step.lower(params).compile()
    analysis: Any = compiled.memory_analysis()
    memory[name] = analysis.temp_size_in_bytes / 1e6
    gradients[name] = compiled(params)
    print(f"{name:<26} {memory[name]:7.2f} MB")

truth = short(gradients["autodiff"]["blocks"])["q"]["w"]
for name in list(ways)[1:]:
    found = short(gradients[name]["blocks"])["q"]["w"]
    verification.equal("A19", f"{name}: d w of q", found, truth, "autodiff", limit=1e-4)
ten, one = memory['by hand, keep="residuals"'], memory['by hand, keep="inputs"']
verification.holds("A19", "the ten: a fourth of autodiff's memory", ten < memory["autodiff"] / 4)
verification.holds(
    "A19", "computed again: half of jax.checkpoint's", one < memory["autodiff, jax.checkpoint"] / 2
)

# %%
# **The picture.** ``jax.checkpoint`` needs less than the ten arrays of six blocks do, and pays with
# a second forward pass. Most of what it needs is :math:`T \times T`, of the one block at hand; by
# hand, in blocks, the same second pass needs less than half.

figure, axis = new_figure(1, 1, width=8, height=2.8)
colours = [COLOURS[1], COLOURS[5], COLOURS[0], COLOURS[4]]
axis.barh(range(len(memory)), list(memory.values()), color=colours)
for i, size in enumerate(memory.values()):
    axis.text(size + 0.6, i, f"{size:.1f}", va="center")
axis.set_yticks(range(len(memory)), list(memory))
axis.set(ylim=(len(memory) - 0.4, -0.6), xlabel="temporary memory of the gradient, MB")
axis.set_xlim(0, 1.1 * max(memory.values()))
save(figure, "step_5_memory")

# %%
# What was verified
# -----------------

verification.report()
