#!/usr/bin/env python3
"""attune merge: a merged folder and merged GGUF files score as their base with the adapter does, keep what the adapter
does not touch, and what cannot be merged or written is refused with the way out. merge_test.py SOURCE_DIR BUILD_DIR
"""
import json
import pathlib
import random
import re
import shutil
import struct
import tempfile

import harness
from harness import GOLDEN
import tiny_model

TOKENIZER = GOLDEN / "models" / "tiny_llama"
ROWS = [{"prompt": f"Where is parcel {i}?", "chosen": f"It left today, {i}.", "rejected": f"no idea {i}"} for i in range(6)]
TRAINING = {"preset": "trl", "model_name_or_path": "model", "train_dataset": "rows.jsonl", "lora_target_modules": "all-linear",
            "use_peft": True, "lora_r": 4, "lora_dropout": 0, "max_steps": 2, "learning_rate": 0.05, "output_dir": "out"}


def run(*arguments, code=0):
    return harness.run(*arguments, code=code, cwd=FOLDER, env=harness.UNVALIDATED)


def logps(model, adapter=None):
    more = ["--adapter_name_or_path", adapter] if adapter else []
    lines = run("score", "--method", "dpo", "--train_dataset", "rows.jsonl", "--model_name_or_path", model, "--tokenizer",
                TOKENIZER, "--max_length", "0", "--json", *more).stdout.splitlines()
    return [row[side]["logp"] for row in map(json.loads, lines) for side in ("chosen", "rejected") if "chosen" in row]


def difference(x, y):
    return max(abs(a - b) / abs(b) for a, b in zip(x, y, strict=True))


def merge(base, output, *more, code=0):
    return run("merge", "out", "--model_name_or_path", base, "--output", output, *more, code=code)


def more_tensors(model, to, name, dtype, shape, data):
    """A copy of a folder with a tensor more."""
    shutil.copytree(model, to)
    raw = (to / "model.safetensors").read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + n])
    end = max(t["data_offsets"][1] for key, t in header.items() if key != "__metadata__")
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(data)]}
    text = json.dumps(header).encode()
    (to / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + n:] + data)


def check_folder():
    more = FOLDER / "model" / "additional_chat_templates"
    more.mkdir()
    (more / "tool_use.jinja").write_text("{{ messages[0].content }}")
    said = run("merge", "out", "--output", "merged").stderr
    assert "next       attune generate merged" in said, said
    assert (FOLDER / "merged" / more.name / "tool_use.jinja").read_text() == (more / "tool_use.jinja").read_text()
    shutil.rmtree(more)
    shutil.rmtree(FOLDER / "merged" / more.name)
    bare, tuned, merged = logps("model"), logps("model", "out"), logps("merged")
    assert difference(bare, tuned) > 0.01, "the adapter hardly moves a log-prob"
    assert difference(merged, tuned) < 1e-5, f"merged folder: {difference(merged, tuned):.1e}"
    inspected = json.loads(run("inspect", "merged", "--json").stdout)
    assert "llama" in json.dumps(inspected), inspected
    run("merge", "out", "--output", "half", "--type", "bf16")
    assert 0 < difference(logps("half"), tuned) < 3e-2, "matrices as BF16"
    said = merge("half", "half_weak", "--force", "--adapter_scale", "0.001").stderr
    left = re.search(r"rounding to the file's type leaves (\d+) % of what .* --type f32 keeps it", said)
    assert int(left[1]) < 50, said
    sizes = [(FOLDER / name / "model.safetensors").stat().st_size for name in ("merged", "half")]
    assert sizes[1] < 0.6 * sizes[0], sizes
    more_tensors(FOLDER / "model", FOLDER / "places", "model.position_ids", "I64", [1, 2], bytes(16))
    merge("places", "places_half", "--force", "--type", "bf16")  # no weights: they keep their type
    assert b'"model.position_ids":{"dtype":"I64"' in (FOLDER / "places_half" / "model.safetensors").read_bytes()
    config = json.loads((FOLDER / "half" / "config.json").read_text())
    assert config == json.loads((FOLDER / "model" / "config.json").read_text()) | {
        key: "bfloat16" for key in ("dtype", "torch_dtype") if key in config}, config


def check_bases():
    """Weights of the same shapes and other values are told of by all that takes an adapter; eval refuses one that does
    not fit before it measures the base."""
    for name, more in ("stranger", {"seed": 5}), ("wide", {"width": 128}):
        tiny_model.plain_folder(FOLDER / name, TOKENIZER, **more)
    commands = [
        ["score", "--method", "dpo", "--train_dataset", "rows.jsonl", "--adapter_name_or_path", "out"],
        ["generate", "--adapter", "out", "--prompt", "Where?", "--max_new_tokens", 2],
        ["eval", "rows.jsonl", "--adapter", "out", "--n_replies", 0],
        ["dpo", "--train_dataset", "rows.jsonl", "--adapter_name_or_path", "out", "--max_steps", 1, "--output_dir", "next"]]
    for base, others in ("model", 0), ("stranger", 1):
        for command in commands + [["export", "out", "--output", base + "_peft"]]:
            shutil.rmtree(FOLDER / "next", ignore_errors=True)
            said = run(*command, "--model_name_or_path", base, code=(0, 1, 3)).stderr
            assert said.count("out was trained on model, and the weights here are others") == others, said
    said = run(*commands[2], "--model_name_or_path", "wide", code=65).stderr
    assert "out/adapter_model.safetensors" in said and "measured" not in said, said


