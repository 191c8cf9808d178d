#!/usr/bin/env python3
"""How the cost of a DPO step grows: one table and one plot, time and memory against what may grow.

  scaling.py ATTUNE [--out FOLDER] [--steps 3] [--axis NAME]... [--value VALUE]...
Needs an environment with torch and transformers (tests/peers/setup.sh), which make the models: Qwen2's
architecture with random weights, 2 layers of width 128, and a vocabulary of 32,000. Measures all values of all
axes, or those that are named, and writes FOLDER/scaling.md and scaling.svg (default: .build/scaling) with them and
what earlier calls have left in FOLDER/scaling.json: of a point that was measured more than once, the measurement
with the median time. Models and rows stay in FOLDER for the next call, too.
axes     packed tokens (of a slab), sequence length, prompt share, rank, vocabulary: time a computed token and
         peak memory of the process, which on a CPU device is the device's memory too; and pairs in the file
         (30 words each): time of a run of one step, nearly all of it reading, and peak memory. With --make the
         models and rows are made and nothing is measured.
time     of the processor, not of the clock (bench's step_processor_time_s): it waits for nobody, but a neighbour
         on the same core still doubles it.
growth   time of the useful operations (engine/train/useful.h) of an axis's point over that of its first
         one: above 1 the time grows faster than the operations do.
"""
import argparse
import json
import os
import pathlib
import sys
import tempfile
import time

from side_by_side import make_model, rows

HERE = pathlib.Path(__file__).resolve().parent
SHAPE = (128, 384, 2, 4, 2)  # of make_model()
VOCABULARY = 32000
PAIRS = "pairs in the file"
AXES = {
    "packed tokens": [256, 512, 1024, 2048, 4096, 8192],
    "sequence length": [20, 50, 100, 200, 400, 800],  # words of a prompt and of each side
    "prompt share": [0.1, 0.3, 0.5, 0.7, 0.9],
    "rank": [4, 16, 64, 256],
    "vocabulary": [32000, 64000, 152000],
    PAIRS: [100, 1000, 10000, 100000, 1000000],
}
BOTTOM, TOP, SIDE, WIDE = 40, 24, 62, 300  # of a chart, in SVG units


def shared_rows(path, n, share, words=120):
    """Pairs whose prompt has `share` of the words of a prompt and one side."""
    rows(path, n, words)
    lines = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
    for line in lines:
        for name in ("prompt", "chosen", "rejected"):
            part = share if name == "prompt" else 1 - share
            text = line[name][0]["content"].split()
            line[name][0]["content"] = " ".join(text[:max(1, round(part * words))])
    pathlib.Path(path).write_text("".join(json.dumps(line) + "\n" for line in lines))


def settings(axis, value, folder, steps):
    """Flags of a training at this point of an axis; its model and rows are made where they are not there."""
    vocabulary, words = VOCABULARY, 40
    flags = {"per_device_train_batch_size": 8, "lora_r": 16}
    if axis == "vocabulary":
        vocabulary = value
    elif axis == "rank":
        flags["lora_r"] = value
    elif axis == "packed tokens":
        flags.update(per_device_train_batch_size=24, max_tokens_per_slab=value)
    elif axis == "sequence length":
        words = value
    n = value if axis == PAIRS else flags["per_device_train_batch_size"] * (steps + 1)
    model = folder / f"model{vocabulary}"
    data = folder / f"rows_{axis.split()[0]}_{value if axis in (PAIRS, 'prompt share') else words}_{n}.jsonl"
    if not model.exists():
        make_model(model, SHAPE, vocabulary, "float32")
    if not data.exists() and axis == "prompt share":
        shared_rows(data, n, value)
    elif not data.exists():
        rows(data, n, 10 if axis == PAIRS else words)
    flags.update(gradient_accumulation_steps=1, model_name_or_path=model, train_dataset=data, max_length=8192,
                 eval_split=0)
    return [f"--{name}={value}" for name, value in flags.items()] + ["--quiet"]


def measure(axis, value, folder, attune, steps):
    """What the table and the plot have of a point."""
    common = settings(axis, value, folder, steps)
    with tempfile.TemporaryDirectory() as out:
        begin_s = time.perf_counter()
        _, cpu_s = call([attune, "dpo", *common, "--max_steps", "1", "--output_dir", out + "/run"])
        point = {"value": value, "run_s": time.perf_counter() - begin_s, "run_cpu_s": cpu_s,
                 "peak": json.loads(pathlib.Path(out, "run/run.json").read_text())["host_peak_bytes"]}
    if axis == PAIRS:
        return point
    said, _ = call([attune, "bench", "--method", "dpo", *common, "--json", "--steps", str(steps)])
    said = json.loads(said)
    return {**point, "step_cpu_s": said["step_processor_time_s"], "gflop": said["useful_gflop_per_step"]["total"],
            "tokens": said["tokens_per_step"]}


