#!/usr/bin/env python3
"""Chats as `attune tokenize --chat --render` writes them beside transformers' apply_chat_template.

Usage  chats_peer.py ATTUNE PEERS [--seed N]      (PEERS: the folder of setup.sh, with the model)
How    Every template that trl ships, those of ../shared/tokenizers where they are at hand, the
       model's own and those of tests/unit/fixtures/chats, each given by its own text: the
       conversations of make_chats.py and 60 by seed; with and without generation prompt, tools,
       thoughts and variables. What transformers refuses must be refused with one sentence. One
       conversation is compared as ids.
Needs  the environment of tests/peers/setup.sh.
"""

import argparse
import json
import lzma
import random
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent / "unit/fixtures")]

import make_chats  # noqa: E402
import trl  # noqa: E402
from gguf_to_hf import Metadata, build_tokenizer, tokenizer_config  # noqa: E402
from transformers import PreTrainedTokenizerFast  # noqa: E402

N_CONVERSATIONS, MAX_TURNS, MAX_PIECES = 60, 6, 5
EXIT_DATA = 65
PIECES = ["Hello", " ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u2028", "\x1c", "\u200b", "\ufeff", "\u3000",
          "caf\u00e9", "\u4f60\u597d", "\U0001f468\u200d\U0001f469", "<think>", "</think>", "<think>\n", "\n</think>\n\n",
          "<tool_response>", "</tool_response>", "<|im_end|>", "<|eot_id|>", "{{ x }}", "{% if %}", "'", '"', "\\",
          "\x85", "x", "user", "26 Jul 2024"]  # fmt: skip


def make_requests(seed):
    rng = random.Random(seed)

    def content():
        return "".join(rng.choice(PIECES) for _ in range(rng.randint(0, MAX_PIECES)))

    roles = ["system", "user", "user", "assistant", "assistant"]
    made = []
    for i in range(N_CONVERSATIONS):
        n = rng.randint(1, MAX_TURNS)
        in_turn = [["user", "assistant"][k % 2] for k in range(n)]
        free = [rng.choice(roles) for _ in range(n)]
        made.append([{"role": r, "content": content()} for r in (in_turn if i % 2 else free)])
    return [*make_chats.requests(), *({"messages": m} for m in made)]


def texts():
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja")):
        yield f"trl {path.stem}", make_chats.read_exactly(path)
    for packed in sorted((ROOT.parent / "shared/tokenizers").glob("*.config.json.xz")):
        yield packed.name, json.loads(lzma.open(packed).read())["chat_template"]
    yield from make_chats.template_texts()


class Attune:
    def __init__(self, program, model, folder):
        self.folder = Path(folder)
        self.command = [program, "tokenize", "--model", str(model), "--chat"]
        self.file = self.folder / "template.jinja"

    def own_tokens(self):
        """A tiny tokenizer with the special tokens that make_chats.py renders with."""
        folder = self.folder / "tokenizer"
        folder.mkdir()
        tiny = ROOT / "tests/golden/models/tiny_llama"
        tokenizer = json.loads((tiny / "tokenizer.json").read_text())
        added = tokenizer["added_tokens"]
        last = max([*tokenizer["model"]["vocab"].values(), *(token["id"] for token in added)])
        for i, text in enumerate(make_chats.TOKENS.values()):
            if text not in [token["content"] for token in added]:
                added.append({**added[0], "id": last + 1 + i, "content": text})
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        (folder / "tokenizer_config.json").write_text(json.dumps(make_chats.TOKENS))
        return ["--tokenizer", str(folder)]

    def run(self, template, requests, *flags):
        self.file.write_bytes(template.encode())
        lines = "".join(json.dumps(r) + "\n" for r in requests)
        return subprocess.run([*self.command, "--chat_template", str(self.file), *flags],
                              input=lines, text=True, capture_output=True)  # fmt: skip

    def ask(self, template, requests, *flags):
        done = self.run(template, requests, *flags)
        if done.returncode != 0:
            sys.exit(f"chats_peer.py: error: {done.stderr.strip()}")
        return [json.loads(line) for line in done.stdout.split("\n") if line]


def is_refused(attune, template, requests, flags):
    done = attune.run(template, requests, *flags)
    return done.returncode == EXIT_DATA and done.stderr.count("\n") == 1


def check(attune, name, template, requests, flags):
    tokenizer = make_chats.tokenizer_with(template)
    wrong = refused = 0
    for generation in (False, True):
        own = ["--render", *flags, *(["--add_generation_prompt"] if generation else [])]
        want = [make_chats.render(tokenizer, r, generation) for r in requests]
        good = [(r, w) for r, w in zip(requests, want, strict=True) if w is not None]
        bad = [r for r, w in zip(requests, want, strict=True) if w is None]
        refused += len(bad)
        done = attune.run(template, [r for r, _ in good], *own)
        ours = [json.loads(line) for line in done.stdout.split("\n") if line]
        for (request, text), got in zip(good, ours):
            if got != text:
                wrong += 1
                print(f"  {name}: {request}\n    attune       {got!r}\n    transformers {text!r}")
        if len(ours) < len(good):
            wrong += 1
            print(f"  {name}: {good[len(ours)][0]}\n    attune       {done.stderr.strip()}")
        for request in bad[:: max(1, len(bad) // 4)]:
            if not is_refused(attune, template, [request], own):
                wrong += 1
                print(f"  {name}: not refused: {request}")
    print(f"{name}: {2 * len(requests)} chats, {refused} refused, {wrong} differ")
    return wrong == 0


def check_ids(attune, path, conversation):
    """The model's own template and tokenizer: the ids that training and generation begin with."""
    meta = Metadata(str(path))
    config = tokenizer_config(meta)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(meta), chat_template=config["chat_template"]
    )
    want = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_dict=False)
    (got,) = attune.ask(config["chat_template"], [{"messages": conversation}], "--add_generation_prompt")
    print(f"ids of a chat: {len(want)}, {'equal' if got == want else f'differ: {got} {want}'}")
    return got == want


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("attune")
    parser.add_argument("peers")
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args()
    model = Path(args.peers) / make_chats.MODEL.name
    requests = make_requests(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        attune = Attune(args.attune, model, folder)
        flags = attune.own_tokens()
        good = [check(attune, *row, requests, flags) for row in texts()]
        good.append(check_ids(attune, model, make_chats.CONVERSATIONS[2]))
    print(f"{sum(good)} of {len(good)} agree")
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
