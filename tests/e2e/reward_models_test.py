#!/usr/bin/env python3
"""Reward models among the sources of rewards: reward_models_test.py SOURCE_DIR BUILD_DIR

Adapters with a value head over the policy's base, and a whole model beside it, give samples the rewards that `attune score` of
the same model gives the same texts; they take no second copy of the base; what is no reward model, and another base without
room, is refused.
"""
import json
import pathlib
import tempfile

import harness
from harness import GOLDEN, check, finish

MODEL = str(GOLDEN / "models" / "tiny_llama")
PROMPTS = [[{"role": "user", "content": "hi"}], [{"role": "system", "content": "be kind"}, {"role": "user", "content": "where is it"}],
           "once more"]
PAIRS = [{"prompt": prompt, "chosen": good if isinstance(prompt, str) else [{"role": "assistant", "content": good}],
          "rejected": bad if isinstance(prompt, str) else [{"role": "assistant", "content": bad}]}
         for prompt in PROMPTS for good, bad in (("it is here , kind", "no"), ("you are kind", "where"), ("a a a", "it"))]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def attune(folder, method, name, **keys):
    config = folder / f"{name}.json"
    config.write_text(json.dumps({"model_name_or_path": MODEL, "output_dir": str(folder / name), "learning_rate": 0.01,
                                  "eval_split": 0, "eval_strategy": "no", "lora_r": 4, "max_steps": 4, "save_strategy": "no", **keys}))
    return harness.run(method, config, code=None)


def scores(folder, rows, **keys):
    """Of {"prompt", "completion"} rows, by `attune score`."""
    config = folder / "score.json"
    config.write_text(json.dumps({"method": "reward", "train_dataset": write(folder / "score.jsonl", rows), "model_name_or_path": MODEL,
                                  "on_bad_row": "keep", **keys}))
    run = harness.run("score", config, "--json", code=None)
    return [json.loads(line)["completion"]["reward"] for line in run.stdout.splitlines()] if run.returncode == 0 else run.stderr