def metadata(path):
    """The file up to its tensors' names, without the counts."""
    raw = path.read_bytes()
    return raw[24:raw.index(b"token_embd.weight") - 8]


def check_gguf(kind, limit):
    """The base's own type; `limit`: what rounding merged values to it may do to a log-prob."""
    base, _ = tiny_model.gguf_pair(FOLDER, kind, width=64)
    said = merge(base, f"{kind}.gguf", code=77).stderr
    assert "is not what out was trained on, model: digest" in said and "--force" in said, said
    assert not (FOLDER / f"{kind}.gguf").exists(), "nothing is written when a base is refused"
    said = merge(base, f"{kind}.gguf", "--force").stderr
    assert "is not what out was trained on" in said and "drift    not measured: there are no held-out rows" in said, said
    assert metadata(FOLDER / f"{kind}.gguf") == metadata(base), "metadata are the base's"
    tuned = logps(base, "out")
    assert difference(logps(base), tuned) > 0.01
    worst = difference(logps(f"{kind}.gguf"), tuned)
    assert worst < limit, f"{kind}: {worst:.1e}"
    weak = merge(base, f"{kind}_weak.gguf", "--force", "--adapter_scale", "0.01").stderr
    assert "rounding" not in weak, "a change of less than half a step is kept on average"
    said = merge(base, f"{kind}_16.gguf", "--force", "--type", "F16").stderr
    assert "rounding" not in said, said
    assert difference(logps(f"{kind}_16.gguf"), tuned) < 3e-3, f"{kind} as F16"
    return worst


