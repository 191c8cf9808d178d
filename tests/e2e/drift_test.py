#!/usr/bin/env python3
"""Drift from the reference: drift_test.py SOURCE_DIR BUILD_DIR

eval_drift/kl is 0 at step 0 and grows; on the chosen sides as regression_dataset it is what the held-out
pairs give; max_drift ends a run with exit code 1, an alarm and a checkpoint, from which a higher limit
goes on to the bytes of the undisturbed run; a reference-free method measures it when asked; of packed
held-out rows it is of all pieces.
"""
# labels: slow
import json
import pathlib
import tempfile

from harness import GOLDEN, check, finish, run

BASE = {
    "model_name_or_path": str(GOLDEN / "models" / "tiny_llama"), "preset": "trl", "use_peft": True,
    "train_dataset": "pairs.jsonl", "eval_dataset": "held.jsonl",
    "lora_r": 2, "lora_target_modules": "all-linear", "learning_rate": 0.01, "max_steps": 3,
    "per_device_train_batch_size": 4, "logging_steps": 1, "eval_strategy": "steps",
    "eval_steps": 1, "save_steps": 1, "seed": 3,
}
KL = "eval_drift/kl"


def train(folder, name, code=0, method="dpo", **keys):
    path = folder / "config.json"
    path.write_text(json.dumps({k: v for k, v in {**BASE, "output_dir": name, **keys}.items() if v is not None}))
    return run(method, path, code=code).stderr


def drifts(folder, name):
    lines = map(json.loads, (folder / name / "metrics.jsonl").read_text().splitlines())
    return [line.get(KL) for line in lines if "eval_loss" in line]


def losses(folder, name):
    lines = map(json.loads, (folder / name / "metrics.jsonl").read_text().splitlines())
    return [line["eval_loss"] for line in lines if "eval_loss" in line]


def result(folder, name):
    return json.loads((folder / name / "result.json").read_text())


