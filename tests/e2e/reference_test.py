#!/usr/bin/env python3
"""Another model as reference (ref_model_name_or_path): reference_test.py SOURCE_DIR BUILD_DIR

Its log-probs are those of that model scored by itself, bit for bit; they reach every held-out row; a
run that goes on from a checkpoint has them from there; plan and run tell of it; another vocabulary and
a reference that moves are refused. The reference of an adapter that is scored is what its run began with.
"""
# labels: slow
import json
import pathlib
import shutil
import tempfile

import harness
from harness import GOLDEN, check, finish
import tiny_model

OTHER = str(GOLDEN / "models" / "tiny_reference")
BASE = {
    "model_name_or_path": str(GOLDEN / "models" / "tiny_llama"), "ref_model_name_or_path": OTHER,
    "train_dataset": str(GOLDEN / "data" / "pairs_plain.jsonl"), "preset": "trl", "use_peft": True,
    "lora_r": 2, "lora_target_modules": "all-linear", "learning_rate": 0.01, "max_steps": 4,
    "per_device_train_batch_size": 4, "logging_steps": 1, "eval_split": 0.25, "eval_strategy": "steps",
    "eval_steps": 2, "on_bad_row": "skip", "save_steps": 2, "seed": 3,
}


def attune(folder, command, code=0, **keys):
    path = folder / "config.json"
    path.write_text(json.dumps({k: v for k, v in {**BASE, **keys}.items() if v is not None}))
    return harness.run(command, path, *(["--json"] if command in ("plan", "score") else []), code=code)


def rows(run, name):
    return [side[name] for line in run.stdout.splitlines() for side in json.loads(line).values()
            if isinstance(side, dict)]


def train(folder, name, method="dpo", **keys):
    run = attune(folder, method, output_dir=str(folder / name), **keys)
    lines = (folder / name / "metrics.jsonl").read_text()
    return run, lines


def test_score(folder):
    alone = attune(folder, "score", method="dpo", model_name_or_path=OTHER, ref_model_name_or_path=None)
    both = attune(folder, "score", method="dpo")
    check("ref_logp is the other model's logp", rows(both, "ref_logp") == rows(alone, "logp"))
    check("logp is the policy's", rows(both, "logp") != rows(alone, "logp"))


def test_adapters(folder):
    """The reference of an adapter that is scored is what its run started from."""
    keys = {"ref_model_name_or_path": None, "method": "dpo", "eval_split": 0, "eval_strategy": "no", "eval_steps": None}
    lone = {**keys, "max_steps": 1, "save_steps": None, "save_strategy": "no"}
    base = rows(attune(folder, "score", **keys), "logp")
    first = folder / "first"
    shutil.copytree(GOLDEN / "dpo_continued" / "init_adapter", first)

    def scored(name):
        run = attune(folder, "score", adapter_name_or_path=str(folder / name), **keys)
        return rows(run, "logp"), rows(run, "ref_logp")

    start = scored("first")
    check("without run.json it is the bare model", start[1] == base != start[0], (start[1][:2], base[:2]))
    for name, more in {"stack": {"adapter_name_or_path": str(first), "adapter_start": "stack"},
                       "continue": {"adapter_name_or_path": str(first)},
                       "fresh": {}, "other": {"ref_model_name_or_path": OTHER}}.items():
        attune(folder, "dpo", output_dir=str(folder / name), **{**lone, **more})
    for name in "stack", "continue":
        got = scored(name)
        check(f"{name}: it is the adapter that the run began with",
              max(abs(a - b) for a, b in zip(got[1], start[0])) < 1e-3 and got[1] != base and got[0] != got[1])
    check("of a fresh adapter it is the bare model", scored("fresh")[1] == base)
    check("another model is, where the run had that", scored("other")[1] == rows(
        attune(folder, "score", **{**keys, "model_name_or_path": OTHER}), "logp"))
    weights = first / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    run = attune(folder, "score", adapter_name_or_path=str(folder / "stack"), code=77, **keys)
    check("a parent that was changed is named", str(weights) in run.stderr and "run.json" in run.stderr, run.stderr)
    weights.unlink()
    run = attune(folder, "score", adapter_name_or_path=str(folder / "stack"), code=66, **keys)
    check("one that is gone, too", str(weights) in run.stderr and "ref_model_name_or_path" in run.stderr, run.stderr)


