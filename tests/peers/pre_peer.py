#!/usr/bin/env python3
"""Ids of `attune tokenize` for GGUF files with each name of a pre-tokenizer, and for a tokenizer.json
with each of many split patterns, beside `tokenizers`.

Usage  pre_peer.py ATTUNE PEERS [--seed N]
How    The vocabulary and merges of the real model in the folder PEERS under other names; what each
       name means is written here from the models' own tokenizer.json.
Needs  the environment of tests/peers/setup.sh.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from gguf_to_hf import Metadata
from sentencepiece_peer import vocabulary_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as pre
from tokenizers_peer import MODEL, ask, compare, make_strings

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n%s]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def llama(digits):
    return WORDS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + digits + REST % ""


def cased(end, digits):
    one = r"[^\r\n\p{L}\p{N}]?" + UPPER + "%s" + LOWER + "%s" + end
    return one % ("*", "+") + "|" + one % ("+", "*") + r"|\p{N}" + digits + REST % "/"


def splits(*patterns):
    return [pre.Split(Regex(p), "isolated") for p in patterns] + [pre.ByteLevel(False, use_regex=False)]


BYTES = pre.ByteLevel(add_prefix_space=False)
CHINESE = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
ASCII = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"""
# name: (parts, NFC, whole words before merges)
PRES = {
    "command-r": ([pre.Digits(True), BYTES], True, False),
    "dbrx": (splits(llama("{1,3}")), False, False),
    "deepseek-coder": (
        [pre.Split(Regex(p), "isolated") for p in ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CHINESE)]
        + [pre.Digits(True), pre.ByteLevel(False, use_regex=False)],
        False, False,
    ),
    "deepseek-v3": (
        splits(
            r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
            ASCII + r"[A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        False, False,
    ),
    "falcon": ([pre.Punctuation("contiguous"), BYTES, pre.Split(Regex("[0-9][0-9][0-9]"), "isolated")], False, False),
    "falcon3": (splits(llama("{1,3}")), False, True),
    "gpt-2": ([BYTES], False, False),
    "gpt-4o": (splits(cased(WORDS + "?", "{1,3}")), False, False),
    "olmo": ([BYTES], True, False),
    "qwen2": (splits(llama("")), True, False),
    "starcoder": ([pre.Digits(True), BYTES], False, False),
    "stablelm2": (splits(llama("")), False, False),
    "tekken": (splits(cased("", "")), False, True),
}  # fmt: skip


# Escapes, properties, scripts, classes, look around, flags, bounds.
PATTERNS = (
    r"\w+|\W", r"[\w.-]+|[^\w\s]|\s", r"\bthe\b|[\w']+|.", r"\b|\n", r"[^\w]+", r"\w{2,3}|\d\d?|\D",
    r"\p{Lu}\p{Ll}+|\p{N}{1,3}|\p{P}+|\p{S}|\p{Z}+|\p{M}", r"\p{Lt}|\p{Lm}|\p{Lo}+|\p{Nl}|\p{No}|\p{Nd}+",
    r"\p{Han}+|\p{Hiragana}+|\p{Katakana}+|\p{Hangul}+|\p{Cyrillic}+|\p{Greek}+|\p{Arabic}+|\p{Thai}+",
    r"\P{L}+|\p{Latin}+", r"[\p{Han}\p{^Latin}]+|\P{^Cyrillic}", r"\p{Sc}\p{Nd}+|\p{Sm}|\p{Sk}|\p{So}+|\p{Pd}|\p{Ps}|\p{Pe}|\p{Pi}|\p{Pf}|\p{Pc}|\p{Po}+",
    r"(?<=[a-z])(?=[A-Z])|\s+(?=\S)|(?<!\w)\d+(?!\w)", r"(?i:[k-s]+)|(?i)the|\S+", r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\s*[\r\n]+",
    r"\p{Cc}|\p{Cf}|\p{Zs}|\p{Zl}|\p{Zp}", r"[\p{L}&&[a-z]]?x",
)  # fmt: skip


def check_patterns(attune, folder, metadata, strings):
    """A pattern that is refused is refused by name."""
    tokens, merges = metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.merges")
    library = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges]))
    library.decoder = decoders.ByteLevel()
    wrong = 0
    for pattern in PATTERNS:
        for behavior, invert in (("isolated", False), ("removed", True), ("merged_with_previous", False)):
            library.pre_tokenizer = pre.Sequence(
                [pre.Split(Regex(pattern), behavior, invert), pre.ByteLevel(False, use_regex=False)]
            )
            library.save(str(folder / "tokenizer.json"))
            if "&&" in pattern:
                run = subprocess.run([attune, "tokenize", "--model", folder, "--json"], input="", text=True,
                                     capture_output=True)
                wrong += run.returncode != 65 or 'the pattern has "' not in run.stderr
                continue
            want = [row.ids for row in library.encode_batch(strings, add_special_tokens=False)]
            wrong += compare(pattern, strings, ask(attune, folder, "--no_special_tokens", lines=strings), want)
    print(f"{len(PATTERNS)} patterns, 3 behaviors: {wrong} differ")
    return wrong == 0


def check(attune, path, name, metadata, strings):
    tokens, merges = metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.merges")
    parts, nfc, ignore_merges = PRES[name]

    def add(writer):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(name)
        writer.add_token_list(tokens)
        writer.add_token_types([1] * len(tokens))
        writer.add_token_merges(merges)

    vocabulary_file(path, add)
    library = Tokenizer(
        models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges],
                   ignore_merges=ignore_merges)
    )  # fmt: skip
    library.pre_tokenizer = pre.Sequence(parts)
    library.decoder = decoders.ByteLevel()
    if nfc:
        library.normalizer = normalizers.NFC()
    want = [row.ids for row in library.encode_batch(strings, add_special_tokens=False)]
    wrong = compare(name, strings, ask(attune, path, "--no_special_tokens", lines=strings), want)
    print(f"{name}: {len(strings)} strings, {wrong} differ")
    return wrong == 0


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("attune")
    parser.add_argument("peers")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    metadata, strings = Metadata(str(Path(args.peers) / MODEL)), make_strings(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.gguf"
        good = [check(args.attune, path, name, metadata, strings) for name in PRES]
        path.unlink()
        good.append(check_patterns(args.attune, Path(folder), metadata, strings[::3]))
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
