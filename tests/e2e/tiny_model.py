"""Tiny Llama and Phi-3 models of whole blocks, written without any library: folders of safetensors and GGUF files,
with random weights in the formats that the tests need, and the values that these weights stand for."""
import array
import json
import pathlib
import random
import shutil
import struct

LAYERS, HEADS, KV_HEADS, VOCABULARY = 1, 4, 2, 197
NAMES = {  # family -> of a layer: Hugging Face, GGUF, shape in widths
    "llama": {
        "self_attn.q_proj": ("attn_q", 1, 1), "self_attn.k_proj": ("attn_k", 0.5, 1),
        "self_attn.v_proj": ("attn_v", 0.5, 1), "self_attn.o_proj": ("attn_output", 1, 1),
        "mlp.gate_proj": ("ffn_gate", 1, 1), "mlp.up_proj": ("ffn_up", 1, 1), "mlp.down_proj": ("ffn_down", 1, 1),
    },
    "phi3": {  # fused: rows of q, k, v; of gate, up
        "self_attn.qkv_proj": ("attn_qkv", 2, 1), "self_attn.o_proj": ("attn_output", 1, 1),
        "mlp.gate_up_proj": ("ffn_up", 2, 1), "mlp.down_proj": ("ffn_down", 1, 1),
    },
}
GGUF_TYPES = {"F32": 0, "Q4_0": 2, "Q8_1": 9, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14}
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
       -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
       0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]


def f32(values):
    return array.array("f", values)


def normal(rng, n, deviation):
    return f32([rng.gauss(0, deviation) for _ in range(n)])


# ---- blocks: (bytes of a matrix, its values), as gguf-py and bitsandbytes define them ----


def half(x):
    return struct.pack("<e", x)


