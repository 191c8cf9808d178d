#!/usr/bin/env python3
"""What `attune plan` promises: plan_test.py SOURCE_DIR BUILD_DIR

Of GGUF files that are cut behind their header it plans 8B, 13B and 70B models for cards of 8, 12 and 48 GiB, of which it
may take nine tenths as on a card that is there: DPO, r 16 on all linear layers, rows of 1,024 tokens, one pair a step. It
says what the memory is for. Nothing else takes such a file. And what it says of a slab is what the process takes: two
runs that differ in its size differ in their peaks by the plans' difference, whatever the method and what is computed again.
"""
# labels: gpu
import functools
import json
import pathlib
import tempfile

import harness
from harness import GOLDEN, check, finish
import tiny_model

TINY, DATA = GOLDEN / "models" / "tiny_llama", GOLDEN / "data"
GIB, LEFT = 1 << 30, 0.9
BLOCKS = {"F32": (1, 4), "Q4_0": (32, 18), "Q4_K": (256, 144), "Q5_K": (256, 176), "Q6_K": (256, 210)}
SHAPES = {  # width, inner width, layers, heads, heads of keys, vocabulary
    "8B": (4096, 14336, 32, 32, 8, 128256), "13B": (5120, 13824, 40, 40, 40, 32000), "70B": (8192, 28672, 80, 64, 8, 128256)}
CARDS = (("8B", "Q4_K_M", 8), ("13B", "Q4_K_M", 12), ("70B", "Q4_0", 48))
PEAK = 0.1
run = functools.partial(harness.run, env=harness.UNVALIDATED)  # the layer's memory would count as the process's


# ---- models that are not there ----


def types(mix, layer, layers):
    """Of values and the MLP's last matrix, the others': as llama.cpp's quantize chooses them."""
    if mix == "Q4_0":
        return "Q4_0", "Q4_0"
    more = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    return "Q6_K" if more else "Q4_K", "Q4_K"


def header(path, model, mix):
    C, F, L, H, G, V = SHAPES[model]
    keys = C // H * G
    tensors = [("token_embd.weight", (V, C), types(mix, L // 4, L)[1]), ("output_norm.weight", (C,), "F32"),
               ("output.weight", (V, C), "Q6_K")]
    for layer in range(L):
        wide, usual = types(mix, layer, L)
        tensors += [(f"blk.{layer}.{name}.weight", shape, kind) for name, shape, kind in (
            ("attn_norm", (C,), "F32"), ("ffn_norm", (C,), "F32"), ("attn_q", (C, C), usual), ("attn_k", (keys, C), usual),
            ("attn_v", (keys, C), wide), ("attn_output", (C, C), usual), ("ffn_gate", (F, C), usual),
            ("ffn_up", (F, C), usual), ("ffn_down", (C, F), wide))]
    table = []
    for name, shape, kind in tensors:
        cols, n_bytes = BLOCKS[kind]
        for n in shape[:-1]:
            n_bytes *= n
        table.append((name, shape, kind, n_bytes * shape[-1] // cols))
    path.write_bytes(tiny_model.gguf_header((L, C, F, H, G), table, context=8192) + bytes(1000))


def cards(work):
    rows = work / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"Say it {i}.", "chosen": "one two " * 900, "rejected": "three four " * 900}) + "\n"
                            for i in range(2)))
    for model, mix, gib in CARDS:
        path, limit = work / f"{model}.{mix}.gguf", int(LEFT * gib * GIB)
        header(path, model, mix)
        keys = ("--method", "dpo", "--model_name_or_path", path, "--tokenizer", TINY, "--train_dataset", rows, "--eval_split", 0,
                "--max_length", 1024, "--on_long_row", "cut", "--lora_r", 16, "--lora_target_modules", "all-linear",
                "--per_device_train_batch_size", 1, "--max_steps", 1, "--output_dir", work / "none")
        plan = json.loads(run("plan", *keys, "--device_memory_limit", limit, "--json").stdout)
        taken, parts = plan["device_bytes"], plan["device_parts"]
        print(f"{model} {mix}: {taken['total'] >> 20} of {limit >> 20} MiB, {plan['gradient_checkpointing']}:",
              {name: taken[name] >> 20 for name in parts})
        check(f"{model} {mix} fits a card of {gib} GiB", plan["fits"] and taken["total"] <= limit == taken["available"], taken)
        check(f"{model}: rows are of 1,024 tokens", plan["slab_tokens"] > 1900, plan["slab_tokens"])
        check(f"{model}: it has no weights", plan["has_weights"] is False)
        check(f"{model}: what for", all(sum(parts[name].values()) == taken[name] for name in parts), (parts, taken))
        check(f"{model}: inputs of layers are computed again where memory is short", plan["gradient_checkpointing"] == "sqrt")
    said = run("plan", *keys, "--device_memory_limit", limit).stdout
    four = run("plan", *keys, "--device_memory_limit", limit, "--per_device_train_batch_size", 4, "--json", code=69).stdout
    check("of batches of 4 no card is promised what only this device's slab gives it", json.loads(four)["slab_tokens"] == 4096)
    check("of a device that is not here the rate is assumed", plan["assumed_flop_per_s"] == 5e12 and "measured_flop_per_s" not in plan)
    check("nor is the time said to be this device's", plan["time_device"] is None and "5000 GFLOP/s: no device was measured, so" in said
          and f"device   {plan['device']}; slab and time are those of an assumed GPU\n" in said and " at first, on an assumed GPU\n" in said and "measured just now" not in said, said)
    check("the text says so, too", all(part in said for part in (
        "has no weights", "of the slab:", "saved residual", "above the", "sqrt computes activations again")), said)
    run("plan", *keys, "--device_memory_limit", taken["total"] - 1, code=69)
    said = run("plan", *keys, "--device_memory_limit", taken["frozen"], code=69).stderr
    check("weights that do not fit by themselves: no length is asked for", "smaller type" in said and "max_length" not in said, said)


