"""The GPT of funcnn in PyTorch, as its documentation writes it, from the same params.

Modules, scaled_dot_product_attention, the fused AdamW; eager or by `torch.compile`. On a GPU it
computes in bfloat16 by autocast, with fast products of float32, and keeps float32 params.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def stepper(
    size: Any, params: Any, batch: dict[str, Any], rate: float, compiled: bool, device: str = "cpu"
) -> Callable[[], float]:
    """A function that makes one step, and returns the loss before it.

    The size has a vocabulary, width, depth, heads and places.
    """
    import torch
    from torch.nn import functional

    model = _model(size)
    with torch.no_grad():
        _put_params(model, params)
    model = model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-4, fused=True)
    x, y = (torch.tensor(np.asarray(batch[name])).long().to(device) for name in "xy")
    narrow = torch.autocast(device, torch.bfloat16, enabled=device == "cuda")
    if device == "cuda":
        torch.set_float32_matmul_precision("high")

    def losses(x: Any, y: Any) -> Any:
        return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

    forward = torch.compile(losses) if compiled else losses

    def step() -> float:
        optimizer.zero_grad()
        with narrow:
            loss = forward(x, y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _model(size: Any, epsilon: float = 1e-5) -> Any:
    from torch import nn
    from torch.nn import functional

    width, heads = size.width, size.heads

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList([nn.LayerNorm(width, eps=epsilon) for _ in range(2)])
            self.heads, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            b, t, d = x.shape
            q, k, v = self.heads(self.norms[0](x)).split(d, 2)
            q, k, v = (a.view(b, t, heads, d // heads).transpose(1, 2) for a in (q, k, v))
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
            u = functional.gelu(self.up(self.norms[1](x)), approximate="tanh")
            return x + self.down(u)

    class Gpt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = (
                nn.Embedding(n, width) for n in (size.vocabulary, size.places)
            )
            self.blocks = nn.ModuleList([Block() for _ in range(size.depth)])
            self.norm = nn.LayerNorm(width, eps=epsilon)

        def forward(self, x: Any) -> Any:
            h = self.tokens(x) + self.places.weight[: x.shape[1]]
            for block in self.blocks:
                h = block(h)
            return self.norm(h) @ self.tokens.weight.T

    return Gpt()


def _put_params(model: Any, params: Any) -> None:
    import torch

    def put(parameter: Any, value: Any) -> None:
        parameter.copy_(torch.tensor(np.asarray(value)))

    def put_norm(norm: Any, own: Any) -> None:
        put(norm.weight, own["scale"])
        put(norm.bias, own["bias"])

    def put_dense(layer: Any, w: Any, b: Any) -> None:
        put(layer.weight, np.asarray(w).T)
        put(layer.bias, b)

    put(model.tokens.weight, params["tokens"]["table"])
    put(model.places.weight, params["places"]["table"])
    put_norm(model.norm, params["norm"])
    for i, block in enumerate(model.blocks):
        own = jax.tree.map(lambda a, i=i: np.asarray(a[i]), params["blocks"])
        of_heads, of_mlp = own["attention"]["body"], own["mlp"]["body"]
        put_norm(block.norms[0], of_heads["inputs"]["norm"])
        put_norm(block.norms[1], of_mlp["inputs"]["norm"])
        of_each = [of_heads["inputs"]["heads"][name] for name in "qkv"]
        w, b = (np.concatenate([each[name] for each in of_each], -1) for name in "wb")
        put_dense(block.heads, w, b)
        put_dense(block.out, **of_heads["out"])
        put_dense(block.up, **of_mlp["inputs"]["up"])
        put_dense(block.down, **of_mlp["out"]["dense"])
