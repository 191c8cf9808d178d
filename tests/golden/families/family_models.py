"""Tiny models of every family and a step-0 adapter for each: Hugging Face folders made from nothing.

What   write_model(name, folder) and write_adapter(name, folder). Weights are uniform numbers from
       Python's random.Random, so that maker and test make the same bytes without a stored file.
Shape  hidden 24, 6 query heads on 2 kv heads whose width is not hidden / heads, feed-forward 28,
       3 layers, tiny_llama's tokenizer (vocabulary 197). A window is shorter than every row.
Flags  FAMILIES[name]["flags"]: changes of config.json that switch one flag off each; the test sees
       what they do. "inner": flags that no configuration switches; the maker sees what they do.
Standard library only.
"""

import array
import json
import pathlib
import random
import shutil
import struct

HERE = pathlib.Path(__file__).resolve().parent
SIZES = {
    "hidden_size": 24,
    "intermediate_size": 28,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_hidden_layers": 3,
    "vocab_size": 197,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}
GEMMA = {
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "query_pre_attn_scalar": 20,
    "sliding_window": 6,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONG = {
    "type": "longrope",
    "short_factor": [1.0, 1.3, 1.7],
    "long_factor": [1.1, 4.0, 9.0],
}
# The same for heads of 12, and others for Gemma 3, whose two kinds of layers have a rope each.
LONG6 = {
    "rope_type": "longrope",
    "rope_theta": 1000.0,
    "original_max_position_embeddings": 40,
    "short_factor": [1.0, 1.1, 1.2, 1.4, 1.7, 2.0],
    "long_factor": [1.1, 1.5, 2.0, 4.0, 7.0, 9.0],
}
LONG6_SOONER = {**LONG6, "original_max_position_embeddings": 30}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 3.0}
DEFAULT = {"rope_type": "default", "rope_theta": 10.0}
SQUARE = {**SIZES, "hidden_size": 48}  # head_dim is hidden / heads
FALCON = {
    k: v for k, v in SQUARE.items() if k not in ("num_key_value_heads", "rms_norm_eps", "head_dim")
}
FALCON.update(
    model_type="falcon",
    activation="gelu",
    alibi=False,
    bias=False,
    parallel_attn=True,
    layer_norm_epsilon=0.01,
    ffn_hidden_size=28,
    rope_theta=10000.0,
    tie_word_embeddings=True,
)
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FULL, SLIDING = "full_attention", "sliding_attention"


def by_layer(full, sliding):
    return {"rope_scaling": None, "rope_parameters": {FULL: full, SLIDING: sliding}}


