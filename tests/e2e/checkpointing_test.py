#!/usr/bin/env python3
"""What the backward pass computes again has the same bits: checkpointing_test.py SOURCE_DIR BUILD_DIR

Golden runs and families whose layers save more than others (norms of heads and of outputs, parallel blocks,
no gate) end with the same adapter and metrics, byte for byte, whether gradient_checkpointing is none, mlp, full
or, where there are layers enough for it, sqrt, and take less memory. With auto as little is computed again as the
device's memory needs, after a slab that a step does not fill was made smaller, and on a CPU device a slab of rows alike holds
no more than fit into 512 tokens in any case.
"""
# labels: gpu
import json
import pathlib
import sys
import tempfile

from harness import GOLDEN, check, finish, run

sys.path.insert(0, str(GOLDEN / "families"))
import family_models  # noqa: E402

WORDS = ("none", "mlp", "full")
# dropout; magnitudes; mismatched rows that ride; a value head; every weight; an embedding
RUNS = {"dpo_sigmoid": ["--lora_dropout", "0.2"], "dpo_dora": [], "kto": ["--max_tokens_per_slab", "2048"],
        "reward": [], "sft_full": [], "sft_modules": []}
FAMILIES = ("gemma2", "falcon", "qwen3", "olmo2")
LAYERS = 7  # of which sqrt keeps the inputs of three, and two more at a time


def left_by(out):
    """What a training leaves of itself."""
    files = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.safetensors")}
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return files, metrics


def same_bits(name, folder, words, method, *keys):
    left, slabs = {}, {}
    for word in words:
        more = (*keys, "--gradient_checkpointing", word, "--output_dir", folder / word)
        slabs[word] = json.loads(run("plan", *more, "--json").stdout)["device_bytes"]["slab"]
        run(method, *more, "--quiet")
        left[word] = left_by(folder / word)
    check(f"{name}: the same bits with all of {', '.join(words)}",
          bool(left["none"][0]) and all(left[word] == left["none"] for word in words))
    check(f"{name}: slabs of {', '.join(str(slabs[w]) for w in words)} bytes",
          all(slabs[more] > slabs[less] for more, less in zip(words, words[1:])))


def golden(name, folder):
    config = GOLDEN / name / "config.json"
    same_bits(name, folder, WORDS, json.loads(config.read_text())["method"], config, *RUNS[name])


def family(name, folder):
    family_models.FAMILIES[name]["config"]["num_hidden_layers"] = LAYERS
    family_models.write_model(name, folder)
    (folder / "rows.jsonl").write_text("".join(line + "\n" for line, _, _ in family_models.rows()))
    same_bits(name, folder, (*WORDS, "sqrt"), "dpo", "--method", "dpo", "--model_name_or_path", folder, "--train_dataset", folder / "rows.jsonl",
              "--use_peft", "true", "--lora_r", "4", "--lora_target_modules", "all-linear", "--max_steps", "3",
              "--per_device_train_batch_size", "4", "--learning_rate", "1e-3", "--preset", "trl")


def short_memory(folder):
    keys = (GOLDEN / "dpo_sigmoid" / "config.json", "--max_tokens_per_slab", "512", "--gradient_checkpointing", "auto")
    room = {}
    for word in WORDS:
        plan = json.loads(run("plan", *keys[:3], "--gradient_checkpointing", word, "--json").stdout)
        room[word] = plan["device_bytes"]["total"]
    for word in WORDS:
        plan = json.loads(run("plan", *keys, "--device_memory_limit", room[word], "--json").stdout)
        check(f"{room[word]} bytes: auto takes {word}", plan["gradient_checkpointing"] == word and plan["fits"])
    less = run("plan", *keys, "--device_memory_limit", room["full"] - 1, "--json", code=69)
    check("a byte less than full needs does not fit", not json.loads(less.stdout)["fits"])
    run("dpo", *keys, "--device_memory_limit", room["full"], "--output_dir", folder / "short", "--quiet")
    run("dpo", *keys, "--output_dir", folder / "much", "--quiet")
    check("a training in little memory has the same bits", left_by(folder / "short") == left_by(folder / "much"))


