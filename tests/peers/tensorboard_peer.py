#!/usr/bin/env python3
"""TensorBoard's own reader finds every number of metrics.jsonl in the event file: tensorboard_peer.py ATTUNE

A run with evaluations, stopped by SIGINT after a checkpoint and gone on with: each scalar stands once,
at its step, in float32; tags are those of transformers' callback.
"""
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ATTUNE = sys.argv[1]
GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"


def command(out, *more):
    return [ATTUNE, "dpo", str(GOLDEN / "dpo_sigmoid" / "config.json"), "--output_dir", str(out), "--quiet",
            "--eval_dataset", str(GOLDEN / "data" / "pairs.jsonl"), "--eval_strategy", "steps", "--eval_steps", "5",
            "--max_steps", "40", "--save_strategy", "steps", "--save_steps", "3",
            "--report_to", "tensorboard", *more]


def stop_and_go_on(out):
    process = subprocess.Popen(command(out), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (out / "checkpoint-6").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    message = process.communicate()[1]
    if process.returncode != 130:
        sys.exit(f"SIGINT: exit code {process.returncode}: {message}")
    subprocess.run(command(out, "--resume_from_checkpoint", "true"), check=True)


def wanted(out):
    scalars = {}
    for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()):
        step = line.pop("step")
        for name, value in line.items():
            if isinstance(value, (int, float)) and name != "n":
                tag = f"eval/{name[5:]}" if name.startswith("eval_") else f"train/{name}"
                scalars.setdefault(tag, []).append((step, numpy.float32(value)))
    return scalars


def main():
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "run"
        stop_and_go_on(out)
        events = EventAccumulator(str(out), size_guidance={"scalars": 0}).Reload()
        want = wanted(out)
        tags = set(events.Tags()["scalars"])
        bad = [f"tags differ: {sorted(tags ^ set(want))}"] if tags != set(want) else []
        for tag in sorted(tags & set(want)):
            got = [(e.step, numpy.float32(e.value)) for e in events.Scalars(tag)]
            if got != want[tag]:
                bad.append(f"{tag}: {len(got)} and {len(want[tag])} values, {got[:2]} and {want[tag][:2]}")
        print(f"{len(tags)} tags, {sum(map(len, want.values()))} scalars, {len(bad)} differ")
        for text in bad[:5]:
            print("FAIL", text)
        sys.exit(1 if bad or len(tags) < 20 else 0)


main()
