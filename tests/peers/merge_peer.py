#!/usr/bin/env python3
"""attune merge beside PEFT's merge_and_unload, gguf-py's quantisers and llama.cpp's: merge_peer.py ATTUNE PEERS [NAME ...]

Of every family's tiny model and of adapters that PEFT makes with random values (rsLoRA with patterns, DoRA, head
and embedding whole): the merged folder holds PEFT's values to 1e-6, and the merged GGUF file is what gguf-py
writes of them, with the base's metadata. Of a base in each type that is written: matrices converted to it have every
bit of gguf-py's quantiser, and merged ones keep the adapter's change on average. K-quants and IQ4, which gguf-py only reads: a merged matrix has
every bit of llama.cpp's quantiser (without importance matrix; skipped where llama.cpp is not installed), over matrices
of all kinds of values, and the engine reads of it what gguf-py does.
"""
import copy
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import peft
import torch
import transformers
from safetensors import safe_open

import families_peer as fp
import family_models as fm
import llama_cpp

TYPES = ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
WIDTH = 64  # of the model of the types
failures = 0


def check(good, what):
    global failures
    failures += not good
    print(f"{'ok  ' if good else 'FAIL'} {what}", flush=True)


def merge(*arguments, code=0):
    run = subprocess.run([ATTUNE, "merge", *map(str, arguments)], capture_output=True, text=True)
    if run.returncode != code:
        sys.exit(f"merge {arguments}: exit {run.returncode}, {code} expected\n{run.stderr}")
    return run.stderr


def adapters_of(model):
    """Name -> PEFT's configuration."""
    linears = sorted({name.split(".")[-1] for name, m in model.named_modules()
                      if isinstance(m, torch.nn.Linear) and not name.endswith("lm_head")})
    usual = dict(r=3, lora_alpha=5, target_modules=linears, task_type="CAUSAL_LM")
    return {"rslora": peft.LoraConfig(**usual, use_rslora=True, rank_pattern={linears[0]: 5}, alpha_pattern={linears[-1]: 2}),
            "dora": peft.LoraConfig(**usual, use_dora=True),
            "modules": peft.LoraConfig(**usual, modules_to_save=["lm_head", "embed_tokens"])}


def make_adapter(model, config, folder):
    """Writes it with random values; the merged state."""
    torch.manual_seed(1)
    wrapped = peft.get_peft_model(copy.deepcopy(model), config)
    with torch.no_grad():
        for name, p in wrapped.named_parameters():
            if p.requires_grad:
                p.copy_(torch.rand_like(p) + 0.5 if "magnitude" in name else torch.randn_like(p) / 5)
    wrapped.save_pretrained(folder)
    return {k: v.numpy() for k, v in wrapped.merge_and_unload().state_dict().items()}


def read_folder(folder):
    tensors = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "numpy") as file:
            tensors.update({name: file.get_tensor(name) for name in file.keys()})
    return tensors


def difference(x, y):
    return np.abs(x - y).max() / max(np.abs(y).max(), 1e-30) if x.shape == y.shape else np.inf


