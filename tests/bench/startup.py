#!/usr/bin/env python3
"""How long a DPO run takes until it trains, with empty caches and with warm ones.

  startup.py ATTUNE MODEL [--rounds 3] [--words 60] [--pairs 4]
cold     the first run with XDG_CACHE_HOME in an empty folder: no code of kernels, nothing of an earlier run (the
         operating system's page cache is as it is). warm: the runs after it.
start    from the program's start to the first step's beginning: rows, model, plan, memory, upload.
kernels  what the first step takes beyond the median of those after it: pipelines are made, and on CPU devices compiled,
         at their first use. "to step 0" is both together.
whole    the command to its end, of three steps of --pairs pairs of --words words a part.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

from side_by_side import rows

STEPS = 3


def run(attune, model, data, pairs, cache):
    """Seconds: start, kernels, whole; and the pipelines."""
    with tempfile.TemporaryDirectory() as out:
        timing = pathlib.Path(out, "run/timing.jsonl")
        command = [attune, "dpo", "--model_name_or_path", model, "--train_dataset", data, "--output_dir", out + "/run",
                   "--eval_split", "0", "--per_device_train_batch_size", str(pairs), "--max_steps", str(STEPS),
                   "--train_sampling_strategy", "sequential", "--quiet"]
        begin_s = time.perf_counter()
        with subprocess.Popen(command, env={**os.environ, "XDG_CACHE_HOME": cache}) as child:
            while child.poll() is None and not (timing.exists() and timing.stat().st_size > 0):
                time.sleep(0.002)
            stepped_s = time.perf_counter() - begin_s
        whole_s = time.perf_counter() - begin_s
        steps = [json.loads(line)["step_time_s"] for line in timing.read_text().splitlines()]
        record = json.loads((timing.parent / "run.json").read_text())
    return stepped_s - steps[0], steps[0] - statistics.median(steps[1:]), whole_s, record["pipelines"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attune")
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=4)
    arguments = parser.parse_args()
    found = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as folder:
        data = folder + "/rows.jsonl"
        rows(data, arguments.pairs * STEPS, arguments.words)
        for k in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as cache:
                for name in found:
                    found[name].append(run(arguments.attune, arguments.model, data, arguments.pairs, cache))
                    print(k, name, " ".join(f"{x:.2f}" for x in found[name][-1]), flush=True)
    print("| caches | start s | kernels s | to step 0 s | whole command s | pipelines |\n|---|---|---|---|---|---|")
    for name, runs in found.items():
        start, kernels, whole, pipelines = (statistics.median(column) for column in zip(*runs))
        print(f"| {name} | {start:.2f} | {kernels:.2f} | {statistics.median(r[0] + r[1] for r in runs):.2f} | {whole:.1f} | {pipelines} |")


if __name__ == "__main__":
    main()
