#!/usr/bin/env python3
"""Every family's tiny model through gguf-py and PEFT: families_peer.py ATTUNE [NAME ...].

A GGUF file of the model (names by gguf-py's table; rows, norms and angles as llama.cpp's converter
has them) gives the log-probs of its safetensors: 1e-5 relative in F32, 1e-2 in F16. The adapter that
a step of DPO writes is loaded by PEFT with no key missing and none left over, and its log-probs in PEFT are
those of Attune; where no module is named, those of PEFT's table are adapted.
So are log-probs after DoRA in PEFT and after full fine-tuning in transformers; without NAME that is tried
for families whose files order rows in a way of their own.
"""

import json
import pathlib
import re
import subprocess
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
import make_families as mf  # noqa: E402

ARCHITECTURE = {"falcon_new": "falcon", "gemma3_text": "gemma3", "llama_bias": "llama",
                "llama_dynamic": "llama", "mistral": "llama"}  # where it is not the family's name
INTERLEAVED = ("granite", "llama", "llama_bias", "llama_dynamic", "mistral", "smollm3")
# Matrices in an order of rows of their own: DoRA and full training of the others are tried when named.
OWN_ROWS = ("falcon", "falcon_new", "phi3")
# What GGUF files do not say, so that llama.cpp has it fixed: config.json is changed to the same.
FIXED = {
    "gemma2": {"query_pre_attn_scalar": 8},
    "gemma3_text": {
        "query_pre_attn_scalar": 12,
        "layer_types": None,
        "rope_local_base_freq": 10000.0,
    },
    "llama_dynamic": {"rope_scaling": None},
    "qwen2": {"use_sliding_window": False},
    "qwen3": {"use_sliding_window": False},
    "smollm3": {"no_rope_layers": None},
}


