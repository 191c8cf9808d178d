#!/usr/bin/env python3
"""Chats as `attune tokenize --chat --render` writes them beside transformers' apply_chat_template.

Usage  chats_peer.py ATTUNE PEERS [--seed N]      (PEERS: the folder of setup.sh, with the model)
How    Every known template is given by its own text, so that recognition is compared, too: 120
       conversations by seed, with and without generation prompt; one conversation as ids. Llama
       3.2's template and one that nobody knows must be refused with one sentence.
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

N_CONVERSATIONS, MAX_TURNS, MAX_PIECES = 120, 6, 5
EXIT_DATA = 65
PIECES = ["Hello", " ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u2028", "\x1c", "\u200b", "\ufeff", "\u3000",
          "caf\u00e9", "\u4f60\u597d", "\U0001f468\u200d\U0001f469", "<think>", "</think>", "<think>\n", "\n</think>\n\n",
          "<tool_response>", "</tool_response>", "<|im_end|>", "<|eot_id|>", "{{ x }}", "{% if %}", "'", '"', "\\",
          "\x85", "x", "user", "26 Jul 2024"]  # fmt: skip


def make_conversations(seed):
    rng = random.Random(seed)

    def content():
        return "".join(rng.choice(PIECES) for _ in range(rng.randint(0, MAX_PIECES)))

    roles = ["system", "user", "user", "assistant", "assistant"]
    made = [
        [{"role": rng.choice(roles), "content": content()} for _ in range(rng.randint(1, MAX_TURNS))]
        for _ in range(N_CONVERSATIONS)
    ]
    return make_chats.CONVERSATIONS + made


def texts():
    """The templates of the unit test, and the other revision of Qwen3's where it is at hand."""
    yield from make_chats.template_texts()
    packed = ROOT.parent / "shared/tokenizers/qwen3.config.json.xz"
    if packed.exists():
        yield "Qwen3 (first)", json.loads(lzma.open(packed).read())["chat_template"], None
    else:
        print(f"not compared: the first revision of Qwen3's template ({packed} does not exist)")


class Attune:
    def __init__(self, program, model, folder):
        self.command = [program, "tokenize", "--model", str(model), "--chat"]
        self.file = Path(folder) / "template.jinja"

    def tokenizer_with_bos(self, bos):
        """A tiny tokenizer that has the BOS which a template writes: another model's is refused."""
        folder = self.file.parent / "tokenizer"
        folder.mkdir(exist_ok=True)
        tiny = ROOT / "tests/golden/models/tiny_llama"
        tokenizer = json.loads((tiny / "tokenizer.json").read_text())
        added = tokenizer["added_tokens"]
        if bos not in [token["content"] for token in added]:
            last = max([*tokenizer["model"]["vocab"].values(), *(token["id"] for token in added)])
            added.append({**added[0], "id": last + 1, "content": bos})
        config = json.loads((tiny / "tokenizer_config.json").read_text())
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": bos}))
        return ["--tokenizer", str(folder)]

    def run(self, template, conversations, *flags):
        self.file.write_bytes(template.encode())
        lines = "".join(json.dumps({"messages": c}) + "\n" for c in conversations)
        return subprocess.run([*self.command, "--chat_template", str(self.file), *flags],
                              input=lines, text=True, capture_output=True)  # fmt: skip

    def ask(self, template, conversations, *flags):
        done = self.run(template, conversations, *flags)
        if done.returncode != 0:
            sys.exit(f"chats_peer.py: error: {done.stderr.strip()}")
        return [json.loads(line) for line in done.stdout.split("\n") if line]


def check(attune, name, template, bos, conversations):
    tokenizer = make_chats.tokenizer_with(template, bos)
    wrong = 0
    for generation in (False, True):
        flags = ["--render", *(["--add_generation_prompt"] if generation else [])]
        flags += attune.tokenizer_with_bos(bos) if bos else []
        ours = attune.ask(template, conversations, *flags)
        for conversation, got in zip(conversations, ours, strict=True):
            want = make_chats.render(tokenizer, conversation, generation)
            if got != want:
                wrong += 1
                print(f"  {name}: {conversation}\n    attune       {got!r}\n    transformers {want!r}")
    print(f"{name}: {len(conversations)} conversations, {wrong} differ")
    return wrong == 0


def check_ids(attune, path, conversation):
    """The model's own template and tokenizer: the ids that training and generation begin with."""
    meta = Metadata(str(path))
    config = tokenizer_config(meta)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(meta), chat_template=config["chat_template"]
    )
    want = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_dict=False)
    (got,) = attune.ask(config["chat_template"], [conversation], "--add_generation_prompt")
    print(f"ids of a chat: {len(want)}, {'equal' if got == want else f'differ: {got} {want}'}")
    return got == want


def is_refused(attune, what, template, word):
    done = attune.run(template, [make_chats.CONVERSATIONS[0]], "--render")
    print(f"{what}: exit {done.returncode}: {done.stderr.strip()}")
    return done.returncode == EXIT_DATA and done.stderr.count("\n") == 1 and word in done.stderr


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("attune")
    parser.add_argument("peers")
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args()
    model = Path(args.peers) / make_chats.MODEL.name
    conversations = make_conversations(args.seed)
    shipped = Path(trl.__file__).parent / "chat_templates"
    with tempfile.TemporaryDirectory() as folder:
        attune = Attune(args.attune, model, folder)
        good = [check(attune, *row, conversations) for row in texts()]
        good.append(check_ids(attune, model, make_chats.CONVERSATIONS[2]))
        llama = make_chats.read_exactly(shipped / "llama3_2.jinja")
        good.append(is_refused(attune, "Llama 3.2", llama, "today's date"))
        good.append(is_refused(attune, "unknown", "{{ messages }}", "ChatML, Llama 3, "))
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
