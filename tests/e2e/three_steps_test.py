#!/usr/bin/env python3
# labels: gpu;quick
"""Three steps of every stage on this device: SFT with LoRA, DPO on top of its adapter, scoring with both,
a reply. three_steps_test.py SOURCE_DIR BUILD_DIR

Every logged number is finite, a stage changes log-probs, the reply is the same twice. In the development
build the validation layer is on, and one of its messages makes a command fail.
"""
import json
import math
import pathlib
import tempfile

from harness import GOLDEN, check, finish, run

MODEL = ["--model_name_or_path", GOLDEN / "models" / "tiny_llama"]
PAIRS = ["--train_dataset", GOLDEN / "data" / "pairs.jsonl", "--preset", "trl", "--use_peft", "true",
         "--lora_dropout", 0, "--lora_target_modules", "all-linear"]
STEPS = ["--max_steps", 3, "--logging_steps", 1, "--learning_rate", 0.01]


def check_metrics(name, folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    check(f"{name}: three steps are logged", [row["step"] for row in steps] == [1, 2, 3])
    check(f"{name}: every number is finite",
          all(value is not None and (not isinstance(value, float) or math.isfinite(value))
              for row in rows for value in row.values()))


def score(*adapter):
    return [json.loads(line)["chosen"]["logp"]
            for line in run("score", "--method", "dpo", *MODEL, *PAIRS, *adapter, "--json").stdout.splitlines()]


with tempfile.TemporaryDirectory() as folder:
    sft, dpo = pathlib.Path(folder) / "sft", pathlib.Path(folder) / "dpo"
    run("sft", *MODEL, *PAIRS, *STEPS, "--output_dir", sft)
    run("dpo", *MODEL, *PAIRS, *STEPS, "--output_dir", dpo, "--adapter_name_or_path", sft)
    check_metrics("sft", sft)
    check_metrics("dpo", dpo)
    scores = [score(), score("--adapter_name_or_path", sft), score("--adapter_name_or_path", dpo)]
    check("SFT changed every row's log-prob", all(a != b for a, b in zip(scores[0], scores[1])))
    check("DPO changed every row's log-prob", all(a != b for a, b in zip(scores[1], scores[2])))
    replies = [run("generate", GOLDEN / "models" / "tiny_llama", "--adapter", dpo, "--raw", "--prompt",
                   "where is the tea", "--max_new_tokens", 8, "--json").stdout for _ in range(2)]
    check("a reply is the same twice", replies[0] == replies[1] and json.loads(replies[0]))
finish()
