#!/usr/bin/env python3
"""The real model's greedy replies to 50 prompts are those of transformers: greedy_peer.py ATTUNE PEERS

Token for token, in f32, over the same base (a GGUF file here, its dequantised folder there). Where two replies part,
both tokens must have been as good: over the words before, the two logits of transformers lie within NEAR of the
larger one. ATTUNE_GREEDY_TOKENS: the length of a reply at most (default 16; 96 takes some minutes on 2 cores).
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ATTUNE, PEERS = (pathlib.Path(path).resolve() for path in sys.argv[1:3])
GGUF, FOLDER = PEERS / "SmolLM2-135M-Instruct.Q4_1.gguf", PEERS / "SmolLM2-135M-Instruct-hf"
SAMPLES = pathlib.Path(__file__).resolve().parents[2] / "data" / "samples"
N, NEAR = 50, 1e-4
LENGTH = int(os.environ.get("ATTUNE_GREEDY_TOKENS", "16"))


def ours(prompts):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
        file.flush()
        out = subprocess.run([ATTUNE, "generate", GGUF, "--prompts", file.name, "--rollouts", "--num_generations", "2", "--temperature", "0",
                              "--max_new_tokens", str(LENGTH), "--quiet"], stdout=subprocess.PIPE, text=True, check=True)
    replies = [json.loads(line)["completions"] for line in out.stdout.splitlines()]
    assert all(a == b for a, b in replies), "greedy replies to one prompt differ"
    return [a for a, _ in replies]


def theirs(model, prompts, end):
    """All prompts at once, padded in front; a reply is cut behind the token that ends it."""
    width = max(map(len, prompts))
    ids = torch.tensor([[end] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    with torch.no_grad():
        out = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=LENGTH, pad_token_id=end)
    replies = [reply.tolist() for reply in out[:, width:]]
    return [reply[:reply.index(end) + 1] if end in reply else reply for reply in replies]


def gap(model, prompt, a, b):
    """Where replies a and b part, how far apart transformers' logits of the two tokens are, and of which size."""
    place = next(i for i, (x, y) in enumerate(zip(a, b)) if x != y)
    with torch.no_grad():
        logits = model(torch.tensor([prompt + a[:place]])).logits[0, -1].double()
    pair = logits[[a[place], b[place]]]
    return place, (pair[0] - pair[1]).abs().item(), pair.abs().max().item()


def main():
    torch.set_num_threads(os.cpu_count() or 1)
    lines = (SAMPLES / "tone_train.jsonl").read_text().splitlines()
    chats = [json.loads(line)["prompt"] for line in lines[:N]]
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    prompts = [tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False) for chat in chats]
    got = ours(chats)
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    want = theirs(model, prompts, tokenizer.eos_token_id)
    good, equal = len(got) == N, 0
    for i, (prompt, a, b) in enumerate(zip(prompts, got, want)):
        if a == b:
            equal += 1
            continue
        place, difference, size = gap(model, prompt, a, b)
        near = difference < NEAR * size
        good = good and near
        print(f"{'near' if near else 'FAIL'} prompt {i} parts at token {place}: logits of {size:.4f} are {difference:.2e} apart")
    print(f"{equal} of {N} greedy replies of {LENGTH} tokens at most are equal to transformers'")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
