#!/usr/bin/env python3
"""Reward models in the hands of PEFT and transformers: rewards_peer.py ATTUNE

Trains one as an adapter and one whole, loads both with no key missing or left over, and compares the
rewards of every pair with those of `attune score`, 1e-3 apart at most. PEFT's own file of an adapter,
saved again, gives the same rewards here.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers

from peft_logps import encode, fail, load_adapter

ATTUNE = sys.argv[1]
GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"
TOLERANCE = 1e-3
transformers.utils.logging.set_verbosity_error()  # of the base, whose head the adapter brings


def attune(command, run, *more):
    config = GOLDEN / run / "config.json"
    process = subprocess.run([ATTUNE, command, str(config), *map(str, more)], capture_output=True, text=True)
    if process.returncode != 0:
        fail(f"attune {command} {run}: {process.stderr[-500:]}")
    return [json.loads(line) for line in process.stdout.splitlines()]


def base_of(folder):
    """The model and what the loading said about it."""
    cls = transformers.AutoModelForSequenceClassification
    return cls.from_pretrained(folder, num_labels=1, dtype=torch.float32, output_loading_info=True)


def rows_of(config):
    """Number and row of a data file, the prompt apart."""
    path = GOLDEN / "run" / config["train_dataset"]
    for number, line in enumerate(path.resolve().read_text().splitlines()):
        row = json.loads(line)
        yield number, row.get("prompt", "" if isinstance(row["chosen"], str) else []), row


def compare(model, folder, run, scored):
    config = json.loads((GOLDEN / run / "config.json").read_text())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = {row["row"]: row for row in scored}
    worst, n = 0.0, 0
    for number, prompt, row in rows_of(config):
        for side in ("chosen", "rejected") if number in rows else ():
            ids = encode(tokenizer, prompt, row[side])[1] if prompt else encode_whole(tokenizer, row[side])
            with torch.no_grad():
                reward = model.eval()(input_ids=torch.tensor([ids])).logits.item()
            worst, n = max(worst, abs(reward - rows[number][side]["reward"])), n + 1
    print(f"{run}: {n} rewards, at most {worst:.2e} apart")
    if n == 0 or not worst <= TOLERANCE:
        fail(f"{run}: rewards differ by {worst}")


def encode_whole(tokenizer, side):
    return tokenizer.apply_chat_template(side, return_dict=True)["input_ids"]


def main():
    with tempfile.TemporaryDirectory() as scratch:
        out, again, whole = (pathlib.Path(scratch) / name for name in ("adapter", "again", "whole"))
        base = GOLDEN / "models" / "tiny_llama"
        attune("reward", "reward", "--output_dir", out)
        model = load_adapter(base_of(base)[0], out)
        scored = attune("score", "reward", "--adapter_name_or_path", out, "--json")
        compare(model, base, "reward", scored)
        model.save_pretrained(again)
        if attune("score", "reward", "--adapter_name_or_path", again, "--json") != scored:
            fail("the adapter that PEFT saved again gives other rewards")
        attune("reward", "reward_full", "--output_dir", whole)
        model, loading = base_of(whole)
        if loading["missing_keys"] or loading["unexpected_keys"]:
            fail(f"the whole model: {loading}")
        scored = attune("score", "reward_full", "--model_name_or_path", whole, "--json")
        compare(model, whole, "reward_full", scored)
        made = pathlib.Path(scratch) / "made"  # a language model's config.json becomes a reward model's
        model_of = ("--model_name_or_path", base, "--train_dataset", GOLDEN / "data" / "pairs_implicit.jsonl")
        attune("reward", "reward_full", *model_of, "--output_dir", made)
        model, loading = base_of(made)
        if loading["missing_keys"] or loading["unexpected_keys"]:
            fail(f"the model made from a language model: {loading}")
        compare(model, made, "reward_full", attune("score", "reward_full", *model_of, "--model_name_or_path", made, "--json"))


if __name__ == "__main__":
    main()
