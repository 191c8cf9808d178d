#!/usr/bin/env python3
# labels: quick
"""attune generate, many replies at once: the same whatever runs beside them, printed in the order of the prompts; with
0 temperature what one reply at a time gives; limits and flags that do not go together.
generate_test.py SOURCE_DIR BUILD_DIR
"""
import functools
import json
import pathlib
import tempfile

import harness
from harness import GOLDEN

MODEL = GOLDEN / "models" / "tiny_llama"
PROMPTS = ["a", "where is my order", "thank you " * 15, "we do not ship there", "x y z"]
run = functools.partial(harness.run, "generate", MODEL, "--raw")


def lines(*arguments):
    return [json.loads(line) for line in run("--json", *arguments).stdout.splitlines()]


def main():
    with tempfile.TemporaryDirectory() as work:
        file = pathlib.Path(work) / "prompts.jsonl"
        file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in PROMPTS))
        sampled = ["--prompts", file, "--num_generations", 3, "--temperature", 1.2, "--top_p", 0.9, "--top_k", 80,
                   "--repetition_penalty", 1.1, "--max_new_tokens", 24, "--min_new_tokens", 3]
        all_at_once = lines(*sampled)
        assert [(x["prompt"], x["reply"]) for x in all_at_once] == [(p, r) for p in range(5) for r in range(3)]
        assert all(3 <= x["n_tokens"] <= 24 and x["logp"] < 0 for x in all_at_once)
        assert len({x["text"] for x in all_at_once}) > 10, all_at_once
        for at_once in (2, 4):
            assert lines(*sampled, "--parallel", at_once) == all_at_once, at_once
        shown = run(*sampled).stdout
        heads = [line for line in shown.splitlines() if line.startswith("--- ")]
        assert heads == [f"--- {p + 1}, reply {r + 1} ---" for p in range(5) for r in range(3)], heads
        assert all(x["text"].strip() in shown for x in all_at_once)

        greedy = ["--prompts", file, "--max_new_tokens", 12]
        one_by_one, together = lines(*greedy, "--parallel", 1), lines(*greedy)
        for a, b in zip(one_by_one, together, strict=True):
            assert a["text"] == b["text"] and abs(a["logp"] - b["logp"]) < 1e-3, (a, b)
        longest = max(together, key=lambda line: len(line["text"]))
        stop = longest["text"][3:6]
        cut = lines(*greedy, "--stop", stop)[longest["prompt"]]
        assert len(stop) == 3 and cut["text"] == longest["text"].split(stop)[0] and cut["end"] == "stop", cut
        for line in together:
            assert line["end"] == ("length" if line["n_tokens"] == 12 else "stop"), line
        n_cut = sum(line["end"] == "length" for line in together)
        assert n_cut > 1 and f"cut      {n_cut} of 5 replies at their limit of 12 tokens: --max_new_tokens N\n" in run(*greedy).stderr
        one = ["--prompt", PROMPTS[longest["prompt"]], "--max_new_tokens"]
        assert "cut      the reply at its limit of 4 tokens" in run(*one, 4).stderr
        assert "cut      the reply where the model has no more positions\n" in run("--prompt", PROMPTS[0], "--max_new_tokens", 1000).stderr
        assert run(*one, 4, "--quiet").stderr == ""
        assert "cut " not in run(*one, 12, "--stop", stop).stderr
        error = run("--prompt", "a", "--pairs", "--parallel", 2, code=2).stderr
        assert "--parallel is of plain replies" in error, error
    print("ok")


main()
