#!/usr/bin/env python3
"""Writes schedules.json: learning rates of transformers' schedules, step by step, for unit.schedule.

Usage  make_schedules.py [--check]    with --check: compares with what is committed, exit 1 if it differs
       Needs the environment of tests/peers/setup.sh.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
import transformers

HERE = Path(__file__).resolve().parent
PEAK = 3e-4
STEPS = [(0, 10), (3, 10), (1, 10), (10, 10), (2, 11), (5, 30), (0, 1)]  # warm-up, total
SCHEDULES = [
    ("constant", {}),
    ("constant_with_warmup", {}),
    ("linear", {}),
    ("cosine", {}),
    ("cosine", {"num_cycles": 1.5}),
    ("cosine_with_restarts", {}),
    ("cosine_with_restarts", {"num_cycles": 3}),
    ("cosine_with_min_lr", {"min_lr": 1e-5}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.2, "num_cycles": 1.0}),
    ("polynomial", {}),
    ("polynomial", {"lr_end": 1e-5, "power": 2.5}),
    ("inverse_sqrt", {}),
    ("inverse_sqrt", {"timescale": 50}),
    ("warmup_stable_decay", {"num_decay_steps": 4}),
    ("warmup_stable_decay", {"num_decay_steps": 5, "decay_type": "linear", "min_lr_ratio": 0.1}),
    (
        "warmup_stable_decay",
        {
            "num_decay_steps": 4,
            "num_stable_steps": 2,
            "warmup_type": "1-sqrt",
            "decay_type": "1-sqrt",
            "min_lr_ratio": 0.05,
        },
    ),
    ("warmup_stable_decay", {"num_decay_steps": 3, "warmup_type": "cosine", "num_cycles": 1.0}),
]


def rates(name, kwargs, warmup, total):
    """Of the steps before `total`: transformers divides by zero beyond in some."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule = transformers.get_scheduler(
        name, optimizer, num_warmup_steps=warmup, num_training_steps=total, scheduler_specific_kwargs=kwargs
    )
    out = []
    for _ in range(total):
        out.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return out


METRICS = [3.0, 2.0, 2.0, 1.9999, 1.9, 1.95, 1.91, 1.9, 1.92, 1.89, 2.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
PLATEAUS = [
    {"patience": 1},
    {"patience": 0, "factor": 0.5, "min_lr": 4e-5},
    {"patience": 1, "cooldown": 2, "threshold": 0.2},
    {"patience": 1, "threshold": 0.05, "threshold_mode": "abs", "mode": "max"},
    {"patience": 0, "threshold": 0.01, "mode": "max", "factor": 0.2, "eps": 1e-5},
    {},
]


def plateau_rates(kwargs):
    """After each value of METRICS."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule = transformers.get_scheduler(
        "reduce_lr_on_plateau", optimizer, scheduler_specific_kwargs=kwargs
    )
    out = []
    for metric in METRICS:
        optimizer.step()
        schedule.step(metric)
        out.append(optimizer.param_groups[0]["lr"])
    return out


def main():
    warnings.simplefilter("ignore")
    rows = []
    for name, kwargs in SCHEDULES:
        for warmup, total in STEPS:
            if name == "polynomial" and warmup == total:
                continue  # a division by zero in transformers
            if kwargs.get("num_decay_steps", 0) + warmup > total:
                continue
            row = {"type": name, "kwargs": kwargs, "warmup": warmup, "total": total, "peak": PEAK}
            rows.append(row | {"rates": rates(name, kwargs, warmup, total)})
    lines = ",\n ".join(json.dumps(row) for row in rows)
    plateaus = ",\n ".join(
        json.dumps({"kwargs": k, "peak": PEAK, "metrics": METRICS, "rates": plateau_rates(k)}) for k in PLATEAUS
    )
    text = f'{{"transformers": "{transformers.__version__}", "rows": [\n {lines}\n],\n'
    text += f'"plateaus": [\n {plateaus}\n]}}\n'
    if "--check" in sys.argv[1:]:
        sys.exit((HERE / "schedules.json").read_text() != text)
    (HERE / "schedules.json").write_text(text)


if __name__ == "__main__":
    main()
