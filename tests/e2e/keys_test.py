#!/usr/bin/env python3
"""Every configuration key matters: given another value it changes the adapter, a metric, the plan or
a message. keys_test.py SOURCE_DIR BUILD_DIR [KEY ...]

Walks engine/train/config.def: for each key and each method that reads it, the tiny run of that method
is done twice, without and with the other value of OTHER. A key without a row in OTHER fails, so does
a row without a key. run.json is not looked at: it repeats the configuration.
"""
# labels: slow
import concurrent.futures
import json
import pathlib
import re
import sys
import tempfile
import zlib

import harness
from harness import GOLDEN, SOURCE
import tiny_model

TINY_LLAMA = str(GOLDEN / "models" / "tiny_llama")
METHODS = {letter: name for name, letter in re.findall(
    r"^METHOD\(\w+, (\w+), '(\w)'", (SOURCE / "engine/train/methods.def").read_text(), re.M)}
EVERY = "sd"  # keys that every method reads are tried by one of these, by the key's name
BY = {"per_device_eval_batch_size": "d"}  # others have one outcome whatever its value
WORDS = ("once more with feeling " * 12).strip()

SAMPLED = {  # over BASE, of methods that train on samples
    "train_dataset": None, "rollouts": str(GOLDEN / "data" / "rollouts.jsonl"), "num_generations": 4,
    "per_device_train_batch_size": 8, "eval_split": None, "eval_strategy": None, "on_bad_row": None, "on_long_row": None,
    "max_length": None,
}
DRAWN = {  # over those: samples are drawn
    "rollouts": None, "train_dataset": "prompts.jsonl", "reward_funcs": ["contains_any:a", "max_words:3"], "max_completion_length": 12,
}
SIBLINGS = "n"  # its keys that others read, too, are tried by those: online_dpo is dpo on what grpo draws
BASE = {
    "model_name_or_path": "TINY",
    "train_dataset": {"sft": "sft.jsonl", "dpo": "pairs.jsonl", "tpo": "triples.jsonl"},
    "use_peft": True, "lora_r": 4, "lora_target_modules": "all-linear", "lora_dropout": 0,
    "learning_rate": 0.01, "max_steps": 4, "per_device_train_batch_size": 2, "logging_steps": 1,
    "eval_split": 0.3, "eval_strategy": "epoch", "on_bad_row": "skip", "on_long_row": "cut",
    "max_length": 48, "warmup_steps": 0, "seed": 1,
}
# key -> the other value, or (other value, further keys of both runs)
OTHER = {
    "adam_beta1": 0.5,
    "adam_beta2": 0.5,
    "adam_epsilon": 0.1,
    "adapter_name_or_path": "ADAPTER",
    "adapter_start": ("stack", {"adapter_name_or_path": "ADAPTER"}),
    "alpha": (0.5, {"loss_type": "alphapo"}),
    "alpha_pattern": {"q_proj": 2},
    "assistant_only_loss": (True, {"preset": "trl"}),
    "base_model_name_or_path": "org/base",
    "beta": 0.5,
    "bnb_4bit_quant_type": ("fp4", {"model_name_or_path": "WIDE", "load_in_4bit": True}),
    "bnb_4bit_use_double_quant": (True, {"model_name_or_path": "WIDE", "load_in_4bit": True}),
    "center_rewards_coefficient": 0.5,
    "chat_template_path": "TEMPLATE",
    "completion_only_loss": (False, {"train_dataset": "completion.jsonl"}),
    "cpo_alpha": 0,
    "cross_validation": (2, {"eval_split": None}),
    "data_seed": 7,
    "delta": (1.0001, {"num_iterations": 2}),
    "desirable_weight": 2.0,
    "deterministic": False,
    "device": "nosuchdevice",
    "device_memory_limit": 1000,
    "disable_dropout": (False, {"lora_dropout": 0.1}),
    "discopop_tau": (0.5, {"loss_type": "discopop"}),
    "early_stopping_patience": (1, {"eval_strategy": "steps", "eval_steps": 1, "learning_rate": 1.0}),
    "early_stopping_threshold": (1e5, {"eval_strategy": "steps", "eval_steps": 1, "learning_rate": 1e-4,
                                       "eval_dataset": {"dpo": "pairs.jsonl", "sft": "sft.jsonl"},
                                       "early_stopping_patience": 2}),
    "epsilon": (0.0, {"num_iterations": 2}),
    "epsilon_high": (0.001, {"num_iterations": 2}),
    "eos_token": ("<|im_start|>", {"train_dataset": "plain.jsonl"}),
    "eval_dataset": "held.jsonl",
    "eval_packing": (False, {"packing": True, "packing_strategy": "wrapped", "eval_dataset": "held_sft.jsonl"}),
    "eval_split": 0.5,
    "eval_steps": (1, {"eval_strategy": "steps"}),
    "eval_strategy": ("no", {"max_steps": 0, "num_train_epochs": 2}),
    "f_alpha_divergence_coef": (2.0, {"f_divergence_type": "alpha_divergence"}),
    "f_divergence_type": "forward_kl",
    "generation_batch_size": 16,
    "gradient_accumulation_steps": 2,
    "gradient_checkpointing": "full",
    "importance_sampling_level": ("sequence", {"num_iterations": 2}),
    "init_from_scratch": (True, {"use_peft": False}),
    "init_lora_weights": "gaussian",
    "kernels": "baseline",
    "label_smoothing": (0.3, {"loss_type": "cdpo", "label_smoothing": 0.1}),
    "layers_to_transform": ([1], {"model_name_or_path": TINY_LLAMA}),
    "ld_alpha": 0.25,
    "learning_rate": 0.02,
    "load_best_model_at_end": (True, {"preset": "trl", "model_name_or_path": TINY_LLAMA,
                                      "learning_rate": {"dpo": 0.3, "sft": 0.1},
                                      "max_steps": 0, "num_train_epochs": {"dpo": 2, "sft": 1}}),
    "load_in_4bit": (True, {"model_name_or_path": "WIDE"}),
    "load_in_8bit": (True, {"model_name_or_path": "WIDE"}),
    "log_completions": (False, DRAWN),
    "logging_steps": 2,
    "lora_alpha": 64,
    "lora_dropout": (0.1, {"SFT": True}),
    "lora_modules_to_save": "embed_tokens",
    "lora_r": 2,
    "lora_target_modules": "q_proj",
    "loraplus_lr_ratio": 4,
    "loss_type": {"dpo": "ipo", "sft": "dft"},
    "loss_weights": ([1, 0.25], {"loss_type": ["sigmoid", "sft"]}),
    "lr_scheduler_kwargs": ({"num_cycles": 3}, {"lr_scheduler_type": "cosine_with_restarts"}),
    "lr_scheduler_type": "constant",
    "mask_truncated_completions": True,
    "max_completion_length": (9, DRAWN),
    "max_drift": 1e-5,
    "max_grad_norm": 0.001,
    "max_length": 24,
    "max_steps": 3,
    "max_tokens_per_slab": 128,
    "method": {"dpo": "sft", "sft": "dpo"},
    "metric_for_best_model": "eval_nosuch",
    "min_p": (0.2, DRAWN),
    "missing_eos_penalty": 2,
    "model_name_or_path": str(GOLDEN / "models" / "tiny_qwen2"),
    "normalize_advantages": True,
    "num_generations": 2,
    "num_iterations": 2,
    "num_train_epochs": (2, {"max_steps": 0}),
    "on_bad_row": ("error", {"train_dataset": {"dpo": "bad.jsonl", "sft": "bad_sft.jsonl"}}),
    "on_long_row": "drop",
    "output_dir": "elsewhere",
    "packing": True,
    "packing_strategy": ("wrapped", {"packing": True}),
    "per_device_eval_batch_size": (1, {"loss_type": "aot_unpaired", "learning_rate": 0.1}),
    "per_device_train_batch_size": 3,
    "precompute_ref_log_probs": True,
    "preset": ("strong", {"learning_rate": None}),
    "profile": True,
    "rank_pattern": {"q_proj": 2},
    "ref_model_mixup_alpha": (0.1, {"sync_ref_model": True, "ref_model_sync_steps": 1}),
    "ref_model_name_or_path": str(GOLDEN / "models" / "tiny_reference"),
    "ref_model_sync_steps": (2, {"sync_ref_model": True, "ref_model_sync_steps": 1}),
    "regression_dataset": "completion.jsonl",
    "repetition_penalty": (1.5, DRAWN),
    "report_to": "tensorboard",
    "resume_from_checkpoint": "nosuchfolder",
    "reward_clip_range": [0.3, 0.6],
    "reward_command": "true",
    "reward_command_timeout": 1,
    "reward_funcs": ["contains_any:a"],
    "reward_length_penalty": 0.5,
    "reward_token": ("last_not_pad", {"train_dataset": "plain.jsonl"}),
    "reward_weights": [1, 3],
    "rollouts": str(GOLDEN / "data" / "rollouts_old.jsonl"),
    "save_steps": (1, {"save_steps": 2}),
    "save_strategy": ("epoch", {"max_steps": 0, "num_train_epochs": 2}),
    "save_total_limit": (1, {"save_steps": 1}),
    "scale_rewards": "batch",
    "seed": 2,
    "simpo_gamma": (1.0, {"loss_type": "simpo"}),
    "steps_per_generation": 2,
    "sync_ref_model": (False, {"sync_ref_model": True, "ref_model_sync_steps": 1}),
    "system_prompt": "be kind",
    "temperature": (0.7, DRAWN),
    "tokenizer": str(GOLDEN / "models" / "tiny_qwen2"),
    "top_k": (3, DRAWN),
    "top_p": (0.5, DRAWN),
    "tpo_alpha": 0,
    "tpo_l_gamma": (1.0, {"loss_type": "tpo-l"}),
    "train_dataset": {"dpo": "held.jsonl", "sft": "held_sft.jsonl"},
    "train_sampling_strategy": "sequential",
    "truncation_mode": "keep_end",
    "undesirable_weight": 2.0,
    "use_bias_correction_kl": (False, {"beta": 0.1}),
    "use_bnb_nested_quant": (True, {"model_name_or_path": "WIDE", "load_in_4bit": True}),
    "use_dora": True,
    "use_peft": False,
    "use_rslora": True,
    "use_weighting": True,
    "warmup_steps": 3,
    "weight_decay": 5.0,
}
# Keys that change nothing by intention.
EXCEPTIONS = {
    "optim": "the names of one optimizer",
}


