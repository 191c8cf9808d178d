#!/usr/bin/env python3
"""Stages before a training: run_stages_test.py SOURCE_DIR BUILD_DIR

lint, split and plan in a pipeline: what later stages read of a split, what is skipped, what ends a run and with which code.
"""
# labels: gpu
import json
import pathlib
import shutil
import tempfile

from harness import GOLDEN, UNVALIDATED, run


LOSSES = pathlib.Path(__file__).resolve().parents[2] / "losses"
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def rows_of(path):
    return path.read_text().splitlines()


with tempfile.TemporaryDirectory() as name:
    work = pathlib.Path(name)
    out = work / "out"
    good = [row for row in rows_of(GOLDEN / "data" / "pairs.jsonl")
            if json.loads(row)["chosen"] != json.loads(row)["rejected"] and json.loads(row)["chosen"][0]["content"]]
    (work / "a.jsonl").write_text("".join(row + "\n" for row in good[:8]))
    (work / "b.jsonl").write_text("".join(row + "\n" for row in good[8:16]))
    both = ["a.jsonl", {"path": "b.jsonl", "weight": 0.5}]
    LINT = {"name": "lint", "method": "lint", "train_dataset": both}
    SPLIT = {"name": "parts", "method": "split", "train_dataset": both, "eval_split": 0.3}
    PLAN = {"name": "plan", "method": "plan"}
    SFT = {"name": "sft", "method": "sft", "train_dataset": "stage:parts", "eval_split": 0}
    DPO = {"name": "dpo", "method": "dpo", "train_dataset": [{"path": "stage:parts", "weight": 2}], "eval_dataset": "stage:parts"}
    SFT_ALONE = {**SFT, "train_dataset": "a.jsonl"}
    EVAL = {"name": "eval", "method": "eval", "rows": "stage:parts", "n_replies": 0}

    def attune(stages, *flags, code=0, **shared):
        """(stdout, stderr) of the pipeline."""
        keys = {"output_dir": "out", "model_name_or_path": str(GOLDEN / "models" / "tiny_llama"), "max_steps": 1, "max_length": 0,
                "lora_r": 4, **shared}
        (work / "run.json").write_text(json.dumps({**keys, "stages": stages}))
        got = run("run", work / "run.json", *flags, code=code, env=UNVALIDATED)
        return got.stdout, got.stderr

    def skipped(said):
        return [line.split(": ")[1].split()[0] for line in said.splitlines() if "finished earlier, skipped" in line]

    whole = [LINT, SPLIT, PLAN, SFT, DPO, EVAL]
    told, said = attune(whole, "--dry_run")
    assert not out.exists() and not told, "--dry_run did something"
    assert all(f"stage    {i + 1} of 6: {stage['name']}" in said for i, stage in enumerate(whole)), said

    # A training that does not fit and rows that are bad are known before it is trained, and say so.
    attune(whole, "--device_memory_limit", 100000, code=69)
    assert not (out / "sft").exists() and not (out / "dpo").exists()
    shutil.rmtree(out)
    (work / "bad.jsonl").write_text(good[0] + "\n{\"prompt\": 1}\n")
    told, said = attune([{**LINT, "train_dataset": ["a.jsonl", "bad.jsonl"]}, *whole[1:]], code=65)
    assert f"{work}/bad.jsonl:2:" in told and "attune: error: stage lint: 1 of 10 rows are bad" in said, (told, said)
    assert not (out / "parts").exists() and not (out / "lint" / "stage.json").exists(), "the run went on"

    told, said = attune(whole, code=(0, 1, 3))
    train, held = (out / "parts" / f"split_{side}.jsonl" for side in ("train", "eval"))
    assert sorted(rows_of(train) + rows_of(held)) == sorted(good[:16]) and len(rows_of(held)) > 1
    assert "the files have each row once; give weights to what is trained on them" in said, said
    assert sum(line.startswith("next ") for line in said.splitlines()) <= 1, said
    assert "plan     sft" in told and "plan     dpo" in told and said.index("3 of 6: plan") < said.index("4 of 6: sft"), told
    config = json.loads((out / "dpo" / "run.json").read_text())["config"]
    assert config["train_dataset"]["value"] == [{"path": str(train), "weight": 2}], config["train_dataset"]
    assert config["eval_dataset"]["value"] == [str(held)], config["eval_dataset"]
    assert config["adapter_name_or_path"]["value"] == str(out / "sft")
    judged = json.loads((out / "dpo" / "eval.json").read_text())
    assert judged["rows"] == str(held), judged["rows"]

    # What has not changed is skipped; a plan is made again where what it plans has changed, and lint where its rows have.
    names = [stage["name"] for stage in whole]
    told, said = attune(whole, code=(0, 1, 3))
    assert skipped(said) == names and not told, said
    # However the folder is spelt, and wherever it lies: what it holds is the same.
    out.rename(work / "moved"), (work / "deeper").mkdir()
    assert skipped(attune(whole, "--output_dir", f"{work}/deeper/.././moved/", "--dry_run")[1]) == names
    (work / "moved").rename(out)
    shutil.rmtree(out / "dpo"), shutil.rmtree(out / "eval")
    told, said = attune([*whole[:4], {**DPO, "beta": 0.3}], code=(0, 1, 3))
    assert skipped(said) == ["lint", "parts", "sft"] and "plan     dpo" in told and "plan     sft" not in told, (said, told)
    ends = [line for line in said.splitlines() if not line.startswith("attune:")]  # but for the count of warnings
    assert ends[-1].startswith("next ") and sum(line.startswith("next ") for line in ends) == 1, said
    _, again = attune([*whole[:4], {**DPO, "beta": 0.3}])
    assert len(skipped(again)) == 5 and again.splitlines()[-1] == ends[-1], again
    _, again = attune([*whole[:3], SFT])  # a stage that names none but is the last
    assert again.splitlines()[-1].startswith("next     attune generate "), again
    told, said = attune([{**LINT, "train_dataset": "a.jsonl"}, *whole[1:2]])
    assert skipped(said) == ["parts"] and "8 pairs" in told, (said, told)

    told, said = attune([{**SPLIT, "train_dataset": ["a.jsonl", {"path": "b.jsonl", "weight": 3}]}])
    assert skipped(said) == ["parts"], "a split has each row once, whatever its weight"

    # A split that was interrupted between its files is made again.
    mark = json.loads((out / "parts" / "stage.json").read_text())
    kept = [path.read_bytes() for path in (train, held)]
    (out / "parts" / "stage.json").write_text(json.dumps({**mark, "ended": "it was interrupted", "inputs": "of rows before"}))
    held.unlink()
    told, said = attune([SPLIT])
    assert not skipped(said) and [path.read_bytes() for path in (train, held)] == kept, said
    assert skipped(attune([SPLIT])[1]) == ["parts"]

    # Another split is never written over this one; one that is gone, or half there, is told.
    _, said = attune([{**SPLIT, "eval_split": 0.5}], code=73)
    assert "a split of other rows, or by another eval_split or seed" in said, said
    held.unlink()
    assert "is gone; remove" in attune([SPLIT], code=73)[1]
    (out / "parts" / "stage.json").unlink()
    assert "holds other files" in attune([SPLIT], code=73)[1]
    shutil.rmtree(out / "parts")
    _, said = attune([SPLIT, SFT], code=73)
    assert "stage sft" in said and "with other inputs" in said, said

    # What a stage reads may lie beside what its keys name: another text there is another input.
    model, own = work / "model", work / "mine.h"
    shutil.copytree(GOLDEN / "models" / "tiny_llama", model)
    parts = json.loads((model / "tokenizer.json").read_text())
    (model / "tokenizer.json").unlink()
    (model / "vocab.json").write_text(json.dumps(parts["model"]["vocab"]))
    (model / "merges.txt").write_text("".join(f"{m if isinstance(m, str) else ' '.join(m)}\n" for m in parts["model"]["merges"]))
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "GPT2Tokenizer"}))
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "tone.jinja").write_text(TEMPLATE)
    own.write_text((LOSSES / "sigmoid.h").read_text())
    keys = {"model_name_or_path": str(model), "chat_template_path": "tone", "output_dir": "own"}
    stage = {"name": "own", "method": "dpo", "train_dataset": "a.jsonl", "loss_type": "file:mine.h", "eval_split": 0}
    attune([stage], **keys)
    for path in (own, model / "merges.txt", model / "vocab.json", model / "additional_chat_templates" / "tone.jinja"):
        text = path.read_text()
        assert skipped(attune([stage], "--dry_run", **keys)[1]) == ["own"]
        path.write_text(text + "\n")
        assert "with other inputs" in attune([stage], "--dry_run", code=73, **keys)[1], path
        path.write_text(text)

    def refused(text, *stages, code=2, **shared):
        said = attune(stages, "--dry_run", code=code, **shared)[1].splitlines()[-1]
        assert text in said, (text, said)

    shutil.rmtree(out)
    refused("beta is not read by a stage of method lint", {**LINT, "beta": 1}, SFT)
    refused("stage plan: train_dataset is not read by a stage of method plan", {**PLAN, "train_dataset": "a.jsonl"}, SFT)
    refused("stage lint: train_dataset is missing", {"name": "lint", "method": "lint"})
    refused('stage dpo: tokenizer: "stage:parts" is rows', SPLIT, {**DPO, "tokenizer": "stage:parts"})
    refused("stage parts: ", {**SPLIT, "train_dataset": "none.jsonl"}, code=66)
    refused("stage plan: there is nothing to plan: no stage behind it trains", SFT_ALONE, PLAN)
    refused("no stage before this one is called parts", SFT, SPLIT)
    (work / "twice.jsonl").write_text("".join(row + "\n" for row in good[:3] + good[:3]))
    told, said = attune([{**LINT, "train_dataset": "twice.jsonl", "strict": True}], code=65)
    assert "stage lint: 3 warnings, and --strict was given" in said, said
print("run_stages: lint, split and plan before the trainings")
