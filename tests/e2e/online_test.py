#!/usr/bin/env python3
"""Samples drawn while training: online_test.py SOURCE_DIR BUILD_DIR

A word that one reply in ten has is in eight of ten after a few steps, near the reference; the first ratios of a rollout are 1
and the first KL is 0; killed while it draws or in the middle of a rollout a run goes on to the same bytes; completions.jsonl,
timing.jsonl and the plan have what they say; rewards that cannot teach end the run, and so does max_drift, naming the last
good checkpoint.
"""
import hashlib
import html
import json
import math
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time

import harness
from harness import ATTUNE, GOLDEN, check, finish

COMPARED = ("adapter_model.safetensors", "metrics.jsonl", "completions.jsonl")
PROMPTS = [{"prompt": [{"role": "user", "content": "hi"}], "word": "kind"},
           {"prompt": [{"role": "user", "content": "where is it"}], "word": "you"}, {"prompt": "once more", "word": "it"},
           {"prompt": "a", "word": "a"}]
BASE = {
    "model_name_or_path": str(GOLDEN / "models" / "tiny_llama"), "use_peft": True, "lora_r": 4, "learning_rate": 0.01,
    "logging_steps": 1, "num_generations": 4, "per_device_train_batch_size": 8, "warmup_steps": 0, "seed": 3,
    "max_completion_length": 8, "reward_funcs": ["contains_any:[\"kind\", \"you\"]", "max_words:3"],
}
STOPPED = {"max_steps": 6, "save_steps": 1, "save_total_limit": 0, "beta": 0.05, "max_completion_length": 24}


def command(folder, name, method, **keys):
    config = folder / f"{name}.json"
    given = {**BASE, "train_dataset": str(folder / "prompts.jsonl"), "output_dir": str(folder / name), **keys}
    config.write_text(json.dumps({key: value for key, value in given.items() if value is not None}))
    return method, config


def train(folder, name, method, **keys):
    return harness.run(*command(folder, name, method, **keys), code=None), folder / name


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def learns(folder):
    three = folder / "three.jsonl"
    three.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS[:3]))
    run, out = train(folder, "learns", "grpo", num_generations=16, per_device_train_batch_size=48, learning_rate=0.002,
                     reward_funcs="contains_any:kind", max_steps=12, lr_scheduler_type="constant", beta=0.2, max_drift=1,
                     save_strategy="no", train_dataset=str(three))
    rows = lines(out / "metrics.jsonl")
    rewards, drift = [row["reward"] for row in rows], [row["drift/kl"] for row in rows]
    check("a marker word: from under 0.2 to over 0.8 of the replies within 1 nat a token", run.returncode == 0 and rewards
          and rewards[0] < 0.2 and sum(rewards[-3:]) / 3 > 0.8 and drift[0] == 0 and max(drift) < 1 and "in no rollout" not in run.stderr, (run.stderr, rewards, drift))


def writes(folder):
    """One run of two rollouts, two steps each."""
    keys = {"num_iterations": 2, "max_steps": 4, "beta": 0.1, "epsilon": 0, "save_strategy": "no"}
    run, out = train(folder, "writes", "grpo", **keys)
    rows, samples, times = (lines(out / file) for file in ("metrics.jsonl", "completions.jsonl", "timing.jsonl"))
    if run.returncode or len(rows) != 4 or len(samples) != 4 or len(times) != 4:
        return check("a run of two rollouts", False, (run.stderr, rows, samples, times))
    check("the first step's ratios are exactly 1 and its KL is 0", rows[0]["clip_ratio/region_mean"] == 0 and rows[0]["kl"] == 0,
          rows[0])
    check("those of the second are not", rows[1]["clip_ratio/region_mean"] > 0, rows[1])
    first = samples[:2]
    rewards = [sum(pair) for row in first for pair in zip(*row["rewards"].values())]
    check("completions.jsonl: what metrics.jsonl is the mean of", list(first[0]["rewards"]) == ["contains_any", "max_words"]
          and abs(sum(rewards) / 8 - rows[0]["reward"]) < 1e-12
          and abs(sum(sum(row["n_tokens"]) for row in first) / 8 - rows[0]["completions/mean_length"]) < 1e-12, (first, rows[0]))
    check("the rule is kept where the text says so", all((("kind" in text) or ("you" in text)) == (reward == 1) for row in samples
          for text, reward in zip(row["completions"], row["rewards"]["contains_any"])), samples)
    check("advantages: 0 in sum, and their step", all(abs(sum(row["advantages"])) < 1e-6 for row in samples)
          and [row["step"] for row in samples] == [1, 1, 3, 3], samples)
    check("timing.jsonl: a step is sampling, scoring and training", all(abs(row["step_time_s"] - row["sampling_s"] -
          row["scoring_s"] - row["training_s"]) < 1e-9 for row in times) and times[0]["sampling_tokens_per_s"] > 0
          and times[1]["sampling_s"] == 0 and times[2]["sampling_s"] > 0, times)
    check("the last step tells reward, KL, length and both speeds", all(word in run.stderr for word in
          ("reward ", "KL ", "length ", "sampling ", "training ")), run.stderr)
    harness.run("report", out, "--output", folder / "page.html")
    page = (folder / "page.html").read_text()
    shown = [f"step {row['step']}: request" in page for row in (samples[0], samples[1], samples[-1])]
    check("the report has reward and KL, one against the other, and samples of start, middle and end", all(shown) and all(
          f'<figure id="{name}">' in page for name in ("reward", "kl", "frontier"))
          and html.escape(samples[0]["completions"][0], quote=False)[:20] in page, page[:300])
    check("it says that prompts were trained on", re.search(r"<p>\d+ prompts were trained on, ", page), page[-3000:])
    plan = harness.run("plan", folder / "writes.json", "--method", "grpo", "--json", code=None)
    plan = json.loads(plan.stdout) if plan.returncode == 0 else {}
    record = json.loads((out / "run.json").read_text())
    check("plan: memory of the sampler, which the run has, and the split", plan and plan["device_bytes"]["sampler"] > 0
          and plan["device_bytes"]["total"] == times[0]["device_bytes"] == sum(record["device_bytes"].values())
          and plan["sequences_at_once"] == 8 and plan["split"]["sampling_s"] > 0 and plan["split"]["training_s"] > 0, (plan, record))


