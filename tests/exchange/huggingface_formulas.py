"""GPT-2 and Llama in NumPy, by the names of Hugging Face's arrays, and small folders of them.

Written from the papers and the names alone: nothing of funcnn is used.
"""

import json
import zlib

import numpy as np
from safetensors.numpy import save_file

GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "vocab_size": 11,
    "n_positions": 8,
    "n_embd": 12,
    "n_layer": 3,
    "n_head": 3,
    "n_inner": None,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-3,
    "resid_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "attn_pdrop": 0.1,
    "eos_token_id": 10,
}
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 11,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-3,
    "rope_theta": 100.0,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "max_position_embeddings": 8,
    "eos_token_id": 2,
}


def shapes_of(config):
    """The shape of each array of a folder with this config."""
    return (gpt2_shapes if config["model_type"] == "gpt2" else llama_shapes)(config)


def gpt2_shapes(config):
    v, d, n = config["vocab_size"], config["n_embd"], config["n_inner"] or 4 * config["n_embd"]
    shapes: dict[str, tuple[int, ...]]
    shapes = {"transformer.wte.weight": (v, d), "transformer.wpe.weight": (8, d)}
    for i in range(config["n_layer"]):
        own = {"ln_1": (d,), "attn.c_attn": (d, 3 * d), "attn.c_proj": (d, d), "ln_2": (d,)}
        own |= {"mlp.c_fc": (d, n), "mlp.c_proj": (n, d)}
        for name, shape in own.items():
            shapes[f"transformer.h.{i}.{name}.weight"] = shape
            shapes[f"transformer.h.{i}.{name}.bias"] = shape[-1:]
    shapes |= {"transformer.ln_f.weight": (d,), "transformer.ln_f.bias": (d,)}
    return shapes | ({} if config.get("tie_word_embeddings", True) else {"lm_head.weight": (v, d)})


def llama_shapes(config):
    v, d, n = (config[k] for k in ("vocab_size", "hidden_size", "intermediate_size"))
    k = d // config["num_attention_heads"] * config["num_key_value_heads"]
    attention = {"q_proj": (d, d), "k_proj": (k, d), "v_proj": (k, d), "o_proj": (d, d)}
    mlp = {"gate_proj": (n, d), "up_proj": (n, d), "down_proj": (d, n)}
    shapes: dict[str, tuple[int, ...]]
    shapes = {"model.embed_tokens.weight": (v, d)}
    for i in range(config["num_hidden_layers"]):
        for part, own in (("self_attn", attention), ("mlp", mlp)):
            for name, shape in own.items():
                shapes[f"model.layers.{i}.{part}.{name}.weight"] = shape
                if config.get("attention_bias" if part == "self_attn" else "mlp_bias"):
                    shapes[f"model.layers.{i}.{part}.{name}.bias"] = shape[:1]
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{i}.{norm}.weight"] = (d,)
    shapes["model.norm.weight"] = (d,)
    return shapes | ({} if config["tie_word_embeddings"] else {"lm_head.weight": (v, d)})


def draw(config, dtype="float32"):
    """Arrays by name, no two alike."""
    state = {}
    for name, shape in shapes_of(config).items():
        a = 0.3 * np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape)
        is_scale = len(shape) == 1 and name.endswith("weight")
        state[name] = (1 + a if is_scale else a).astype(dtype)
    return state


def write(folder, config, state, shards=1):
    """A folder with these; with several shards, every n-th array goes into the n-th."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    names = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    where = {name: names[i % shards] for i, name in enumerate(state)}
    for file in names:
        own = {name: a for name, a in state.items() if where[name] == file}
        save_file(own, folder / file, metadata={"format": "pt"})
    index = {"metadata": {"total_size": 0}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def logits(config, state, tokens):
    """What a folder's model makes of tokens (B, T), in float64."""
    state = {name: a.astype(np.float64) for name, a in state.items()}
    return (gpt2 if config["model_type"] == "gpt2" else llama)(config, state, tokens)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def attention(q, k, v):
    """Of q (B, T, H, W), k and v (B, T, K, W), each place sees itself and those before."""
    shared = q.shape[2] // k.shape[2]
    k, v = np.repeat(k, shared, axis=2), np.repeat(v, shared, axis=2)
    scores = np.einsum("bthw,bshw->bhts", q, k) / np.sqrt(q.shape[-1])
    seen = np.tril(np.ones(scores.shape[-2:], bool))
    scores = np.where(seen, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    o = np.einsum("bhts,bshw->bthw", weights, v)
    return o.reshape(*o.shape[:2], -1)


def gpt2(config, state, tokens):
    def layer_norm(x, name):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        x = (x - mean) / np.sqrt(variance + config["layer_norm_epsilon"])
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    def product(x, name):
        return x @ state[f"{name}.weight"] + state[f"{name}.bias"]

    d, heads = config["n_embd"], config["n_head"]
    x = state["transformer.wte.weight"][tokens]
    x = x + state["transformer.wpe.weight"][: tokens.shape[1]]
    for i in range(config["n_layer"]):
        h = f"transformer.h.{i}"
        qkv = product(layer_norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn")
        q, k, v = (
            qkv[..., n * d : (n + 1) * d].reshape(*x.shape[:2], heads, d // heads) for n in range(3)
        )
        x = x + product(attention(q, k, v), f"{h}.attn.c_proj")
        x = x + product(
            gelu(product(layer_norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc")), f"{h}.mlp.c_proj"
        )
    x = layer_norm(x, "transformer.ln_f")
    return x @ state.get("lm_head.weight", state["transformer.wte.weight"]).T


def llama(config, state, tokens):
    def rms_norm(x, name):
        mean = (x**2).mean(-1, keepdims=True)
        return x / np.sqrt(mean + config["rms_norm_eps"]) * state[f"{name}.weight"]

    def product(x, name):
        return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0.0)

    def turned(x):
        """Each pair (i, i + W/2), by the place times base^(-2i/W)."""
        half = x.shape[-1] // 2
        angle = np.arange(x.shape[1])[:, None] * config["rope_theta"] ** (-np.arange(half) / half)
        c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]  # (T, 1, W/2)
        u, v = x[..., :half], x[..., half:]
        return np.concatenate([u * c - v * s, v * c + u * s], -1)

    def heads(x, number):
        return x.reshape(*x.shape[:2], number, -1)

    of_queries, of_keys = config["num_attention_heads"], config["num_key_value_heads"]
    x = state["model.embed_tokens.weight"][tokens]
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        y = rms_norm(x, f"{layer}.input_layernorm")
        q = turned(heads(product(y, f"{layer}.self_attn.q_proj"), of_queries))
        k = turned(heads(product(y, f"{layer}.self_attn.k_proj"), of_keys))
        v = heads(product(y, f"{layer}.self_attn.v_proj"), of_keys)
        x = x + product(attention(q, k, v), f"{layer}.self_attn.o_proj")
        y = rms_norm(x, f"{layer}.post_attention_layernorm")
        gate = product(y, f"{layer}.mlp.gate_proj")
        y = gate / (1 + np.exp(-gate)) * product(y, f"{layer}.mlp.up_proj")
        x = x + product(y, f"{layer}.mlp.down_proj")
    x = rms_norm(x, "model.norm")
    return x @ state.get("lm_head.weight", state["model.embed_tokens.weight"]).T