def remedies(work):
    """Of a run that does not fit: the limit that binds, or the model that does not fit."""
    (work / "prompts.jsonl").write_text('{"prompt": "hi"}\n{"prompt": "once more"}\n')
    tiny_model.plain_folder(work / "wide", TINY, width=256)
    pairs = ("--method", "dpo", "--train_dataset", DATA / "pairs.jsonl", "--max_length", 0, "--on_bad_row", "keep")
    for what, says, keys in (
            ("tokens of a slab", "the run does not fit: lower max_tokens_per_slab, or", (*pairs, "--max_tokens_per_slab", 4096)),
            ("tokens of a row", "the run does not fit: set max_length, or", (*pairs, "--max_tokens_per_slab", 64)),
            ("tokens of a row up to a limit", "the run does not fit: lower max_length, or", (
                *pairs, "--max_tokens_per_slab", 64, "--max_length", 1000)),
            ("what is kept", "; gradient_checkpointing takes the least it can at auto", (*pairs, "--gradient_checkpointing", "none")),
            ("tokens of a sample", "the run does not fit: lower max_completion_length, or", (
                "--method", "rloo", "--train_dataset", work / "prompts.jsonl", "--max_completion_length", 4096, *DRAWS)),
            ("a reference", "the reference (ref_model_name_or_path) does not fit, whatever a step has", (
                *pairs, "--max_tokens_per_slab", 64, "--ref_model_name_or_path", work / "wide", "--device_memory_limit", 1500000))):
        said = run("plan", "--model_name_or_path", TINY, "--device_memory_limit", 900000, *keys, code=69).stderr
        check(f"what binds is named: {what}", says in said.splitlines()[-1], said)


def where_it_is_timed():
    """Memory that is here is planned and timed as without a limit: on this device, which is named."""
    keys = ("plan", GOLDEN / "dpo_sigmoid" / "config.json")
    for limit in ((), ("--device_memory_limit", 512 << 20)):
        plan, said = json.loads(run(*keys, *limit, "--json").stdout), run(*keys, *limit).stdout
        check("the rate is that of the device that is named", plan["time_device"] == plan["device"]
              and f"GFLOP/s (measured just now on {plan['device']})\n" in said and "assumed" not in said, said)


