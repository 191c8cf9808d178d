#!/usr/bin/env python3
"""What evaluations are told of before, while and after they run: evaluations_test.py SOURCE_DIR BUILD_DIR

The plan has as many of them as the run's metrics, over as many tokens of policy and reference as the run computes: two runs
that differ in their evaluations alone differ by the plans' difference, and one without a step computes what its plan says.
The time that is left has the evaluations that are left, at the time that those before took. Where stderr is no terminal an
evaluation that takes long tells how far it is, and its end how long it took.
"""
# labels: gpu
import functools
import json
import pathlib
import re
import signal
import subprocess
import tempfile
import time

import harness
from harness import ATTUNE, GOLDEN, check, finish

DATA, MODELS = GOLDEN / "data", GOLDEN / "models"
PAIRS, LABELLED = DATA / "pairs.jsonl", DATA / "labelled.jsonl"
LORA = ("--use_peft", "true", "--lora_target_modules", "all-linear", "--lora_dropout", 0)
SYNC = ("--sync_ref_model", "true", "--ref_model_sync_steps", 3, "--ref_model_mixup_alpha", 0.5)
PLANNED = ("whole", "aot", "synchronised", "another reference", "reward")  # passes alone; the others are run, too
# name -> method, rows, further keys, passes of the reference over the rows in 2, 4 evaluations
RUNS = {
    "drift": ("dpo", PAIRS, LORA, (2, 4)),
    "whole": ("dpo", PAIRS, (), (1, 1)),
    "aot": ("dpo", PAIRS, (*LORA, "--loss_type", "aot"), (3, 5)),
    "aot, whole": ("dpo", PAIRS, ("--loss_type", "aot"), (1, 1)),
    "regression": ("dpo", PAIRS, (*LORA, "--regression_dataset", DATA / "sft_messages.jsonl"), None),
    "synchronised": ("dpo", PAIRS, (*LORA, *SYNC), (2, 4)),
    "aot, synchronised": ("dpo", PAIRS, (*LORA, *SYNC, "--loss_type", "aot"), (4, 6)),
    "another reference": ("dpo", PAIRS, ("--ref_model_name_or_path", MODELS / "tiny_reference"), (1, 1)),
    "kto, riding": ("kto", LABELLED, (*LORA, "--max_tokens_per_slab", 2048), (2, 4)),
    "kto, apart": ("kto", LABELLED, (*LORA, "--max_tokens_per_slab", 128), None),
    "kto, another reference": ("kto", LABELLED, ("--ref_model_name_or_path", MODELS / "tiny_reference"), None),
    "sft, packed": ("sft", DATA / "sft_prompt_completion.jsonl", (*LORA, "--packing", "true", "--max_length", 40), (0, 0)),
    "reward": ("reward", PAIRS, LORA, (0, 0)),
}
run = functools.partial(harness.run, env=harness.UNVALIDATED)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def both(work, method, keys):
    """The plan's evaluations and what a run says of its own."""
    out = pathlib.Path(tempfile.mkdtemp(dir=work))
    plan = json.loads(run("plan", "--method", method, *keys, "--json").stdout)
    run(method, *keys, "--output_dir", out)
    metrics, record = lines(out / "metrics.jsonl"), json.loads((out / "run.json").read_text())
    told = plan["evaluations"]
    check("the sum is of steps and evaluations", abs(plan["total_time_s"] - plan["estimated_time_s"] - told["time_s"]) < 1e-9
          and told["time_s"] > 0 and 0 < plan["least_flop_per_s"] <= plan["measured_flop_per_s"], plan)
    check("so is that of operations", plan["total_flop"] == plan["flop"] + told["flop"] > plan["flop"], plan)
    return told, metrics, (record["tokens_computed"], record["ref_forward_tokens"]), plan


def keys_of(name, *more):
    _, data, keys, _ = RUNS[name]
    return ("--preset", "trl", "--model_name_or_path", MODELS / "tiny_llama", "--train_dataset", data, "--eval_dataset", data,
            "--per_device_train_batch_size", 4, "--on_bad_row", "keep", "--save_strategy", "no", *keys, *more)


def counted(work):
    """Evaluations after steps 0, 2, 4 and 5, and after 0 and 5 alone."""
    for name, (method, _, _, passes) in RUNS.items():
        if name in PLANNED:
            continue
        often, metrics, one, plan = both(work, method, keys_of(name, "--max_steps", 5, "--eval_strategy", "steps", "--eval_steps", 2))
        seldom, few, other, _ = both(work, method, keys_of(name, "--max_steps", 5))
        n = [sum("n" in line for line in rows) for rows in (metrics, few)]
        check(f"{name}: as many as the run has", n == [4, 2] == [often["n"], seldom["n"]], (n, often, seldom))
        held = [line["n"] for line in metrics if "n" in line]
        check(f"{name}: over as many rows", set(held) == {often["rows"]}, (held, often))
        for i, key in enumerate(("tokens", "ref_forward_tokens")):
            check(f"{name}: {often[key] - seldom[key]:.0f} {key} of two of them", one[i] - other[i] == often[key] - seldom[key],
                  (one, other, often, seldom))
        check(f"{name}: operations", often["flop"] > seldom["flop"] > 0 and "evaluations" in plan, (often, seldom))


