#!/usr/bin/env python3
"""Training on recorded samples: rollouts_test.py SOURCE_DIR BUILD_DIR

The first ratio of a rollout is exactly 1 and the first KL term exactly 0; `attune generate --rollouts` writes what fits; a run that goes on in the middle of a
rollout has the bytes of the undisturbed one; samples of a prompt compute it once; those without a gradient cost no backward pass; what does not fit is refused by
name, with what to use instead.
"""
import json
import pathlib
import shutil
import sys
import tempfile

import harness
from harness import GOLDEN, check, finish

COMPARED = ("adapter_model.safetensors", "metrics.jsonl", "result.json")
BASE = {
    "model_name_or_path": str(GOLDEN / "models" / "tiny_llama"), "rollouts": str(GOLDEN / "data" / "rollouts.jsonl"),
    "use_peft": True, "lora_r": 4, "learning_rate": 0.01, "logging_steps": 1, "max_steps": 6, "num_generations": 4,
    "per_device_train_batch_size": 8, "warmup_steps": 0, "seed": 3,
}


def train(folder, name, method, **keys):
    config = folder / f"{name}.json"
    out = folder / name
    config.write_text(json.dumps({**BASE, "output_dir": str(out), **keys}))
    return harness.run(method, config, code=None), out


def metrics(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def resumes(folder, name, method, **keys):
    """Three lines a log entry, two or four steps a rollout: checkpoint-3 is in the middle of both."""
    keys = {"num_iterations": 2, "logging_steps": 4, "save_steps": 1, "save_total_limit": 0, **keys}
    run, out = train(folder, name, method, **keys)
    check(f"{name}: trains", run.returncode == 0, run.stderr)
    change = json.loads((out / "result.json").read_text())["reward"]
    check(f"{name}: the result has the first rollout's reward and the last one's", change["before"] != change["after"]
          and f"reward   {change['before']:.3f} in the first" in run.stderr, (change, run.stderr))
    whole = {file: (out / file).read_bytes() for file in COMPARED}
    for path in out.glob("checkpoint-*"):
        if int(path.name.split("-")[1]) > 3:
            shutil.rmtree(path)
    (out / "adapter_model.safetensors").unlink()
    (out / "result.json").unlink()
    run, out = train(folder, name, method, resume_from_checkpoint="true", **keys)
    check(f"{name}: goes on", run.returncode == 0 and "checkpoint-3" in run.stderr, run.stderr)
    for file in COMPARED:
        check(f"{name}: {file} is that of the undisturbed run", (out / file).read_bytes() == whole[file])


def generated(folder):
    """What `attune generate --rollouts` writes, with rewards of rules and of a command, is what grpo reads: the log-probs of
    the samples, with those of end tokens, are those of the training forward, so that nothing leaves the narrowest bounds."""
    (folder / "count.py").write_text("import json, sys\nfor line in sys.stdin:\n    row = json.loads(line)\n    print('null' if "
                                     "row['prompt'][-1]['content'] == 'hi' and row['n_tokens'] % 2 else len(row['completion']))\n")
    run = harness.run("generate", BASE["model_name_or_path"], "--rollouts", "--prompt", "hi", "--prompt", "where is it",
                      "--system_prompt", "be kind", "--num_generations", 4, "--max_new_tokens", 32, "--seed", 4, "--reward_funcs",
                      '["max_words:4",{"name":"e","regex":"e"}]', "--reward_command", f"{sys.executable} {folder / 'count.py'}")
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    lengths = [[len(ids) for row in rows for ids in row[key]] for key in ("completions", "old_logps")]
    check("generate --rollouts: a line a prompt, which has the system message, and a log-prob an id",
          len(rows) == 2 and [m["role"] for m in rows[0]["prompt"]] == ["system", "user"] and lengths[0] == lengths[1]
          and len(lengths[0]) == 8 and all(len(row["texts"]) == 4 for row in rows), run.stderr or rows)
    check("generate --rollouts: the next command has the number of samples", "--num_generations 4 --model" in run.stderr, run.stderr)
    check("generate --rollouts: rewards by their names, null where there is none",
          [row["rewards"] for row in rows] == [{
              "max_words": [int(len(text.split()) <= 4) for text in row["texts"]], "e": [int("e" in text) for text in row["texts"]],
              "command": [None if i == 0 and len(ids) % 2 else len(text) for text, ids in zip(row["texts"], row["completions"])],
          } for i, row in enumerate(rows)], [(row["rewards"], row["texts"]) for row in rows])
    n_ended = sum(ids[-1] == 2 for row in rows for ids in row["completions"])
    file = folder / "generated.jsonl"
    file.write_text(run.stdout)
    run, out = train(folder, "generated", "grpo", rollouts=str(file), epsilon=1e-4, max_steps=1, system_prompt="be kind")
    lines = metrics(out) if run.returncode == 0 else []
    check("generate --rollouts: trains, with ratios of 1", lines and lines[0]["clip_ratio/region_mean"] == 0
          and "no effect" not in run.stderr, run.stderr or lines)
    record = json.loads((out / "run.json").read_text())
    given, replies = record["tokens_given"], sum(lengths[0])
    check("the samples of a prompt read one copy of it", lines and (given - replies) % 8 == 0
          and record["tokens_computed"] == replies + (given - replies) // 4 < given, (record, replies))
    check("generate --rollouts: what ended by itself has its end token", n_ended > 0 and lines
          and lines[0]["completions/clipped_ratio"] == 1 - n_ended / 8, (n_ended, lines))


def refused(folder, what, method, says, **keys):
    run, _ = train(folder, "refused", method, **keys)
    check(f"refused: {what}", run.returncode in (2, 65) and says in run.stderr, run.stderr)


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        resumes(folder, "grpo", "grpo", beta=0.1)
        resumes(folder, "rloo", "rloo")
        resumes(folder, "parts", "grpo", beta=0.1, steps_per_generation=2)
        run, out = train(folder, "first_parts", "grpo", beta=0.1, epsilon=0, generation_batch_size=16, max_steps=2)
        lines = metrics(out) if run.returncode == 0 else []
        check("parts of a rollout: the first step's ratios are 1, those of the second are of the policy that drew it", len(lines) == 2
              and lines[0]["clip_ratio/region_mean"] == lines[0]["kl"] == 0 and lines[1]["clip_ratio/region_mean"] > 0
              and "reward" in lines[0] and "reward" not in lines[1], run.stderr or lines)
        generated(folder)
        # Ratios by the training forward: 1, so nothing is clipped however narrow the bounds, and the KL is 0.
        for method, kl in (("grpo", 0), ("rloo", 0)):
            run, out = train(folder, f"first_{method}", method, beta=0.1, epsilon=0, num_iterations=2, max_steps=2)
            lines = metrics(out) if run.returncode == 0 else []
            check(f"{method}: the first step's ratios are 1 and its KL is 0",
                  lines and lines[0]["clip_ratio/region_mean"] == 0 and lines[0]["kl"] == kl, run.stderr or lines)
            check(f"{method}: those of the second step are not",
                  lines and lines[1]["clip_ratio/region_mean"] > 0, lines)
        # Line 3 has no spread: half of a rollout is computed forward only, and of a rollout of it alone all is.
        run, out = train(folder, "flat", "grpo", per_device_train_batch_size=4, train_sampling_strategy="sequential",
                         max_steps=3, beta=0)
        lines = metrics(out) if run.returncode == 0 else []
        check("a group without spread is counted and has no gradient",
              lines and [line["frac_reward_zero_std"] for line in lines] == [0, 0, 1] and lines[2]["grad_norm"] == 0
              and lines[2]["entropy"] > 0, run.stderr or lines)
        stages = [{"name": "first", "method": "sft", "train_dataset": str(GOLDEN / "data" / "sft_messages.jsonl"), "eval_split": 0},
                  {"name": "then", "method": "rloo", "rollouts": BASE["rollouts"], "num_generations": 4}]
        pipeline = folder / "pipeline.json"
        pipeline.write_text(json.dumps({"output_dir": str(folder / "line"), "model_name_or_path": BASE["model_name_or_path"],
                                        "max_steps": 1, "lora_r": 4, "stages": stages}))
        runs = [harness.run("run", pipeline, code=None) for _ in range(2)]
        check("a stage of a pipeline trains on samples, once", all(run.returncode == 0 for run in runs)
              and (folder / "line" / "then" / "adapter_model.safetensors").exists() and "step 1/1" in runs[0].stderr
              and "step 1/1" not in runs[1].stderr, runs[0].stderr + runs[1].stderr)
        # Where nothing moves a part's loss is its mean advantage, and a rollout's advantages are 0 in sum.
        run, out = train(folder, "mixed", "grpo", beta=0, learning_rate=0, loss_type="grpo", steps_per_generation=2, max_steps=2)
        losses = [line["loss"] for line in metrics(out)] if run.returncode == 0 else []
        check("parts of a rollout: samples of its groups are mixed, and each is in one part", len(losses) == 2 and abs(losses[0]) > 1e-3
              and abs(sum(losses)) < 1e-5, run.stderr or losses)
        refused(folder, "another number of samples", "grpo", "3 expected in every line", num_generations=3,
                per_device_train_batch_size=6)
        refused(folder, "a step of half a group", "grpo", "multiple of num_generations (4)", per_device_train_batch_size=6)
        refused(folder, "a rollout said twice", "grpo", "remove one of them", steps_per_generation=2, generation_batch_size=16)
        refused(folder, "half a step", "grpo", "multiple of gradient_accumulation_steps (2)", steps_per_generation=3,
                gradient_accumulation_steps=2)
        refused(folder, "a rollout and a half", "rloo", "multiple of a step's samples, 8", generation_batch_size=12)
        refused(folder, "a rollout of more than all", "grpo", "a rollout has 8 prompts", steps_per_generation=4)
        refused(folder, "a rollout of 2^32 samples", "grpo", "a rollout has 1073741824 prompts", steps_per_generation=65536,
                per_device_train_batch_size=65536)
        run, out = train(folder, "rest", "grpo", steps_per_generation=5, max_steps=1, per_device_train_batch_size=4)
        check("prompts that do not fill a rollout are told", run.returncode == 0 and
              "1 of 6 prompts do not fill a rollout: left out of each epoch, others each time" in run.stderr, run.stderr)
        refused(folder, "one sample", "rloo", "2 or more", num_generations=1)
        refused(folder, "no rollouts and no prompts", "rloo", "train_dataset is missing", rollouts=None)
        refused(folder, "train_dataset", "rloo", "give one of the two", train_dataset=["x.jsonl"])
        refused(folder, "top_p", "grpo", "drawn and scored already", top_p=0.9)
        refused(folder, "held-out rows", "grpo", "attune eval", eval_split=0.1)
        refused(folder, "max_completion_length without dr_grpo", "grpo", "dr_grpo", max_completion_length=9)
        refused(folder, "delta with cispo", "grpo", "epsilon_high alone", loss_type="cispo", delta=2)
        refused(folder, "the loss of the other", "grpo", "loss_type rloo does not fit grpo", loss_type="rloo")
        refused(folder, "the loss of pairs", "grpo", "loss_type sigmoid does not fit grpo", loss_type="sigmoid")
        refused(folder, "weights", "grpo", "reward_weights: 2 numbers", reward_weights=[1])
        refused(folder, "a range", "rloo", "reward_clip_range: two numbers", reward_clip_range=[1])
        refused(folder, "a reference of all weights", "grpo", "use_peft", use_peft=False, beta=0.1, lora_r=None)
        same = folder / "same.jsonl"
        same.write_text('{"prompt": "a", "completions": ["b", "c", "d", "e"], "rewards": [1, 1, 1, 1]}\n')
        refused(folder, "equal rewards", "grpo", "nothing could be learnt", rollouts=str(same),
                per_device_train_batch_size=4)
        same.write_text('{"prompt": "a", "completions": ["b", "c"], "rewards": [1, 1]}\n')
        refused(folder, "equal rewards of pairs", "online_dpo", "nothing could be learnt", rollouts=str(same), num_generations=None)
        refused(folder, "a temperature of recorded pairs", "online_dpo", "drawn and scored already", rollouts=str(same),
                num_generations=None, temperature=0.5)
    finish()


if __name__ == "__main__":
    main()
