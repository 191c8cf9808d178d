#!/usr/bin/env python3
"""Speed of generation, of several builds and beside llama.cpp's, on the same model file and machine.

  generation.py MODEL.gguf ATTUNE [ATTUNE ...] [--llama_cpp FOLDER] [--replies 1,8,32] [--rounds 5]
                [--tokens 16,80]
Every round runs each program in turn (so of two builds of Attune each sees the same load) and each number of
replies at once, with as many new tokens as the first and the second of --tokens; what the second run takes
longer is the time of the tokens between: opening the model and reading the prompt are left out. Medians of
the rounds, by wall time and by processor time over the number of processors (which other work on the machine
hardly changes; llama.cpp's threads wait by turning, so of it only the wall time of a quiet machine counts).
llama.cpp: the folder that tests/peers/setup.sh --llama_cpp makes; one reply, CPU backend.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

PROMPT = "Write a long story about a lighthouse keeper and the sea."


def seconds(command, environment):
    """Wall and processor time of a program."""
    with tempfile.TemporaryFile() as log:
        begin = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log,
                                   env={**os.environ, **environment})
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            log.seek(0)
            sys.exit(f"{command[0]}: exit status {process.returncode}\n{log.read().decode()}")
    return wall, usage.ru_utime + usage.ru_stime


def attune(binary, model, replies, tokens):
    n = str(tokens)
    return seconds([binary, "generate", model, "--prompt", PROMPT, "--num_generations", str(replies), "--parallel",
                    str(replies), "--temperature", "1", "--min_new_tokens", n, "--max_new_tokens", n, "--json"], {})


def backend(folder):
    """The one for this processor of those that Debian's llama.cpp has."""
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    name = "zen4" if "avx512_bf16" in flags else "icelake" if "avx512_vnni" in flags else "haswell"
    return str(folder / f"usr/lib/x86_64-linux-gnu/ggml/backends0/libggml-cpu-{name}.so")


def llama_cpp(folder, model, tokens):
    lib = folder / "usr/lib/x86_64-linux-gnu"
    loader = [str(folder / "lib64/ld-linux-x86-64.so.2"), "--library-path", f"{lib}:{lib / 'llama'}:{lib / 'ggml'}"]
    return seconds([*loader, str(folder / "usr/bin/llama-bench"), "-m", model, "-p", "0", "-n", str(tokens), "-r", "1",
                    "-t", str(os.cpu_count())], {"GGML_BACKEND_PATH": backend(folder)})


def rates(run, replies, tokens):
    """Tokens a second between the two numbers of tokens, by wall and by processor time."""
    short, long = run(tokens[0]), run(tokens[1])
    n = replies * (tokens[1] - tokens[0])
    return n / max(long[0] - short[0], 1e-9), n / max(long[1] - short[1], 1e-9) * os.cpu_count()


def main():
    numbers = lambda text: [int(n) for n in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("attune", nargs="+")
    parser.add_argument("--llama_cpp", type=pathlib.Path)
    parser.add_argument("--replies", type=numbers, default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=numbers, default=[16, 80])
    arguments = parser.parse_args()
    runs = {(binary, n): lambda tokens, b=binary, n=n: attune(b, arguments.model, n, tokens)
            for n in arguments.replies for binary in arguments.attune}
    if arguments.llama_cpp:
        runs[("llama.cpp", 1)] = lambda tokens: llama_cpp(arguments.llama_cpp, arguments.model, tokens)
    found = {key: [] for key in runs}
    for run in runs.values():  # what is compiled and cached at first
        run(2)
    for _ in range(arguments.rounds):
        for key, run in runs.items():
            found[key].append(rates(run, key[1], arguments.tokens))
    print(f"{'program':40} {'replies':>7} {'tokens/s':>9} {'by processor time':>18}")
    for (name, n), all_of in found.items():
        wall, processor = (statistics.median(rate[i] for rate in all_of) for i in (0, 1))
        print(f"{name[-40:]:40} {n:7} {wall:9.1f} {processor:18.1f}")


if __name__ == "__main__":
    main()
