#!/usr/bin/env python3
# labels: gpu;quick
"""DPO with products and attention in halves (ATTUNE_HALVES), beside the same run in f32. halves_test.py SOURCE_DIR BUILD_DIR

At step 0 policy and reference have the same bits: rewards are 0 and the loss is ln 2. Log-probs lie
within a hundredth a token of those in f32, and a second run writes the same bytes. run.json says which
numbers were used. Full fine-tuning, whose weights' gradients are in halves too, has the losses and gradient norms of
f32 to 2 %. Where the device has matrix units, the choice by time is kept in a file, and one that
is damaged is made again; where it has none, ATTUNE_HALVES=time stays with f32.
"""
import json
import math
import os
import pathlib
import tempfile

import harness
from harness import GOLDEN, check, finish

ROWS = ["--model_name_or_path", GOLDEN / "models" / "tiny_llama", "--train_dataset", GOLDEN / "data" / "pairs.jsonl",
        "--preset", "trl"]
RUN = [*ROWS, "--use_peft", "true", "--lora_dropout", 0, "--lora_target_modules", "all-linear", "--max_steps", 3,
       "--logging_steps", 1, "--learning_rate", 0.01]


def attune(halves, *arguments, **environment):
    return harness.run(*arguments, env={**os.environ, **environment, "ATTUNE_HALVES": halves}).stdout


def kernels(folder):
    return json.loads((folder / "run.json").read_text())["kernels"]


def numbers(folder):
    return kernels(folder)["products_with_weights"]


def by_matrices(folder):
    return [kernels(folder)[f"attention_{pass_}"] == "matrix" for pass_ in ("fwd", "bwd_q", "bwd_kv")]


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def scores(halves):
    lines = attune(halves, "score", "--method", "dpo", *ROWS, "--json").splitlines()
    return [row[side] for row in map(json.loads, lines) for side in ("chosen", "rejected")]


def check_full(folder):
    for halves in "01":
        attune(halves, "sft", "--model_name_or_path", GOLDEN / "models" / "tiny_llama", "--train_dataset",
               GOLDEN / "data" / "sft_prompt_completion.jsonl", "--preset", "trl", "--use_peft", "false", "--max_steps", 2, "--logging_steps", 1,
               "--learning_rate", 0.001, "--output_dir", folder / f"full{halves}")
    for step, (exact, rounded) in enumerate(zip(metrics(folder / "full0"), metrics(folder / "full1")), 1):
        for name in ("loss", "grad_norm"):
            apart = abs(rounded[name] / exact[name] - 1)
            print(f"full fine-tuning, step {step}: {name} {apart:.1e} apart")
            check(f"{name} is that of f32, but for rounding", 0 < apart < 0.02)


def check_choice(folder):
    cache = folder / "cache"
    has_matrices = json.loads(attune("0", "devices", "--json"))["devices"][0]["matrix"] is not None
    choose = lambda name: attune("time", "dpo", *RUN, "--output_dir", folder / name, XDG_CACHE_HOME=str(cache))

    choose("timed")
    files = sorted((cache / "attune").glob("kernels-*.json"))
    check("a choice is kept where there is one", len(files) == has_matrices)
    check("no matrix units, no halves", has_matrices or numbers(folder / "timed") == "f32")
    if not files:
        return
    first = json.loads(files[0].read_text())
    check("the faster way is taken", first["halves"] == (first["halves_s"] < first["f32_s"]) and
          numbers(folder / "timed") == ("halves" if first["halves"] else "f32"))
    check("of attention too", by_matrices(folder / "timed") == 3 * [first["attention_halves"]] and
          first["attention_halves"] == (first["attention_halves_s"] < first["attention_f32_s"]))
    files[0].write_text(json.dumps({**first, "halves": not first["halves"],
                                    "attention_halves": not first["attention_halves"]}))
    choose("kept")
    check("the kept choice is taken", numbers(folder / "kept") != numbers(folder / "timed") and
          by_matrices(folder / "kept") != by_matrices(folder / "timed"))
    for name, text in {"cut": files[0].read_text()[:40], "old": json.dumps({**first, "format_version": 0}),
                       "another": json.dumps({**first, "for": "another device"})}.items():
        files[0].write_text(text)
        choose(name)
        check(f"a {name} file is made again", json.loads(files[0].read_text())["for"] == first["for"])


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    for run in ("half", "again"):
        attune("1", "dpo", *RUN, "--output_dir", folder / run)
    attune("0", "dpo", *RUN, "--output_dir", folder / "f32")
    check("run.json says it", numbers(folder / "half") == "halves" and numbers(folder / "f32") == "f32")
    if kernels(folder / "half")["gemm_half_nt"] == "matrix" and all(by_matrices(folder / "half")):
        print("products by matrix units")
    first = metrics(folder / "half")[0]
    check("the loss begins at ln 2", abs(first["loss"] - math.log(2)) < 1e-6)
    check("rewards begin at 0", first["rewards/chosen"] == 0 and first["rewards/rejected"] == 0)
    same = all((folder / "half" / file).read_bytes() == (folder / "again" / file).read_bytes()
               for file in ("adapter_model.safetensors", "metrics.jsonl"))
    check("the same bytes twice", same)
    exact = scores("0")
    for halves, limit in (("1", 1e-2), ("bf16", 5e-2)):
        apart = max(abs(a["logp"] - b["logp"]) / a["n_tokens"] for a, b in zip(exact, scores(halves)))
        print(f"log-probs, ATTUNE_HALVES={halves}: {apart:.1e} a token apart")
        check("log-probs are those of f32, but for rounding", 0 < apart < limit)
    last = [metrics(folder / run)[2]["rewards/margins"] for run in ("half", "f32")]
    print(f"margins after three steps: {last[0]:.5f}, in f32 {last[1]:.5f}")
    check("so is the margin after three steps", abs(last[0] - last[1]) < 0.05 * abs(last[1]))
    check_full(folder)
    check_choice(folder)
finish()
