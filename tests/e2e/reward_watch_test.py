#!/usr/bin/env python3
"""What shows whether a reward is exploited: reward_watch_test.py SOURCE_DIR BUILD_DIR

A planted reward (shorter replies, by a command) raises the alarm, in a run that was cut off, too; held-out pairs are looked at
between steps as `attune score` computes them; keys that do not go together are refused.
"""
import json
import pathlib
import tempfile
import time

import harness
from harness import GOLDEN, check, finish

MODEL = str(GOLDEN / "models" / "tiny_llama")


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def user(text):
    return [{"role": "user", "content": text}]


def assistant(text):
    return [{"role": "assistant", "content": text}]


def train(folder, name, **keys):
    config = {
        "model_name_or_path": MODEL, "use_peft": True, "lora_r": 4, "learning_rate": 0.02, "lr_scheduler_type": "constant",
        "warmup_steps": 0, "logging_steps": 1, "save_steps": 4, "save_total_limit": 0, "seed": 3, "beta": 0, "max_steps": 12,
        "num_generations": 16, "per_device_train_batch_size": 32, "max_completion_length": 12, "log_completions": False,
        # -n_tokens of each row
        "reward_command": r"""grep -o '"n_tokens":[0-9]*' | tr -dc '0-9\n' | sed 's/^/-/'""",
        "train_dataset": str(folder / "prompts.jsonl"), "eval_dataset": str(folder / "held.jsonl"), "eval_strategy": "steps",
        "eval_steps": 3, "output_dir": str(folder / name), **keys,
    }
    (folder / f"{name}.json").write_text(json.dumps(config))
    return harness.run("grpo", folder / f"{name}.json", code=None)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        out = folder / "short"
        write(folder / "prompts.jsonl", [{"prompt": user("hi")}, {"prompt": user("where is it")}])
        held = write(folder / "held.jsonl", [
            {"prompt": user(text), "chosen": assistant(good), "rejected": assistant(bad)} for text in ("hi", "where is it", "may i")
            for good, bad in (("kind", "it is here you are kind"), ("you are", "a a a a a a"), ("it is here", "it"))])
        run = train(folder, "short")
        rows, result = lines(out / "metrics.jsonl"), json.loads((out / "result.json").read_text()) if run.returncode == 0 else {}
        says = "the mean tokens of a reply went from"
        check("a reward for shorter replies raises the alarm of their length, once", run.stderr.count("warning: step 10: the reward may "
              "be exploited") == 1 and [alarm for alarm in result.get("alarms", []) if says in alarm], run.stderr + str(rows))
        check("repetition is in every line, held-out pairs in those of eval_steps", rows and all(
              "completions/repetition" in row and ("eval_logps/accuracies" in row) == (row["step"] % 3 == 1) for row in rows), rows)
        many = write(folder / "many.jsonl", 40 * lines(folder / "held.jsonl"))
        begin = time.monotonic()
        timed = train(folder, "timed", eval_dataset=many, eval_steps=1, max_steps=3, per_device_train_batch_size=16)
        whole = time.monotonic() - begin  # a share of it is the same on a busy machine: looks are four fifths
        times = [row["step_time_s"] for row in lines(folder / "timed" / "timing.jsonl")]
        check("the time of a step is without the look at held-out pairs", timed.returncode == 0
              and sum(times) < 0.4 * whole, (timed.stderr, times, whole))
        score = harness.run("score", "--method", "dpo", "--model_name_or_path", MODEL, "--train_dataset", held, "--json")
        sides = [[side["logp"] / side["n_tokens"] for side in (row["chosen"], row["rejected"])]
                 for row in map(json.loads, score.stdout.splitlines())]
        check("the share of the first step is that of attune score", rows and len(sides) == 9
              and rows[0]["eval_logps/accuracies"] == sum(a > b for a, b in sides) / 9, (rows[:1], sides, score.stderr))
        whole = (out / "metrics.jsonl").read_bytes()
        (out / "adapter_model.safetensors").unlink()
        (out / "result.json").unlink()
        run = train(folder, "short", resume_from_checkpoint="true")
        check("it is raised in a run that was cut off, whose lines are the same", run.returncode == 0 and "checkpoint-8" in run.stderr
              and (out / "metrics.jsonl").read_bytes() == whole
              and result["alarms"] == json.loads((out / "result.json").read_text())["alarms"], run.stderr)
        (out / "adapter_model.safetensors").unlink()
        (out / "result.json").unlink()
        (folder / "held.jsonl").write_text((folder / "held.jsonl").read_text().replace("you are kind", "you are you"))
        run = train(folder, "short", resume_from_checkpoint="true")
        check("with other held-out pairs it does not go on", run.returncode == 77 and "eval_pairs" in run.stderr, run.stderr)
        for what, says, keys in (("pairs that nobody looks at", "set eval_strategy to steps", {"eval_strategy": "no"}),
                                 ("epochs of drawn samples", "set eval_strategy to steps", {"eval_strategy": "epoch"})):
            run = train(folder, "refused", eval_steps=None, **keys)
            check(f"refused: {what}", run.returncode == 2 and says in run.stderr, run.stderr)
    finish()


if __name__ == "__main__":
    main()