def check_saved():
    """A head that was trained in full takes the place of a quantised one as an adapter's change does: kept on average."""
    rng, tensors = random.Random(3), []
    for name, shape, values in tiny_model.others(rng, 64).values():
        quantised = name == "output.weight"
        tensors.append((name, shape, "Q4_0", tiny_model.q4_0(rng, len(values))[0]) if quantised else
                       (name, shape, "F32", values.tobytes()))
    for _, name, rows, cols in tiny_model.layers(64):
        tensors.append((name, [rows, cols], "F32", tiny_model.f32_blocks(rng, rows * cols)[1].tobytes()))
    tiny_model.write_gguf(FOLDER / "head.gguf", 64, tensors)
    config = {**TRAINING, "model_name_or_path": "head.gguf", "tokenizer": str(TOKENIZER), "output_dir": "saved", "max_steps": 1,
              "learning_rate": 2e-4, "lora_modules_to_save": ["lm_head"]}
    (FOLDER / "saved.json").write_text(json.dumps(config))
    run("dpo", "saved.json")
    said = run("merge", "saved", "--output", "head_merged.gguf").stderr
    assert "rounding" not in said, said
    sizes = [(len(data) + 31) // 32 * 32 for *_, data in tensors]
    place = [name for name, *_ in tensors].index("output.weight")
    heads = []
    for name in ("head.gguf", "head_merged.gguf"):
        raw = (FOLDER / name).read_bytes()
        begin = len(raw) - sum(sizes[place:])
        heads.append(raw[begin:begin + len(tensors[place][3])])
    blocks = [[head[i:i + 18] for i in range(0, len(head), 18)] for head in heads]
    assert all(x[:2] == y[:2] for x, y in zip(*blocks)), "scales stay"
    moved = sum((x & 15 != y & 15) + (x >> 4 != y >> 4) for x, y in zip(*(b"".join(b[2:] for b in head) for head in blocks)))
    share = moved / (32 * len(blocks[0]))  # by chance: 2e-4 of a mean step of 0.0125
    assert 0.005 < share < 0.04, share
    shape = tensors[place][1]  # a head of a type that is not read: nobody needs it any more
    tensors[place] = ("output.weight", shape, "Q8_1", bytes(shape[0] * shape[1] // 32 * 36))
    tiny_model.write_gguf(FOLDER / "unread.gguf", 64, tensors)
    unread = ["merge", "saved", "--model_name_or_path", "unread.gguf", "--force", "--output"]
    assert "is Q8_1, which is not written" in run(*unread, "x.gguf", code=2).stderr
    said = run(*unread, "unread_merged.gguf", "--type", "f32").stderr
    run("merge", "saved", "--output", "head_plain.gguf", "--type", "f32")
    assert (FOLDER / "unread_merged.gguf").read_bytes() == (FOLDER / "head_plain.gguf").read_bytes(), said


def check_drift():
    """Over another base: none where it only has other names, more where its values are rounded."""
    (FOLDER / "out" / "split_eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:2]))
    # another digest, the same model
    more_tensors(FOLDER / "model", FOLDER / "same", "model.layers.0.self_attn.rotary_emb.inv_freq", "F32", [0], b"")
    drifts = []
    for name, more in (("equal", []), ("scaled", ["--adapter_scale", "1.5"]), ("rounded", ["--type", "bf16"])):
        said = merge("same", name, "--force", *more).stderr
        found = re.search(r"drift    (\S+) nats a token from what was trained, over (\d+) tokens of replies to 2 held-out", said)
        assert found and 1 < int(found[2]) <= 32, said
        drifts.append(float(found[1]))
    assert drifts[0] == drifts[1] == 0 and drifts[2] < 0.01, drifts
    base, _ = tiny_model.gguf_pair(FOLDER, "F32", width=64, seed=5)
    (FOLDER / "out" / "split_eval.jsonl").write_text('{"prompt": 3}\n')  # the model is there, its drift is not
    said = merge("same", "unmeasured", "--force").stderr
    assert "drift    not measured: out/split_eval.jsonl: line 1" in said and "next       attune generate" in said, said
    (FOLDER / "out" / "split_eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:2]))
    assert float(re.search(r"drift    (\S+) nats", merge(base, "other.gguf", "--force").stderr)[1]) > 0.1, "another model"


def check_k_quants():
    """A K-quant base keeps its type; the drift by its few bits is measured over the run's held-out rows."""
    packed, _ = tiny_model.gguf_pair(FOLDER, "Q4_K")
    config = {**TRAINING, "model_name_or_path": str(packed), "tokenizer": str(TOKENIZER), "output_dir": "k",
              "learning_rate": 0.006}
    (FOLDER / "k.json").write_text(json.dumps(config))
    run("dpo", "k.json", "--quiet")
    (FOLDER / "k" / "split_eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:2]))
    said = run("merge", "k", "--output", "k.gguf").stderr
    drift = re.search(r"drift    (\S+) nats a token from what was trained, .*; the base without adapters: (\S+)", said)
    assert float(drift[1]) < 0.2 * float(drift[2]), said
    tuned = logps(packed, "k")
    assert difference(logps("k.gguf"), tuned) < 0.05 < difference(logps(packed), tuned)
    assert (FOLDER / "k.gguf").stat().st_size == packed.stat().st_size and metadata(FOLDER / "k.gguf") == metadata(packed)
    said = run("merge", "k", "--output", "k16.gguf", "--type", "f16").stderr
    assert "rounding" not in said and "drift" not in said, said
    assert difference(logps("k16.gguf"), tuned) < 3e-3
    said = merge(tiny_model.gguf_pair(FOLDER, "F32", width=64)[0], "k5.gguf", "--force", "--type", "q4_k").stderr
    assert "9 of 9 matrices" in said and "whole blocks of 256 values, as Q4_K needs them" in said and "as Q5_0" in said, said


def check_refusals():
    nf4, _ = tiny_model.nf4_pair(FOLDER, TOKENIZER, width=64)
    said = merge(nf4, "x", "--force", code=2).stderr
    assert "is NF4, which is not written" in said and "--type (bf16, f16, f32)" in said, said
    for arguments, part, code in [
            (["out", "--output", "x.gguf"], "name a folder", 2), (["k", "--output", "x"], "ends in .gguf", 2),
            (["out", "--output", "merged"], "holds files", 73), (["k", "--output", "k.gguf"], "exists", 73),
            (["out", "--output", "x", "--type", "iq2_s"], "q4_k, q5_0", 2), (["out"], "usage", 2),
            (["out", "--output", "x", "--type", "q8_0"], "f32, f16 or bf16", 2)]:
        said = run("merge", *arguments, code=code).stderr
        assert part in said, f"{arguments}: {said}"
    assert not (FOLDER / "x").exists() and not (FOLDER / "x.gguf").exists()


def main():
    global FOLDER
    with tempfile.TemporaryDirectory() as folder:
        FOLDER = pathlib.Path(folder)
        tiny_model.plain_folder(FOLDER / "model", TOKENIZER)
        (FOLDER / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        (FOLDER / "run.json").write_text(json.dumps(TRAINING))
        run("dpo", "run.json", "--quiet")
        check_folder()
        check_bases()
        worst = [check_gguf(kind, limit) for kind, limit in (("F32", 1e-5), ("Q4_0", 0.1))]
        check_saved()
        check_k_quants()
        check_drift()
        check_refusals()
    print("merged log-probs differ by {:.1e} in F32, {:.1e} in Q4_0".format(*worst))


if __name__ == "__main__":
    main()
