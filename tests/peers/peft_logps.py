#!/usr/bin/env python3
"""Summed log-probs of chosen and rejected by transformers + PEFT (float32), beside `attune score`.

Usage  peft_logps.py BASE_FOLDER ROWS.jsonl [--adapter FOLDER] [--max_length N] [--tokens]
       ROWS holds TRL preference rows (explicit prompt, conversational or plain) or SFT rows
       (messages, or prompt and completion). One object a line on stdout, as `attune score --json`
       prints it: {"row": 0, "chosen": {"logp": -12.5, "n_tokens": 7}, "rejected": {...}}, or
       {"row": 0, "completion": {...}}; --tokens adds "ids" and "token_logps".
Why    An adapter that loads with a missing or an unexpected key trains fine and does nothing
       elsewhere: any such key ends this program with an error, before a number is printed.
Needs  the environment of tests/peers/setup.sh.
"""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TRANSFORMERS_VERBOSITY="error")

import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from trl.data_utils import common_prefix_length  # noqa: E402


transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore")  # PEFT's guesses about vocabularies, deprecations


def fail(message):
    sys.exit(f"peft_logps.py: error: {message}")


def load_adapter(base, folder):
    """The base with the adapter on it; fails unless file and model name the same tensors."""
    config = peft.LoraConfig.from_pretrained(folder)
    config.inference_mode = True
    model = peft.get_peft_model(base, config)
    weights = load_file(Path(folder) / "adapter_model.safetensors")
    wanted = set(peft.get_peft_model_state_dict(model, save_embedding_layers=False))
    missing, unexpected = sorted(wanted - set(weights)), sorted(set(weights) - wanted)
    result = peft.set_peft_model_state_dict(model, weights)
    unexpected += [k for k in result.unexpected_keys if k not in unexpected]
    if missing or unexpected:
        fail(f"{folder}: missing keys {missing[:3]}, unexpected keys {unexpected[:3]}")
    print(f"{folder}: {len(weights)} tensors, 0 missing, 0 unexpected", file=sys.stderr)
    return model


def load_model(base, adapter):
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return (load_adapter(model, adapter) if adapter else model).eval()


def encode(tokenizer, prompt, completion):
    """Ids of the prompt alone and of prompt + completion, as TRL 1.16 makes them."""
    if isinstance(prompt, list):
        alone = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)
        whole = tokenizer.apply_chat_template(prompt + completion, return_dict=True)
    else:
        eos = "" if completion.endswith(tokenizer.eos_token) else tokenizer.eos_token
        alone, whole = tokenizer(prompt), tokenizer(prompt + completion + eos)
    return alone["input_ids"], whole["input_ids"]


def sides_of(tokenizer, row):
    """name -> (ids, prompt length); both sides of a pair share the shorter boundary."""
    if "messages" in row:
        ids = tokenizer.apply_chat_template(row["messages"], return_dict=True)["input_ids"]
        return {"completion": (ids, 0)}
    names = ("chosen", "rejected") if "chosen" in row else ("completion",)
    if "prompt" not in row:
        fail("rows without a prompt are not read here")
    pairs = {name: encode(tokenizer, row["prompt"], row[name]) for name in names}
    boundary = min(common_prefix_length(alone, whole) for alone, whole in pairs.values())
    return {name: (whole, boundary) for name, (_, whole) in pairs.items()}


def score(model, ids, prompt_len, tokens):
    """Log-probs of ids[prompt_len:] (never of the first token), one unpadded row."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].double()
    picked = torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    kept = picked[max(prompt_len - 1, 0) :].tolist()
    out = {"logp": sum(kept), "n_tokens": len(kept)}
    return {**out, "ids": ids, "token_logps": kept} if tokens else out


def main():
    parser = argparse.ArgumentParser(description="Per-row log-probs by transformers and PEFT.")
    parser.add_argument("base", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--max_length", type=int)
    parser.add_argument("--tokens", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.base)
    model = load_model(args.base, args.adapter)
    for number, line in enumerate(args.rows.read_text().splitlines()):
        record = {"row": number}
        for name, (ids, prompt_len) in sides_of(tokenizer, json.loads(line)).items():
            record[name] = score(model, ids[: args.max_length], prompt_len, args.tokens)
        print(json.dumps(record))


if __name__ == "__main__":
    main()