FAMILIES = {
    "falcon": {
        "class": "FalconForCausalLM",
        "config": {**FALCON, "new_decoder_architecture": False, "multi_query": True},
        "flags": {"epsilon": {"layer_norm_epsilon": 1e-5}, "base": {"rope_theta": 10.0}},
        "inner": ["biases", "means", "gelu", "parallel"],
    },
    "falcon_new": {
        "class": "FalconForCausalLM",
        "config": {
            **FALCON,
            "new_decoder_architecture": True,
            "multi_query": False,
            "num_kv_heads": 2,
            "tie_word_embeddings": False,
        },
        "flags": {"epsilon": {"layer_norm_epsilon": 1e-5}, "base": {"rope_theta": 10.0}},
        "inner": ["biases", "means", "gelu", "parallel", "groups", "norms apart"],
    },
    "gemma2": {
        "class": "Gemma2ForCausalLM",
        "config": {
            **SIZES,
            **GEMMA,
            "model_type": "gemma2",
            "attn_logit_softcapping": 1.5,
            "final_logit_softcapping": 4.0,
            "rope_theta": 10000.0,
        },
        "flags": {
            "attention cap": {"attn_logit_softcapping": None},
            "final cap": {"final_logit_softcapping": None},
            "windows": {"sliding_window": None},
            "which layers": {"layer_types": [FULL, SLIDING, FULL]},
            "query scalar": {"query_pre_attn_scalar": 8},
        },
        "inner": ["norm offset", "post-norms", "embedding scale", "gelu"],
    },
    "gemma3_text": {
        "class": "Gemma3ForCausalLM",
        "config": {
            **SIZES,
            **GEMMA,
            "model_type": "gemma3_text",
            "head_dim": 12,
            "layer_types": [SLIDING, FULL, SLIDING],
            "rope_theta": 1000.0,
            "rope_local_base_freq": 10.0,
            "rope_scaling": {"rope_type": "linear", "factor": 4.0},
        },
        "flags": {
            "local base": {"rope_local_base_freq": 1000.0},
            "linear scaling": {"rope_scaling": None},
            "global base": {"rope_theta": 10.0},
            "windows": {"sliding_window": 200},
            "which layers": {"layer_types": [FULL, SLIDING, FULL]},
            "query scalar": {"query_pre_attn_scalar": 8},
        },
        "inner": ["norm offset", "post-norms", "embedding scale", "gelu", "head norms"],
        "rope": {
            "long_global": by_layer(LONG6, DEFAULT),
            "long_both": by_layer(LONG6, LONG6_SOONER),
            "dynamic_local": {"max_position_embeddings": 40, **by_layer(DEFAULT, DYNAMIC)},
            "dynamic_and_long": {"max_position_embeddings": 46, **by_layer(DYNAMIC, LONG6)},
        },
    },
    "granite": {
        "class": "GraniteForCausalLM",
        "config": {
            **SIZES,
            "model_type": "granite",
            "rope_theta": 10000.0,
            "embedding_multiplier": 1.7,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.6,
            "logits_scaling": 1.4,
            "tie_word_embeddings": True,
        },
        "flags": {
            "embeddings": {"embedding_multiplier": 1.0},
            "scores": {"attention_multiplier": 8**-0.5},
            "residual": {"residual_multiplier": 1.0},
            "logits": {"logits_scaling": 1.0},
        },
    },
    "llama": {
        "class": "LlamaForCausalLM",
        "config": {
            **SIZES,
            "model_type": "llama",
            "rope_theta": 500.0,
            "rope_scaling": LLAMA3,
        },
        "flags": {
            "llama3 scaling": {"rope_scaling": None},
            "factor": {"rope_scaling": {**LLAMA3, "factor": 2.0}},
            "low_freq_factor": {"rope_scaling": {**LLAMA3, "low_freq_factor": 3.0}},
            "high_freq_factor": {"rope_scaling": {**LLAMA3, "high_freq_factor": 32.0}},
            "original positions": {
                "rope_scaling": {**LLAMA3, "original_max_position_embeddings": 16}
            },
        },
        "rope": {
            "linear": {"rope_scaling": {"rope_type": "linear", "factor": 3.0}},
            "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
            "yarn": {"rope_scaling": YARN},
            "yarn_attention_factor": {"rope_scaling": {**YARN, "attention_factor": 1.4}},
            "yarn_mscale": {"rope_scaling": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.2}},
            "yarn_betas": {
                "rope_scaling": {**YARN, "beta_fast": 4.0, "beta_slow": 0.5, "truncate": False}
            },
        },
    },
    "llama_bias": {
        "class": "LlamaForCausalLM",
        "config": {
            **SIZES,
            "model_type": "llama",
            "rope_theta": 500.0,
            "attention_bias": True,
            "mlp_bias": True,
        },
        "flags": {"base": {"rope_theta": 10.0}},
        "inner": [f"bias of {module}" for module in LINEARS],
    },
    "llama_dynamic": {
        "class": "LlamaForCausalLM",
        "config": {
            **SIZES,
            "model_type": "llama",
            "rope_theta": 500.0,
            "max_position_embeddings": 40,
            "rope_scaling": {"rope_type": "dynamic", "factor": 3.0},
        },
        "flags": {
            "dynamic scaling": {"rope_scaling": None},
            "factor": {"rope_scaling": {"rope_type": "dynamic", "factor": 8.0}},
            "where it begins": {"max_position_embeddings": 48},
        },
    },
    "mistral": {
        "class": "MistralForCausalLM",
        "config": {**SIZES, "model_type": "mistral", "sliding_window": 7, "rope_theta": 10000.0},
        "flags": {"window": {"sliding_window": None}, "its size": {"sliding_window": 9}},
    },
    "olmo2": {
        "class": "Olmo2ForCausalLM",
        "config": {**SIZES, "model_type": "olmo2", "rope_theta": 10000.0},
        "flags": {"base": {"rope_theta": 10.0}},
        "inner": ["post-norms", "head norms", "wide norms"],
    },
    "phi3": {
        "class": "Phi3ForCausalLM",
        "config": {
            **SQUARE,
            "model_type": "phi3",
            "partial_rotary_factor": 0.75,
            "rope_theta": 100.0,
            "rope_scaling": LONG,
            "original_max_position_embeddings": 40,
            "sliding_window": 12,
        },
        "flags": {
            "window": {"sliding_window": None},
            "short factors": {"rope_scaling": {**LONG, "short_factor": [1.0, 1.0, 1.0]}},
            "long factors": {"rope_scaling": {**LONG, "long_factor": [1.0, 1.0, 1.0]}},
            "attention factor": {"rope_scaling": {**LONG, "attention_factor": 1.0}},
            "where long begins": {"original_max_position_embeddings": 48},
            "partial turn": {
                "partial_rotary_factor": 0.5,
                "rope_scaling": {**LONG, "short_factor": [1.0, 1.3], "long_factor": [1.1, 4.0]},
            },
        },
        "rope": {
            "none": {"rope_scaling": None},
            "su": {"rope_scaling": {**LONG, "type": "su", "original_max_position_embeddings": 40}},
            "attention_factor": {"rope_scaling": {**LONG, "attention_factor": 1.3}},
        },
    },
    "qwen2": {
        "class": "Qwen2ForCausalLM",
        "config": {
            **SQUARE,
            "model_type": "qwen2",
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 2,
            "rope_theta": 1000.0,
        },
        "flags": {
            "windows": {"use_sliding_window": False},
            "max_window_layers": {"max_window_layers": 1},
        },
        "inner": ["qkv biases"],
    },
    "qwen3": {
        "class": "Qwen3ForCausalLM",
        "config": {
            **SIZES,
            "model_type": "qwen3",
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 1,
            "rope_theta": 1000000.0,
            "tie_word_embeddings": True,
            "head_dim": 12,
        },
        "flags": {
            "windows": {"use_sliding_window": False},
            "max_window_layers": {"max_window_layers": 2},
            "layer_types": {"layer_types": [SLIDING, FULL, FULL]},
        },
        "inner": ["head norms"],
    },
    "smollm3": {
        "class": "SmolLM3ForCausalLM",
        "config": {
            **SIZES,
            "model_type": "smollm3",
            "no_rope_layers": [1, 0, 1],
            "rope_theta": 10000.0,
            "tie_word_embeddings": True,
        },
        "flags": {
            "layers without rope": {"no_rope_layers": [1, 1, 1]},
            "which": {"no_rope_layers": [0, 1, 1]},
            "window": {
                "use_sliding_window": True,
                "sliding_window": 5,
                "layer_types": [FULL, SLIDING, FULL],
            },
        },
    },
    "stablelm": {
        "class": "StableLmForCausalLM",
        "config": {
            **SQUARE,
            "model_type": "stablelm",
            "layer_norm_eps": 0.01,
            "rope_theta": 100.0,
            "partial_rotary_factor": 0.5,
            "use_qkv_bias": True,
        },
        "flags": {
            "partial turn": {"partial_rotary_factor": 1.0},
            "epsilon": {"layer_norm_eps": 1e-5},
        },
        "inner": ["biases", "means", "qkv biases"],
    },
}
# Angles depend on the sequence's length: replies that pass 36 tokens, one after a longer prompt.
LONG_FAMILIES = {
    "gemma3_text": {"max_position_embeddings": 36, **by_layer(DYNAMIC, LONG6_SOONER)},
    "llama_dynamic": {"max_position_embeddings": 36},
    "phi3": {"original_max_position_embeddings": 36},
}
WITH_BIAS = ("falcon", "falcon_new", "stablelm")  # of norms
RANK, ALPHA = 2, 4


