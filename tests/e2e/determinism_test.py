#!/usr/bin/env python3
"""What does not change a result: determinism_test.py SOURCE_DIR BUILD_DIR

A row's log-probs have the same bits alone and packed with others, whatever the slab's size. Batches
8x1, 4x2 and 1x8 give the same adapter and metrics, byte for byte. tokens_computed is the sum of prompt, chosen
and rejected over the rows; the reference is computed in the first epoch only. Step 0 is exact for a
fresh, a continued and a stacked adapter and under full fine-tuning.
"""
import json
import pathlib
import tempfile

from harness import GOLDEN, check, finish, run

DATA = GOLDEN / "data" / "pairs.jsonl"
messages = []  # stderr of every command


def attune(*arguments):
    out = run(*arguments)
    messages.append(out.stderr)
    return out.stdout


def score(rows, *more):
    text = attune("score", "--method", "dpo", "--preset", "trl", "--use_peft", "true", "--model_name_or_path",
                  GOLDEN / "models" / "tiny_llama", "--train_dataset", rows, "--on_bad_row", "keep",
                  "--json", *more)
    return [json.loads(line) for line in text.splitlines()]


def values(row):
    return {side: row[side] for side in ("chosen", "rejected")}


def same_bits_alone_and_packed(folder):
    lines = DATA.read_text().splitlines()
    alone = folder / "alone.jsonl"
    packed = score(DATA)
    small = score(DATA, "--max_tokens_per_slab", "64")
    check(f"log-probs of {len(packed)} rows do not depend on the slab's size",
          len(packed) > 10 and packed == small)
    for row in packed[:6]:
        alone.write_text(lines[row["row"]] + "\n")
        check(f"row {row['row']} has the same bits alone", values(score(alone)[0]) == values(row))


def train(out, *more, method="dpo", data=DATA, model="tiny_llama"):
    attune(method, "--model_name_or_path", GOLDEN / "models" / model, "--train_dataset", data,
           "--output_dir", out, "--preset", "trl", "--logging_steps", "1", "--learning_rate", "0.01",
           "--lora_r", "4", "--lora_dropout", "0", "--on_bad_row", "skip", "--quiet", *more)
    return json.loads((out / "run.json").read_text())


def batches_are_one_computation(folder):
    for what, more in (("", ()), (" under dropout", ("--disable_dropout", "false", "--lora_dropout", "0.2"))):
        results = []
        for batch, window in ((8, 1), (4, 2), (1, 8)):
            out = folder / f"batch{batch}{what}"
            train(out, "--use_peft", "true", "--per_device_train_batch_size", batch,
                  "--gradient_accumulation_steps", window, "--max_steps", "4", *more)
            results.append([(out / name).read_bytes() for name in ("adapter_model.safetensors", "metrics.jsonl")])
        check(f"batches 8x1, 4x2 and 1x8 give the same adapter and metrics{what}",
              results[0] == results[1] == results[2])


def tokens_are_counted(folder):
    runs = [train(folder / f"epochs{n}", "--use_peft", "true", "--per_device_train_batch_size", "4",
                  "--num_train_epochs", n) for n in (1, 3)]
    shown = attune("data", "show", "--method", "dpo", "--preset", "trl", "--on_bad_row", "skip",
                   "--model_name_or_path", GOLDEN / "models" / "tiny_llama", "--train_dataset", DATA,
                   "--json", "--n", "1000")
    total = 0
    for row in map(json.loads, shown.splitlines()):
        chosen, rejected = row["chosen"], row["rejected"]
        prompt = min(r["completion_mask"].index(1) for r in (chosen, rejected))
        shared = 0
        while shared < prompt and chosen["input_ids"][shared] == rejected["input_ids"][shared]:
            shared += 1
        total += len(chosen["input_ids"]) + len(rejected["input_ids"]) - shared
    check(f"tokens_computed is P + C + R over the rows: {total}", runs[0]["tokens_computed"] == total)
    check("three epochs compute three times as much", runs[1]["tokens_computed"] == 3 * total)
    check("the reference is computed in the first epoch only",
          [record["ref_forward_tokens"] for record in runs] == [total, total])


def first_loss(out):
    line = json.loads((out / "metrics.jsonl").read_text().splitlines()[0])
    return line["loss"], line["rewards/margins"]


def step0_is_exact(folder):
    start = folder / "start"
    lora = ("--use_peft", "true", "--max_steps", "2")
    train(start, *lora, "--lora_target_modules", "all-linear")
    parent = ("--adapter_name_or_path", start)
    train(folder / "continued", *lora, *parent)
    train(folder / "stacked", *lora, *parent, "--adapter_start", "stack")
    train(folder / "full", "--use_peft", "false", "--max_steps", "2")
    saved = GOLDEN / "dpo_modules" / "init_adapter"  # its head is not the base's
    train(folder / "saved", *lora, "--lora_modules_to_save", "embed_tokens")
    train(folder / "stacked_on_saved", *lora, "--adapter_name_or_path", saved, "--adapter_start", "stack")
    for name in ("start", "continued", "stacked", "full", "saved", "stacked_on_saved"):
        loss, margin = first_loss(folder / name)
        check(f"step 0 ({name}): loss {loss:.9f} is ln 2, rewards {margin} are 0",
              abs(loss - 0.6931471805599453) < 1e-6 and margin == 0)
    dropout = ("--disable_dropout", "false", "--lora_dropout", "0.2")
    train(folder / "dropped", *lora, *dropout)
    check("step 0 under dropout over a zero B is ln 2", abs(first_loss(folder / "dropped")[0] - 0.6931471805599453) < 1e-6)
    check("and it is checked", "step 0 is not checked" not in messages[-1])
    train(folder / "dropped_on", *lora, *parent, *dropout)
    check("over another B it is not, and that is said", "step 0 is not checked" in messages[-1]
          and abs(first_loss(folder / "dropped_on")[0] - 0.6931471805599453) > 1e-6)
    stacked = score(DATA, "--adapter_name_or_path", folder / "stacked")
    bare = score(DATA)
    check("the adapter of a stack changes the bare base", stacked != bare)


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        same_bits_alone_and_packed(folder)
        batches_are_one_computation(folder)
        tokens_are_counted(folder)
        step0_is_exact(folder)
    finish()


if __name__ == "__main__":
    main()
