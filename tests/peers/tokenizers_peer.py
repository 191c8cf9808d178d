#!/usr/bin/env python3
"""Ids and texts of `attune tokenize` beside the `tokenizers` library's, on real tokenizers.

Usage  tokenizers_peer.py ATTUNE PEERS model|shared [--seed N]
       model   the GGUF file of setup.sh in the folder PEERS
       shared  each tokenizer.json (xz) of ../shared/tokenizers, beside this repository; exits 125
               with its reason where there is no such folder
How    2,500 strings with and without special tokens, and back; the text of each token. A MiB of
       one letter must take less than a processor second more than nothing takes.
Needs  the environment of tests/peers/setup.sh.
"""

import argparse
import json
import lzma
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
N_STRINGS, MAX_PIECES = 2500, 14
EXIT_SKIP = 125

# Pieces of the strings: each list is a kind of trouble, all kinds are equally likely.
PIECES = [
    [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r", "\n \n", " \t ", "\x0b", "\x0c"],
    ["\u00a0", "\u3000", "\u2003", "\u2028", "\u2029", "\u0085", "\u1680", "\u202f", "\u205f"],
    ["\u200b", "\ufeff", "\u00ad", "\u2060", "\u180e", "\u200c", "\u200d", "\u200e", "\u202e"],
    ["\x01", "\x1b[0m", "\x1c", "\x1f", "\x7f", "\u0080", "\ufffd", "\ufffe", "\U0010ffff", "\ue000"],
    ["the", " quick", "Brown", " FOX", "jumps.", " over", "camelCase", "snake_case", "x", " a"],
    ["I'm", " you're", "WE'LL", " they'Ve", "'S", "'d", "it's", "don\u2019t", "'\u017f", "''", "o'clock"],
    ["0", "7", "12", "345", "6789", " 2024", "3.14", "1,000,000", "0x1F", "1e-5", "\u00b2\u00b3\u00bd", "\u2167"],
    ["\uff11\uff12", "\u0663\u0664", "\u0be7\u0be8\u0be9", "\u0967", "\U0001d7d9", "\u2460", "\u5341", "\u3007"],
    ["!", "?!", "...", "---", "$100", "\u20ac", "\u00a7", "()", "[{<", "\"q\"", "\u2014", "\u2026", "@x", "#1", "\\n"],
    ["if (x == 1) {\n\t\treturn;\n}\n", "for i in range(10):\n    print(i)", "a->b::c", "/* */", "<p>&amp;</p>"],
    ["https://example.org/a?b=c&d=%20", "user@example.org", "C:\\dir\\x", "../..", "~/.x", "\u00b5s", "\u212b"],
    ["na\u00efve", "nai\u0308ve", "caf\u00e9", "cafe\u0301", "\u1e69", "s\u0323\u0307", "s\u0307\u0323", "\ufb01", "\u0301", "a\u0301\u0302\u0303"],
    ["\u4f60\u597d\uff0c\u4e16\u754c", "\u65e5\u672c\u8a9e\u30c6\u30b9\u30c8", "\uff76\uff9e", "\ud55c\uad6d\uc5b4", "\u1112\u1161\u11ab", "\U00020bb7", "\u3002"],
    ["\u041f\u0440\u0438\u0432\u0435\u0442", " \u043c\u0438\u0440", "\u0439", "\u0438\u0306", "\u0395\u03bb\u03bb\u03b7\u03bd", "\u03a3\u03c2", "\u10d0\u10d1", "\u0531\u0582", "\u1c90"],
    ["\u0645\u0631\u062d\u0628\u0627", "\u0644\u0627\u064b", "\u0640\u0640", "\u05e9\u05c1\u05dc\u05d5\u05dd", "\u06f1\u06f2", "\u200f", "\ufdfa", "\u0627\u0653"],
    ["\u0928\u092e\u0938\u094d\u0924\u0947", "\u0915\u094d\u0937", "\u0958", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u0bb5\u0ba3\u0b95\u0bcd", "\u0f40\u0f0b", "\u1780\u17d2\u1798", "\u10e9\u10d8"],
    ["\U0001f44d", "\U0001f44d\U0001f3fd", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f1e9\U0001f1ea", "\U0001f1e9", "1\ufe0f\u20e3", "\u2764\ufe0f"],
    ["\U0001d573\U0001d58a", "\u24b6\u24d0", "\u2102", "\U00010348", "\U0001f130", "\u02b0", "\u0e33", "\u1fb3", "\u01c5", "\u0130i\u0307"],
    ["<|im_start|>", "<|im_end|>\n", "<|endoftext|>", "<|begin_of_text|>", "<|eot_id|>", "<think>", "</think>\n\n"],
    ["<|im_end", "|>", "<|", "<|im_start|><|im_start|", "<|eot_id|", "<tool_call>", "<|fim_prefix|>", "<jupyter_code>", "<repo_name>"],
    ["<s>", "</s>", "<unk>", "[INST]", "<bos>", "<start_of_turn>user\n", "<end_of_turn>", "<pad>", "<0x0A>", "<unused0>"],
    ["\u2581", "\u2581\u2581the", "a\u2581b", " \u2581 ", "\u2581" * 17, " " * 16, " " * 5 + "x", "\t\t\t", "\n" * 4, "\n" * 33],
    ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "=" * 40, " " * 33, "\n" * 9, "-_" * 9, "ababababab", "\u00e9" * 17, "\u4e00" * 9],
]  # fmt: skip


def make_strings(seed):
    rng = random.Random(seed)
    single = ["", *(piece for kind in PIECES for piece in kind)]
    mixed = [
        "".join(rng.choice(rng.choice(PIECES)) for _ in range(rng.randint(2, MAX_PIECES)))
        for _ in range(N_STRINGS - len(single))
    ]
    return single + mixed


def run(attune, model, *flags, lines):
    return subprocess.run(
        [attune, "tokenize", "--model", str(model), "--json", *flags],
        input="".join(json.dumps(line) + "\n" for line in lines),
        text=True, capture_output=True,
    )  # fmt: skip


def ask(attune, model, *flags, lines):
    done = run(attune, model, *flags, lines=lines)
    if done.returncode != 0:
        sys.exit(f"tokenizers_peer.py: error: {model}: {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def compare(what, strings, ours, theirs):
    """Prints the first differences; their number."""
    wrong = [i for i in range(len(strings)) if i >= len(ours) or ours[i] != theirs[i]]
    for i in wrong[:3]:
        print(f"  {what}: {strings[i]!r}\n    attune     {ours[i] if i < len(ours) else None}\n"
              f"    tokenizers {theirs[i]}")  # fmt: skip
    return len(wrong)


MIB_S = 2.0  # of the processor: 0.2 to 0.8 s are usual, 1.05 s were seen on a shared core; merges a pair at a time take minutes


def seconds_of(attune, model, text):
    """Processor seconds, so that other work on the machine does not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ask(attune, model, lines=[text])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def check(attune, name, model, library, strings):
    wrong = 0
    for special, flags in ((True, ()), (False, ("--no_special_tokens",))):
        want = [library.encode(s, add_special_tokens=special).ids for s in strings]
        got = ask(attune, model, *flags, lines=strings)
        wrong += compare(f"{name}, special tokens {special}", strings, got, want)
    for skip, flags in ((True, ("--no_special_tokens",)), (False, ())):
        texts = library.decode_batch(want, skip_special_tokens=skip)
        got = ask(attune, model, "--decode", *flags, lines=want)
        wrong += compare(f"{name}, decoded, skip {skip}", want, got, texts)
    # Each token's own text: some are reached by no merge, some by others than one would think.
    tokens = library.decode_batch([[i] for i in range(library.get_vocab_size())], False)
    tokens = [t for t in tokens if "\0" not in t]  # JSON here ends strings with a 0
    got = ask(attune, model, "--no_special_tokens", lines=tokens)
    want = [row.ids for row in library.encode_batch(tokens, add_special_tokens=False)]
    wrong += compare(f"{name}, a token's text", tokens, got, want)
    letters = "a" * (1 << 20)
    wrong += compare(f"{name}, a MiB of a letter", ["a..."], ask(attune, model, lines=[letters]),
                     [library.encode(letters).ids])  # fmt: skip
    time_s = min(seconds_of(attune, model, letters) for _ in range(3))
    empty_s = min(seconds_of(attune, model, "") for _ in range(3))
    print(f"{name}: {len(strings)} strings, {len(tokens)} tokens, {wrong} differ; "
          f"a MiB of one letter {time_s:.2f} s, an empty line {empty_s:.2f} s")
    if time_s - empty_s >= MIB_S:
        print(f"{name}: a MiB of one letter takes {time_s - empty_s:.2f} s, not below {MIB_S} s")
    return wrong == 0 and time_s - empty_s < MIB_S


def check_model(attune, peers, strings):
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from gguf_to_hf import Metadata, build_tokenizer

    path = Path(peers) / MODEL
    library = build_tokenizer(Metadata(str(path)))
    library = getattr(library, "backend_tokenizer", library)
    return check(attune, "SmolLM2 (GGUF)", path, library, strings)


def unpack(source, name, folder):
    target = Path(folder) / name
    target.mkdir()
    for packed, file in ((".json.xz", "tokenizer.json"), (".config.json.xz", "tokenizer_config.json")):
        (target / file).write_bytes(lzma.open(source / (name + packed)).read())
    return target


def check_shared(attune, strings):
    source = ROOT.parent / "shared/tokenizers"
    if not source.is_dir():
        print(f"skipped: the folder of real tokenizers, {source}, does not exist")
        sys.exit(EXIT_SKIP)
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted(p.name.split(".")[0] for p in source.glob("*.config.json.xz")):
            model = unpack(source, name, folder)
            library = Tokenizer.from_file(str(model / "tokenizer.json"))
            good &= check(attune, name, model, library, strings)
    return good


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("attune")
    parser.add_argument("peers")
    parser.add_argument("which", choices=("model", "shared"))
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    strings = make_strings(args.seed)
    if args.which == "model":
        good = check_model(args.attune, args.peers, strings)
    else:
        good = check_shared(args.attune, strings)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
