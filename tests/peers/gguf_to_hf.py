#!/usr/bin/env python3
"""Turns a llama-architecture GGUF file into a dequantised Hugging Face folder (float32).

Usage  gguf_to_hf.py FILE.gguf FOLDER [--no_generate]
       Prints what the file holds (tensor types, tokenizer, template), writes model.safetensors,
       config.json, tokenizer.json and tokenizer_config.json, then answers one prompt greedily as a
       sign of life.
Why    PEFT and TRL cannot train on a GGUF file. The folder is the same base with each block
       dequantised in float32, so that their log-probs can stand beside Attune's.
How    Weights: transformers reads the GGUF (it also undoes llama.cpp's order of q and k rows).
       Tokenizer: built here from the metadata, because the pre-tokenizer's name ("smollm") says
       more than transformers makes of it.
Needs  the environment of tests/peers/setup.sh.
"""

import argparse
import collections
import json
import os
from pathlib import Path

os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TRANSFORMERS_VERBOSITY="error",
    TQDM_DISABLE="1",
)

import gguf  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from tokenizers import AddedToken, Tokenizer, decoders, models  # noqa: E402
from tokenizers import pre_tokenizers, processors  # noqa: E402

transformers.utils.logging.disable_progress_bar()

CONTROL, USER_DEFINED = 3, 4  # token types of GGUF

# Name of the pre-tokenizer in the file -> what it does.
PRE_TOKENIZERS = {
    "smollm": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), byte_level()]
    ),
    "gpt-2": lambda: byte_level(),
}


def byte_level():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


class Metadata:
    """Key -> value of a GGUF file, read once."""

    def __init__(self, path):
        self.reader = gguf.GGUFReader(path)

    def get(self, key, default=None):
        field = self.reader.fields.get(key)
        return default if field is None else field.contents()

    def tensor_types(self):
        return collections.Counter(t.tensor_type.name for t in self.reader.tensors)


def describe(meta):
    print("tensor types:", dict(meta.tensor_types()))
    for key in meta.reader.fields:
        value = meta.get(key)
        if isinstance(value, list):
            value = f"{len(value)} items, first {value[:4]}"
        print(f"{key} = {value!r}")


def build_tokenizer(meta):
    """Byte-level BPE from tokens, merges and token types; control tokens become special tokens."""
    pre = meta.get("tokenizer.ggml.pre")
    if meta.get("tokenizer.ggml.model") != "gpt2" or pre not in PRE_TOKENIZERS:
        raise SystemExit(f"gguf_to_hf.py: error: unknown tokenizer (pre = {pre!r})")
    tokens = meta.get("tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ")) for m in meta.get("tokenizer.ggml.merges")]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[pre]()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    for token, kind in zip(tokens, meta.get("tokenizer.ggml.token_type"), strict=True):
        if kind in (CONTROL, USER_DEFINED):
            added = AddedToken(token, normalized=False, special=kind == CONTROL)
            (tokenizer.add_special_tokens if added.special else tokenizer.add_tokens)([added])
    assert tokenizer.get_vocab_size() == len(tokens)
    return tokenizer


def tokenizer_config(meta):
    tokens = meta.get("tokenizer.ggml.tokens")

    def token(kind):
        index = meta.get(f"tokenizer.ggml.{kind}_token_id")
        return None if index is None else tokens[index]

    return {
        "add_bos_token": bool(meta.get("tokenizer.ggml.add_bos_token", False)),
        "add_prefix_space": bool(meta.get("tokenizer.ggml.add_space_prefix", False)),
        "bos_token": token("bos"),
        "chat_template": meta.get("tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False,
        "eos_token": token("eos"),
        "pad_token": token("padding"),
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": token("unknown"),
    }


def convert(path, folder):
    meta = Metadata(path)
    describe(meta)
    folder.mkdir(parents=True, exist_ok=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    model.hf_quantizer = None  # the weights are plain float32 now; say so, or saving is refused
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    build_tokenizer(meta).save(str(folder / "tokenizer.json"))
    text = json.dumps(tokenizer_config(meta), indent=1, sort_keys=True)
    (folder / "tokenizer_config.json").write_text(text + "\n")


def answer(folder, question):
    """Greedy reply of the written folder, read back as any user would."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    messages = [{"role": "user", "content": question}]
    ids = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = model.generate(**ids, max_new_tokens=48, do_sample=False)
    return tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)


def main():
    parser = argparse.ArgumentParser(description="GGUF file to Hugging Face folder.")
    parser.add_argument("gguf", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--no_generate", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(2)
    convert(args.gguf, args.folder)
    if not args.no_generate:
        question = "What is the capital of France?"
        print(f"{question} -> {answer(args.folder, question)}")


if __name__ == "__main__":
    main()
