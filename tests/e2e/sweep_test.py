#!/usr/bin/env python3
# labels: slow
"""attune sweep: every try has the bytes of the same run by itself, though the training rows' reference is computed once; the
table is ranked by held-out accuracy, tries over max_drift last. What an interrupted sweep finished is not trained again, what
it had begun goes on. sweep_test.py SOURCE_DIR BUILD_DIR
"""
import functools
import json
import pathlib
import tempfile

import harness
from harness import GOLDEN

run = functools.partial(harness.run, env=harness.UNVALIDATED)


def data_of(folder, name):
    return json.loads((pathlib.Path(folder) / name).read_text())


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    config = {**json.loads((GOLDEN / "dpo_sigmoid" / "config.json").read_text()), "max_steps": 4, "save_strategy": "no",
              "train_dataset": str(GOLDEN / "data" / "pairs.jsonl"), "eval_dataset": str(GOLDEN / "data" / "pairs.jsonl"),
              "model_name_or_path": str(GOLDEN / "models" / "tiny_llama"),
              "adapter_name_or_path": str(GOLDEN / "dpo_sigmoid" / "init_adapter"), "eval_strategy": "epoch"}
    del config["output_dir"], config["gradient_checkpointing"]
    (work / "config.json").write_text(json.dumps(config))
    axes = ["--beta", ".05,.3", "--learning_rate", "0.02,0.0001"]
    said = run("sweep", work / "config.json", *axes, "--output_dir", work / "sweep", "--json")
    tries = json.loads(said.stdout)["tries"]
    assert {t["name"] for t in tries} == {f"beta={b} learning_rate={r}" for b in (".05", ".3") for r in ("0.02", "0.0001")}
    keys = [(-t["after"]["value"], t["drift"]) for t in tries]
    assert keys == sorted(keys) and len(set(keys)) > 1, keys
    assert f"--adapter {tries[0]['output_dir']}" in said.stderr, said.stderr
    tokens = {t["name"]: data_of(t["output_dir"], "run.json")["ref_forward_tokens"] for t in tries}
    first = tokens.pop("beta=.05 learning_rate=0.02")
    (later,) = set(tokens.values())  # hidden states of held-out rows, which drift needs
    given = data_of(tries[0]["output_dir"], "run.json")["tokens_given"]
    assert 0 < later < first < given, (first, tokens, given)
    shared = work / "sweep" / "beta=.3-learning_rate=0.0001"  # the last one
    little = run("dpo", work / "config.json", "--beta", .3, "--learning_rate", 0.0001, "--output_dir", work / "alone").stderr
    assert "hardly moved" in little and "raise max_steps (now" in little, little
    for name in ("adapter_model.safetensors", "metrics.jsonl", "pairs.jsonl"):
        assert (shared / name).read_bytes() == (work / "alone" / name).read_bytes(), f"{name} differs from a run by itself"

    # Another shape of the adapter, and the same sweep after it was interrupted: one try is finished, one was killed.
    del config["adapter_name_or_path"], config["adapter_start"]
    (work / "fresh.json").write_text(json.dumps(config))
    ranks = ["--lora_r", "2,8", "--learning_rate", 0.02, "--output_dir", work / "ranks", "--json"]
    whole = run("sweep", work / "fresh.json", *ranks).stdout
    said = run("dpo", work / "fresh.json", "--lora_r", 8, "--learning_rate", 0.02, "--output_dir", work / "eight").stderr
    assert "hardly moved" not in said, said
    kept = {name: (work / "ranks" / name / "adapter_model.safetensors").read_bytes() for name in ("lora_r=2", "lora_r=8")}
    assert kept["lora_r=8"] == (work / "eight" / "adapter_model.safetensors").read_bytes()
    for name in ("stage.json", "result.json", "run.json", "adapter_model.safetensors"):
        (work / "ranks" / "lora_r=8" / name).unlink()
    before = (work / "ranks" / "lora_r=2" / "adapter_model.safetensors").stat().st_mtime_ns
    again = run("sweep", work / "fresh.json", *ranks)
    assert again.stdout == whole, (again.stdout, whole)
    assert {name: (work / "ranks" / name / "adapter_model.safetensors").read_bytes() for name in kept} == kept
    assert (work / "ranks" / "lora_r=2" / "adapter_model.safetensors").stat().st_mtime_ns == before, "it was trained again"
    error = run("sweep", work / "fresh.json", *ranks, "--seed", 7, code=73).stderr
    assert "holds the try lora_r=2 with other inputs" in error.splitlines()[-1], error

    drift = sorted(t["drift"] for t in tries)
    text = run("sweep", work / "config.json", "--learning_rate", "0.02,0.0001", "--output_dir", work / "budget", "--max_drift",
               (drift[0] + drift[-1]) / 2).stdout.splitlines()
    assert "learning_rate=0.0001" in text[2] and text[3].endswith("learning_rate=0.02  over max_drift"), text
    (work / "burst.h").write_text("""#include "prelude.h"
PAIR_LOSS(burst) /* it overflows where the policy is far from the reference */
{
    real wrong = exp(-p.beta * (s.score_chosen - s.score_rejected));
    pair_out o;

    o.loss = wrong;
    o.d_chosen = -p.beta * wrong;
    o.d_rejected = p.beta * wrong;
    return o;
}
""")
    text = run("sweep", work / "config.json", "--loss_type", f"file:{work / 'burst.h'}", "--beta", 5, "--learning_rate", "100,0.0001",
               "--output_dir", work / "diverged").stdout.splitlines()
    assert text[2].endswith("learning_rate=0.0001") and text[3].split() == ["2", "-", "-", "learning_rate=100", "diverged"], text
    for more, words in ((["--beta", ".1,abc"], "abc"), (["--beta", ".1,.2,.1"], "beta=.1 is given twice")):
        error = run("sweep", work / "config.json", *more, "--output_dir", work / "none", code=2).stderr
        assert words in error.splitlines()[-1] and not (work / "none").exists(), error
    for more, code, words in ((["--beta", .1], 2, "nothing to compare: give several values of one of beta, label_sm"), (["--beta", ".1,,.2"], 2, "between commas"),
                              (["--beta", ".1,.2"], 2, "output_dir is missing")):
        error = run("sweep", work / "config.json", *more, code=code).stderr
        assert words in error.splitlines()[-1], error
