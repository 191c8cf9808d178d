#!/usr/bin/env python3
"""What the algorithms that save work gain: time measured beside what the operation count promises.

  savings.py ATTUNE [--rounds 3] [--steps 2] [--peers FOLDER] [--saving NAME]...
Needs an environment with torch and transformers (tests/peers/setup.sh), which make the model: layers of
SmolLM2-135M's shape, 6 of its 30, and a vocabulary that leaves the head its share; and for `padding` the
tokenizer of the real one in FOLDER.
prefix     DPO, whose pairs compute their prompt once, beside KTO (apo_zero_unpaired: no KL term) on the same
           replies, which computes it with each; prompts of about 0.5, 2 and 8 times a reply's tokens
reference  DPO steps that compute the reference, in the first epoch, beside those of the second, which has its
           log-probs: 4 instead of 6 operations a weight and token
head       SFT with targets in the completion alone beside targets in the prompt as well, which costs the head and
           the last layer behind attention, too
layers     DPO with adapters in the upper third of the layers alone, where the backward pass stops, beside all
recompute  gradient_checkpointing none beside mlp and full
padding    rows of padding in an epoch over data/samples, with slabs of the default size
Times are medians over the rounds, in each of which both sides take turns. Promised: the ratio of operations by
the formula of engine/train/useful.h, and what is computed again counted as well.
"""
import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

from side_by_side import SHAPES, WORDS, make_model

HERE = pathlib.Path(__file__).resolve().parent
SAMPLES = HERE.parents[1] / "data/samples"
SHAPE, VOCABULARY, RANK = (576, 1536, 6, 9, 3), 9856, 16
HEAD = "| what | ratio of operations | of time | reached | s a step |\n|---|---|---|---|---|"