WITHOUT = {}  # method and further keys -> what a user sees of the run without the key


def keys():
    rows = re.findall(r"^KEY\((\w+), (\w+), (?:\"[^\"]*\"|[A-Z]+_NAMES), \"([^\"]*)\"",
                      (SOURCE / "engine/train/config.def").read_text(), re.M)
    return {name: BY.get(name, EVERY[zlib.crc32(name.encode()) % 2]) if methods == "*" else methods
            for _, name, methods in rows}


def dump(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_data(folder):
    def user(text):
        return [{"role": "user", "content": text}]

    def assistant(text):
        return [{"role": "assistant", "content": text}]

    pairs = [json.loads(line) for line in (GOLDEN / "data/pairs.jsonl").read_text().splitlines()]
    sft = [json.loads(line) for line in (GOLDEN / "data/sft_messages.jsonl").read_text().splitlines()]
    pairs = [row for row in pairs if row["chosen"] != row["rejected"] and row["chosen"][0]["content"]]
    long_pair = {"prompt": user("help"), "chosen": assistant(WORDS), "rejected": assistant("no " + WORDS)}
    dump(folder / "pairs.jsonl", pairs + [long_pair])
    dump(folder / "held.jsonl", pairs[:4])
    dump(folder / "triples.jsonl", [{**row, "reference": pairs[0]["chosen"]} for row in pairs])
    dump(folder / "bad.jsonl", pairs + [{**pairs[0], "rejected": pairs[0]["chosen"]}])
    dump(folder / "sft.jsonl", sft + [{"messages": user("help") + assistant(WORDS)}])
    dump(folder / "held_sft.jsonl", sft[:4])
    dump(folder / "bad_sft.jsonl", sft + [{"prompt": "a", "completion": ""}])
    dump(folder / "completion.jsonl",
         [{"prompt": f"where is {w}", "completion": f"look at {w}"} for w in "abcdefgh"])
    dump(folder / "prompts.jsonl", [{"prompt": f"where is {w}"} for w in "abcdef"])
    plain = [{"prompt": f"where is {w}", "chosen": f"here is {w}", "rejected": f"no {w}"} for w in "abcdefgh"]
    dump(folder / "plain.jsonl", plain)
    (folder / "template.jinja").write_text("{{ messages }}")
    tiny_model.plain_folder(folder / "wide", GOLDEN / "models" / "tiny_llama")
    # One layer: a run takes half the time of one with the goldens' model.
    tiny_model.plain_folder(folder / "tiny", GOLDEN / "models" / "tiny_llama", width=48)


def resolve(value, folder, method):
    if isinstance(value, dict) and set(value) <= set(METHODS.values()):
        value = value.get(method, value.get("dpo"))  # other methods of pairs as dpo
    if value == "ADAPTER":
        return str(folder / "adapter")
    if value in ("TINY", "WIDE"):
        return str(folder / value.lower())
    if value == "TEMPLATE":
        return str(folder / "template.jinja")
    return value


def run(folder, name, method, given):
    """What a user sees of a run: exit code, messages, plan, metrics, adapter."""
    out = folder / name
    over = {"grpo": SAMPLED, "rloo": SAMPLED, "online_dpo": {**SAMPLED, **DRAWN, "num_generations": None}}.get(method, {})
    config = {k: resolve(v, folder, method) for k, v in {**BASE, **over, **given}.items()}
    config = {k: v for k, v in config.items() if v is not None}
    config.setdefault("output_dir", str(out))
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    plan = harness.run("plan", path, *(["--method", method] if "method" not in given else []), "--json", code=None)  # what a key makes it refuse is an effect
    seen = {"plan": re.sub(r'"available":.*', "", plan.stdout)}  # free memory changes by itself
    trained = harness.run(method, path, code=None)
    seen["code"] = trained.returncode
    seen["messages"] = sorted(line for line in trained.stderr.splitlines()
                              if re.match("attune: (error|warning)|biggest|device", line))
    out = pathlib.Path(folder / config["output_dir"])
    for file in ("metrics.jsonl", "adapter_model.safetensors", "model.safetensors", "adapter_config.json"):
        seen[file] = (out / file).read_bytes() if (out / file).exists() else None
    seen["checkpoints"] = sorted(p.name for p in out.glob("checkpoint-*"))
    seen["events"] = sorted(p.name for p in out.glob("*tfevents*"))
    seen["completions"] = (out / "completions.jsonl").exists()
    seen["folder"] = config["output_dir"] if given.get("output_dir") else None
    if out.exists() and (out / "run.json").exists():
        record = json.loads((out / "run.json").read_text())
        seen["tokens"] = [record[k] for k in ("tokens_computed", "ref_forward_tokens")]
        seen["kernels"] = record["kernels"]
        seen["slab"] = record["device_bytes"]["slab"]
    if seen["code"] != 0 and not any("error" in line for line in seen["messages"]):
        raise RuntimeError(f"{name}: exit code {seen['code']} without an error line")
    return seen


def check(folder, key, method):
    other = OTHER[key]
    other, more = other if isinstance(other, tuple) else (other, {})
    if more.get("SFT") and method != "sft":
        more = {"disable_dropout": False}
    more = {k: v for k, v in more.items() if k != "SFT"}
    base = {k: resolve(v, folder, method) for k, v in more.items()}
    name = json.dumps([method, base], sort_keys=True)
    if name not in WITHOUT:  # most keys have the same one
        WITHOUT[name] = run(folder, f"{key}_{method}_without", method, base)
    without = WITHOUT[name]
    changed = run(folder, f"{key}_{method}_with", method, {**base, key: other})
    if without["code"] != 0:
        return f"{key} ({method}): the run without it fails: {without['messages']}"
    if without == changed:
        return f"{key} ({method}): {other!r} changes nothing that a user could see"
    return None


def main():
    known, failures = keys(), []
    only = sys.argv[3:]
    for key in sorted(set(known) - set(OTHER) - set(EXCEPTIONS)):
        failures.append(f"{key}: has no row in OTHER")
    for key in sorted((set(OTHER) | set(EXCEPTIONS)) - set(known)):
        failures.append(f"{key}: is in this test but not in config.def")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make_data(folder)
        first = run(folder, "first", "dpo", {"output_dir": str(folder / "adapter"),
                                            "load_best_model_at_end": False})
        if first["code"] != 0:
            sys.exit(f"the base run fails: {first['messages']}")
        cases = [(key, METHODS[m]) for key in sorted(known) if key in OTHER and (not only or key in only)
                 for m in known[key] if m not in SIBLINGS or known[key] in SIBLINGS]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            results = pool.map(lambda case: check(folder, *case), cases)
            failures += [result for result in results if result]
    for failure in failures:
        print("FAIL", failure)
    print(f"{len(cases)} keys by method, {len(failures)} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
