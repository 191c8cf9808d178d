#!/usr/bin/env python3
"""The tutorial of data/README.md with the real model: what trains and exports in it, then its blocks for llama.cpp and
for transformers as they stand: transformers replies as attune generate does; of llama.cpp, which computes on Q4_1 and
writes the prompt by its own reading of the template, a reply is asked for (llama_cpp_peer.py compares ids in f32). tutorial_peer.py ATTUNE PEERS

llama.cpp is Debian's (see llama_cpp_peer.py); without it the test skips. Four steps are trained, not three epochs.
"""
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import llama_cpp
from llama_cpp_peer import ATTUNE, DEBIAN, FOLDER, GGUF, PEERS, backend

SOURCE = pathlib.Path(__file__).resolve().parents[2]
WORDS = 5  # of the replies' beginning, which are compared


def blocks():
    text = (SOURCE / "data" / "README.md").read_text().split("## Tutorial", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```sh\n(.*?)```", text, re.S)[1:]


def program(path, *command):
    path.write_text("#!/bin/sh\nexec " + shlex.join(map(str, command)) + ' "$@"\n')
    path.chmod(0o755)


def run(command, env):
    out = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=SOURCE, env=env, timeout=900)
    assert out.returncode == 0, f"{command}\nexit {out.returncode}\n{out.stdout}\n{out.stderr}"
    return out.stdout


def begins(text):
    return text.split()[:WORDS]


def main():
    if not (DEBIAN / "usr/bin/llama-server").exists():
        print(f"skipped: no llama.cpp in {DEBIAN}; sh tests/peers/setup.sh --llama_cpp makes it (root, debootstrap)")
        sys.exit(125)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        program(work / "attune", ATTUNE)
        program(work / "python3", sys.executable)
        program(work / "llama-server", *llama_cpp.command(PEERS, "llama-server"))
        env = {**os.environ, "PATH": f"{work}:{os.environ['PATH']}", "model": str(GGUF), "work": str(work),
               "GGML_BACKEND_PATH": backend(), "HF_HUB_OFFLINE": "1"}
        trained, served = [], {}
        for block in blocks():
            if block.startswith("# "):
                served[block.splitlines()[0]] = block
                continue
            for command in block.replace("\\\n", "").splitlines():
                if command.split()[1] in ("dpo", "export") or re.match("attune data (convert|split)", command):
                    trained.append(command)
        for command in trained:
            run(command + (" --max_steps 4" if command.startswith("attune dpo") else ""), env)
        question = "My parcel is late. What can I do?"
        assert all(question in block for block in served.values())
        ours = run(f"attune generate {GGUF} --adapter {work}/tone --max_new_tokens 64 --prompt {shlex.quote(question)}", env)
        answer = run(served["# llama.cpp"], env)
        theirs = json.loads(answer[answer.index("{"):])["choices"][0]["message"]["content"]
        python = run(served["# transformers"].replace("HuggingFaceTB/SmolLM2-135M-Instruct", str(FOLDER)), env)
    print(f"attune: {ours!r}\nllama.cpp: {theirs!r}\ntransformers: {python!r}")
    assert begins(ours) == begins(python) and len(begins(ours)) == len(begins(theirs)) == WORDS


if __name__ == "__main__":
    main()
