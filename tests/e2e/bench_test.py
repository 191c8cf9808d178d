#!/usr/bin/env python3
"""attune bench: the useful operations of a step are those that its formula gives for the rows as `data show` has
them, and those of the plan; the table is complete and its figures fit together; --compare tells what changed, and refuses what it cannot read.
bench_test.py SOURCE_DIR BUILD_DIR
"""
import json
import os
import pathlib
import re
import tempfile

from harness import GOLDEN, run

PAIRS = GOLDEN / "dpo_sigmoid" / "config.json"


def rows_of(config):
    """(prompt tokens, [tokens of a side's own]) a row: the prompt is what both sides begin with."""
    out = []
    for line in run("data", "show", config, "--json", "--n", 10000).stdout.splitlines():
        row = json.loads(line)
        sides = [row["chosen"], row["rejected"]]
        prompt = sides[0]["completion_mask"].index(1)
        out.append((prompt, [len(s["input_ids"]) - prompt for s in sides]))
    return out


def expected(config, steps):
    """The formula of engine/train/useful.h, of an adapter on all linear layers that the reference is without."""
    model = json.loads((GOLDEN / "models" / "tiny_llama" / "config.json").read_text())
    C, F, L, V = (model[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size"))
    H, G = model["num_attention_heads"], model["num_key_value_heads"]
    D = model.get("head_dim") or C // H
    shapes = [(C, H * D), (C, G * D), (C, G * D), (H * D, C), (C, F), (C, F), (F, C)]
    layer, behind = (sum(a * b for a, b in some) for some in (shapes, shapes[3:]))
    lora, lora_behind = (4 * sum(a + b for a, b in some) for some in (shapes, shapes[3:]))
    T = R = S = pairs = 0
    for prompt, sides in rows_of(config):
        T += prompt + sum(sides)
        R += sum(sides)
        S += sum(sides) - 1  # both sides' first token is read from the prompt's last
        pairs += prompt * (prompt + 1) / 2 + sum(n * prompt + n * (n + 1) / 2 for n in sides)
    attention = 4 * H * D * pairs
    base = T * L * layer - (T - S) * behind
    return {"base": (2 * 2 * base + 2 * (base - T * C * D * (H + 2 * G))) / steps / 1e9,
            "adapters": 6 * (T * L * lora - (T - S) * lora_behind) / steps / 1e9,
            "attention": 4 * L * attention / steps / 1e9,
            "head": 3 * 2 * R * C * V / steps / 1e9}


def useful_operations(work):
    rows = len(rows_of(PAIRS))
    assert rows % 4 == 0, f"{rows} pairs: an epoch is no whole number of steps of 4"
    got = json.loads(run("bench", PAIRS, "--steps", rows // 4, "--json").stdout)
    want = expected(PAIRS, rows // 4)
    for key, value in want.items():
        assert abs(got["useful_gflop_per_step"][key] / value - 1) < 1e-9, f"{key}: {got['useful_gflop_per_step'][key]}, {value}"
    total = sum(want.values())
    assert abs(got["useful_gflop_per_step"]["total"] / total - 1) < 1e-9
    assert abs(got["useful_gflop_per_s"] * got["step_time_s"] / total - 1) < 1e-9
    assert abs(got["of_multiply_peak"] * got["peaks"]["gflop_per_s"] / got["useful_gflop_per_s"] - 1) < 1e-9
    for kernel, part in (("attention_fwd", 1 / 2), ("attention_bwd_kv", 1 / 2), ("attention_bwd_q", 1 / 8)):  # of pairs that are read
        flop = sum(k["gflop_per_s"] * k["time_s"] for k in got["kernels"] if k["kernel"] == kernel)
        assert abs(flop / (part * want["attention"] * got["steps"]) - 1) < 1e-6, (kernel, flop, want["attention"] * got["steps"])
    assert got["host_share"] > 0
    assert 0 < got["least_step_time_s"] <= got["step_time_s"] <= got["most_step_time_s"], got
    assert 2**20 < got["host_peak_bytes"] < 2**37, got["host_peak_bytes"]
    of_a_processor = got["step_processor_time_s"] / got["step_time_s"]
    assert (0.05 if "llvmpipe" in got["device"] else 0) < of_a_processor <= 1.1 * os.cpu_count(), of_a_processor
    assert abs(got["host_share"] * got["step_time_s"] / got["host_time_s"] - 1) < 1e-9
    (work / "a.json").write_text(json.dumps(got))
    planned(total * (rows // 4))
    return got


def planned(total):
    """An epoch of the plan has the operations that its steps have, and a time for them at a rate that was measured."""
    plan = json.loads(run("plan", PAIRS, "--num_train_epochs", 1, "--max_steps", -1, "--json").stdout)
    assert abs(plan["flop"] / 1e9 / total - 1) < 1e-9, (plan["flop"], total)
    assert plan["measured_flop_per_s"] > 1e8
    assert abs(plan["step_time_s"] * plan["steps"] / plan["estimated_time_s"] - 1) < 1e-9
    assert plan["estimated_time_s"] > plan["flop"] / plan["measured_flop_per_s"]
    one = json.loads(run("plan", PAIRS, "--max_steps", 1, "--json").stdout)  # its reference is that of its own rows
    assert abs(one["flop"] * plan["steps"] / plan["flop"] - 1) < 1e-9, (one["flop"], plan["flop"])
    assert abs(one["estimated_time_s"] / one["step_time_s"] - 1) < 1e-9


def table(result):
    for kernel in result["kernels"]:
        shapes = kernel["shapes"]
        for key in ("calls", "time_s", "share"):
            assert abs(sum(s[key] for s in shapes) / kernel[key] - 1) < 1e-9, (kernel["kernel"], key)
        assert all(a["time_s"] >= b["time_s"] for a, b in zip(shapes, shapes[1:]))
        assert len({s["shape"] for s in shapes}) == len(shapes)
        assert all(abs(s["of_multiply_peak"] * result["peaks"]["gflop_per_s"] - s["gflop_per_s"]) < 1e-9 for s in shapes)
    products = {s["shape"] for k in result["kernels"] if k["kernel"] == "gemm_nt" for s in k["shapes"]}
    assert len({p.split(" ", 1)[1] for p in products}) >= 3, products  # inner sizes tell shapes apart
    assert 0.5 < result["peaks"]["gflop_per_s"] and 0.1 < result["peaks"]["gbyte_per_s"], result["peaks"]


def compare(work, before):
    after = json.loads(json.dumps(before))
    after["step_time_s"] = 2 * before["step_time_s"]
    after["kernels"][0]["time_s"] += 1.5 * before["steps"]
    next(k for k in after["kernels"] if k["kernel"] != before["kernels"][0]["kernel"])["kernel"] = "new_kernel"
    (work / "b.json").write_text(json.dumps(after))
    got = json.loads(run("bench", "--compare", work / "a.json", work / "b.json", "--json").stdout)
    assert got["step_time_s"]["ratio"] == 2
    first = before["kernels"][0]
    assert got["kernels"][0]["kernel"] == first["kernel"], "the biggest change comes first"
    assert abs(got["kernels"][0]["after_s"] - got["kernels"][0]["before_s"] - 1.5) < 1e-9
    times = {row["kernel"]: (row["before_s"], row["after_s"]) for row in got["kernels"]}
    assert times["new_kernel"][0] == 0 < times["new_kernel"][1]
    text = run("bench", "--compare", work / "a.json", work / "b.json")
    assert "new_kernel" in text.stdout and "warning" not in text.stderr
    assert f"single steps took {before['least_step_time_s']:.4g} to" in text.stdout and "devices differ" not in text.stdout
    after["host_peak_bytes"] = 3 * before["host_peak_bytes"]
    after["device"] = "another"
    (work / "b.json").write_text(json.dumps(after))
    text = run("bench", "--compare", work / "a.json", work / "b.json")
    assert f"the devices differ: {before['device']} before, another after\n" in text.stdout, text.stdout
    assert "warning" not in text.stderr, "the same work on another device is compared"
    mib = before["host_peak_bytes"] / 2**20
    assert re.search(rf"^peak memory, MiB +{mib:.4g} +{3 * mib:.4g} +3[.]000$", text.stdout, re.M), text.stdout
    got = json.loads(run("bench", "--compare", work / "a.json", work / "b.json", "--json").stdout)
    assert got["device"] == {"before": before["device"], "after": "another"} and got["host_peak_bytes"]["ratio"] == 3, got
    assert got["most_step_time_s"]["before"] == before["most_step_time_s"]
    after["model"] = "another"
    for key in ("host_peak_bytes", "most_step_time_s"):  # as older builds wrote results
        del after[key]
    (work / "b.json").write_text(json.dumps(after))
    text = run("bench", "--compare", work / "a.json", work / "b.json")
    assert "model differs" in text.stderr and "peak memory" not in text.stdout and "single steps" not in text.stdout, text
    assert "when a repeat shows it again" in text.stdout, text.stdout


def refusals(work):
    (work / "v.json").write_text(json.dumps({**json.loads((work / "a.json").read_text()), "format_version": 99}))
    (work / "k.json").write_text(json.dumps({**json.loads((work / "a.json").read_text()), "kernels": [{"kernel": 1}]}))
    (work / "t.json").write_text('{"format_version": 1, "steps": 3}')
    for path, code, says in (("missing.json", 66, "missing.json"), ("v.json", 65, "format_version 99"),
                             ("k.json", 65, "kernels"), ("t.json", 65, "step_time_s is missing")):
        assert says in run("bench", "--compare", work / "a.json", work / path, code=code).stderr
    assert "usage" in run("bench", "--compare", work / "a.json", code=2).stderr
    (work / "prompts.jsonl").write_text('{"prompt": "hi"}\n')
    draws = run("bench", "--method", "grpo", "--model_name_or_path", GOLDEN / "models" / "tiny_llama", "--train_dataset",
                work / "prompts.jsonl", "--reward_funcs", "max_words:3", "--use_peft", "true", code=2).stderr
    assert "grpo trains on samples" in draws, draws


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    result = useful_operations(folder)
    table(result)
    compare(folder, result)
    refusals(folder)
