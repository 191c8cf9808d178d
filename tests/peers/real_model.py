#!/usr/bin/env python3
"""The real model: real_model.py ATTUNE PEERS_FOLDER. SmolLM2-135M-Instruct (Q4_1 GGUF), sample pairs.

1. DPO with LoRA r=16 on all linear layers for ATTUNE_REAL_STEPS steps over 20 held-out rows (0: the
   whole default run over all of them, 20 minutes on 2 cores); PEFT loads the adapter with zero missing and unexpected keys and its
   log-probs of 20 held-out rows on the dequantised base agree with `attune score` to 1e-3 relative.
2. SFT, then DPO on top of it: the one adapter that is written reproduces the policy on the bare base.
3. With the whole run: held-out accuracy is 0.85 or more and the chosen log-prob has not collapsed; a
   control, the sides of a random half of the training pairs swapped, stays at the base's figure.
"""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

ATTUNE, PEERS = sys.argv[1], pathlib.Path(sys.argv[2])
ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "data" / "samples"
MODEL, HF = PEERS / "SmolLM2-135M-Instruct.Q4_1.gguf", PEERS / "SmolLM2-135M-Instruct-hf"
STEPS = os.environ.get("ATTUNE_REAL_STEPS", "3")
failures = 0


def check(what, good):
    global failures
    print(f"{'ok  ' if good else 'FAIL'} {what}", flush=True)
    failures += not good


def attune(*arguments):
    run = subprocess.run([ATTUNE, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        sys.exit(f"attune {arguments[0]} exited with {run.returncode}")
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]


def some_rows(folder, n):
    path = folder / "rows.jsonl"
    lines = (SAMPLES / "tone_eval.jsonl").read_text().splitlines()[:n]
    path.write_text("\n".join(lines) + "\n")
    return path


def agree(what, rows, adapter):
    """`attune score` and PEFT on the same rows and adapter."""
    ours = attune("score", "--method", "dpo", "--model_name_or_path", MODEL, "--train_dataset", rows,
                  "--adapter_name_or_path", adapter, "--eval_split", "0", "--eval_strategy", "no",
                  "--json")
    peer = subprocess.run([sys.executable, str(ROOT / "tests/peers/peft_logps.py"), str(HF), str(rows),
                           "--adapter", str(adapter)], capture_output=True, text=True)
    if peer.returncode != 0:
        check(f"{what}: PEFT loads the adapter: {peer.stderr[-300:]}", False)
        return
    worst = 0.0
    for mine, theirs in zip(ours, map(json.loads, peer.stdout.splitlines()), strict=True):
        for side in ("chosen", "rejected"):
            worst = max(worst, abs(mine[side]["logp"] - theirs[side]["logp"]) / abs(theirs[side]["logp"]))
    check(f"{what}: log-probs of {len(ours)} rows agree with PEFT (worst relative difference {worst:.1e})",
          len(ours) > 0 and worst < 1e-3)


def swapped_half(folder):
    """The training pairs, chosen and rejected swapped in a random half of them."""
    rows = [json.loads(line) for line in (SAMPLES / "tone_train.jsonl").read_text().splitlines()]
    for i in random.Random(5).sample(range(len(rows)), len(rows) // 2):
        rows[i]["chosen"], rows[i]["rejected"] = rows[i]["rejected"], rows[i]["chosen"]
    path = folder / "swapped.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def check_whole_run(folder, common, result):
    """Point 3: what the default run reaches, and what it reaches without information."""
    accuracy, chosen = result["eval_logps/accuracies"], result["eval_logps/chosen"]
    check(f"held-out accuracy rises from {accuracy['before']['value']:.3f} to {accuracy['after']['value']:.3f} "
          f"[{accuracy['after']['low']:.3f}, {accuracy['after']['high']:.3f}], 0.85 or more",
          accuracy["after"]["value"] >= 0.85)
    check(f"the chosen log-prob ({chosen['before']:.1f} to {chosen['after']:.1f}) has not collapsed",
          chosen["after"] > 1.25 * chosen["before"] and not result["alarms"])
    attune("dpo", ROOT / "configs/dpo.json", *common, "--output_dir", folder / "control",
           "--train_dataset", swapped_half(folder), "--load_best_model_at_end", "false")
    control = json.loads((folder / "control" / "result.json").read_text())["eval_logps/accuracies"]
    check(f"the control stays at {control['before']['value']:.3f} within its interval: "
          f"{control['after']['value']:.3f} [{control['after']['low']:.3f}, {control['after']['high']:.3f}]",
          control["after"]["low"] <= control["before"]["value"] <= control["after"]["high"])


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        rows = some_rows(folder, 20)
        limit = ["--max_steps", STEPS, "--eval_dataset", rows] if STEPS != "0" else []
        common = ["--model_name_or_path", MODEL, "--quiet"]
        attune("dpo", ROOT / "configs/dpo.json", *common, "--output_dir", folder / "dpo", *limit)
        result = json.loads((folder / "dpo" / "result.json").read_text())
        print(json.dumps(result))
        agree("DPO", rows, folder / "dpo")
        if STEPS == "0":
            check_whole_run(folder, common, result)
        limit = ["--max_steps", "3", "--eval_dataset", "[]", "--eval_split", "0"]
        attune("sft", ROOT / "configs/sft.json", *common, "--output_dir", folder / "sft", *limit)
        attune("dpo", ROOT / "configs/dpo.json", *common, "--output_dir", folder / "both", *limit,
               "--adapter_name_or_path", folder / "sft", "--adapter_start", "stack")
        agree("SFT then DPO, one adapter", rows, folder / "both")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