def q4_0(rng, n):
    raw, values = bytearray(), []
    for _ in range(n // 32):
        d = half(rng.uniform(0.005, 0.02))
        qs = bytes(rng.randrange(256) for _ in range(16))
        raw += d + qs
        scale = struct.unpack("<e", d)[0]
        values += [scale * ((q & 15) - 8) for q in qs] + [scale * ((q >> 4) - 8) for q in qs]
    return bytes(raw), f32(values)


def q4_k(rng, n):
    raw, values = bytearray(), []
    for _ in range(n // 256):
        head = half(rng.uniform(0.0001, 0.0003)) + half(rng.uniform(0.001, 0.002))
        s = [rng.randrange(256) for _ in range(12)]
        qs = [rng.randrange(256) for _ in range(128)]
        raw += head + bytes(s) + bytes(qs)
        d, dmin = struct.unpack("<2e", head)
        for j in range(8):
            scale = s[j] & 63 if j < 4 else s[j + 4] & 15 | s[j - 4] >> 6 << 4
            least = s[j + 4] & 63 if j < 4 else s[j + 4] >> 4 | s[j] >> 6 << 4
            values += [d * scale * (q >> 4 * (j % 2) & 15) - dmin * least for q in qs[j // 2 * 32:j // 2 * 32 + 32]]
    return bytes(raw), f32(values)


def nf4(rng, n):
    """Codes, scales, values."""
    codes = bytes(rng.randrange(256) for _ in range(n // 2))
    scales = f32([rng.uniform(0.03, 0.12) for _ in range(n // 64)])
    exact = f32(NF4)
    values = f32([exact[codes[i // 2] >> (4 - 4 * (i % 2)) & 15] * scales[i // 64] for i in range(n)])
    return codes, scales, values


def f32_blocks(rng, n):
    values = normal(rng, n, 0.05)
    return values.tobytes(), values


BLOCKS = {"F32": f32_blocks, "Q4_0": q4_0, "Q4_K": q4_k}

# ---- files ----


def layers(width, family="llama"):
    """(Hugging Face's name, GGUF's name, rows, columns) of every linear layer."""
    for layer in range(LAYERS):
        for name, (gguf, rows, cols) in NAMES[family].items():
            yield (f"model.layers.{layer}.{name}.weight", f"blk.{layer}.{gguf}.weight",
                   int(rows * width), int(cols * width))


def others(rng, width):
    """name -> (GGUF's name, shape, values) of what is never quantised."""
    out = {"model.embed_tokens.weight": ("token_embd.weight", [VOCABULARY, width], normal(rng, VOCABULARY * width, 0.5)),
           "lm_head.weight": ("output.weight", [VOCABULARY, width], normal(rng, VOCABULARY * width, 0.1)),
           "model.norm.weight": ("output_norm.weight", [width], f32([1] * width))}
    for layer in range(LAYERS):
        for hf, gguf in [("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm")]:
            out[f"model.layers.{layer}.{hf}.weight"] = (f"blk.{layer}.{gguf}.weight", [width], f32([1] * width))
    return out


def gguf_header(sizes, tensors, family="llama", context=256):
    """All that stands before the data. sizes: (layers, width, inner width, heads, heads of keys); tensors: (name, shape in
    PyTorch's order, type's name, bytes that it takes)."""
    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()

    items = [text("general.architecture") + struct.pack("<I", 8) + text(family),
             text(f"{family}.context_length") + struct.pack("<II", 4, context)]
    for key, value in zip(("block_count", "embedding_length", "feed_forward_length", "attention.head_count",
                           "attention.head_count_kv"), sizes):
        items.append(text(f"{family}.{key}") + struct.pack("<II", 4, value))
    items.append(text(f"{family}.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5))
    out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(items)) + b"".join(items))
    at = 0
    for name, shape, kind, n_bytes in tensors:
        out += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), GGUF_TYPES[kind], at)
        at += (n_bytes + 31) // 32 * 32
    return out + bytes(-len(out) % 32)


def write_gguf(path, width, tensors, family="llama"):
    """tensors: (name, shape in PyTorch's order, type's name, bytes)."""
    out = gguf_header((LAYERS, width, width, HEADS, KV_HEADS),
                      [(name, shape, kind, len(data)) for name, shape, kind, data in tensors], family)
    for *_, data in tensors:
        out += data + bytes(-len(data) % 32)
    path.write_bytes(out)


def write_folder(folder, width, tensors, tokenizer, config=None):
    """tensors: name -> (dtype, shape, bytes)."""
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(
        struct.pack("<Q", len(text)) + text + b"".join(data for *_, data in tensors.values()))
    (folder / "config.json").write_text(json.dumps(
        {"model_type": "llama", "hidden_size": width, "intermediate_size": width, "num_attention_heads": HEADS,
         "num_key_value_heads": KV_HEADS, "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY,
         "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, **(config or {})}))
    for name in ["tokenizer.json", "tokenizer_config.json"]:
        shutil.copy(pathlib.Path(tokenizer) / name, folder / name)


def gguf_pair(folder, kind, width=256, seed=1, family="llama"):
    """A GGUF file of that type, and one with its values as F32."""
    rng = random.Random(seed)
    plain = [(gguf, shape, "F32", values.tobytes()) for gguf, shape, values in others(rng, width).values()]
    packed, values = list(plain), list(plain)
    for _, name, rows, cols in layers(width, family):
        raw, exact = BLOCKS[kind](rng, rows * cols)
        packed.append((name, [rows, cols], kind, raw))
        values.append((name, [rows, cols], "F32", exact.tobytes()))
    paths = folder / f"{family}_{kind}.gguf", folder / f"{family}_{kind}_values.gguf"
    for path, tensors in zip(paths, [packed, values]):
        write_gguf(path, width, tensors, family)
    return paths


def nf4_pair(folder, tokenizer, width=256, seed=1, family="llama"):
    """A folder as bitsandbytes publishes it, and one with its values as F32."""
    rng = random.Random(seed)
    plain = {name: ("F32", shape, values.tobytes()) for name, (_, shape, values) in others(rng, width).items()}
    packed, values = dict(plain), dict(plain)
    for name, _, rows, cols in layers(width, family):
        codes, scales, exact = nf4(rng, rows * cols)
        state = json.dumps({"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [rows, cols]}).encode()
        packed[name] = ("U8", [len(codes), 1], codes)
        packed[f"{name}.absmax"] = ("F32", [len(scales)], scales.tobytes())
        packed[f"{name}.quant_map"] = ("F32", [16], f32(NF4).tobytes())
        packed[f"{name}.quant_state.bitsandbytes__nf4"] = ("U8", [len(state)], state)
        values[name] = ("F32", [rows, cols], exact.tobytes())
    write_folder(folder / f"{family}_nf4", width, packed, tokenizer,
                 {"model_type": family, "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}})
    write_folder(folder / f"{family}_nf4_values", width, values, tokenizer, {"model_type": family})
    return folder / f"{family}_nf4", folder / f"{family}_nf4_values"


def int8_pair(folder, tokenizer, width=256, seed=1):
    """The same of 8 bits: rows of signed bytes, a row's largest magnitude in SCB."""
    rng = random.Random(seed)
    plain = {name: ("F32", shape, values.tobytes()) for name, (_, shape, values) in others(rng, width).items()}
    packed, values = dict(plain), dict(plain)
    for name, _, rows, cols in layers(width):
        codes = array.array("b", [rng.randrange(-127, 128) for _ in range(rows * cols)])
        largest = f32([rng.uniform(0.1, 0.3) for _ in range(rows)])
        products = f32([code * largest[i // cols] for i, code in enumerate(codes)])  # two roundings
        exact = f32([product * f32([1 / 127])[0] for product in products])
        packed[name] = ("I8", [rows, cols], codes.tobytes())
        packed[name.replace(".weight", ".SCB")] = ("F32", [rows], largest.tobytes())
        packed[name.replace(".weight", ".weight_format")] = ("U8", [], bytes(1))
        values[name] = ("F32", [rows, cols], exact.tobytes())
    write_folder(folder / "int8", width, packed, tokenizer,
                 {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}})
    write_folder(folder / "int8_values", width, values, tokenizer)
    return folder / "int8", folder / "int8_values"


def plain_folder(folder, tokenizer, width=64, seed=1, family="llama"):
    rng = random.Random(seed)
    tensors = {name: ("F32", shape, values.tobytes()) for name, (_, shape, values) in others(rng, width).items()}
    for name, _, rows, cols in layers(width, family):
        tensors[name] = ("F32", [rows, cols], f32_blocks(rng, rows * cols)[0])
    write_folder(folder, width, tensors, tokenizer, {"model_type": family})
    return folder