def kv_heads(config):
    """Falcon's depend on its architecture."""
    if config["model_type"] == "falcon":
        return config["num_kv_heads"] if config["new_decoder_architecture"] else 1
    return config["num_key_value_heads"]


def layer_prefix(name):
    return "transformer.h." if name.startswith("falcon") else "model.layers."


def shapes(name):
    """Linear layers of a decoder layer: module -> (outputs, inputs)."""
    c = FAMILIES[name]["config"]
    C, D = c["hidden_size"], c.get("head_dim", 8)
    F = c.get("ffn_hidden_size", c["intermediate_size"])
    q, k = c["num_attention_heads"] * D, kv_heads(c) * D
    if name.startswith("falcon"):
        return {
            "self_attention.query_key_value": (q + 2 * k, C),
            "self_attention.dense": (C, q),
            "mlp.dense_h_to_4h": (F, C),
            "mlp.dense_4h_to_h": (C, F),
        }
    if name == "phi3":
        return {
            "self_attn.qkv_proj": (q + 2 * k, C),
            "self_attn.o_proj": (C, q),
            "mlp.gate_up_proj": (2 * F, C),
            "mlp.down_proj": (C, F),
        }
    return {
        "self_attn.q_proj": (q, C),
        "self_attn.k_proj": (k, C),
        "self_attn.v_proj": (k, C),
        "self_attn.o_proj": (C, q),
        "mlp.gate_proj": (F, C),
        "mlp.up_proj": (F, C),
        "mlp.down_proj": (C, F),
    }