def run(attune, command, *flags):
    done = subprocess.run([attune, command, *map(str, flags)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command} {flags}\n{done.stderr}")
    return done.stdout


class Bench:
    """Benches that take turns, and their lines of the table."""

    def __init__(self, attune, folder, rounds, steps):
        self.attune, self.folder, self.rounds, self.steps = attune, folder, rounds, steps
        self.common = ["--model_name_or_path", folder / "model", "--preset", "trl", "--use_peft", "true", "--lora_r", RANK,
                       "--lora_target_modules", "all-linear", "--lora_dropout", 0, "--max_length", 4096]

    def once(self, method, *flags, steps=None):
        return json.loads(run(self.attune, "bench", "--method", method, *self.common, *flags, "--json", "--steps",
                              steps or self.steps))

    def beside(self, name, little, much, again=0):
        """What `much` has more than `little`, each a method and flags; `again`: GFLOP that the formula leaves out."""
        found = [[], []]
        for _ in range(self.rounds):
            for side, flags in enumerate((little, much)):
                found[side].append(self.once(*flags))
        seconds = [statistics.median(x["step_time_s"] for x in side) for side in found]
        gflop = [side[0]["useful_gflop_per_step"]["total"] for side in found]
        line(name, (gflop[1] + again) / gflop[0], seconds)


def line(name, promised, seconds):
    gained = seconds[1] / seconds[0]
    print(f"| {name} | {promised:.3f} | {gained:.3f} | {100 * gained / promised:.0f} % | {seconds[0]:.3f}, {seconds[1]:.3f} |",
          flush=True)


def write(path, lines):
    path.write_text("".join(json.dumps(x) + "\n" for x in lines))
    return ["--train_dataset", path]


def texts(n, words, reply=18):
    """n rows of a prompt of so many words and two replies."""
    rng = random.Random(3)
    text = lambda count: " ".join(rng.choices(WORDS, k=count)) + "."
    return [{"prompt": text(words), "chosen": " " + text(reply), "rejected": " " + text(reply)} for _ in range(n)]


def pairs(bench, n, words, reply=18):
    return [*write(bench.folder / f"pairs{words}.jsonl", texts(n, words, reply)), "--per_device_train_batch_size", n]


def prefix(bench):
    for ratio, words, n in (0.5, 9, 16), (2, 36, 8), (8, 144, 4):
        singles = [{"prompt": x["prompt"], "completion": x[side], "label": side == "chosen"}
                   for x in texts(n, words) for side in ("chosen", "rejected")]
        slab = ["--max_tokens_per_slab", 2048]  # so that what whole rows leave of a slab does not count
        apart = [*write(bench.folder / f"singles{words}.jsonl", singles), "--per_device_train_batch_size", 2 * n, *slab]
        bench.beside(f"prefix, prompt {ratio} of a reply", ("dpo", *pairs(bench, n, words), *slab),
                     ("kto", "--loss_type", "apo_zero_unpaired", *apart))


def reference(bench):
    n, steps = 8, 3 * bench.rounds
    rows = write(bench.folder / "epochs.jsonl", texts(n * steps, 36))
    flags = [*rows, "--per_device_train_batch_size", n]
    with tempfile.TemporaryDirectory(dir=bench.folder) as out:
        run(bench.attune, "dpo", *bench.common, *flags, "--num_train_epochs", 2, "--save_strategy", "no", "--quiet",
            "--output_dir", out + "/run")
        times = [json.loads(x)["step_time_s"] for x in pathlib.Path(out, "run/timing.jsonl").read_text().splitlines()]
    # the policy's part alone is what a method without reference computes on the same rows
    whole, policy = (bench.once(*x, *flags, steps=1)["useful_gflop_per_step"]["total"]
                     for x in (("dpo",), ("cpo", "--loss_type", "simpo")))
    line("reference in the first epoch", whole / policy,
         [statistics.median(x) for x in (times[steps:], times[1:steps])])


def head(bench):
    rows = [{"prompt": x["prompt"], "completion": x["chosen"]} for x in texts(16, 54)]
    flags = ["sft", *write(bench.folder / "sft.jsonl", rows), "--per_device_train_batch_size", 16, "--completion_only_loss"]
    bench.beside("head over prompts, too", (*flags, "true"), (*flags, "false"))


def layers(bench):
    flags, count = ["dpo", *pairs(bench, 8, 36)], SHAPE[2]
    bench.beside(f"adapters in all {count} layers, not {count // 3}",
                 (*flags, "--layers_to_transform", json.dumps(list(range(count - count // 3, count)))), flags)


def recompute(bench):
    PAIRS = 8
    flags = ["dpo", *pairs(bench, PAIRS, 36), "--gradient_checkpointing"]
    found = bench.once(*flags, "none", steps=1)
    useful, tokens = found["useful_gflop_per_step"], found["tokens_per_step"]
    width, inner, count, heads, groups = SHAPE
    sizes = {"attention": [(width, width), (width, width * groups // heads), (width, width * groups // heads), (width, width)],
             "mlp": [(width, inner), (width, inner)]}
    rows = useful["head"] * 1e9 / (6 * width * VOCABULARY)  # three passes; a pair's first two have one source
    passes = {"attention": tokens * count, "mlp": tokens * (count - 1) + rows - PAIRS}
    # an adapter's first matrix is one for q, k and v, and for gate and up
    ranks = {"attention": 2 * width + sum(out for _, out in sizes["attention"]), "mlp": width + 2 * inner}
    gflop = {part: 2 * passes[part] * (sum(a * b for a, b in sizes[part]) + RANK * ranks[part]) / 1e9 for part in sizes}
    again = {"mlp": gflop["mlp"], "full": gflop["mlp"] + gflop["attention"] + useful["attention"] / 4}
    for name, more in again.items():
        bench.beside(f"gradient_checkpointing {name}", (*flags, "none"), (*flags, name), more)


def padding(bench, peers):
    make_model(bench.folder / "small", SHAPES["tiny"], 49152, "float32")
    for method, name in ("dpo", "tone_train"), ("sft", "sft_train"):
        with tempfile.TemporaryDirectory(dir=bench.folder) as out:
            run(bench.attune, method, "--model_name_or_path", bench.folder / "small", "--tokenizer",
                peers / "SmolLM2-135M-Instruct-hf", "--train_dataset", SAMPLES / f"{name}.jsonl", "--eval_split", 0,
                "--num_train_epochs", 1, "--save_strategy", "no", "--quiet", "--output_dir", out + "/run")
            said = json.loads(pathlib.Path(out, "run/run.json").read_text())
        share = [said[padding] / (said[padding] + said[useful])
                 for padding, useful in (("padding_tokens", "tokens_computed"), ("padding_rows", "head_rows"))]
        print(f"{method} on {name}: {100 * share[0]:.2f} % of the computed tokens are padding, {100 * share[1]:.2f} % of the head's rows")


SAVINGS = {"prefix": prefix, "reference": reference, "head": head, "layers": layers, "recompute": recompute}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attune")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--peers", type=pathlib.Path, default=pathlib.Path.home() / ".cache/attune/peers")
    parser.add_argument("--saving", action="append", choices=[*SAVINGS, "padding"])
    arguments = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    wanted = arguments.saving or [*SAVINGS, "padding"]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments.attune, pathlib.Path(folder), arguments.rounds, arguments.steps)
        make_model(bench.folder / "model", SHAPE, VOCABULARY, "float32")
        if set(wanted) & set(SAVINGS):
            print(HEAD)
        for name in wanted:
            if name in SAVINGS:
                SAVINGS[name](bench)
        if "padding" in wanted:
            padding(bench, arguments.peers)


if __name__ == "__main__":
    main()