def head_width(c):
    return c.get("head_dim", c["hidden_size"] // c["num_attention_heads"])


def write_metadata(writer, name, c):
    D = head_width(c)
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_feed_forward_length(c.get("ffn_hidden_size", c["intermediate_size"]))
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(fm.kv_heads(c))
    if name in fm.WITH_BIAS:
        writer.add_layer_norm_eps(c.get("layer_norm_epsilon", c.get("layer_norm_eps")))
    else:
        writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    writer.add_key_length(D)
    writer.add_value_length(D)
    writer.add_rope_freq_base(c["rope_theta"])
    if name in INTERLEAVED or "partial_rotary_factor" in c:
        writer.add_rope_dimension_count(int(D * c.get("partial_rotary_factor", 1)))
    if name in ("gemma2", "gemma3_text", "mistral", "phi3"):
        writer.add_sliding_window(c["sliding_window"])
    if name == "gemma2":
        writer.add_attn_logit_softcapping(c["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(c["final_logit_softcapping"])
    if name == "gemma3_text":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(c["rope_scaling"]["factor"])
    if name == "granite":
        writer.add_embedding_scale(c["embedding_multiplier"])
        writer.add_attention_scale(c["attention_multiplier"])
        writer.add_residual_scale(c["residual_multiplier"])
        writer.add_logit_scale(c["logits_scaling"])
    if name == "phi3":
        original = c["original_max_position_embeddings"]
        factor = c["max_position_embeddings"] / original
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(np.sqrt(1 + np.log(factor) / np.log(original)))


def ungroup(w, c):
    """Rows of q, then of k and v, from Falcon's groups: llama.cpp's order."""
    D, groups = head_width(c), fm.kv_heads(c)
    parts = w.reshape(groups, -1, D, w.shape[1])
    parts = parts[:, :-2], parts[:, -2], parts[:, -1]
    return np.concatenate([part.reshape(-1, w.shape[1]) for part in parts])


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
        if "query_key_value" in key:
            x = ungroup(x, c)
        if name.startswith("gemma") and key.endswith("norm.weight"):
            x = x + 1
        if half and x.ndim == 2:
            x = x.astype(np.float16)
        writer.add_tensor(names.get_name(key, try_suffixes=(".weight", ".bias")), x)
    if name == "llama":
        writer.add_tensor("rope_freqs.weight", llama3_divisors(c))
    if name == "phi3":
        for kind in ("short", "long"):
            factors = np.array(c["rope_scaling"][f"{kind}_factor"], dtype=np.float32)
            writer.add_tensor(f"rope_factors_{kind}.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_logps(binary, folder):
    keys = {k: v for k, v in ft.KEYS.items() if not k.startswith("adapter")}
    keys.update(fm.STEP, lora_target_modules="all-linear")
    keys.update(model_name_or_path="m.gguf", tokenizer=".")
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


def check_targets(binary, name, folder):
    """Without lora_target_modules: the modules of PEFT's table, or both refuse."""
    model_type = fm.FAMILIES[name]["config"]["model_type"]
    table = peft.utils.constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    keys = {k: v for k, v in ft.KEYS.items() if not k.startswith("adapter")}
    keys.update(fm.STEP, output_dir="fresh")
    (folder / "fresh.json").write_text(json.dumps(keys))
    run = subprocess.run([binary, "dpo", folder / "fresh.json", "--quiet"], capture_output=True,
                         text=True)
    want = table.get(model_type)
    if want is None:
        if run.returncode != 2 or "lora_target_modules is not set" not in run.stderr:
            ft.fail(f"{name}: PEFT has no default modules, exit {run.returncode}: {run.stderr}")
        return
    got = json.loads((folder / "fresh" / "adapter_config.json").read_text())["target_modules"]
    if sorted(got) != sorted(want):
        ft.fail(f"{name}: adapts {got} where nothing is named, PEFT {want}")


def target_forms(name):
    """Values of lora_target_modules, other keys beside, and what PEFT is asked for."""
    paths = list(fm.shapes(name))
    one, last = paths[0].split(".")[-1], paths[-1]
    yield "all-linear", {}, "all-linear"
    for targets, more in (
        ([last, f"{fm.layer_prefix(name)}1.{paths[0]}"], {}),
        (rf".*\.[02]\.(self_attn|self_attention)\.{one}", {}),
        (rf"{re.escape(fm.layer_prefix(name))}\d\.(mlp\.\w+(h|proj)|.*{one})", {}),
        ([one, last.split(".")[-1]], {"layers_to_transform": [1]}),
        (["lm_head_of_none"], {}),
    ):
        yield targets, more, targets
    # Ours alone: a name by itself is a list of one; PEFT takes it as an expression and finds nothing.
    yield one, {}, [one]


def peft_modules(name, folder, targets, more):
    """Names of what PEFT adapts; None: it refuses."""
    cls = getattr(transformers, fm.FAMILIES[name]["class"])
    model = cls.from_pretrained(folder, dtype=torch.float32)
    try:
        model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=targets, **more))
    except ValueError:
        return None
    return {key.split(".lora_A")[0] for key, _ in model.named_parameters() if ".lora_A." in key}


def check_target_forms(binary, name, folder):
    """What each form selects is what PEFT selects."""
    fm.write_config(name, folder, {})
    keys = {k: v for k, v in ft.KEYS.items() if not k.startswith("adapter")}
    for i, (targets, more, theirs) in enumerate(target_forms(name)):
        keys.update(fm.STEP, output_dir=f"form{i}", lora_target_modules=targets, max_steps=1)
        (folder / "form.json").write_text(json.dumps({**keys, **more}))
        run = subprocess.run([binary, "dpo", folder / "form.json", "--quiet"], capture_output=True, text=True)
        want = peft_modules(name, folder, theirs, more)
        got = None
        if run.returncode == 0:
            tensors = ft.read_safetensors(folder / f"form{i}" / "adapter_model.safetensors")
            got = {key.split(".lora_A")[0] for key in tensors if ".lora_A." in key}
        elif "target_modules" not in run.stderr:
            ft.fail(f"{name}: {targets}: {run.stderr[-300:]}")
        if got != want:
            ft.fail(f"{name}: {targets} {more}: adapts {sorted(got or [])[:3]}, PEFT {sorted(want or [])[:3]}")


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
    after = {**ft.KEYS, **fm.STEP, "adapter_name_or_path": "run"}
    (folder / "after.json").write_text(json.dumps(after))
    lines = ft.attune(binary, "score", folder / "after.json", "--json").splitlines()
    got = [[row[s]["logp"] for s in ("chosen", "rejected")] for row in map(json.loads, lines)]
    ft.require_close(f"{name}: merged in PEFT", got, mf.logps(model.merge_and_unload().eval()))


def scores_of(binary, folder, keys):
    (folder / "after.json").write_text(json.dumps({**fm.STEP, **keys}))
    lines = ft.attune(binary, "score", folder / "after.json", "--json").splitlines()
    return [[row[s]["logp"] for s in ("chosen", "rejected")] for row in map(json.loads, lines)]


def require_evaluated(what, run, scores):
    """What was written is what was trained: the last evaluation's mean log-probs are those of the files."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "eval_logps/chosen" in line][-1]
    want = [[last["eval_logps/chosen"], last["eval_logps/rejected"]]]
    ft.require_close(what, [np.mean(np.array(scores), axis=0).tolist()], want)


def check_dora(binary, name, folder):
    """Magnitudes and both factors of a fresh adapter on all linear layers, after two steps."""
    keys = {k: v for k, v in ft.KEYS.items() if not k.startswith("adapter")}
    keys.update(lora_target_modules="all-linear", use_dora=True, output_dir="dora",
                eval_dataset="rows.jsonl")
    (folder / "dora.json").write_text(json.dumps({**keys, **fm.STEP, "max_steps": 2}))
    ft.attune(binary, "dpo", folder / "dora.json", "--quiet")
    cls = getattr(transformers, fm.FAMILIES[name]["class"])
    base = cls.from_pretrained(folder, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, folder / "dora").merge_and_unload().eval()
    keys["adapter_name_or_path"] = "dora"
    got = scores_of(binary, folder, keys)
    require_evaluated(f"{name}: DoRA as evaluated", folder / "dora", got)
    ft.require_close(f"{name}: DoRA merged in PEFT", got, mf.logps(model))


def check_full(binary, name, folder):
    """All weights after two steps, as transformers loads them."""
    keys = {k: v for k, v in ft.KEYS.items() if not k.startswith(("adapter", "lora"))}
    keys.update(use_peft=False, output_dir="full", eval_dataset="rows.jsonl")
    (folder / "full.json").write_text(json.dumps({**keys, **fm.STEP, "max_steps": 2}))
    ft.attune(binary, "dpo", folder / "full.json", "--quiet")
    cls = getattr(transformers, fm.FAMILIES[name]["class"])
    model = cls.from_pretrained(folder / "full", dtype=torch.float32).eval()
    before = mf.logps(cls.from_pretrained(folder, dtype=torch.float32).eval())
    after = mf.logps(model)
    if not max(abs(a - b) for p, q in zip(before, after) for a, b in zip(p, q)) > 1e-3:
        ft.fail(f"{name}: full fine-tuning moved no log-prob")
    got = scores_of(binary, folder, {**keys, "model_name_or_path": "full", "output_dir": "scored"})
    require_evaluated(f"{name}: trained in full, as evaluated", folder / "full", got)
    ft.require_close(f"{name}: trained in full", got, after)


def main():
    for name in sys.argv[2:] or fm.FAMILIES:
        with tempfile.TemporaryDirectory() as path:
            folder = pathlib.Path(path)
            fm.write_model(name, folder)
            fm.write_adapter(name, folder / "adapter")
            (folder / "rows.jsonl").write_text("".join(line + "\n" for line, _, _ in fm.rows()))
            check_gguf(sys.argv[1], name, folder)
            check_peft(sys.argv[1], name, folder)
            check_targets(sys.argv[1], name, folder)
            check_target_forms(sys.argv[1], name, folder)
            if name in OWN_ROWS or sys.argv[2:]:
                check_dora(sys.argv[1], name, folder)
                check_full(sys.argv[1], name, folder)
    sys.exit(1 if ft.failures else 0)


if __name__ == "__main__":
    main()