def linears(name):
    return [module.split(".")[1] for module in shapes(name)]


def norms(name):
    """Norms of a decoder layer: module -> length."""
    c = FAMILIES[name]["config"]
    C, D = c["hidden_size"], c.get("head_dim", 8)
    if name == "falcon":
        return {"input_layernorm": C}
    if name == "falcon_new":
        return {"ln_attn": C, "ln_mlp": C}
    out = {"input_layernorm": C, "post_attention_layernorm": C}
    if name.startswith("gemma"):
        out["pre_feedforward_layernorm"] = out["post_feedforward_layernorm"] = C
    if name in ("gemma3_text", "qwen3"):
        out["self_attn.q_norm"] = out["self_attn.k_norm"] = D
    if name == "olmo2":
        heads = c["num_attention_heads"], c["num_key_value_heads"]
        out = {"post_attention_layernorm": C, "post_feedforward_layernorm": C}
        out.update({"self_attn.q_norm": heads[0] * D, "self_attn.k_norm": heads[1] * D})
    return out


def has_bias(config, module):
    qkv = config.get("use_qkv_bias") or config["model_type"] == "qwen2"
    if module[-6:] in ("q_proj", "k_proj", "v_proj") and qkv:
        return True
    return bool(config.get("mlp_bias" if module.startswith("mlp") else "attention_bias"))


def uniform(rng, n, scale):
    """n numbers of variance scale^2."""
    return array.array("f", ((2 * rng.random() - 1) * 1.7320508 * scale for _ in range(n)))


def norm_weights(rng, n, gemma):
    return array.array("f", (x + (0 if gemma else 1) for x in uniform(rng, n, 0.3)))


