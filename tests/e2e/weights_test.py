#!/usr/bin/env python3
"""Several training files with weights: weights_test.py SOURCE_DIR BUILD_DIR

A file of weight 2 trains as one that is named twice, byte for byte; held-out rows and their files stay right; what cannot go
with weights, and weights that are none, is refused by name. (Which rows an epoch sees: unit.epoch; resuming: e2e.resume.)
"""
# labels: gpu
import gzip
import json
import pathlib
import tempfile

import harness
from harness import GOLDEN

MODEL = GOLDEN / "models" / "tiny_llama"


def run(*arguments, code=0):
    out = harness.run(*arguments, code=code, env=harness.UNVALIDATED)
    return out.stdout + out.stderr


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


with tempfile.TemporaryDirectory() as name:
    work = pathlib.Path(name)
    rows = [row for row in (GOLDEN / "data" / "pairs.jsonl").read_text().splitlines()
            if json.loads(row)["chosen"] != json.loads(row)["rejected"] and json.loads(row)["chosen"][0]["content"]]
    (work / "a.jsonl").write_text("\n".join(rows[:4]) + "\n")
    (work / "b.jsonl.gz").write_bytes(gzip.compress("".join(row + "\n" for row in rows[4:10]).encode()))
    base = {"method": "dpo", "model_name_or_path": str(MODEL), "preset": "trl", "use_peft": True, "max_length": 0,
            "per_device_train_batch_size": 3, "num_train_epochs": 1, "logging_steps": 1, "save_strategy": "no",
            "train_sampling_strategy": "sequential", "learning_rate": 0.01}

    def config(file, **keys):
        (work / file).write_text(json.dumps({**base, **keys}))
        return work / file

    # Twice and weight 2 are the same run; paths are those of the configuration's folder.
    weighted = ["a.jsonl", {"path": "b.jsonl.gz", "weight": 2}]
    run("dpo", config("twice.json", train_dataset=["a.jsonl", "b.jsonl.gz", "b.jsonl.gz"]), "--output_dir", work / "twice")
    said = run("dpo", config("weight.json", train_dataset=weighted), "--output_dir", work / "weight")
    assert "by the weights of their files an epoch sees 16" in said, said
    for file in ("adapter_model.safetensors", "metrics.jsonl"):
        assert (work / "twice" / file).read_bytes() == (work / "weight" / file).read_bytes(), file
    recorded = json.loads((work / "weight" / "run.json").read_text())["config"]["train_dataset"]["value"]
    assert [r if isinstance(r, str) else r["weight"] for r in recorded] == [str(work / "a.jsonl"), 2], recorded

    # Held out by prompt, the rows that are left have the weights; pairs.jsonl and the report name file and line.
    plan = json.loads(run("plan", work / "weight.json", "--eval_split", 0.4, "--json", "--quiet"))["rows"]
    run("dpo", work / "weight.json", "--output_dir", work / "held", "--eval_split", 0.4, "--max_steps", 1, "--eval_strategy", "epoch")
    pairs = lines(work / "held" / "pairs.jsonl")
    of_b = {(pair["file"], pair["line"]) for pair in pairs if pair["file"] == 1}
    left = 6 - len(of_b)
    assert plan["epoch"] == plan["train"] + left and of_b and left > 0, (plan, of_b)
    kept = (work / "held" / "split_train.jsonl").read_text().splitlines()
    assert len(kept) == plan["train"] and set(kept) <= set(rows[:10]), "each row stands once in the file of training rows"
    assert not set(kept) & {rows[4 + line - 1] for _, line in of_b}, "a held-out row is trained on"
    run("report", work / "held", "--output", work / "report.html")
    assert "b.jsonl.gz" in (work / "report.html").read_text()

    # Other weights are another run; a fold of cross_validation has weights, too.
    kept = work / "kept"
    run("dpo", work / "weight.json", "--output_dir", kept, "--save_strategy", "steps", "--save_steps", 1, "--max_steps", 2)
    (kept / "result.json").unlink()  # as if it had been killed
    config("other.json", train_dataset=["a.jsonl", {"path": "b.jsonl.gz", "weight": 3}])
    said = run("dpo", work / "other.json", "--output_dir", kept, "--max_steps", 2, "--save_strategy", "steps", "--save_steps", 1,
               "--resume_from_checkpoint", "true", code=77)
    assert "weights" in said, said
    said = run("dpo", work / "weight.json", "--cross_validation", 2, "--output_dir", work / "folds", "--max_steps", 1,
               "--eval_strategy", "epoch", code=(0, 1, 3))
    assert "by the weights of their files an epoch sees" in said, said
    (work / "bad.jsonl").write_text(rows[0] + "\n{\"prompt\": 1}\n")
    said = run("data", "lint", config("lint.json", train_dataset=["a.jsonl", {"path": "bad.jsonl", "weight": 0.5}]), code=65)
    assert f"{work}/bad.jsonl:2:" in said, said

    # Rows of weight 10 pull ten times as hard as those of weight 1.
    labelled = [json.loads(line) for line in (GOLDEN / "data" / "labelled.jsonl").read_text().splitlines()]
    for kind in (True, False):
        rows_of_kind = [row for row in labelled if row["label"] == kind][:4]
        (work / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of_kind))
    said = run("plan", config("balance.json", method="kto", train_dataset=["True.jsonl", {"path": "False.jsonl", "weight": 10}]))
    assert "4 rows are desirable and 40 are not" in said, said

    # What is refused, and how.
    def refused(text, keys, *flags, method="dpo"):
        said = run("plan", config("refused.json", **{**keys, "method": method}), *flags, code=2)
        last = said.splitlines()[-1]
        assert last.startswith("attune: error: ") and text in last, (text, said)

    for weight in (0, -1, "2", None, 1e9, True):
        refused("a weight is how often an epoch sees the file's rows: a number above 0, up to 1000",
                {"train_dataset": [{"path": "a.jsonl", "weight": weight}]})
    refused("this is no JSON", {}, "--train_dataset", '[{"path": "a.jsonl", "weight": NaN}]')
    refused('a file with a weight is {"path": ..., "weight": ...}', {"train_dataset": [{"path": "a.jsonl", "wieght": 2}]})
    refused('a path, {"path", "weight"} or a list', {"train_dataset": [{"weight": 2}]})
    refused("lora_target_modules: a string or a list of strings expected, found", {
        "train_dataset": "a.jsonl", "lora_target_modules": [{"path": "q"}]})
    refused("weights are of train_dataset alone", {"train_dataset": "a.jsonl", "eval_dataset": weighted})
    refused("weights do not go with packing", {"train_dataset": weighted, "packing": True, "max_length": 64}, method="sft")
    refused("weights are for rows; grpo draws samples", {
        "train_dataset": weighted, "max_length": None, "reward_funcs": ["max_words:3"]}, method="grpo")
print("weights: a file of weight 2 is a file named twice")
