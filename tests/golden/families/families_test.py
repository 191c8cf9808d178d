#!/usr/bin/env python3
"""Every family against transformers: families_test.py ATTUNE [NAME ...].

Per family: log-probs of rows with and without an adapter and under other rotary angles (2e-4
relative), a greedy reply through the key-value cache, the update of one step of DPO, which is the
gradient, bent (1e-3 in norm); then each flag of the configuration is switched off, and a log-prob
must move by more than 1e-2. Flags that no configuration switches: make_families.py.
Standard library only.
"""

import array
import json
import math
import pathlib
import struct
import subprocess
import sys
import tempfile

import family_models as fm

KEYS = {
    "preset": "trl",
    "train_sampling_strategy": "sequential",
    "save_strategy": "no",
    "per_device_train_batch_size": 4,
    "max_steps": 1,
    "use_peft": True,
    "lora_r": fm.RANK,
    "lora_alpha": fm.ALPHA,
    "adapter_name_or_path": "adapter",
    "adapter_start": "continue",
    "method": "dpo",
    "model_name_or_path": ".",
    "train_dataset": "rows.jsonl",
    "output_dir": "run",
}
failures = 0


def fail(what):
    global failures
    failures += 1
    print(f"FAIL {what}")


def attune(binary, *arguments):
    run = subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True)
    if run.returncode != 0:
        print(run.stderr[-2000:])
        sys.exit(f"{arguments[0]} exited with {run.returncode}")
    return run.stdout


def scores(binary, folder, adapter):
    """[[chosen, rejected], ...]"""
    without = {k: v for k, v in KEYS.items() if not k.startswith(("lora", "adapter", "use_peft"))}
    config = {**(KEYS if adapter else without), **fm.STEP}
    (folder / "run.json").write_text(json.dumps(config))
    lines = attune(binary, "score", folder / "run.json", "--json").splitlines()
    return [[row[s]["logp"] for s in ("chosen", "rejected")] for row in map(json.loads, lines)]


def require_close(what, got, want):
    for i, (a, b) in enumerate(zip(sum(got, []), sum(want, []), strict=True)):
        if not abs(a - b) <= 2e-4 * abs(b):
            fail(f"{what}: side {i}: got {a}, want {b}")


def check_update(name, got, start, want):
    """got, start: name -> floats of the file."""
    error = total = 0.0
    if set(got) != set(want):
        return fail(f"{name}: tensors {sorted(set(got) ^ set(want))[:3]}")
    for key, values in want.items():
        for g, s, w in zip(got[key], start[key][1], values, strict=True):
            error += (g - s - w) ** 2
            total += w * w
    if not math.sqrt(error / total) <= 1e-3:
        fail(f"{name}: the update is off by {math.sqrt(error / total):.3g}")
    return None


def read_safetensors(path):
    data = path.read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    out = {}
    for name, entry in json.loads(data[8 : 8 + n]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            out[name] = array.array("f", data[8 + n + begin : 8 + n + end])
    return out


def check_reply(binary, name, folder, want):
    line, prompt, sides = next(fm.rows())
    messages = json.dumps({"prompt": json.loads(line)["prompt"]})
    (folder / "prompts.jsonl").write_text(messages + "\n")
    text = attune(binary, "generate", folder, "--prompts", folder / "prompts.jsonl", "--json",
                  "--max_new_tokens", want["n_tokens"], "--quiet")
    got = json.loads(text.splitlines()[0])["text"]
    if got != want["text"]:
        fail(f"{name}: the reply is {got!r}, want {want['text']!r}")


def check_long_replies(binary, name, folder):
    """Prompts one after the other in one process, as the rotary table changes between them."""
    wants = json.loads((fm.HERE / "long_replies.json").read_text())[name]
    lines = [json.dumps({"prompt": json.loads(line)["prompt"]}) for line, _, _ in fm.rows()]
    fm.write_config(name, folder, fm.LONG_FAMILIES[name])
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    text = attune(binary, "generate", folder, "--prompts", folder / "prompts.jsonl", "--json",
                  "--max_new_tokens", max(want["n_tokens"] for want in wants), "--quiet")
    for line, want in zip(text.splitlines(), wants, strict=True):
        if json.loads(line)["text"] != want["text"]:
            fail(f"{name}: after {want['prompt']} tokens {json.loads(line)['text']!r}, want {want['text']!r}")
    fm.write_config(name, folder, {})


def check_flags(binary, name, folder, base):
    for flag, changes in fm.FAMILIES[name]["flags"].items():
        fm.write_config(name, folder, changes)
        pairs = zip(sum(base, []), sum(scores(binary, folder, False), []), strict=True)
        moved = max(abs(a - b) for a, b in pairs)
        if not moved > 1e-2:
            fail(f"{name}: without {flag} no log-prob moves by more than {moved:.3g}")


def check_family(binary, name, folder):
    want = json.loads((fm.HERE / f"{name}.json").read_text())
    fm.write_model(name, folder)
    fm.write_adapter(name, folder / "adapter")
    (folder / "rows.jsonl").write_text("".join(line + "\n" for line, _, _ in fm.rows()))
    base = scores(binary, folder, False)
    require_close(f"{name}: base", base, want["rows"]["base"])
    require_close(f"{name}: adapter", scores(binary, folder, True), want["rows"]["adapter"])
    check_reply(binary, name, folder, want["reply"])
    if name in fm.LONG_FAMILIES:
        check_long_replies(binary, name, folder)
    attune(binary, "dpo", folder / "run.json", "--quiet")
    got = read_safetensors(folder / "run" / "adapter_model.safetensors")
    check_update(name, got, fm.adapter_tensors(name), want["update"])
    for kind, changes in fm.FAMILIES[name].get("rope", {}).items():
        fm.write_config(name, folder, changes)
        require_close(f"{name}: rope {kind}", scores(binary, folder, False), want["rope"][kind])
    check_flags(binary, name, folder, base)


def main():
    for name in sys.argv[2:] or fm.FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            check_family(sys.argv[1], name, pathlib.Path(folder))
        print(f"{name}: {failures} differences so far")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
