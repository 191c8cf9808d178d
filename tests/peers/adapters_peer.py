#!/usr/bin/env python3
"""PEFT loads what our runs write, with no key missing and the same log-probs: adapters_peer.py ATTUNE

Runs on a tiny model, each with options of the adapter that a continued golden run does not start from: a
fresh adapter with patterns, layers and rsLoRA, one with DoRA, one with head and embedding, and others stacked on them, which
are written as one.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

ATTUNE = pathlib.Path(sys.argv[1]).resolve()
TESTS = pathlib.Path(__file__).resolve().parents[1]
GOLDEN = TESTS / "golden"
MODEL = GOLDEN / "models" / "tiny_llama"
TRAINING = {"preset": "trl", "model_name_or_path": str(MODEL), "use_peft": True, "lora_r": 4,
            "lora_dropout": 0, "lora_target_modules": "all-linear", "max_steps": 3, "learning_rate": 0.02}
RUNS = {
    "patterns": {"use_rslora": True, "layers_to_transform": [1], "rank_pattern": {"mlp.*": 2, "q_proj": 7},
                 "alpha_pattern": {"layers.1.self_attn.(q|k)_proj": 5}},
    "dora": {"use_dora": True, "use_rslora": True},
    "modules": {"lora_modules_to_save": ["lm_head", "embed_tokens"]},
    "stacked_on_modules": {"adapter_name_or_path": "modules", "adapter_start": "stack"},
    "stacked": {"adapter_name_or_path": "patterns", "adapter_start": "stack",
                "rank_pattern": {"layers.0.*down_proj": 1, "o_proj": 6}, "alpha_pattern": {"o_proj": 1}},
}


def rows_of(folder):
    """Pairs without an empty side, of which there is no log-prob."""
    rows = map(json.loads, (GOLDEN / "data" / "pairs.jsonl").read_text().splitlines())
    kept = [row for row in rows if row["chosen"][0]["content"] and row["rejected"][0]["content"]]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    return path


def lines_of(command, cwd):
    run = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{command[1]} exited with {run.returncode}: {run.stderr[-600:]}")
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]


def check(folder, name, rows):
    config = {**TRAINING, **RUNS[name], "train_dataset": str(rows), "output_dir": name}
    (folder / f"{name}.json").write_text(json.dumps(config))
    lines_of([ATTUNE, "dpo", f"{name}.json", "--quiet"], folder)
    scored = {key: TRAINING[key] for key in ("preset", "model_name_or_path", "use_peft")}
    scored.update(method="dpo", train_dataset=str(rows), adapter_name_or_path=name, max_length=0)
    (folder / "score.json").write_text(json.dumps(scored))
    ours = lines_of([ATTUNE, "score", "score.json", "--json", "--tokens"], folder)[:-1]
    theirs, base = (lines_of([sys.executable, TESTS / "peers" / "peft_logps.py", MODEL, rows, *more], folder)
                    for more in (("--adapter", folder / name, "--tokens"), ()))
    pairs = [(a[side]["logp"], b[side]["logp"], c[side]["logp"])
             for a, b, c in zip(ours, theirs, base, strict=True) for side in ("chosen", "rejected")]
    worst = max(abs(a - b) / abs(b) for a, b, _ in pairs)
    tokens = [(x, y) for a, b in zip(ours, theirs) for side in ("chosen", "rejected")
              for x, y in zip(a[side]["tokens"]["logp"], b[side]["token_logps"], strict=True)]
    token = max(abs(x - y) for x, y in tokens)
    moved = max(abs(b - c) / abs(c) for _, b, c in pairs)
    good = worst < 1e-4 and token < 1e-3 and moved > 100 * worst
    print(f"{'ok  ' if good else 'FAIL'} {name}: {len(pairs)} log-probs, worst relative difference {worst:.1e}; "
          f"{len(tokens)} of tokens, worst difference {token:.1e}; "
          f"the adapter moves them by {moved:.1e}")
    return good


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        rows = rows_of(folder)
        results = [check(folder, name, rows) for name in RUNS]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