def call(command):
    """What it says, and its processor seconds."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.posix_spawn(command[0], command, os.environ, file_actions=[
            (os.POSIX_SPAWN_DUP2, out.fileno(), 1), (os.POSIX_SPAWN_DUP2, err.fileno(), 2)])
        _, status, usage = os.wait4(child, 0)
        out.seek(0)
        err.seek(0)
        if status != 0:
            sys.exit(f"{' '.join(command)}\n{err.read()}")
        return out.read(), usage.ru_utime + usage.ru_stime


def table(axis, points):
    if axis == PAIRS:
        lines = [f"| {axis} | s | processor s | s a 1,000 pairs | peak MiB |", "|---|---|---|---|---|"]
        return lines + [f"| {p['value']:,} | {p['run_s']:.2f} | {p['run_cpu_s']:.2f} | {p['run_s'] / p['value'] * 1000:.3f} | "
                        f"{p['peak'] / 2**20:.0f} |" for p in points]
    lines = [f"| {axis} | computed tokens a step | us a token | useful GFLOP a step | GFLOP a processor s | growth | peak MiB |",
             "|---|---|---|---|---|---|---|"]
    first = points[0]["step_cpu_s"] / points[0]["gflop"]
    return lines + [f"| {p['value']:,} | {p['tokens']:,.0f} | {token_us(p):.0f} | {p['gflop']:.2f} | "
                    f"{p['gflop'] / p['step_cpu_s']:.1f} | {p['step_cpu_s'] / p['gflop'] / first:.2f} | {p['peak'] / 2**20:.0f} |"
                    for p in points]


def token_us(point):
    return point["step_cpu_s"] / point["tokens"] * 1e6


def chart(title, values, unit, x0, y0):
    """Values over their names, from zero: an SVG group."""
    high, n = max(v for _, v in values) or 1, len(values)
    at = [(x0 + SIDE + i * (WIDE - SIDE - 30) / max(n - 1, 1), y0 + TOP + 100 - 100 * v / high)
          for i, (_, v) in enumerate(values)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    out = [f'<text x="{x0 + SIDE}" y="{y0 + 14}" class="title">{title}</text>',
           f'<path d="M{x0 + SIDE} {y0 + TOP}v100h{WIDE - SIDE - 30}" class="axis"/>',
           f'<text x="{x0 + SIDE - 6}" y="{y0 + TOP + 4}" class="end">{high:,.0f} {unit}</text>',
           f'<text x="{x0 + SIDE - 6}" y="{y0 + TOP + 104}" class="end">0</text>',
           f'<polyline points="{line}" class="line"/>']
    for (name, _), (x, y) in zip(values, at):
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
        out.append(f'<text x="{x:.1f}" y="{y0 + TOP + 116}" class="mid">{name}</text>')
    return out


def short(value):
    for size, letter in ((1000000, "M"), (1000, "k")):
        if value >= size and value % size == 0:
            return f"{value // size}{letter}"
    return f"{value}"


def medians(measurements):
    """Of each value the measurement with the median time, the lower one of two; by value."""
    values = sorted({m["value"] for m in measurements})
    by_time = sorted(measurements, key=lambda m: m["step_cpu_s"] / m["gflop"] if "gflop" in m else m["run_s"])
    same = [[m for m in by_time if m["value"] == value] for value in values]
    return [some[(len(some) - 1) // 2] for some in same]


def plot(measured):
    out, y = [], 10
    for axis, points in measured.items():
        names = [short(p["value"]) for p in points]
        is_run = axis == PAIRS
        cost = [p["run_s"] if is_run else token_us(p) for p in points]
        out += chart(f"{axis}: " + ("time of a run" if is_run else "processor time a token"), list(zip(names, cost)),
                     "s" if is_run else "us", 0, y)
        out += chart(f"{axis}: peak memory", [(name, p["peak"] / 2**20) for name, p in zip(names, points)], "MiB", WIDE, y)
        y += TOP + 100 + BOTTOM
    style = ("text{font:11px sans-serif;fill:#333}.title{font-weight:bold}.end{text-anchor:end}.mid{text-anchor:middle}"
             ".axis{fill:none;stroke:#999}.line{fill:none;stroke:#0969da;stroke-width:2}circle{fill:#0969da}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDE}" height="{y}" role="img" '
            f'aria-label="How time and memory of a DPO step grow"><style>{style}</style>'
            f'<rect width="100%" height="100%" fill="#fff"/>' + "".join(out) + "</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attune")
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parents[1] / ".build/scaling")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--axis", action="append", choices=list(AXES))
    parser.add_argument("--value", action="append", type=float, help="only these values of the axes")
    parser.add_argument("--make", action="store_true", help="models and rows alone")
    arguments = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = arguments.out / "scaling.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    for axis in arguments.axis or AXES:
        for value in [v for v in AXES[axis] if not arguments.value or v in arguments.value]:
            if arguments.make:
                settings(axis, value, arguments.out, arguments.steps)
                continue
            found.setdefault(axis, []).append(measure(axis, value, arguments.out, arguments.attune, arguments.steps))
            kept.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.make:
        return
    measured = {axis: medians(found[axis]) for axis in AXES if axis in found}
    lines = ["# How the cost of a DPO step grows", ""]
    for axis, points in measured.items():
        lines += table(axis, points) + [""]
    print("\n".join(lines))
    (arguments.out / "scaling.md").write_text("\n".join(lines))
    (arguments.out / "scaling.svg").write_text(plot(measured))
    print(f"wrote {arguments.out}/scaling.md and scaling.svg")


if __name__ == "__main__":
    main()