def make_data(folder):
    rows = [json.loads(x) for x in (GOLDEN / "data" / "pairs_plain.jsonl").read_text().splitlines()]
    rows = [row for row in rows if not row["prompt"][-1].isspace()]  # pairs may move such a boundary
    for name, part in (("pairs", rows[6:]), ("held", rows[:6])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (folder / "chosen.jsonl").write_text("".join(
        json.dumps({"prompt": row["prompt"], "completion": row["chosen"]}) + "\n" for row in rows[:6]))


def test_measured(folder):
    stderr = train(folder, "run")
    kl = drifts(folder, "run")
    check("the screen has it at every evaluation and at the end", stderr.count("nats a token") == len(kl) + 1 and
          all(f"loss {loss:.4f}" in stderr and f"drift {x:.4g} nats" in stderr for loss, x in
              zip(losses(folder, "run"), kl)), stderr)
    check("0 at step 0, then more", kl[0] == 0 and 0 < kl[1] < kl[-1], kl)
    check("result.json has it", result(folder, "run")[KL] == {"before": 0, "after": kl[-1]}, kl)
    train(folder, "chosen", regression_dataset="chosen.jsonl")
    same = drifts(folder, "chosen")
    check("the chosen sides as regression_dataset give the same",
          all(abs(a - b) <= 1e-6 + 1e-5 * a for a, b in zip(kl, same)), (kl, same))
    train(folder, "other", ref_model_name_or_path=str(GOLDEN / "models" / "tiny_reference"))
    check("with another model as reference it is from the own start", drifts(folder, "other")[0] == 0)
    train(folder, "stacked", adapter_start="stack", adapter_name_or_path=str(folder / "run"), max_steps=1)
    check("an adapter below is part of the reference", drifts(folder, "stacked")[0] == 0)
    train(folder, "head", lora_modules_to_save=["lm_head"], max_steps=1)
    check("a head that is trained gives none", drifts(folder, "head") == [None] * 2)
    stderr = train(folder, "head_limit", 2, lora_modules_to_save=["lm_head"], max_drift=1)
    check("a limit is refused there", "max_drift" in stderr and "trained in full" in stderr, stderr)
    train(folder, "further", adapter_name_or_path=str(folder / "run"), max_steps=1)
    check("so is an adapter that is trained further", drifts(folder, "further")[0] == 0)
    return kl


def test_limit(folder, kl):
    limit = (kl[1] + kl[2]) / 2
    stderr = train(folder, "limited", 1, max_drift=limit)
    last = stderr.splitlines()[-1]
    check("the message names step, value, limit, checkpoint and the way on", "step 2" in last and
          f"is {kl[2]:.4g} nats a token" in last and f"max_drift {limit:g}" in last and
          f"{folder}/limited/checkpoint-2" in last and "--resume_from_checkpoint" in last, last)
    stderr = train(folder, "unsaved", 1, max_drift=limit, save_strategy="no", save_steps=None)
    check("without checkpoints it says so", "save_strategy is no" in stderr.splitlines()[-1], stderr)
    got = result(folder, "limited")
    check("the run ends there, with an alarm", got["steps"] == 2 and not got["complete"] and
          got["verdict"] == "over budget" and any("max_drift" in a for a in got["alarms"]), got)
    train(folder, "limited", 1, max_drift=limit, resume_from_checkpoint=True)
    train(folder, "limited", max_drift=100, resume_from_checkpoint=True)
    for file in ("metrics.jsonl", "adapter_model.safetensors"):
        check(f"with a higher limit it ends as the undisturbed run: {file}",
              (folder / "limited" / file).read_bytes() == (folder / "run" / file).read_bytes())
    train(folder, "best", 1, max_drift=limit, load_best_model_at_end=True)
    got = result(folder, "best")
    check("a state over the limit is not the best", got["best_step"] == 1 and got["verdict"] != "over budget", got)
    for name, metric in ("whole", None), ("again", None), ("margin", "margins/len_more"), ("start", "drift/kl"):
        end = (kl[2] + kl[3]) / 2 if name == "again" else None
        stderr = train(folder, name, {"again": 1, "whole": 0}.get(name, 2), max_drift=end, load_best_model_at_end=True,
                       metric_for_best_model=metric)
    check("drift is no metric for the best", "0 before the first step" in stderr, stderr)
    train(folder, "again", max_drift=100, load_best_model_at_end=True, resume_from_checkpoint=True)
    one, other = result(folder, "whole"), result(folder, "again")
    check("what was over the limit can be the best under a higher one", one["best_step"] == 3 and all(
        one[key] == other[key] for key in one if not key.startswith(("time", "tokens"))) and
          (folder / "again" / "adapter_model.safetensors").read_bytes() ==
          (folder / "whole" / "adapter_model.safetensors").read_bytes(), (one, other))


def test_packed(folder):
    rows = (folder / "chosen.jsonl").read_text().splitlines(keepends=True)
    (folder / "reversed.jsonl").write_text("".join(reversed(rows)))
    (folder / "short.jsonl").write_text("".join('{"text": "%s"}\n' % word for word in "a b c d e f g h i j k l".split()))
    keys = dict(method="sft", train_dataset="chosen.jsonl", max_drift=100, eval_packing=True, max_length=16, max_steps=1)
    kl = []
    for name in ("chosen", "reversed"):  # pieces do not see each other: their order is nothing to the mean
        train(folder, f"split_{name}", eval_dataset=f"{name}.jsonl", packing_strategy="bfd_split", **keys)
        lines = (folder / f"split_{name}" / "metrics.jsonl").read_text().splitlines()
        kl += [json.loads(line) for line in lines if KL in line]
    check("bfd_split: more pieces than rows, all measured", kl[1]["n"] > len(rows) and kl[1][KL] > 0 and
          abs(kl[1][KL] - kl[3][KL]) <= 1e-6 + 1e-5 * kl[1][KL], kl)
    for name, split in ("chosen", "wrapped"), ("short", "wrapped"):
        train(folder, f"{split}_{name}", eval_dataset=f"{name}.jsonl", packing_strategy=split, **keys)
        kl = drifts(folder, f"{split}_{name}")
        check(f"{split}, {name} rows", kl[0] == 0 < kl[1] < 10, kl)


def test_methods(folder):
    train(folder, "cpo", method="cpo", max_steps=1)
    train(folder, "cpo_asked", method="cpo", max_steps=1, max_drift=100)
    check("without a reference only when asked",
          drifts(folder, "cpo") == [None] * 2 and drifts(folder, "cpo_asked")[0] == 0 < drifts(folder, "cpo_asked")[1])
    stderr = train(folder, "full", 2, use_peft=False, lora_r=None, lora_target_modules=None, max_drift=1)
    check("full fine-tuning is refused", "use_peft" in stderr, stderr)
    stderr = train(folder, "unheld", 2, eval_dataset=None, regression_dataset="chosen.jsonl")
    check("without evaluations it is refused", "eval_dataset" in stderr, stderr)


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make_data(folder)
        test_limit(folder, test_measured(folder))
        test_packed(folder)
        test_methods(folder)
    finish()


if __name__ == "__main__":
    main()
