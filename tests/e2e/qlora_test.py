#!/usr/bin/env python3
# labels: gpu
"""QLoRA: DPO on a quantised base is DPO on the base's values. qlora_test.py SOURCE_DIR BUILD_DIR

Three steps on Q4_0, Q4_K (GGUF), NF4 and INT8 (as bitsandbytes publishes them), Q4_0 and NF4 of fused matrices, each beside the same run on an F32
model of the values that the blocks stand for: every logged number agrees to 1e-5. Then load_in_4bit and
load_in_8bit of a plain model: memory, the record, what adapter_config.json calls the base.
"""
import json
import pathlib
import re
import tempfile

from harness import GOLDEN, check, finish, run
import tiny_model

TOKENIZER = GOLDEN / "models" / "tiny_llama"
TOLERANCE = 1e-5
OPTIONS = ["--train_dataset", GOLDEN / "data" / "pairs.jsonl", "--preset", "trl", "--use_peft", "true",
           "--lora_dropout", 0, "--lora_target_modules", "all-linear", "--logging_steps", 1, "--learning_rate", 0.01, "--max_length", 64, "--tokenizer", TOKENIZER]


def attune(*arguments, code=0):
    out = run(*arguments, code=code)
    return out.stdout + out.stderr


def dpo(model, out, steps, *more):
    said = attune("dpo", "--model_name_or_path", model, "--output_dir", out, *OPTIONS, "--max_steps", steps, *more)
    return said, [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def apart(a, b):
    """The largest relative difference of two runs' numbers, those of time and place aside."""
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        for key in x:
            if isinstance(x[key], float) and not re.search("time|per_second|_s$", key):
                worst = max(worst, abs(x[key] - y[key]) / max(abs(y[key]), 1e-3))
    return worst


def compare(folder, name, quantised, values):
    runs = [dpo(model, folder / f"{name}_{i}", 3)[1] for i, model in enumerate([quantised, values])]
    worst = apart(*runs)
    moved = runs[0][-1] != runs[0][0]
    check(f"{name}: {len(runs[0])} lines agree with those of its values: {worst:.1e} apart", worst <= TOLERANCE and moved)


def at_load(folder):
    model = tiny_model.plain_folder(folder / "plain", TOKENIZER)
    plan = json.loads(attune("plan", "--method", "dpo", "--model_name_or_path", model, "--output_dir", folder / "no",
                             *OPTIONS, "--json", "--quiet"))
    for name, more, most, error in [
            ("NF4", ["--load_in_4bit", "true"], 4.5, (0.05, 0.15)),
            ("FP4", ["--load_in_4bit", "true", "--bnb_4bit_quant_type", "fp4", "--use_bnb_nested_quant", "true"],
             4.5, (0.05, 0.2)),
            ("INT8", ["--load_in_8bit", "true"], 8.5, (0.002, 0.02))]:
        said, _ = dpo(model, folder / name, 1, *more)
        record = json.loads((folder / name / "run.json").read_text())
        weights = 4.5 * 64 * 64 + 2 * 0.5 * 64 * 64 + 0.5 * 64 * 64  # of the linear layers
        saved = plan["device_bytes"]["frozen"] - record["device_bytes"]["frozen"]
        check(f"{name}: {saved} bytes are saved", saved >= weights * (32 - most) / 8 * 0.9)
        check(f"{name}: the record and a line tell the rounding",
              record["quantised"]["type"] == name and record["quantised"]["matrices"] == 7
              and error[0] < record["quantised"]["relative_error"] < error[1] and f"were {name}" in said)
        config = json.loads((folder / name / "adapter_config.json").read_text())
        check(f"{name}: the adapter's base is the plain model", config["base_model_name_or_path"] == str(model))
    fused = tiny_model.plain_folder(folder / "fused", TOKENIZER, family="phi3")
    dpo(fused, folder / "fused_nf4", 1, "--load_in_4bit", "true")
    record = json.loads((folder / "fused_nf4" / "run.json").read_text())
    check(f"fused matrices are rounded at load: {record['quantised']}",
          record["quantised"]["type"] == "NF4" and 0.05 < record["quantised"]["relative_error"] < 0.15)
    both = ["--load_in_4bit", "true", "--load_in_8bit", "true"]
    said = attune("dpo", "--model_name_or_path", model, "--output_dir", folder / "no", *OPTIONS, *both, code=2)
    check("both at once are refused", "exclude each other" in said)


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    for kind in ["Q4_0", "Q4_K"]:
        compare(folder, kind, *tiny_model.gguf_pair(folder, kind, width=256 if kind == "Q4_K" else 64))
    compare(folder, "NF4", *tiny_model.nf4_pair(folder, TOKENIZER, width=64))
    compare(folder, "fused_Q4_0", *tiny_model.gguf_pair(folder, "Q4_0", width=64, family="phi3"))
    compare(folder, "fused_NF4", *tiny_model.nf4_pair(folder, TOKENIZER, width=64, family="phi3"))
    compare(folder, "INT8", *tiny_model.int8_pair(folder, TOKENIZER, width=64))
    at_load(folder)
    said = attune("dpo", "--model_name_or_path", folder / "llama_nf4", "--output_dir", folder / "no", *OPTIONS,
                  "--load_in_4bit", "true", code=2)
    check("a base of 4 bits is not quantised again", "is quantised already" in said)
    said = attune("inspect", folder / "llama_nf4")
    check("inspect shows the type", "NF4" in said)
finish()
