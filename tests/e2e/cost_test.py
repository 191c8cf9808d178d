#!/usr/bin/env python3
"""What an objective costs is what its rows demand: cost_test.py SOURCE_DIR BUILD_DIR

Peak memory does not depend on the loss: the plan is the same number, and so is what the device took; the
process's peak differs by a few per cent (a reward model has no vocabulary to go over and takes less). A list
of losses and a cross-entropy beside a loss (ORPO, CPO) compute the tokens of one loss, aot those of two passes;
no reference-free loss computes a reference. KTO's mismatched rows ride behind their rows where a micro-batch of both
fits into a slab, and come first where it does not: the same bytes for fewer tokens. Of the tokens computed of the
sample data, a small slab a step, less than 5 % are padding.
"""
# labels: gpu
import json
import pathlib
import tempfile

from harness import GOLDEN, SOURCE, check, finish, run

PAIRS, TRIPLES = GOLDEN / "data" / "pairs.jsonl", GOLDEN / "data" / "triples.jsonl"
LIST = '["sigmoid", "sft", "bco_pair"]'
# name -> method, further keys, whether it reads a reference, passes over the pairs of sigmoid (None: other rows)
RUNS = {
    "sigmoid": ("dpo", [], True, 1),
    "ipo": ("dpo", ["--loss_type", "ipo"], True, 1),
    "list": ("dpo", ["--loss_type", LIST], True, 1),
    "aot": ("dpo", ["--loss_type", "aot"], True, 2),
    "sft": ("dpo", ["--loss_type", "sft"], False, 1),
    "kto": ("kto", [], True, None),
    "apo_zero_unpaired": ("kto", ["--loss_type", "apo_zero_unpaired"], True, None),
    "cpo": ("cpo", [], False, 1),
    "simpo": ("cpo", ["--loss_type", "simpo"], False, 1),
    "orpo": ("orpo", [], False, 1),
    "tpo": ("tpo", ["--train_dataset", TRIPLES], False, None),
    "reward": ("reward", [], False, 1),
}
PIPELINES = 50  # of a run at most: on CPU devices each is compiled
PEAK = 0.05  # of the process: what the driver and the C library keep
PADDING = 0.05  # of the tokens computed of the sample data


def cost(folder, name):
    method, more, *_ = RUNS[name]
    keys = ["--preset", "trl", "--use_peft", "true", "--lora_target_modules", "all-linear", "--lora_dropout", 0,
            "--model_name_or_path", GOLDEN / "models" / "tiny_llama", "--train_dataset", PAIRS, "--max_steps", 2,
            "--per_device_train_batch_size", 6, "--save_strategy", "no", "--train_sampling_strategy", "sequential",
            "--max_tokens_per_slab", 1024, "--output_dir", folder / name, *more]
    plan = json.loads(run("plan", "--method", method, *keys, "--json").stdout)
    run(method, *keys)
    return plan, json.loads((folder / name / "run.json").read_text())


def kto_rows_ride(folder, model, data, steps):
    """In 1024 tokens the 7 rows of a step and those that ride, in 256 the rows alone: one slab of them either way."""
    records, written = [], []
    for slab in (1024, 256):
        out = folder / f"rides{slab}{model}"
        run("kto", "--preset", "trl", "--use_peft", "true", "--lora_target_modules", "all-linear", "--lora_dropout", 0,
            "--model_name_or_path", GOLDEN / "models" / model, "--train_dataset", data, "--max_steps", steps,
            "--eval_dataset", data, "--eval_strategy", "steps", "--eval_steps", steps, "--per_device_train_batch_size", 7,
            "--train_sampling_strategy", "sequential", "--learning_rate", 0.01, "--logging_steps", 1,
            "--max_tokens_per_slab", slab, "--output_dir", out)
        records.append(json.loads((out / "run.json").read_text()))
        written.append([(out / file).read_bytes() for file in ("metrics.jsonl", "adapter_model.safetensors")])
    terms = [json.loads(line).get("kl") for line in written[0][0].splitlines()]
    check("kto: its term is above 0", any(term for term in terms), terms)
    check("kto: the same bytes where mismatched rows ride", written[0] == written[1])
    tokens = [record["tokens_computed"] for record in records]
    check("kto: fewer tokens where they ride", tokens[0] < 0.9 * tokens[1], tokens)


def padding_is_little(folder):
    samples = SOURCE / "data" / "samples"
    for method, name in ("dpo", "tone_train"), ("kto", "tone_train"), ("sft", "sft_train"):
        out = folder / f"padding_{method}"
        run(method, "--model_name_or_path", GOLDEN / "models" / "tiny_llama", "--train_dataset", samples / f"{name}.jsonl",
            "--eval_split", 0, "--per_device_train_batch_size", 2, "--max_steps", 12, "--save_strategy", "no",
            "--output_dir", out)
        record = json.loads((out / "run.json").read_text())
        share = record["padding_tokens"] / (record["padding_tokens"] + record["tokens_computed"])
        check(f"{method}: {100 * share:.1f} % of the tokens are padding", 0 < share < PADDING)


def main():
    with tempfile.TemporaryDirectory() as folder:
        found = {name: cost(pathlib.Path(folder), name) for name in RUNS}
        for model, data, steps in ("tiny_llama", PAIRS, 2), ("tiny_qwen2", GOLDEN / "data" / "pairs_plain.jsonl", 4):
            kto_rows_ride(pathlib.Path(folder), model, data, steps)  # with other kernels
        padding_is_little(pathlib.Path(folder))
    first = found["sigmoid"][1]
    for name, (plan, record) in found.items():
        taken = record["device_bytes"]
        print(name, taken, record["host_peak_bytes"] >> 10, record["pipelines"], record["tokens_computed"], record["ref_forward_tokens"])
        check(f"{name}: the plan is what the device took", all(plan["device_bytes"][part] == taken[part] for part in taken),
              (plan["device_bytes"], taken))
        check(f"{name}: as much memory as dpo", taken["slab"] < first["device_bytes"]["slab"] if name == "reward" else
              taken == first["device_bytes"], (taken, first["device_bytes"]))
        check(f"{name}: at most {PIPELINES} pipelines", 0 < record["pipelines"] <= PIPELINES, record["pipelines"])
        check(f"{name}: as high a peak", abs(record["host_peak_bytes"] / first["host_peak_bytes"] - 1) < PEAK)
        check(f"{name}: a reference where a loss reads it", (record["ref_forward_tokens"] > 0) == RUNS[name][2])
        passes = RUNS[name][3]
        check(f"{name}: tokens of {passes} passes", passes is None or
              record["tokens_computed"] == passes * first["tokens_computed"], record["tokens_computed"])
    finish()


if __name__ == "__main__":
    main()