def shown(stderr, step):
    """Reward, KL and length in the progress line of a step."""
    found = re.search(rf"step {step}/\d+ .*(reward \S+ .*length \S+)", stderr)
    return found and found[1]


def goes_on(folder, name, method, whole_run, whole, **keys):
    """The run that was stopped goes on from a checkpoint and ends with the bytes of the whole one; what it printed."""
    run, out = train(folder, name, method, resume_from_checkpoint="true", **keys)
    check(f"{name}: it goes on", whole_run.returncode == 0 and run.returncode == 0 and "checkpoint-" in run.stderr,
          (whole_run.stderr, run.stderr))
    for file in COMPARED:
        check(f"{name}: {file} is that of the undisturbed run", (out / file).read_bytes() == (whole / file).read_bytes())
    return run.stderr


def killed(folder, name, method, how, **keys):
    """The first kill comes while the second rollout is drawn or trained on, the second while the third one is."""
    keys = {**STOPPED, "num_iterations": 2, **keys}
    whole_run, whole = train(folder, f"{name}_whole", method, **keys)
    out, n_killed, n_tries = folder / name, 0, 0
    while n_killed < 2 and n_tries < 5:  # on a busy machine a run may end before its kill
        shutil.rmtree(out, ignore_errors=True)
        n_killed, n_tries = 0, n_tries + 1
        for n_lines in (2, 4):
            process = subprocess.Popen([ATTUNE, *command(folder, name, method, resume_from_checkpoint="true", **keys)],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            until = time.monotonic() + 60
            while process.poll() is None and len(lines(out / "timing.jsonl")) < n_lines and time.monotonic() < until:
                time.sleep(0.005)
            process.send_signal(how)
            n_killed += process.wait() != 0
    check(f"{name}: killed twice", n_killed == 2, n_killed)
    goes_on(folder, name, method, whole_run, whole, **keys)


def in_the_middle(folder):
    """Between the steps of a rollout: its samples, log-probs and advantages come from the checkpoint."""
    keys = {**STOPPED, "num_iterations": 3}
    whole_run, whole = train(folder, "stopped_whole", "grpo", **keys)
    shutil.copytree(whole, folder / "stopped")
    for file in ("adapter_model.safetensors", "result.json"):  # as a run leaves it that is killed in the last step
        (folder / "stopped" / file).unlink()
    gone_on = goes_on(folder, "stopped", "grpo", whole_run, whole, **keys)
    step = re.search(r"checkpoint-(\d+)", gone_on)
    check("stopped: it goes on in the middle of a rollout", step and int(step[1]) == 5, gone_on)
    check("stopped: its line tells reward, KL and length of the rollout that the checkpoint has", shown(whole_run.stderr, 6)
          and shown(whole_run.stderr, 6) == shown(gone_on, 6) and "sampling 0" not in gone_on, (whole_run.stderr, gone_on))


def few_at_once(folder):
    """With less memory the sampler draws fewer samples at once, two at least: they are the same."""
    keys = {"max_steps": 2, "save_strategy": "no"}
    run, out = train(folder, "at_once", "rloo", **keys)
    plan, limit, n = None, None, []
    while len(n) < 6 and (not plan or plan["fits"]):
        again = harness.run(*command(folder, "few", "plan", device_memory_limit=limit, **keys), "--method", "rloo", "--json", code=None)
        plan = json.loads(again.stdout)
        n.append(plan["sequences_at_once"])
        limit = plan["device_bytes"]["total"] - 1
    check("plan: with less memory 8 samples at once become 4, then 2, and not 1", n == [8, 4, 2, 2], (n, plan))
    few, other = train(folder, "few", "rloo", device_memory_limit=limit + 1, **keys)
    check("two samples at once are those of eight", run.returncode == few.returncode == 0 and "sampling 2 at once" in few.stderr
          and all((out / file).read_bytes() == (other / file).read_bytes() for file in COMPARED), few.stderr)


def pairs(folder):
    """online_dpo: two samples a prompt, of which the reward chooses; one loss compares pairs of a micro-batch, too."""
    keys = {"num_generations": None, "per_device_train_batch_size": 32, "reward_funcs": "contains_any:kind", "temperature": 1,
            "learning_rate": 0.002, "lr_scheduler_type": "constant", "max_steps": 5, "save_strategy": "no", "max_drift": 2,
            "train_dataset": str(folder / "many.jsonl")}
    (folder / "many.jsonl").write_text("".join(json.dumps({"prompt": [{"role": "user", "content": f"{a} {b}"}]}) + "\n"
                                               for a in ("hi", "where is it", "once more", "a", "you do", "kind of", "please", "it is")
                                               for b in ("a", "it", "now", "you")))
    run, out = train(folder, "pairs", "online_dpo", **keys)
    rows, samples = lines(out / "metrics.jsonl"), lines(out / "completions.jsonl")
    if run.returncode or len(rows) != 5 or len(samples) != 160:
        return check("online_dpo: trains", False, (run.stderr, len(rows), len(samples)))
    scores = [row["objective/scores"] for row in rows]
    check("online_dpo: at the first step the loss is ln 2 and the KL is 0", abs(rows[0]["loss"] - math.log(2)) < 1e-6
          and rows[0]["objective/kl"] == 0 and rows[0]["drift/kl"] == 0, rows[0])
    check("online_dpo: the word comes more often, near the reference", scores[0] < 0.3 and scores[-1] > scores[0] + 0.3
          and max(row["drift/kl"] for row in rows) < 2, rows)
    check("online_dpo: the sample with the higher reward is chosen, where one has", all(
          row["chosen"] == (None if a == b else int(b > a)) for row in samples for a, b in [row["rewards"]["contains_any"]]), samples)
    ties = [sum(row["chosen"] is None for row in samples if row["step"] == step) / 32 for step in range(1, 6)]
    check("online_dpo: pairs without a decision are counted", ties == [row["frac_reward_zero_std"] for row in rows], (ties, rows))
    run, out = train(folder, "penalty", "online_dpo", **{**keys, "max_steps": 1, "missing_eos_penalty": 2})
    row = lines(out / "metrics.jsonl")[0]
    check("online_dpo: missing_eos_penalty is taken from what did not end", abs(row["objective/scores"] - scores[0] + 2 *
          (1 - row["val/contain_eos_token"])) < 1e-9, (row, scores))
    run, out = train(folder, "same", "online_dpo", **{**keys, "max_steps": 1, "reward_funcs": "min_words:0"})
    check("online_dpo: a step whose pairs are all undecided has no gradient", lines(out / "metrics.jsonl")[0]["grad_norm"] == 0,
          run.stderr)
    killed(folder, "pairs_killed", "online_dpo", signal.SIGTERM, num_generations=None, num_iterations=None, temperature=1,
           loss_type="aot")


def ends(folder, what, says, codes, **keys):
    run, out = train(folder, what.replace(" ", "_"), keys.pop("method", "grpo"), **keys)
    check(f"ends: {what}", run.returncode in codes and all(text in run.stderr for text in says), run.stderr)
    return out


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
        learns(folder)
        writes(folder)
        killed(folder, "killed", "rloo", signal.SIGKILL, steps_per_generation=2)
        pairs(folder)
        in_the_middle(folder)
        few_at_once(folder)
        many = {"per_device_train_batch_size": 16, "max_completion_length": 2, "max_steps": 20, "save_strategy": "no"}
        out = ends(folder, "equal rewards", ("all 128 samples so far have the reward 0", "differ among the replies"), (65,),
                   reward_funcs="contains_any:never", **many)
        check("equal rewards: all groups are counted, and none has a gradient", [(row["frac_reward_zero_std"], row["grad_norm"])
              for row in lines(out / "metrics.jsonl")] == [(1, 0)] * 7, lines(out / "metrics.jsonl"))
        ends(folder, "equal rewards of a short run", ("in no rollout did two replies to a prompt have different rewards",), (0,),
             reward_funcs="contains_any:never", **many | {"max_steps": 2})
        ends(folder, "no rewards", ("no sample of the last 3 rollouts has a reward",), (65,), reward_funcs="rule", **many)
        (folder / "twice.sh").write_text(f'echo >> {folder}/calls; [ $(wc -l < {folder}/calls) -le 2 ] || exit 127; '
                                         "while read -r line; do echo 1; done\n")
        out = ends(folder, "rewards fail", ("exit", "--resume_from_checkpoint true"), range(1, 128), max_steps=5,
                   reward_funcs=None, reward_command=f"sh {folder}/twice.sh", save_steps=100)
        check("rewards fail: the state before is a checkpoint", (out / "checkpoint-2").is_dir()
              and (out / "adapter_model.safetensors").exists(), sorted(out.iterdir()))
        fails = {"max_steps": 5, "reward_funcs": None, "reward_command": f"sh {folder}/twice.sh", "save_steps": 100,
                 "resume_from_checkpoint": "true", "reward_command_timeout": 77}
        arrays = out / "checkpoint-2" / "optimizer.bin"
        whole = arrays.read_bytes()
        bad = whole[:-512] + struct.pack("<d", -1) + whole[-504:]  # a count of the alarm's rollouts
        sums = [hashlib.blake2b(data, digest_size=32).hexdigest() for data in (whole, bad)]
        arrays.write_bytes(bad)
        for path in arrays.parent.glob("*.json"):
            path.write_text(path.read_text().replace(*sums))
        ends(folder, "rewards fail", ("optimizer.bin", "no run writes"), (65,), **fails)
        arrays.write_bytes(whole)
        for path in arrays.parent.glob("*.json"):
            path.write_text(path.read_text().replace(*sums[::-1]))
        (folder / "calls").unlink()
        ends(folder, "rewards fail", ("checkpoint-2", "--resume_from_checkpoint true"), range(1, 128), **fails)
        check("rewards fail: with another timeout it goes on", (out / "checkpoint-4").is_dir(), sorted(out.iterdir()))
        done, _ = train(folder, "one fault", "grpo", max_steps=2, reward_funcs=None, num_iterations=1,
                        reward_command="awk '{ print NR == 1 ? \"x\" : NR }'")
        check("faults of a command are counted at the end", done.returncode == 0 and ": 2 samples had none" in done.stderr, done.stderr)
        out = ends(folder, "too far", ("drift/kl", "further than max_drift 0.01", "checkpoint-", "the last good checkpoint"), (1,),
                   max_drift=0.01, learning_rate=0.001, save_steps=1, save_total_limit=0, max_steps=40,
                   reward_funcs="contains_any:[\"a\"]")
        ends(folder, "too far by the last step", ("step 2: drift/kl", "further than max_drift 0.0001"), (1,), max_drift=0.0001,
             learning_rate=0.001, max_steps=2, num_iterations=2, reward_funcs="contains_any:[\"a\"]")
        run = harness.run("data", "show", "--method", "online_dpo", "--model_name_or_path", BASE["model_name_or_path"],
                          "--reward_funcs", "max_words:3", "--train_dataset", folder / "prompts.jsonl", code=None)
        check("data show: there are no rows before samples are drawn", run.returncode == 2 and "are drawn" in run.stderr, run.stderr)
        shutil.copytree(BASE["model_name_or_path"], folder / "stretched")
        config = json.loads((folder / "stretched" / "config.json").read_text())
        config |= {"max_position_embeddings": 8, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}}
        (folder / "stretched" / "config.json").write_text(json.dumps(config))
        ends(folder, "angles by length", ("more than 8 tokens", "lower max_completion_length"), (2,), method="online_dpo",
             model_name_or_path=str(folder / "stretched"), num_generations=None, max_steps=1, reward_funcs="max_words:3")
        (folder / "prompts.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b", "rule": {"regexp": "x"}}\n')
        ends(folder, "no rule", ("prompts.jsonl:2", 'unknown rule "regexp"'), (65,), reward_funcs="rule")
        (folder / "prompts.jsonl").write_text('{"question": "a"}\n')
        ends(folder, "no prompt", ("prompts.jsonl:1", '"prompt" must be a text or a list of messages'), (65,))
    finish()


if __name__ == "__main__":
    main()
