#!/usr/bin/env python3
"""Runs one golden TRL run with attune and compares: golden_test.py ATTUNE RUN_DIR.

Row log-probs (or rewards, plus ROWS_NEAR_ZERO) at step 0: ROWS relative. Loss, rewards, gradient norm and learning
rate of every step: STEPS relative plus STEPS_NEAR_ZERO (the noise of rewards near zero). The final update: UPDATE in
norm, leaving out one element in FLIPS (after Adam's first step the update is the gradient's sign, so elements with a
gradient near zero may flip). Standard library only.
"""
import array
import json
import math
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

# Means over tokens. By choice ours are means over the whole step, so that batch 8x1 and 4x2 log the
# same (tests/e2e/determinism_test.py); TRL averages the means of micro-batches, whatever their tokens.
# With accumulation these differ, and only with it.
TOKEN_MEANS = {"entropy", "mean_token_accuracy", "logits/chosen", "logits/rejected"}
# TRL's CPO and ORPO take the mean over prompt and padding too; CPO without cpo_alpha logs no cross-entropy;
# the KL term that apo_zero_unpaired does not have is 0 there.
NOT_COMPARED = {method: {"logits/chosen", "logits/rejected"} for method in ("cpo", "orpo")}
METRICS = ["loss", "grad_norm", "learning_rate", "rewards/chosen", "rewards/rejected",
           "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected", "entropy",
           "mean_token_accuracy", "logits/chosen", "logits/rejected", "log_odds_chosen",
           "log_odds_ratio", "nll_loss", "num_tokens", "kl", "min_reward", "mean_reward",
           "max_reward", "accuracy", "margin", "reward", "reward_std", "frac_reward_zero_std",
           "rewards/good/mean", "rewards/good/std", "rewards/short/mean", "rewards/short/std",
           "rewards/reward/mean", "rewards/reward/std", "completions/mean_length", "completions/min_length",
           "completions/max_length", "completions/clipped_ratio", "completions/mean_terminated_length",
           "completions/min_terminated_length", "completions/max_terminated_length", "clip_ratio/low_mean",
           "clip_ratio/low_min", "clip_ratio/high_mean", "clip_ratio/high_max", "clip_ratio/region_mean",
           "cispo_clip_ratio", "objective/kl", "objective/entropy", "objective/non_score_reward",
           "objective/rlhf_reward", "objective/scores", "objective/scores_margin", "val/contain_eos_token"]
# What TRL's online DPO sums over padding as well: equal where all samples of a step are of one length.
PADDED = {"objective/kl", "objective/entropy", "objective/non_score_reward", "objective/rlhf_reward"}
ROWS, ROWS_NEAR_ZERO = 1e-4, 2e-6
STEPS, STEPS_NEAR_ZERO = 1e-3, 2e-5
UPDATE, FLIPS = 1e-2, 2000
failures = 0


def check(what, got, want, relative, absolute=0.0):
    global failures
    if got is None or not abs(got - want) <= relative * abs(want) + absolute:
        failures += 1
        if failures <= 20:
            print(f"FAIL {what}: got {got}, want {want}")


def tensors(path):
    """name -> floats of a safetensors file or of a folder of shards (F32)."""
    out = {}
    files = sorted(path.glob("model*.safetensors")) if path.is_dir() else [path]
    for file in files:
        data = file.read_bytes()
        n = struct.unpack("<Q", data[:8])[0]
        for name, entry in json.loads(data[8:8 + n]).items():
            if name == "__metadata__":
                continue
            assert entry["dtype"] == "F32", entry
            begin, end = entry["data_offsets"]
            out[name] = array.array("f", data[8 + n + begin:8 + n + end])
    return out


def attune(binary, *arguments):
    run = subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True)
    if run.returncode != 0:
        print(run.stderr[-2000:])
        sys.exit(f"{arguments[0]} exited with {run.returncode}")
    return run


def check_rows(binary, folder, expect):
    lines = attune(binary, "score", folder / "config.json", "--json").stdout.splitlines()
    rows = {(row["row"], row.get("label"), row.get("sample")): row for row in map(json.loads, lines)}
    kept = sum(not want.get("dropped") for want in expect["rows"])
    check("rows", len(lines), kept, 0)
    for want in expect["rows"]:
        if want.get("dropped"):
            if want["row"] in {row for row, *_ in rows}:
                check(f"row {want['row']} dropped", 0, 1, 0)
            continue
        for side in ("chosen", "rejected", "reference", "completion"):
            if side not in want:
                continue
            got = rows[want["row"], want.get("label"), want.get("sample")][side]
            if "reward" in want[side]:
                check(f"row {want['row']} {side} reward", got["reward"], want[side]["reward"], ROWS,
                      ROWS_NEAR_ZERO)
                continue
            check(f"row {want['row']} {side} n_tokens", got["n_tokens"], want[side]["n_tokens"], 0)
            check(f"row {want['row']} {side} logp", got["logp"], want[side]["logp"], ROWS)


def not_compared(config):
    names = set(NOT_COMPARED.get(config["method"], ()))
    if config["gradient_accumulation_steps"] > 1:
        names |= TOKEN_MEANS
    if config["method"] == "online_dpo" and not config["rollouts"].endswith("even.jsonl"):
        names |= PADDED
    if config.get("cpo_alpha") == 0 or config.get("loss_type") == "alphapo":
        names |= {"nll_loss"}
    if config.get("loss_type") == "apo_zero_unpaired":
        names |= {"kl"}
    return names


def check_steps(out, expect, left_out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    got = {line["step"]: line for line in lines if "loss" in line}
    for want in expect["steps"]:
        for name in METRICS:
            if name in want and name not in left_out:
                check(f"step {want['step']} {name}", got.get(want["step"], {}).get(name),
                      want[name], STEPS, STEPS_NEAR_ZERO)


def check_update(got, want, start):
    if set(got) != set(want):
        check(f"tensor names {sorted(set(got) ^ set(want))[:3]}", 0, 1, 0)
        return
    differences, total = [], 0.0
    for name in want:
        base = start.get(name, [0.0] * len(want[name]))
        for g, w, b in zip(got[name], want[name], base):
            differences.append((g - w) ** 2)
            total += (w - b) ** 2
    differences.sort()
    keep = len(differences) - math.ceil(len(differences) / FLIPS)
    error = math.sqrt(sum(differences[:keep]) / total)
    print(f"update: relative difference {error:.2e} over {len(differences)} values")
    check("update", error, 0, 0, UPDATE)


def main():
    binary, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    expect = json.loads((folder / "expect.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    out = pathlib.Path(tempfile.mkdtemp()) / "run"
    try:
        if expect["rows"]:  # pairs of samples are decided while they train
            check_rows(binary, folder, expect)
        attune(binary, config["method"], folder / "config.json", "--output_dir", out)
        check_steps(out, expect, not_compared(config))
        if (folder / "final_model").is_dir():
            got, want = tensors(out / "model.safetensors"), tensors(folder / "final_model")
            start = tensors(folder / config["model_name_or_path"])
        else:
            got = tensors(out / "adapter_model.safetensors")
            want = tensors(folder / "final_adapter.safetensors")
            start = tensors(folder / "init_adapter" / "adapter_model.safetensors")
        check_update(got, want, start)
    finally:
        shutil.rmtree(out.parent, ignore_errors=True)
    print(f"{folder.name}: {failures} differences")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