def rloo(folder, name, funcs, **keys):
    keys = {"train_dataset": str(folder / "prompts.jsonl"), "num_generations": 4, "per_device_train_batch_size": 12,
            "max_completion_length": 8, "max_steps": 2, "logging_steps": 1, "reward_funcs": funcs, "eval_split": None,
            "eval_strategy": None, **keys}
    return attune(folder, "rloo", name, **keys)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        pairs = write(folder / "pairs.jsonl", PAIRS)
        write(folder / "prompts.jsonl", [{"prompt": prompt} for prompt in PROMPTS])
        for model, keys in (("kind", {}), ("other", {"seed": 7, "use_dora": True, "reward_token": "last_not_pad"}),
                            ("whole", {"use_peft": False, "lora_r": None})):
            run = attune(folder, "reward", model, train_dataset=pairs, **keys)
            if run.returncode != 0:
                check(f"attune reward: {model}", False, run.stderr)
        # paths of reward_funcs start at the file's folder
        run = rloo(folder, "run", ["kind", {"model": "other", "name": "second"}, "max_words:3", "whole"], reward_weights=[1, 0.5, 0.25, 0])
        samples, metrics = (lines(folder / "run" / file) for file in ("completions.jsonl", "metrics.jsonl"))
        check("rloo trains on reward models over its base and beside it", run.returncode == 0 and len(samples) == 6, run.stderr)
        rows = [{"prompt": row["prompt"], "completion": text if isinstance(row["prompt"], str) else
                 [{"role": "assistant", "content": text}]} for row in samples for text in row["completions"]]
        for source, keys in (("kind", {"adapter_name_or_path": str(folder / "kind")}),
                             ("second", {"adapter_name_or_path": str(folder / "other"), "reward_token": "last_not_pad"}),
                             ("whole", {"model_name_or_path": str(folder / "whole")})):
            found = [reward for row in samples for reward in row["rewards"][source]]
            wanted = scores(folder, rows, **keys)
            check(f"{source}: rewards are those of attune score, to the bit", len(found) == 24 and found == wanted
                  and len(set(found)) > 3, (found, wanted))
        check("each is logged apart", all(f"rewards/{source}/{what}" in metrics[0] for source in ("kind", "second", "max_words", "whole")
              for what in ("mean", "std")), metrics)
        run = rloo(folder, "over", ["kind"], model_name_or_path=str(GOLDEN / "models" / "tiny_reference"), max_steps=1)
        samples = lines(folder / "over" / "completions.jsonl")
        rows = [{"prompt": row["prompt"], "completion": text if isinstance(row["prompt"], str) else
                 [{"role": "assistant", "content": text}]} for row in samples for text in row["completions"]]
        wanted = scores(folder, rows, adapter_name_or_path=str(folder / "kind"))
        check("an adapter of another base has that one", run.returncode == 0 and "reward models" in run.stderr
              and [reward for row in samples for reward in row["rewards"]["kind"]] == wanted, (run.stderr, samples, wanted))
        # A prompt of 56 tokens and 8 fill a slab of 64; a turn's end behind them does not fit.
        chats = [[{"role": "user", "content": "a " * n}] for n in range(1, 60)]
        run = harness.run("tokenize", "--model", MODEL, "--chat", "--add_generation_prompt",
                          input="".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
        prompt = next(chat for chat, line in zip(chats, run.stdout.splitlines()) if len(json.loads(line)) == 56)
        run = rloo(folder, "long", ["kind", "max_words:3"], train_dataset=write(folder / "long.jsonl", [{"prompt": prompt}]),
                   per_device_train_batch_size=4, max_tokens_per_slab=64, max_steps=1)
        row = (lines(folder / "long" / "completions.jsonl") or [{}])[0]
        none = sum(reward is None for reward in row["rewards"]["kind"]) if row else 0
        check("a reply that does not fit has no reward by it, which is counted", run.returncode == 0 and none > 0
              and f"{none} of 4 replies have none" in run.stderr and None not in row["rewards"]["max_words"], (run.stderr, row))
        # recorded samples: attune score gives them rewards, of models too, and rloo trains on what it writes
        run = harness.run("generate", MODEL, "--rollouts", "--num_generations", 4, "--max_new_tokens", 6, "--prompts",
                          folder / "prompts.jsonl")
        recorded = [json.loads(line) for line in run.stdout.splitlines()]
        recorded[0]["completions"], recorded[0]["rewards"] = recorded[0]["texts"], [1, 2, 3, 4]  # texts, and rewards of old
        del recorded[0]["old_logps"]
        file = write(folder / "recorded.jsonl", recorded)
        flags = ["--rollouts", file, "--num_generations", "4", "--reward_funcs", json.dumps(["max_words:1", {"model": str(folder / "kind")}])]
        run = harness.run("score", "--method", "rloo", "--model_name_or_path", MODEL, *flags)
        scored = [json.loads(line) for line in run.stdout.splitlines()]
        rows = [{"prompt": row["prompt"], "completion": text if isinstance(row["prompt"], str) else
                 [{"role": "assistant", "content": text}]} for row in recorded for text in row["texts"]]
        wanted = scores(folder, rows, adapter_name_or_path=str(folder / "kind"))
        check("attune score writes rewards of recorded samples", [{**row, "rewards": None} for row in scored] ==
              [{**row, "rewards": None} for row in recorded] and [reward for row in scored for reward in row["rewards"]["kind"]] == wanted
              and [row["rewards"]["max_words"] for row in scored] == [[int(len(text.split()) <= 1) for text in row["texts"]]
                                                                      for row in recorded], (run.stderr, scored, wanted))
        file = write(folder / "scored.jsonl", scored)
        run = rloo(folder, "recorded", None, train_dataset=None, rollouts=file, max_completion_length=None, per_device_train_batch_size=12)
        check("rloo trains on them", run.returncode == 0, run.stderr)
        for what, more, says in (("no file", ["--reward_funcs", "max_words:1"], "rollouts is missing"),
                                 ("tokens", [*flags, "--tokens"], "leave it out")):
            run = harness.run("score", "--method", "rloo", "--model_name_or_path", MODEL, *more, code=None)
            check(f"refused: {what}", run.returncode == 2 and says in run.stderr, run.stderr)
        plans = []
        for funcs in ("max_words:3", ["kind"], ["kind", "other"], ["whole"]):
            rloo(folder, "plan", funcs)  # writes plan.json
            run = harness.run("plan", folder / "plan.json", "--method", "rloo", "--json", code=None)
            plans.append(json.loads(run.stdout)["device_bytes"] if run.returncode == 0 else run.stderr)
        check("plan: an adapter adds no weights, a whole model does", all(isinstance(plan, dict) for plan in plans)
              and 0 < plans[1]["total"] - plans[0]["total"] < plans[3]["total"] - plans[0]["total"]
              and plans[0]["frozen"] == plans[1]["frozen"] == plans[2]["frozen"], plans)
        # whatever the sampler is shrunk to
        limit = plans[3]["total"] - plans[3]["sampler"] - 1 if isinstance(plans[3], dict) else 1
        record = json.loads((folder / "run" / "run.json").read_text())["digests"]
        check("run.json has digests of reward models", len({record.get(f"reward/{key}") for key in ("kind", "second", "whole")}) == 3,
              record)
        for what, funcs, says, keys in (
                ("another base without room", ["whole"], ", and device_memory_limit is ", {"device_memory_limit": limit}),
                ("a folder that is none", ["nowhere"], "nowhere", {}),
                ("a policy's adapter", ["run"], "no value head", {}),
                ("a base that is trained", ["kind"], "name a whole reward model", {"use_peft": False, "lora_r": None, "beta": 0})):
            run = rloo(folder, "refused", funcs, **keys)
            check(f"refused: {what}", run.returncode in (2, 65, 66) and says in run.stderr.splitlines()[-1], run.stderr)
    finish()


if __name__ == "__main__":
    main()
