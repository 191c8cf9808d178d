#!/usr/bin/env python3
"""Every family's tiny model through gguf-py and PEFT: families_peer.py ATTUNE.

A GGUF file of the model (names by gguf-py's table; rows, norms and angles as llama.cpp's converter
has them) gives the log-probs of its safetensors: 1e-5 relative in F32, 1e-2 in F16. The adapter that
a step of DPO writes is loaded by PEFT with no key missing and none left over.
"""

import json
import pathlib
import sys
import tempfile

import gguf
import numpy as np
import peft
import torch
import transformers

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "golden" / "families"
sys.path.insert(0, str(FOLDER))
import families_test as ft  # noqa: E402
import family_models as fm  # noqa: E402

ARCHITECTURE = {"gemma3_text": "gemma3", "mistral": "llama"}  # where it is not the family's name
INTERLEAVED = ("llama", "mistral", "smollm3")
# What GGUF files do not say, so that llama.cpp has it fixed: config.json is changed to the same.
FIXED = {
    "gemma2": {"query_pre_attn_scalar": 8},
    "gemma3_text": {
        "query_pre_attn_scalar": 12,
        "layer_types": None,
        "rope_local_base_freq": 10000.0,
    },
    "qwen3": {"use_sliding_window": False},
    "smollm3": {"no_rope_layers": None},
}


def write_metadata(writer, name, c):
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(c["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    writer.add_key_length(c["head_dim"])
    writer.add_value_length(c["head_dim"])
    writer.add_rope_freq_base(c["rope_theta"])
    if name in INTERLEAVED:
        writer.add_rope_dimension_count(c["head_dim"])
    if name in ("gemma2", "gemma3_text", "mistral"):
        writer.add_sliding_window(c["sliding_window"])
    if name == "gemma2":
        writer.add_attn_logit_softcapping(c["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(c["final_logit_softcapping"])
    if name == "gemma3_text":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(c["rope_scaling"]["factor"])


def llama3_divisors(c):
    r, D = c["rope_scaling"], c["head_dim"]
    length = 2 * np.pi * c["rope_theta"] ** (np.arange(0, D, 2) / D)
    low, high, n = r["low_freq_factor"], r["high_freq_factor"], r["original_max_position_embeddings"]
    smooth = (n / length - low) / (high - low)
    between = 1 / ((1 - smooth) / r["factor"] + smooth)
    slow = np.where(length > n / low, r["factor"], between)
    return np.where(length < n / high, 1, slow).astype(np.float32)


def interleave(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(w.shape)


def write_gguf(name, path, half):
    c = fm.FAMILIES[name]["config"]
    architecture = ARCHITECTURE.get(name, name)
    writer = gguf.GGUFWriter(path, architecture)
    write_metadata(writer, name, c)
    number = {v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    names = gguf.get_tensor_name_map(number, c["num_hidden_layers"])
    for key, (shape, values) in fm.model_tensors(name).items():
        x = np.array(values, dtype=np.float32).reshape(shape)
        if name in INTERLEAVED and "q_proj" in key:
            x = interleave(x, c["num_attention_heads"])
        if name in INTERLEAVED and "k_proj" in key:
            x = interleave(x, c["num_key_value_heads"])
        if name.startswith("gemma") and key.endswith("norm.weight"):
            x = x + 1
        if half and x.ndim == 2:
            x = x.astype(np.float16)
        writer.add_tensor(names.get_name(key, try_suffixes=(".weight",)), x)
    if name == "llama":
        writer.add_tensor("rope_freqs.weight", llama3_divisors(c))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_logps(binary, folder):
    keys = {k: v for k, v in ft.KEYS.items() if not k.startswith("adapter")}
    keys.update(fm.STEP, model_name_or_path="m.gguf", tokenizer=".")
    (folder / "gguf.json").write_text(json.dumps(keys))
    lines = ft.attune(binary, "score", folder / "gguf.json", "--json").splitlines()
    return [[row[s]["logp"] for s in ("chosen", "rejected")] for row in map(json.loads, lines)]


def check_gguf(binary, name, folder):
    fm.write_config(name, folder, FIXED.get(name, {}))
    want = sum(ft.scores(binary, folder, False), [])
    for half in (False, True):
        write_gguf(name, folder / "m.gguf", half)
        got = sum(gguf_logps(binary, folder), [])
        worst = max(abs(a - b) / abs(b) for a, b in zip(got, want, strict=True))
        print(f"{name} {'F16' if half else 'F32'}: relative difference {worst:.2g}", flush=True)
        if not worst <= (1e-2 if half else 1e-5):
            ft.fail(f"{name}: GGUF")


def check_peft(binary, name, folder):
    fm.write_config(name, folder, {})
    ft.scores(binary, folder, True)
    ft.attune(binary, "dpo", folder / "run.json", "--quiet")
    cls = getattr(transformers, fm.FAMILIES[name]["class"])
    base = cls.from_pretrained(folder, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, folder / "run")
    found = model.load_adapter(folder / "run", adapter_name="again")
    missing = [key for key in found.missing_keys if "again" in key]
    if missing or found.unexpected_keys:
        ft.fail(f"{name}: PEFT misses {missing[:2]}, has too much {found.unexpected_keys[:2]}")


def main():
    for name in fm.FAMILIES:
        with tempfile.TemporaryDirectory() as path:
            folder = pathlib.Path(path)
            fm.write_model(name, folder)
            fm.write_adapter(name, folder / "adapter")
            (folder / "rows.jsonl").write_text("".join(line + "\n" for line, _, _ in fm.rows()))
            check_gguf(sys.argv[1], name, folder)
            check_peft(sys.argv[1], name, folder)
    sys.exit(1 if ft.failures else 0)


if __name__ == "__main__":
    main()