def read_gguf(path):
    reader = gguf.GGUFReader(path)
    pairs = {k: [bytes(p) for p in f.parts] for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    return pairs, {t.name: t for t in reader.tensors}


def check_family(name, folder):
    fm.write_model(name, folder / "base")
    fm.write_config(name, folder / "base", {})
    model = getattr(transformers, fm.FAMILIES[name]["class"]).from_pretrained(folder / "base", dtype=torch.float32)
    tied = model.config.tie_word_embeddings
    base = fm.model_tensors(name)
    fp.write_gguf(name, folder / "base.gguf", False)
    for kind, config in adapters_of(model).items():
        if kind == "modules" and not hasattr(model.base_model, "embed_tokens"):
            continue
        adapter = folder / kind
        merged = make_adapter(model, config, adapter)
        merge(adapter, "--model_name_or_path", folder / "base", "--output", folder / f"{kind}_out")
        ours = read_folder(folder / f"{kind}_out")
        worst = max(difference(ours[key], merged[key]) for key in ours)
        moved = sum(difference(ours[key], np.array(v, dtype=np.float32).reshape(shape)) > 1e-3
                    for key, (shape, v) in base.items())
        expected = {*base, "lm_head.weight"} if kind == "modules" else {*base}
        reopened = getattr(transformers, fm.FAMILIES[name]["class"]).from_pretrained(folder / f"{kind}_out")
        check(worst < 1e-6 and set(ours) == expected and moved > 0 and
              reopened.config.tie_word_embeddings == (tied and kind != "modules"),
              f"{name} {kind}: {len(ours)} tensors, {moved} of them changed, worst difference from PEFT {worst:.1e}")
        arguments = adapter, "--model_name_or_path", folder / "base.gguf", "--output", folder / f"{kind}.gguf"
        if kind == "modules" and name == "gemma2":  # gguf-py's table has no output.weight
            check("no head beside the embedding" in merge(*arguments, code=2), f"{name} {kind}: GGUF is refused")
            continue
        merge(*arguments)
        usual = fm.model_tensors
        fm.model_tensors = lambda _, m=merged, e=expected: {k: (list(m[k].shape), m[k]) for k in sorted(e)}
        fp.write_gguf(name, folder / f"{kind}_want.gguf", False)
        fm.model_tensors = usual
        (pairs, got), (wanted, want) = read_gguf(folder / f"{kind}.gguf"), read_gguf(folder / f"{kind}_want.gguf")
        worst = max(difference(got[key].data, want[key].data) if key in got else np.inf for key in want)
        check(worst < 1e-6 and set(got) == set(want) and pairs == wanted,
              f"{name} {kind}: GGUF, {len(got)} tensors, worst difference {worst:.1e}")


def write_typed(path, kind, folder):
    """Llama's tensors (rows left in order: no matter here) with matrices of one type."""
    c = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "llama")
    fp.write_metadata(writer, "llama", c)
    writer.add_file_type(0)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, c["num_hidden_layers"])
    number = gguf.GGMLQuantizationType[kind] if kind in gguf.GGMLQuantizationType.__members__ else None
    for key, x in read_folder(folder).items():
        gguf_name = names.get_name(key, try_suffixes=(".weight",))
        if x.ndim == 2 and number is not None:
            writer.add_tensor(gguf_name, gguf.quants.quantize(x, number), raw_dtype=number)
        else:
            writer.add_tensor(gguf_name, x)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()


def tiny_llama(width):
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        hidden_size=width, intermediate_size=width, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=1,
        vocab_size=197, head_dim=width // 4, max_position_embeddings=256, initializer_range=0.3))


def save_llama(model, folder):
    """Base and adapter."""
    base, adapter = folder / "typed", folder / "typed_adapter"
    model.save_pretrained(base)
    config = json.loads((base / "config.json").read_text())
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    (base / "config.json").write_text(json.dumps(config))
    make_adapter(model, adapters_of(model)["rslora"], adapter)
    return base, adapter


def is_kept(exact, same, bare, number):
    """Plain types are rounded to nearest; blocks keep their scales and, on average, the change."""
    if gguf.GGML_QUANT_SIZES[number][0] == 1:
        return np.array_equal(gguf.quants.quantize(exact, number).view(np.uint8), same.data.view(np.uint8))
    base, got = (gguf.quants.dequantize(t.data, number).astype(np.float64) for t in (bare, same))
    change = exact - base
    return abs((change * (got - base)).sum() / (change ** 2).sum() - 1) < 0.05


def check_types(folder):
    base, adapter = save_llama(tiny_llama(WIDTH), folder)
    for kind in TYPES:
        source = folder / f"{kind}.gguf"
        write_typed(source, kind, base)
        merge(adapter, "--model_name_or_path", source, "--output", folder / "f32.gguf", "--type", "f32")
        merge(adapter, "--model_name_or_path", source, "--output", folder / "same.gguf")
        merge(adapter, "--model_name_or_path", folder / "f32.gguf", "--output", folder / "zero.gguf",
              "--adapter_scale", "0", "--type", kind.lower())
        (_, exact), (pairs, same), (_, bare) = (read_gguf(folder / f) for f in ("f32.gguf", "same.gguf", f"{kind}.gguf"))
        converted = read_gguf(folder / "zero.gguf")[1]
        number = gguf.GGMLQuantizationType[kind]
        wrong = [key for key, t in exact.items() if t.data.ndim == 2 and key.startswith("blk") and not
                 is_kept(t.data, same[key], bare[key], number)]
        wrong += [key for key, t in exact.items() if t.data.ndim == 2 and not
                  np.array_equal(gguf.quants.quantize(t.data, number).view(np.uint8), converted[key].data.view(np.uint8))]
        copied = all(np.array_equal(same[key].data, bare[key].data) for key in ("token_embd.weight", "output_norm.weight"))
        check(not wrong and copied and "tokenizer.ggml.tokens" in pairs,
              f"{kind}: blocks of converted matrices are gguf-py's, merged ones keep the change {wrong[:2]}")
        for path in ("f32.gguf", "same.gguf", "zero.gguf"):
            (folder / path).unlink()


