#!/usr/bin/env python3
"""attune export: what GGUF adapters and PEFT folders hold is what the adapters compute, in the base's names
and orders; what a format cannot hold is refused. Files are read here by themselves, without gguf-py.
export_test.py SOURCE_DIR BUILD_DIR
"""
import array
import json
import math
import pathlib
import shutil
import struct
import tempfile

from harness import GOLDEN, run
import tiny_model

LLAMA, QWEN = GOLDEN / "models" / "tiny_llama", GOLDEN / "models" / "tiny_qwen2"
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down"}


# ---- files ----


def read_safetensors(path):
    """name -> (shape, values)."""
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, t in json.loads(raw[8:8 + n]).items():
        if name != "__metadata__":
            assert t["dtype"] == "F32", name
            begin, end = (8 + n + at for at in t["data_offsets"])
            out[name] = t["shape"], array.array("f", raw[begin:end])
    return out


def read_gguf(path):
    """Metadata, name -> (shape, values): strings, numbers and F32 tensors only."""
    raw = path.read_bytes()
    at = 0

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, raw, at)
        at += struct.calcsize("<" + form)
        return values[0]

    def text():
        nonlocal at
        n = take("Q")
        at += n
        return raw[at - n:at].decode()

    assert take("I") == 0x46554747 and take("I") == 3, "magic, version"
    n_tensors, n_pairs = take("Q"), take("Q")
    pairs = {}
    for _ in range(n_pairs):
        key = text()
        pairs[key] = {4: lambda: take("I"), 6: lambda: take("f"), 8: text}[take("I")]()
    infos = []
    for _ in range(n_tensors):
        name = text()
        shape = [take("Q") for _ in range(take("I"))][::-1]
        assert take("I") == 0, f"{name}: F32 expected"
        infos.append((name, shape, take("Q")))
    begin = (at + 31) // 32 * 32
    out = {}
    for name, shape, offset in infos:
        assert offset % 32 == 0, f"{name} lies at {offset}"
        n = math.prod(shape)
        out[name] = shape, array.array("f", raw[begin + offset:begin + offset + 4 * n])
    assert len(raw) == max((begin + o + 4 * math.prod(s) + 31) // 32 * 32 for _, s, o in infos), "length"
    return pairs, out


# ---- what an adapter adds to a matrix ----


def product(b, a, rank, scale):
    """scale B A as rows, from (shape, values) of both."""
    (rows, r), (r2, cols) = b[0], a[0]
    assert r == r2 == rank
    return [[scale * sum(b[1][i * r + k] * a[1][k * cols + j] for k in range(r)) for j in range(cols)]
            for i in range(rows)]


def add(x, y):
    return [[p + q for p, q in zip(s, t)] for s, t in zip(x, y)] if x else y


def config_of(folder):
    return json.loads((folder / "adapter_config.json").read_text())


def pattern(config, key, name, usual):
    """PEFT's get_pattern_key, for the patterns of these adapters."""
    import re
    for pattern_, value in config[key].items():
        if re.match(rf"(.*\.)?({pattern_})$", name):
            return value
    return usual


def deltas_of(folder, strength=1):
    config, tensors = config_of(folder), read_safetensors(folder / "adapter_model.safetensors")
    out = {}
    for name in tensors:
        if not name.endswith(".lora_A.weight"):
            continue
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        rank = pattern(config, "rank_pattern", module, config["r"])
        alpha = pattern(config, "alpha_pattern", module, config["lora_alpha"])
        scale = strength * alpha / (math.sqrt(rank) if config["use_rslora"] else rank)
        out[module] = product(tensors[name.replace("lora_A", "lora_B")], tensors[name], rank, scale)
    return out


def in_gguf_order(rows, heads):
    """convert_hf_to_gguf's permute: reshape(heads, 2, D / 2, ...).swapaxes(1, 2)."""
    width = len(rows) // heads
    return [rows[h * width + half * width // 2 + pair] for h in range(heads)
            for pair in range(width // 2) for half in range(2)]


def difference(x, y):
    assert len(x) == len(y) and len(x[0]) == len(y[0])
    biggest = max(abs(v) for row in y for v in row)
    return max(abs(p - q) for s, t in zip(x, y) for p, q in zip(s, t)) / (biggest or 1)


def check_gguf(path, base, expected, permuted):
    pairs, tensors = read_gguf(path)
    model = json.loads((base / "config.json").read_text())
    assert pairs["general.type"] == "adapter" and pairs["adapter.type"] == "lora"
    assert pairs["general.architecture"] == model["model_type"], pairs
    assert len(tensors) == 2 * len(expected), f"{len(tensors)} tensors, {2 * len(expected)} expected"
    for module, delta in expected.items():
        _, _, layer, kind = module.split(".", 3)
        name = f"blk.{layer}.{NAMES[kind]}.weight"
        a, b = tensors[name + ".lora_a"], tensors[name + ".lora_b"]
        heads = {"attn_q": model["num_attention_heads"], "attn_k": model["num_key_value_heads"]}.get(NAMES[kind])
        ours = product(b, a, a[0][0], pairs["adapter.lora.alpha"] / a[0][0])
        theirs = in_gguf_order(delta, heads) if permuted and heads else delta
        assert any(v for row in delta for v in row), f"{module}: the fixture's B is zero"
        worst = difference(ours, theirs)
        assert worst < 1e-5, f"{path.name}: {name} differs by {worst:.1e}"
    return pairs


def trained(name, target):
    """The adapter that a golden run ends with."""
    shutil.copytree(GOLDEN / name / "init_adapter", target)
    shutil.copy(GOLDEN / name / "final_adapter.safetensors", target / "adapter_model.safetensors")
    return target


def edited(source, target, **changes):
    shutil.copytree(source, target)
    config = config_of(target)
    config.update(changes)
    (target / "adapter_config.json").write_text(json.dumps(config))
    return target


def check_adapters(folder):
    plain, patterns = trained("dpo_continued", folder / "plain"), trained("dpo_patterns", folder / "patterns")
    stacked = add_all(deltas_of(plain), deltas_of(patterns))
    out = folder / "plain.gguf"
    said = run("export", plain, "--model_name_or_path", LLAMA, "--output", out).stderr
    assert f"python3 LLAMA_CPP/convert_hf_to_gguf.py {LLAMA} --outfile base.gguf && llama-server -m base.gguf --lora {out}\n" in said, said
    pairs = check_gguf(out, LLAMA, deltas_of(plain), True)
    assert pairs["adapter.lora.alpha"] == config_of(plain)["lora_alpha"], "one adapter keeps its alpha"
    tensors = read_gguf(out)[1]
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    assert tensors["blk.0.attn_q.weight.lora_a"] == tuple(read_safetensors(plain / "adapter_model.safetensors")[name])

    for name, adapters, more, expected in [
            ("patterns", [patterns], [], deltas_of(patterns)),
            ("scaled", [patterns], ["--adapter_scale", 0.5], deltas_of(patterns, 0.5)),
            ("rslora", [edited(plain, folder / "rs", use_rslora=True)], [], deltas_of(folder / "rs")),
            ("stack", [plain, patterns], [], stacked)]:
        out = folder / f"{name}.gguf"
        run("export", *adapters, "--model_name_or_path", LLAMA, "--output", out, *more)
        check_gguf(out, LLAMA, expected, True)
    run("export", plain, patterns, "--model_name_or_path", LLAMA, "--output", folder / "one")
    one = deltas_of(folder / "one")
    assert one.keys() == stacked.keys()
    for module, delta in stacked.items():
        assert difference(one[module], delta) < 1e-5, f"PEFT folder of a stack: {module}"
    assert config_of(folder / "one")["base_model_name_or_path"] == "tiny_llama"


def check_inspected(folder):
    """A GGUF adapter is shown as one, not as a broken model."""
    for name in ("plain", "patterns"):
        out = run("inspect", folder / f"{name}.gguf", "--json")
        said, config = json.loads(out.stdout), config_of(folder / name)
        assert said["kind"] == "adapter" and not {"tokenizer", "model"} & said.keys() and "warning" not in out.stderr, (said, out.stderr)
        adapter, tensors = said["adapter"], read_gguf(folder / f"{name}.gguf")[1]
        assert (adapter["type"], adapter["base_architecture"]) == ("lora", "llama"), adapter
        ranks = {t.removesuffix(".weight.lora_a"): shape[0] for t, (shape, _) in tensors.items() if t.endswith(".lora_a")}
        assert {t: adapter["rank_pattern"].get(t, adapter["r"]) for t in ranks} == ranks, adapter
        assert set(adapter["target_modules"]) == {t.split(".", 2)[2] for t in ranks}, adapter
        assert adapter["lora_alpha"] == config["lora_alpha"] if name == "plain" else adapter["rank_pattern"], adapter
    assert json.loads(run("inspect", folder / "plain.gguf", "--json").stdout)["adapter"]["r"] == config_of(folder / "plain")["r"]


def add_all(x, y):
    return {module: add(x.get(module), y[module]) if module in y else x[module] for module in {**x, **y}}


def check_replies(folder):
    """The folder of a stack writes what the stack writes."""
    plain, patterns = folder / "plain", folder / "patterns"

    def reply(*adapters):
        flags = [word for adapter in adapters for word in ("--adapter", adapter)]
        line = json.loads(run("generate", LLAMA, "--json", "--prompt", "Where is my parcel?", "--max_new_tokens", 12,
                              *flags).stdout)
        return line["text"], line["logp"]

    stack, one = reply(plain, patterns), reply(folder / "one")
    assert stack[0] == one[0] != reply()[0] and abs(stack[1] - one[1]) < 1e-3, "replies of the stack and of its folder"


def check_unpermuted(folder):
    """Qwen2's rows of q and k are in Hugging Face's order; the base is found by run.json."""
    adapter = trained("dpo_dora", folder / "qwen")
    config = config_of(adapter)
    out = folder / "qwen.gguf"
    said = run("export", adapter, "--model_name_or_path", QWEN, "--output", out, code=2).stderr
    assert "DoRA" in said and "cannot hold" in said, said
    assert not out.exists(), "nothing is written when an adapter is refused"
    run("export", adapter, "--model_name_or_path", QWEN, "--output", folder / "qwen_peft")
    assert (read_safetensors(folder / "qwen_peft/adapter_model.safetensors")
            == read_safetensors(adapter / "adapter_model.safetensors")), "DoRA's magnitudes are written, too"
    config["use_dora"] = False
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    tensors = read_safetensors(adapter / "adapter_model.safetensors")
    write_safetensors(adapter / "adapter_model.safetensors",
                      {name: t for name, t in tensors.items() if "magnitude" not in name})
    (adapter / "run.json").write_text(json.dumps({"config": {"model_name_or_path": {"value": str(QWEN)}}}))
    run("export", adapter, "--output", out)
    check_gguf(out, QWEN, deltas_of(adapter), False)


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, (shape, values) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + 4 * len(values)]}
        at += 4 * len(values)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(v.tobytes() for _, v in tensors.values()))


def check_refusals(folder):
    modules, plain = trained("dpo_modules", folder / "m"), folder / "plain"
    base = ["--model_name_or_path", LLAMA]
    said = run("export", modules, *base, "--output", folder / "m.gguf", code=2).stderr
    assert "modules_to_save" in said and "lm_head" in said or "embed_tokens" in said, said
    run("export", modules, *base, "--output", folder / "modules")
    assert read_safetensors(folder / "modules" / "adapter_model.safetensors") == \
        read_safetensors(modules / "adapter_model.safetensors"), "a PEFT folder of one adapter is that adapter"
    run("export", plain, *base, "--output", folder / "plain.gguf", code=73)  # exists
    run("export", plain, *base, "--output", folder / "modules", code=73)  # holds files
    said = run("export", plain, "--output", folder / "x.gguf", code=66).stderr
    assert "the base model tiny_llama is not here" in said, said
    (folder / "empty").mkdir()
    for name, why in (("gone", "does not exist"), ("plain.gguf", "is no folder"), ("empty", "holds no adapter_config.json")):
        for command in ("export", "merge"):
            said = run(command, folder / name, "--output", folder / "x.gguf", code=66).stderr
            assert f"{folder / name} {why}" in said and "base model" not in said, said
    run("export", plain, *base, code=2)
    run("export", plain, *base, "--output", folder / "x", "--format", "onnx", code=2)
    run("export", modules, *base, "--output", folder / "x", "--adapter_scale", 0.5, code=2)


def check_gguf_base(folder):
    """What PEFT cannot load as a base is said to be none, unless another name is given."""
    base, _ = tiny_model.gguf_pair(folder, "F32", width=64)
    adapter, module = folder / "of_gguf", "base_model.model.model.layers.0.self_attn.q_proj"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["q_proj"], "base_model_name_or_path": str(base)}))
    write_safetensors(adapter / "adapter_model.safetensors", {
        f"{module}.lora_{side}.weight": (shape, array.array("f", [0.5] * 64)) for side, shape in (("A", [1, 64]), ("B", [64, 1]))})
    for name, more, warns in (("bare", [], True), ("named", ["--base_model_name_or_path", "org/tiny"], False),
                              ("lora.gguf", [], False)):
        out = folder / f"peft_{name}"
        said = run("export", adapter, "--output", out, *more).stderr
        says = f"attune: warning: {out}/adapter_config.json names the GGUF file {base} as its base, which PEFT cannot load"
        assert (says in said and "--base_model_name_or_path" in said) == warns == ("warning" in said), said
    assert config_of(folder / "peft_bare")["base_model_name_or_path"] == str(base)
    assert config_of(folder / "peft_named")["base_model_name_or_path"] == "org/tiny"


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        check_adapters(folder)
        check_inspected(folder)
        check_replies(folder)
        check_unpermuted(folder)
        check_refusals(folder)
        check_gguf_base(folder)
    print("adapters: GGUF and PEFT, one and stacked")


if __name__ == "__main__":
    main()