def refused(work):
    """By all others, and by plan where the table itself is cut or another file has the rest."""
    path = work / "8B.Q4_K_M.gguf"
    for command in (("inspect", path), ("generate", "--model_name_or_path", path), ("dpo", "--model_name_or_path", path, "--train_dataset",
                    DATA / "pairs.jsonl", "--output_dir", work / "none", "--tokenizer", TINY)):
        said = run(*command, code=65).stderr
        check(f"{command[0]} refuses it", "token_embd.weight: needs bytes" in said and "cut short" in said, said)
    judge = work / "judge"  # an adapter over it that names the digest of its base, which nobody can compute
    judge.mkdir()
    (judge / "run.json").write_text(json.dumps({"config": {"model_name_or_path": {"value": str(path)}}, "digests": {"model": "ab"}}))
    (judge / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"]}')
    (work / "prompts.jsonl").write_text('{"prompt": "hi"}\n{"prompt": "once more"}\n')
    said = run("plan", "--method", "rloo", "--model_name_or_path", path, "--tokenizer", TINY, "--train_dataset", work / "prompts.jsonl",
               "--num_generations", 2, "--reward_funcs", json.dumps([str(judge)]), code=66).stderr
    check("so does a reward model whose adapter has no values", "adapter_model.safetensors" in said, said)
    (work / "cut.gguf").write_bytes(path.read_bytes()[:12000])
    said = run("plan", "--method", "dpo", "--model_name_or_path", work / "cut.gguf", "--train_dataset", DATA / "pairs.jsonl",
               "--tokenizer", TINY, code=65).stderr
    check("a table that is cut is refused", "the file ends at byte 12000" in said and "probably cut short" in said, said)


# ---- what runs take ----

# name -> method, rows, further keys, and those that differ: little and much of a slab, or of what sampling has
SLABS = (["--max_tokens_per_slab", 256], ["--max_tokens_per_slab", 32768])
DRAWS = ["--reward_funcs", '["max_words:3"]', "--num_generations", 2]
RUNS = {
    **{word: ("dpo", "pairs.jsonl", ["--gradient_checkpointing", word], SLABS) for word in ("none", "mlp", "full", "sqrt")},
    "kto": ("kto", "labelled.jsonl", [], SLABS),
    "reward": ("reward", "pairs.jsonl", [], SLABS),
    "sft": ("sft", "sft_messages.jsonl", [], SLABS),
    "rloo": ("rloo", "prompts.jsonl", DRAWS, (["--max_completion_length", 4], ["--max_completion_length", 16384])),
}


def peak(work, name, keys):
    method, data, more, _ = RUNS[name]
    out = pathlib.Path(tempfile.mkdtemp(dir=work))
    keys = ("--preset", "trl", "--use_peft", "true", "--lora_target_modules", "all-linear", "--model_name_or_path", TINY,
            "--train_dataset", DATA / data if (DATA / data).exists() else work / data, "--max_steps", 1,
            "--per_device_train_batch_size", 2, "--save_strategy", "no", "--output_dir", out, *more, *keys)
    plan = json.loads(run("plan", "--method", method, *keys, "--json").stdout)
    run(method, *keys)
    return plan["device_bytes"]["total"], json.loads((out / "run.json").read_text())["host_peak_bytes"]


def peaks(work):
    if json.loads(run("devices", "--json").stdout)["devices"][0]["type"] != "cpu":
        print("skip peaks: memory of this device is not the process's")
        return
    (work / "prompts.jsonl").write_text('{"prompt": "hi"}\n{"prompt": "once more"}\n')
    least = {}
    for name in RUNS:
        (less, low), (much, high) = (peak(work, name, keys) for keys in RUNS[name][3])
        least[name] = less
        check(f"{name}: {(much - less) / 1e6:.1f} MB more by the plan, {(high - low) / 1e6:.1f} taken",
              abs((high - low) / (much - less) - 1) < PEAK)
    check("of two layers sqrt keeps what full keeps", least["none"] > least["mlp"] > least["full"] == least["sqrt"], least)


with tempfile.TemporaryDirectory() as place:
    cards(pathlib.Path(place))
    remedies(pathlib.Path(place))
    where_it_is_timed()
    refused(pathlib.Path(place))
    peaks(pathlib.Path(place))
finish()
