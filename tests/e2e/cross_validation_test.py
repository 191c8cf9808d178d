#!/usr/bin/env python3
# labels: slow
"""cross_validation: every pair is held out by one fold, with all pairs of its prompt; a fold has the bytes of the run by itself
on its two files; the pooled figures are those of the folds' pairs.jsonl; what was finished is not trained again.
cross_validation_test.py SOURCE_DIR BUILD_DIR
"""
import functools
import json
import pathlib
import shutil
import tempfile

import harness
from harness import GOLDEN

FOLDS = 3
run = functools.partial(harness.run, env=harness.UNVALIDATED)


def lines(path):
    return path.read_text().splitlines()


def right(folder, last):
    """Of a fold's pairs, those whose chosen side was likelier a token at its first or last evaluation, by line."""
    rows = [json.loads(line) for line in lines(folder / "pairs.jsonl")]
    step = max(row["step"] for row in rows) if last else 0
    return {row["line"]: row["chosen_logp"] / row["chosen_tokens"] > row["rejected_logp"] / row["rejected_tokens"]
            for row in rows if row["step"] == step}


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    pairs = [line for line in lines(GOLDEN / "data" / "pairs.jsonl") if json.loads(line)["chosen"] != json.loads(line)["rejected"]]
    pairs += [pairs[3].replace('"role"', ' "role"', 1)]  # a prompt twice
    (work / "pairs.jsonl").write_text("\n".join(pairs) + "\n")
    config = {"model_name_or_path": str(GOLDEN / "models" / "tiny_llama"), "train_dataset": "pairs.jsonl", "max_steps": 5,
              "learning_rate": 0.01, "max_length": 0, "on_bad_row": "skip", "load_best_model_at_end": False}
    (work / "config.json").write_text(json.dumps(config))
    (work / "folds.json").write_text(json.dumps({**config, "method": "dpo", "cross_validation": FOLDS}))
    out = run("dpo", work / "folds.json", "--output_dir", work / "cv", code=(0, 1, 3))
    said = out.stderr
    folds = [work / "cv" / f"fold-{i + 1}" for i in range(FOLDS)]
    held = [lines(f / "split_eval.jsonl") for f in folds]
    assert sorted(sum(held, [])) == sorted(line for line in pairs if json.loads(line)["chosen"][0]["content"]), held
    prompts = [{json.dumps(json.loads(line)["prompt"][-1]) for line in rows} for rows in held]
    assert not any(prompts[i] & prompts[k] for i in range(FOLDS) for k in range(i)), prompts

    before, after = [{(i, line): value for i, f in enumerate(folds) for line, value in right(f, last).items()} for last in (0, 1)]
    result = json.loads((work / "cv" / "cross_validation.json").read_text())
    n = len(before)
    assert n == len(after) == sum(map(len, held)) == result["before"]["n"], (n, len(after))
    assert abs(result["before"]["value"] - sum(before.values()) / n) < 1e-12, result
    assert abs(result["after"]["value"] - sum(after.values()) / n) < 1e-12, result
    wins = sum(after[k] and not before[k] for k in after)
    assert result["comparison"]["wins"] == wins and result["comparison"]["accuracy"]["n"] == n, (wins, result)
    verdict = result["comparison"]["verdict"]
    assert out.returncode == {"better": 0, "worse": 1, "open": 3}[verdict], (out.returncode, verdict)
    assert f"pooled   {n} pairs, each held out once" in said and "verdict  " in said, said

    last = folds[-1]
    run("dpo", work / "config.json", "--train_dataset", last / "split_train.jsonl", "--eval_dataset", last / "split_eval.jsonl",
        "--output_dir", work / "alone")
    for name in ("adapter_model.safetensors", "metrics.jsonl"):
        assert (last / name).read_bytes() == (work / "alone" / name).read_bytes(), f"{name} differs from a run by itself"
    tokens = [json.loads((f / "run.json").read_text())["ref_forward_tokens"] for f in (last, work / "alone")]
    assert 0 < tokens[0] < tokens[1], tokens  # those of the hidden states that drift needs, and no others

    kept, first = result, (folds[0] / "metrics.jsonl").stat().st_mtime_ns
    weights = [(f / "adapter_model.safetensors").read_bytes() for f in folds]
    shutil.rmtree(folds[1])
    (work / "cv" / "cross_validation.json").unlink()
    assert "fold     1 of 3: finished earlier" in run(
        "dpo", work / "folds.json", "--output_dir", work / "cv", code=out.returncode).stderr
    assert json.loads((work / "cv" / "cross_validation.json").read_text()) == kept
    assert [(f / "adapter_model.safetensors").read_bytes() for f in folds] == weights
    assert (folds[0] / "metrics.jsonl").stat().st_mtime_ns == first, "it was trained again"

    (work / "run.json").write_text(json.dumps({"output_dir": "run", "stages": [{"name": "dpo", "method": "dpo", **config, "cross_validation": 2}]}))
    (work / "few.jsonl").write_text("\n".join(pairs[:3]) + "\n")
    for arguments, code, words in ((["dpo", work / "folds.json", "--output_dir", work / "cv", "--beta", 0.5], 73, "holds fold-1 with other inputs"),
                                   (["dpo", work / "folds.json", "--output_dir", work / "no", "--eval_dataset", work / "pairs.jsonl"], 2,
                                    "remove eval_dataset"),
                                   (["dpo", work / "folds.json", "--output_dir", work / "no", "--cross_validation", 1], 2, "2 or more"),
                                   (["dpo", work / "folds.json", "--output_dir", work / "no", "--cross_validation", 9, "--train_dataset",
                                     work / "few.jsonl"], 65, "3 prompts are too few for 9 folds"),
                                   (["dpo", work / "folds.json"], 2, "output_dir is missing"),
                                   (["sweep", work / "folds.json", "--beta", ".1,.2", "--output_dir", work / "no"], 2, "for one configuration"),
                                   (["run", work / "run.json"], 2, "none to go on from")):
        error = run(*arguments, code=code).stderr.splitlines()[-1]
        assert words in error, error