def put_norm(out, rng, name, path, n):
    out[path + ".weight"] = ([n], norm_weights(rng, n, name.startswith("gemma")))
    if name in WITH_BIAS:
        out[path + ".bias"] = ([n], uniform(rng, n, 0.3))


def model_tensors(name):
    """name -> (shape, floats)."""
    rng = random.Random(f"{name} weights")
    config = FAMILIES[name]["config"]
    C, V = config["hidden_size"], config["vocab_size"]
    falcon = name.startswith("falcon")
    embed = "transformer.word_embeddings" if falcon else "model.embed_tokens"
    out = {embed + ".weight": ([V, C], uniform(rng, V * C, 0.4))}
    if not config["tie_word_embeddings"]:
        out["lm_head.weight"] = ([V, C], uniform(rng, V * C, 0.4))
    for layer in range(config["num_hidden_layers"]):
        prefix = f"{layer_prefix(name)}{layer}."
        for module, (rows, cols) in shapes(name).items():
            values = uniform(rng, rows * cols, 1.4 / cols**0.5)
            out[prefix + module + ".weight"] = ([rows, cols], values)
            if has_bias(config, module):
                out[prefix + module + ".bias"] = ([rows], uniform(rng, rows, 0.3))
        for module, n in norms(name).items():
            put_norm(out, rng, name, prefix + module, n)
    put_norm(out, rng, name, "transformer.ln_f" if falcon else "model.norm", C)
    return out


def adapter_tensors(name):
    """lora_A and lora_B of every linear layer; B is not zero, so that A has a gradient."""
    rng = random.Random(f"{name} adapter")
    out = {}
    for layer in range(FAMILIES[name]["config"]["num_hidden_layers"]):
        for module, (rows, cols) in shapes(name).items():
            path = f"base_model.model.{layer_prefix(name)}{layer}.{module}"
            A, B = uniform(rng, RANK * cols, 0.3), uniform(rng, rows * RANK, 0.1)
            out[path + ".lora_A.weight"] = ([RANK, cols], A)
            out[path + ".lora_B.weight"] = ([rows, RANK], B)
    return out


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, (shape, values) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + 4 * len(values)]}
        at += 4 * len(values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(values.tobytes() for _, values in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_config(name, folder, changes):
    config = {**FAMILIES[name]["config"], **changes}
    config["architectures"] = [FAMILIES[name]["class"]]
    (folder / "config.json").write_text(json.dumps(config))


def write_model(name, folder):
    folder.mkdir(parents=True, exist_ok=True)
    write_config(name, folder, {})
    write_safetensors(folder / "model.safetensors", model_tensors(name))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(HERE.parent / "models" / "tiny_llama" / file, folder / file)


def write_adapter(name, folder):
    """In PEFT's format, from a golden run's settings."""
    folder.mkdir(parents=True, exist_ok=True)
    run = HERE.parent / "dpo_sigmoid" / "init_adapter" / "adapter_config.json"
    settings = json.loads(run.read_text())
    settings.update(r=RANK, lora_alpha=ALPHA, target_modules=linears(name), base_model_name_or_path=name)
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    write_safetensors(folder / "adapter_model.safetensors", adapter_tensors(name))


def rows():
    """Pairs of the golden runs with tiny_llama's ids: (line of the data set, prompt length, ids of
    the chosen and of the rejected side, prompt included)."""
    run = HERE.parent / "dpo_sigmoid"
    records = json.loads((run / "expect.json").read_text())["rows"][:4]
    lines = (HERE.parent / "data" / "pairs.jsonl").read_text().splitlines()
    for record in records:
        sides = [record[side]["ids"] for side in ("chosen", "rejected")]
        yield lines[record["row"]], record["prompt_tokens"], sides


# One step of DPO whose update is the gradient, bent: lr * g / (|g| + epsilon).
STEP = {
    "beta": 0.02,
    "adam_epsilon": 0.5,
    "learning_rate": 1.0,
    "max_grad_norm": 0,
    "lr_scheduler_type": "constant",
}