def passes_of_the_reference():
    for name, (method, _, _, want) in RUNS.items():
        if not want:
            continue
        found = []
        for steps in 5, 2:
            told = json.loads(run("plan", "--method", method, *keys_of(name, "--max_steps", 5, "--eval_strategy", "steps",
                                  "--eval_steps", steps), "--json").stdout)["evaluations"]
            found.append(told["ref_forward_tokens"] / told["tokens"] * told["n"] * (2 if "aot" in name else 1))
        check(f"{name}: {want} passes of the reference in 2 and in 4 evaluations", found == list(want), found)


def alone(work):
    """Of a run without a step all that is computed is the evaluation at the start."""
    for name in "drift", "kto, apart":
        told, metrics, record, _ = both(work, RUNS[name][0], keys_of(name, "--num_train_epochs", 0))
        check(f"{name}: all that a run without steps computes", len(metrics) == told["n"] == 1
              and record == (told["tokens"], told["ref_forward_tokens"]), (metrics, record, told))


def epochs(work):
    told, metrics, _, _ = both(work, "dpo", keys_of("drift", "--num_train_epochs", 2, "--eval_strategy", "epoch"))
    steps = [line["step"] for line in metrics if "n" in line]
    check("after each epoch, the last one's once", len(steps) == 3 == told["n"] and steps[1] * 2 == steps[2], (steps, told))
    plan = json.loads(run("plan", "--method", "dpo", *keys_of("drift"), "--eval_dataset", "[]", "--eval_split", 0, "--json").stdout)
    check("without held-out rows there are none", plan["evaluations"]["n"] == 0 == plan["evaluations"]["time_s"]
          and plan["total_time_s"] == plan["estimated_time_s"] and plan["total_flop"] == plan["flop"] > 0, plan)


def of_rewards(work):
    """Pairs that a run which draws looks at, at the first step of a rollout."""
    prompts = work / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ("hi", "where is it", "once more", "a")))
    pairs = work / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"prompt": text, "chosen": "one two", "rejected": "three"}) + "\n" for text in ("hi", "a", "so")))
    keys = (*LORA, "--model_name_or_path", MODELS / "tiny_llama", "--train_dataset", prompts, "--eval_dataset", pairs,
            "--num_generations", 4, "--per_device_train_batch_size", 8, "--num_iterations", 2, "--max_completion_length", 8,
            "--reward_funcs", '["max_words:3"]', "--logging_steps", 1, "--max_steps", 7, "--save_strategy", "no",
            "--eval_strategy", "steps")
    found = [both(work, "grpo", (*keys, "--eval_steps", every)) for every in (4, 2)]
    for told, metrics, _, _ in found:
        n = sum(any(key.startswith("eval_") for key in line) for line in metrics)
        check(f"held-out pairs of rewards: {n} times", n == told["n"], (told, metrics))
    (a, _, one, _), (b, _, two, _) = found
    check("held-out pairs of rewards: their tokens", [a["n"], b["n"]] == [2, 4] and two[0] - one[0] == b["tokens"] - a["tokens"] > 0,
          (a, b, one, two))


def told_of(work):
    """A training that is held up in its first evaluation: what a file has of it, and what time is left."""
    rows, out, err = work / "many.jsonl", work / "told", work / "told.err"
    rows.write_text(PAIRS.read_text() * 8)
    with err.open("w") as file:
        held_up = subprocess.Popen([ATTUNE, "dpo", *map(str, keys_of("drift", "--eval_dataset", rows, "--max_steps", 3, "--eval_strategy",
                                    "steps", "--eval_steps", 2, "--output_dir", out))], stdout=subprocess.DEVNULL, stderr=file,
                                   env=harness.UNVALIDATED)
        end = time.monotonic() + 60
        while held_up.poll() is None and time.monotonic() < end and not (out / "metrics.jsonl").exists():
            time.sleep(0.01)
        for _ in range(3):
            if held_up.poll() is None and " of 192 held-out rows" not in err.read_text():
                time.sleep(0.1)
                held_up.send_signal(signal.SIGSTOP)
                time.sleep(5.1)
                held_up.send_signal(signal.SIGCONT)
        check("it ends well", held_up.wait(timeout=300) == 0, err.read_text())
    said = err.read_text()
    check("an evaluation that takes long says how far it is", re.search(r"^eval at step 0  \d+ of 192 held-out rows$", said, re.M), said)
    took = [60 * float(m or 0) + float(s)  # of minutes on a busy machine
            for m, s in re.findall(r"^eval at step \d  192 held-out rows .*  in (?:(\d+) min )?(\d+(?:\.\d)?) s$", said, re.M)]
    left = [line["eta_s"] for line in lines(out / "timing.jsonl")]
    check("each says what it took", len(took) == 3 and took[0] > 5, (took, said))
    if len(took) != 3 or len(left) != 3:
        return
    check(f"the time left before the last one is theirs: {left[2]:.1f} s", abs(left[2] - (took[0] + took[1]) / 2) < 0.15 + left[2] / 20, (left, took))
    check(f"the first one's has two: {left[0]:.1f} s", left[0] > 2 * took[0] - 0.2 - left[0] / 20, (left, took))
    check("and so has the line", not re.search(r"step 3/3 .* ETA 0\.0 s$", said, re.M) and "step 3/3 " in said, said)


with tempfile.TemporaryDirectory() as place:
    work = pathlib.Path(place)
    told_of(work)
    counted(work)
    passes_of_the_reference()
    alone(work)
    epochs(work)
    of_rewards(work)
finish()
