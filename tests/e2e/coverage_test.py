#!/usr/bin/env python3
"""attune data coverage: prompts of a log that training has are at distance 0 of their own line, others come first and
are written out for generate; what follows from one prompt does not depend on the others.
coverage_test.py SOURCE_DIR BUILD_DIR
"""
import functools
import json
import pathlib
import tempfile

import harness
from harness import GOLDEN

MODEL = GOLDEN / "models" / "tiny_llama"
run = functools.partial(harness.run, "data", "coverage")


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def user(text):
    return [{"role": "user", "content": text}]


def reply(text):
    return [{"role": "assistant", "content": text}]


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    asked = [f"where is the {thing}" for thing in ("tea", "salt", "jam", "cup", "spoon", "bread", "milk", "key")]
    new = ["help ! thank you kind dear friend", "sorry , nothing 9 7 5 3"]
    train = write(work / "train.jsonl", [{"prompt": user(q), "chosen": reply("gladly"), "rejected": reply("no")} for q in asked])
    log = work / "log.jsonl"
    log.write_text("\n" + "".join(json.dumps({"messages": user(q) + reply("yes")}) + "\n" for q in asked[::-1] + new))
    flags = [train, "--against", log, "--model_name_or_path", MODEL, "--json"]
    found = json.loads(run(*flags).stdout)
    assert (found["training_prompts"], found["prompts"], len(found["farthest"])) == (8, 10, 10), found
    listed = found["farthest"]
    assert [row["distance"] for row in listed] == sorted((row["distance"] for row in listed), reverse=True)
    assert {row["prompt"] for row in listed[:2]} == set(new), listed
    assert all(row["distance"] > 0.1 for row in listed[:2]) and found["far_beyond"] >= 1, listed
    for row in listed[2:]:  # the log has them the other way round, from line 2 on
        assert abs(row["distance"]) < 1e-4 and row["nearest_line"] == 10 - row["line"], row
    assert found["far"] == sum(row["distance"] > found["far_beyond"] for row in listed)

    few = json.loads(run(train, "--against", write(work / "few.jsonl", [{"prompt": new[1]}]), *flags[3:]).stdout)
    alone = next(row for row in listed if row["prompt"] == new[1])
    assert abs(few["farthest"][0]["distance"] - alone["distance"]) < 1e-3, (few, alone)

    out = work / "next.jsonl"
    text = run(*flags[:-1], "--n", 2, "--output", out)
    assert f"{log}:{listed[0]['line']}: " in text.stdout.splitlines()[0] and "--pairs" in text.stderr.splitlines()[-1]
    assert [json.loads(line) for line in out.open()] == [{"prompt": user(row["prompt"])} for row in listed[:2]]
    refused = run(*flags, "--output", out, code=73)  # before anything is computed
    assert "exists" in refused.stderr and "device" not in refused.stderr and not refused.stdout, refused
    refused = run(*flags, "--output", work / "none" / "next.jsonl", code=73)
    assert "there is no folder" in refused.stderr and "device" not in refused.stderr and not refused.stdout, refused
    assert "fewer than two" in run(write(work / "one.jsonl", [{"prompt": "tea"}] * 3), *flags[1:], code=65).stderr
    assert "--against" in run(train, "--model_name_or_path", MODEL, code=2).stderr
