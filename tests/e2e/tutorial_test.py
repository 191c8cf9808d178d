#!/usr/bin/env python3
# labels: slow
"""The tutorial of data/README.md, every command as it stands, with a tiny model: each command of attune succeeds (eval:
any verdict) and names a next one; its table is part of the samples. Of the training three steps are enough here;
tests/peers/tutorial_peer.py runs the other programs.
tutorial_test.py SOURCE_DIR BUILD_DIR
"""
import csv
import json
import os
import pathlib
import re
import subprocess
import tempfile

from harness import BUILD, GOLDEN, SOURCE, UNVALIDATED

MODEL = GOLDEN / "models" / "tiny_llama"
VERDICTS = (0, 1, 3)


def blocks(source):
    text = (source / "data" / "README.md").read_text().split("## Tutorial", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```sh\n(.*?)```", text, re.S)


def table_is_of_the_samples():
    pairs = {}
    for line in (SOURCE / "data" / "samples" / "tone_train.jsonl").open():
        row = json.loads(line)
        pairs[row["prompt"][-1]["content"]] = (row["rejected"][0]["content"], row["chosen"][0]["content"])
    rows = list(csv.DictReader((SOURCE / "data" / "samples" / "rewrites.csv").open(newline="")))
    assert len(rows) == 40
    for row in rows:
        assert pairs[row["Question"]] == (row["Old reply"], row["New reply"]), row["Question"]


def run(command, work):
    """A command of the tutorial; its variables are those of the test. Other tests run these kernels with validation."""
    env = {**UNVALIDATED, "PATH": f"{BUILD}:{os.environ['PATH']}", "model": str(MODEL), "work": str(work)}
    out = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=SOURCE, env=env, timeout=600)
    codes = VERDICTS if command.startswith("attune eval") else (0,)
    assert out.returncode in codes, f"{command}\nexit {out.returncode}\n{out.stdout}\n{out.stderr}"
    assert re.search(r"^next +\S", out.stderr, re.M) or out.returncode, f"{command}: no next command\n{out.stderr}"


def main():
    table_is_of_the_samples()
    setup, *rest = blocks(SOURCE)
    assert [line.split("=")[0] for line in setup.splitlines()[:3]] == ["PATH", "model", "work"], setup
    assert [block.splitlines()[0] for block in rest if block.startswith("# ")] == ["# llama.cpp", "# transformers"]
    done = []
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        for block in rest:
            if block.startswith("# "):
                continue
            for command in block.replace("\\\n", "").splitlines():
                run(command + (" --max_steps 3" if command.startswith("attune dpo") else ""), work)
                done.append(command.split()[1])
        assert json.loads((work / "tone" / "eval.json").read_text())["texts"] and (work / "tone.gguf").stat().st_size > 0
        assert (work / "tone" / "report.html").exists()
    assert {"data", "plan", "dpo", "eval", "report", "generate", "export"} <= set(done), done
    print(f"tutorial: {len(done)} commands")


if __name__ == "__main__":
    main()