def unlike_values(rng, rows, cols):
    """Rows of every kind that a quantiser may meet: sizes, signs, outliers, constants, zeros, ties, subnormal scales."""
    x = rng.standard_normal((rows, cols))
    x[1::11] = rng.laplace(size=x[1::11].shape) ** 3
    x[2::11] = -np.abs(x[2::11])
    x[3::11] = np.abs(x[3::11]) + 0.5
    x[4::11] *= 10.0 ** rng.uniform(-8, 4, (len(x[4::11]), 1))
    x[5::11] = 0
    x[6::11], x[6::11, :32] = -0.3, 0.7
    x[7::11, 7] = 50
    x[8::11] = rng.uniform(-1, 1, x[8::11].shape)
    x[9::11] = np.round(x[9::11] * 8) / 8
    x[10::11, ::2] = 0
    return x.astype(np.float32)


def check_fitted(folder):
    rng, model = np.random.default_rng(4), tiny_llama(256)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 2:
                p.copy_(torch.from_numpy(unlike_values(rng, *p.shape)))
    base, adapter = save_llama(model, folder)
    write_typed(folder / "base.gguf", "F32", base)
    for scale in ("0", "1"):
        merge(adapter, "--model_name_or_path", folder / "base.gguf", "--output", folder / "f32.gguf", "--type", "f32",
              "--adapter_scale", scale)
        for kind in llama_cpp.FITTED:
            check_fitted_type(folder, kind, adapter, scale)
        (folder / "f32.gguf").unlink()


def check_fitted_type(folder, kind, adapter, scale):
    """Of the values of f32.gguf, which are also what the merge makes before it rounds."""
    number = gguf.GGMLQuantizationType[kind]
    size = gguf.GGML_QUANT_SIZES[number][1]
    merge(adapter, "--model_name_or_path", folder / "base.gguf", "--output", folder / "ours.gguf", "--type", kind.lower(),
          "--adapter_scale", scale)
    merge(adapter, "--model_name_or_path", folder / "ours.gguf", "--output", folder / "back.gguf", "--type", "f32",
          "--adapter_scale", "0")
    theirs, ours, back = (llama_cpp.quantised(PEERS, folder / "f32.gguf", kind), read_gguf(folder / "ours.gguf")[1],
                          read_gguf(folder / "back.gguf")[1])
    blocks, equal, wrong = 0, 0, []
    for name, t in theirs.items():
        if t.tensor_type != number:
            continue
        got, want = (np.asarray(x.data).view(np.uint8).reshape(-1, size) for x in (ours[name], t))
        blocks, equal = blocks + len(got), equal + (got == want).all(1).sum()
        values = gguf.quants.dequantize(ours[name].data, number)
        if not np.array_equal(values, back[name].data):
            wrong.append(name)
    check(blocks > 1000 and equal == blocks and not wrong,
          f"{kind}, adapter of strength {scale}: {equal} of {blocks} blocks are llama.cpp's, read as by gguf-py {wrong[:2]}")
    for path in ("ours.gguf", "back.gguf"):
        (folder / path).unlink()


ATTUNE, PEERS = (pathlib.Path(path).resolve() for path in sys.argv[1:3])


def main():
    for name in sys.argv[3:] or fm.FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            check_family(name, pathlib.Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        check_types(pathlib.Path(folder))
    if llama_cpp.is_here(PEERS):
        with tempfile.TemporaryDirectory() as folder:
            check_fitted(pathlib.Path(folder))
    else:
        print(f"skipped: no llama.cpp in {PEERS} to quantise beside; sh tests/peers/setup.sh --llama_cpp makes it")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