def small_slab(folder):
    keys = (GOLDEN / "kto" / "config.json", "--per_device_train_batch_size", "2")
    much = json.loads(run("plan", *keys, "--json").stdout)
    limit = ("--device_memory_limit", much["device_bytes"]["total"] - 1)
    less = json.loads(run("plan", *keys, *limit, "--json").stdout)
    check("a step's slab, and nothing is computed again", less["fits"] and less["gradient_checkpointing"] == "none" and
          less["slab_tokens"] < much["slab_tokens"])
    run("kto", *keys, *limit, "--output_dir", folder / "less", "--quiet")
    run("kto", *keys, "--output_dir", folder / "all", "--quiet")
    check("a training with a smaller slab has the same bits", left_by(folder / "less") == left_by(folder / "all"))


def pairs_of(path, words, copies):
    """Rows of the golden pairs' first, with so many words more in the prompt, and the tokens of one."""
    with open(GOLDEN / "data" / "pairs.jsonl") as pairs:
        row = json.loads(pairs.readline())
    row["prompt"][0]["content"] += " tea" * words
    path.write_text((json.dumps(row) + "\n") * copies)
    shown = json.loads(run("data", "show", GOLDEN / "dpo_sigmoid" / "config.json", "--train_dataset", path, "--json", "--n", 1).stdout)
    return len(shown["chosen"]["completion_mask"]) + sum(shown["rejected"]["completion_mask"])


def alike(folder):
    """Where memory is the processor's a slab has room for as many rows as one of 512 tokens at most, not for more."""
    if json.loads(run("devices", "--json").stdout)["devices"][0]["type"] != "cpu":
        print("skip rows alike: this device is no CPU")
        return
    config, lines = GOLDEN / "dpo_sigmoid" / "config.json", {}
    tokens = {words: pairs_of(folder / f"{words}.jsonl", words, 6) for words in (0, 90, 91, 160)}
    for case in ((0,), (90,), (90, 91), (90, 0), (91, 160), (160,)):
        lines[case] = folder / f"{'and'.join(map(str, case))}_rows.jsonl"
        lines[case].write_text("".join((folder / f"{words}.jsonl").read_text() for words in case))
        rows, longest = 512 // min(tokens[words] for words in case), max(tokens[words] for words in case)
        want = min(512, -(-rows * longest // 64) * 64)
        for last in (False, True):  # the last rows are held out: they count, too
            keys = (config, "--train_dataset", lines[case[:1]] if last and case[:1] in lines else lines[case])
            keys += ("--eval_dataset", lines[case]) if last else ()
            got = json.loads(run("plan", *keys, "--json").stdout)["slab_tokens"]
            check(f"rows of {', '.join(str(tokens[words]) for words in case)} tokens{', held out' if last else ''}: {want}", got == want, got)
    few = lines[90, 91]
    check("some are smaller", json.loads(run("plan", config, "--train_dataset", few, "--json").stdout)["slab_tokens"] < 512)
    keys = (config, "--train_dataset", few, "--per_device_train_batch_size", 5)
    run("dpo", *keys, "--output_dir", folder / "filled", "--quiet")
    run("dpo", *keys, "--max_tokens_per_slab", 512, "--output_dir", folder / "given", "--quiet")
    check("and the same bits are left", left_by(folder / "filled") == left_by(folder / "given"))
    plan = json.loads(run("plan", GOLDEN / "kto" / "config.json", "--train_dataset", few, "--per_device_train_batch_size", 2, "--json").stdout)
    check("rows with others that ride keep 512", plan["slab_tokens"] == 512, plan["slab_tokens"])


with tempfile.TemporaryDirectory() as place:
    for number, name in enumerate((*RUNS, *FAMILIES)):
        below = pathlib.Path(place, str(number))
        below.mkdir()
        (golden if name in RUNS else family)(name, below)
    short_memory(pathlib.Path(place))
    small_slab(pathlib.Path(place))
    alike(pathlib.Path(place))
finish()