def test_train(folder):
    run, lines = train(folder, "run")
    first = json.loads(lines.splitlines()[0])
    check("held-out rows have their reference at step 0", first["step"] == 0 and
          abs(first["eval_rewards/margins"]) > 0.01, first)
    check("the run says that step 0 is not checked", "step 0 is not checked" in run.stderr, run.stderr)
    record = json.loads((folder / "run" / "run.json").read_text())
    check("its digest is recorded", len(record["digests"]["reference_model"]) == 64)
    check("its forward pass is counted", record["ref_forward_tokens"] > 0, record)
    shutil.rmtree(folder / "run" / "checkpoint-4", ignore_errors=True)
    for left in ("result.json", "run.json", "adapter_model.safetensors"):
        (folder / "run" / left).unlink()
    check("resumed, it ends as before",
          train(folder, "run", resume_from_checkpoint=str(folder / "run" / "checkpoint-2"))[1] == lines)


def test_others(folder):
    data = str(GOLDEN / "data" / "labelled.jsonl")
    _, kto = train(folder, "kto", "kto", train_dataset=data, max_steps=1, eval_split=0, eval_strategy="no",
                   eval_steps=None)
    check("KTO takes it", abs(json.loads(kto.splitlines()[0])["rewards/chosen"]) > 0.01, kto)
    _, full = train(folder, "full", use_peft=False, lora_r=None, lora_target_modules=None, max_steps=1,
                    eval_split=0, eval_strategy="no", eval_steps=None, precompute_ref_log_probs=True)
    check("full fine-tuning takes it", abs(json.loads(full.splitlines()[0])["rewards/chosen"]) > 0.01, full)


def test_loaded(folder):
    model = str(tiny_model.plain_folder(folder / "plain", GOLDEN / "models" / "tiny_llama"))
    short = folder / "short"
    shutil.copytree(OTHER, short)
    config = json.loads((short / "config.json").read_text())
    pairs = GOLDEN / "dpo_sigmoid" / "config.json"
    rows = harness.run("data", "show", pairs, "--json", "--n", 1000).stdout.splitlines()
    longest = max(len(json.loads(row)[side]["input_ids"]) for row in rows for side in ("chosen", "rejected"))
    for positions in (longest - 1, longest):
        (short / "config.json").write_text(json.dumps({**config, "max_position_embeddings": positions}))
        said = harness.run("plan", pairs, "--ref_model_name_or_path", short).stderr
        check(f"of {positions} positions, those of a prompt and one side are looked at", (positions < longest) ==
              (f"the longest sequence has {longest} tokens, {short} was made for {positions} positions" in said), said)
    keys = {"method": "dpo", "model_name_or_path": model, "ref_model_name_or_path": model}
    plain, bytes4 = (json.loads(attune(folder, "plan", **keys, load_in_4bit=four).stdout)["reference"]["device_bytes"]
                     for four in (False, True))
    check("load_in_4bit is for it, too", bytes4 < plain - 64 * 64 * 4 * 3, (plain, bytes4))
    code = attune(folder, "plan", **{**keys, "ref_model_name_or_path": str(short)}, load_in_4bit=True, code=65)
    check("what cannot be quantised is told", "ref_model_name_or_path" in code.stderr, code.stderr)


def test_refused(folder):
    plan = json.loads(attune(folder, "plan", method="dpo").stdout)
    check("plan shows it", plan["reference"]["model"] == OTHER and plan["reference"]["device_bytes"] > 0)
    out = str(folder / "refused")
    run = attune(folder, "dpo", 65, output_dir=out, ref_model_name_or_path=str(GOLDEN / "models" / "tiny_qwen2"))
    check("another vocabulary is named", "another vocabulary" in run.stderr, run.stderr)
    run = attune(folder, "dpo", 2, output_dir=out, sync_ref_model=True)
    check("a reference that moves is refused", "sync_ref_model" in run.stderr, run.stderr)
    run = attune(folder, "dpo", 66, output_dir=out, ref_model_name_or_path=str(folder / "none"))
    check("one that is missing is named", "ref_model_name_or_path" in run.stderr, run.stderr)


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for test in (test_score, test_adapters, test_train, test_others, test_loaded, test_refused):
            test(folder)
    finish()


if __name__ == "__main__":
    main()
