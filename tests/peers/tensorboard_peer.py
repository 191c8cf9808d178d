#!/usr/bin/env python3
"""TensorBoard's own reader finds every number of metrics.jsonl, and rewards, in the event file: tensorboard_peer.py ATTUNE

A run with evaluations, stopped by SIGINT after a checkpoint and gone on with: each scalar stands once,
at its step, in float32; tags are those of transformers' callback. Histograms of rewards have the rows' number
and, by their sums, their means; those of margins in evaluations the least and greatest of pairs.jsonl.
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


def histograms(out, events):
    """What differs between the histograms and what they are of."""
    bad, means, margins = [], {}, {}
    for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()):
        for name, value in line.items():
            where, _, kind = name.removeprefix("eval_").partition("/")
            if where == "rewards" and kind in ("chosen", "rejected", "margins"):
                means.setdefault(f"{'eval' if name[:5] == 'eval_' else 'train'}/histograms/rewards/{kind}", []).append(
                    (line["step"], value))
    for line in map(json.loads, (out / "pairs.jsonl").read_text().splitlines()):
        margins.setdefault(line["step"], []).append(line["margin"])
    if set(events.Tags()["histograms"]) != set(means):
        bad.append(f"histograms differ: {sorted(set(events.Tags()['histograms']) ^ set(means))}")
    for tag in sorted(set(events.Tags()["histograms"]) & set(means)):
        for event, (step, mean) in zip(events.Histograms(tag), means[tag], strict=True):
            h = event.histogram_value
            if event.step != step or sum(h.bucket) != h.num or abs(h.sum / h.num - mean) > 1e-9 + 1e-6 * abs(mean):
                bad.append(f"{tag}: step {event.step} and {step}, mean {h.sum / h.num} and {mean}, {h.num} values")
            of = margins[step] if tag == "eval/histograms/rewards/margins" else None
            if of and (h.num != len(of) or h.min != min(of) or h.max != max(of) or
                       h.bucket_limit[-1] != h.max or h.sum_squares != sum(x * x for x in of)):
                bad.append(f"{tag}: step {step}: {h} and {sorted(of)}")
    print(f"{len(means)} histograms at {sum(map(len, means.values()))} steps, {len(bad)} differ")
    return bad + ([] if len(means) == 6 else ["not six kinds of histograms"])


def main():
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "run"
        stop_and_go_on(out)
        events = EventAccumulator(str(out), size_guidance={"scalars": 0, "histograms": 0}).Reload()
        want = wanted(out)
        tags = set(events.Tags()["scalars"])
        bad = [f"tags differ: {sorted(tags ^ set(want))}"] if tags != set(want) else []
        for tag in sorted(tags & set(want)):
            got = [(e.step, numpy.float32(e.value)) for e in events.Scalars(tag)]
            if got != want[tag]:
                bad.append(f"{tag}: {len(got)} and {len(want[tag])} values, {got[:2]} and {want[tag][:2]}")
        bad += histograms(out, events)
        print(f"{len(tags)} tags, {sum(map(len, want.values()))} scalars, {len(bad)} differ")
        for text in bad[:5]:
            print("FAIL", text)
        sys.exit(1 if bad or len(tags) < 20 else 0)


main()
