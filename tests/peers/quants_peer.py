#!/usr/bin/env python3
"""Every GGUF type over wide random blocks, all types in one file, as the device has them beside gguf-py.

Usage  quants_peer.py BENCH_LOAD [ROUNDS]
       BENCH_LOAD  the program of tests/bench/load_bench.c
       ROUNDS      files, each of another seed (default 3)
How    gguf-py writes a Qwen2 model (its rows stay in order) whose 14 linear layers have a type each; scales
       are of all sizes, a tenth of them subnormal, zero or negative. Hashes of f32 values: equal means every bit.
Needs  the environment of tests/peers/setup.sh.
"""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

# Offsets of f16 fields in a block.
HALVES = {
    "BF16": [], "F16": [], "IQ4_NL": [0], "IQ4_XS": [0], "Q2_K": [80, 82], "Q3_K": [108], "Q4_0": [0],
    "Q4_1": [0, 2], "Q4_K": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "Q8_0": [0],
}
LINEARS = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
           "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
           "ffn_down": "mlp.down_proj"}
WIDTH, VOCABULARY, LAYERS = 512, 64, 2


def random_rows(name, rows, cols, rng):
    kind = gguf.GGMLQuantizationType[name]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    if block == 1:
        words = rng.integers(0, 65536, (rows, cols), dtype=np.uint16)
        exponent = np.uint16(0x7F80 if name == "BF16" else 0x7C00)
        words[(words & exponent) == exponent] &= np.uint16(0x3FFF)  # no infinities, no NaN
        return words.view(np.uint8).reshape(rows, -1)
    count = rows * cols // block
    raw = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for offset in HALVES[name]:
        bits = rng.integers(0, 65536, count, dtype=np.uint16)
        bits[(bits & 0x7C00) == 0x7C00] &= np.uint16(0x83FF)  # infinities become subnormal
        small = rng.random(count) < 0.1
        bits[small] &= np.uint16(0x83FF)
        raw[:, offset : offset + 2] = bits.view(np.uint8).reshape(count, 2)
    return raw.reshape(rows, -1)


def write(path, seed):
    """The file; digest of every linear layer's values under its Hugging Face name."""
    rng = np.random.default_rng(seed)
    writer, want = gguf.GGUFWriter(path, "qwen2"), {}
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(8)
    writer.add_head_count_kv(8)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tensor("token_embd.weight", rng.standard_normal((VOCABULARY, WIDTH), dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    types = rng.permutation(list(HALVES)).tolist()
    for layer in range(LAYERS):
        for name in ["attn_norm", "ffn_norm"]:
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(WIDTH, dtype=np.float32))
        for name in ["attn_q", "attn_k", "attn_v"]:
            writer.add_tensor(f"blk.{layer}.{name}.bias", np.zeros(WIDTH, dtype=np.float32))
        for name, module in LINEARS.items():
            kind = types.pop()
            raw = random_rows(kind, WIDTH, WIDTH, rng)
            writer.add_tensor(f"blk.{layer}.{name}.weight", raw, raw_dtype=gguf.GGMLQuantizationType[kind])
            values = gguf.dequantize(raw, gguf.GGMLQuantizationType[kind]).astype(np.float32)
            assert values.shape == (WIDTH, WIDTH), (kind, values.shape)
            digest = hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=32).hexdigest()
            want[f"model.layers.{layer}.{module}.weight"] = (kind, digest)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return want


def main():
    program, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(rounds):
            path = Path(folder) / f"{seed}.gguf"
            want = write(path, seed)
            out = subprocess.run([program, path, "--values"], check=True, capture_output=True, text=True).stdout
            got = dict(line.split() for line in out.splitlines())
            for name, (kind, digest) in want.items():
                if got.get(name) != digest:
                    failures += 1
                    print(f"seed {seed}: {kind} ({name}) differs from gguf-py")
    print(f"{rounds} files of {len(HALVES)} types, {WIDTH * WIDTH} values each: {failures} differ")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
