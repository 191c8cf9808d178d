"""Writes the seeds of gguf_fuzz and safetensors_fuzz: small files, right ones and near misses.

python3 tests/fuzz/make_model_corpus.py      (needs nothing but Python; writes tests/fuzz/corpus)
"""

import json
import struct
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B",
           U64: "Q", I64: "q", F64: "d"}


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, x):
    if kind == STRING:
        return text(x)
    if kind == ARRAY:
        element, items = x
        return struct.pack("<IQ", element, len(items)) + b"".join(value(element, i) for i in items)
    return struct.pack("<" + FORMATS[kind], x)


def gguf(keys, tensors, alignment=32, version=3, data=True):
    """keys: (name, kind, value); tensors: (name, dims fastest first, ggml type, bytes)."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
    for name, kind, x in keys:
        out += text(name) + struct.pack("<I", kind) + value(kind, x)
    offset = 0
    for name, dims, kind, size in tensors:
        out += text(name) + struct.pack("<I", len(dims))
        out += struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, offset)
        offset += (size + alignment - 1) // alignment * alignment
    if data:
        out += b"\0" * (-len(out) % alignment) + bytes(i % 251 for i in range(offset))
    return out


def llama(**changes):
    keys = {"general.architecture": (STRING, "llama"), "llama.embedding_length": (U32, 32),
            "llama.block_count": (U32, 1), "llama.context_length": (U32, 64),
            "llama.feed_forward_length": (U32, 32), "llama.attention.head_count": (U32, 4),
            "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5),
            "llama.rope.freq_base": (F32, 10000.0), **changes}
    return [(name, *pair) for name, pair in keys.items()]


EMBED = ("token_embd.weight", (32, 4), 8, 4 * 34)
ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def gguf_files():
    every = [(f"k{kind}", kind, 1) for kind in FORMATS]
    yield "empty", gguf([], [])
    yield "llama", gguf(llama(), [EMBED])
    yield "llama_head", gguf(llama(), [EMBED, ("output.weight", (32, 4), 2, 4 * 18)])
    yield "every_kind", gguf(every + [("s", STRING, "x"), ("a", ARRAY, (STRING, ["", "two"])),
                                      ("i", ARRAY, (I32, [1, -2])), ("b", ARRAY, (BOOL, [0, 1]))], [])
    yield "types", gguf([], [(f"t{kind}", (256,), kind, size) for kind, size in
                             [(0, 1024), (1, 512), (2, 144), (3, 160), (8, 272), (14, 210), (30, 512)]])
    yield "alignment", gguf([("general.alignment", U32, 8)], [("t", (3, 2), 0, 24), ("u", (1,), 0, 4)], 8)
    yield "duplicate", gguf([("k", U32, 1), ("k", U32, 2)], [])
    yield "nested", gguf([("k", ARRAY, (ARRAY, [(U8, [1])]))], [])
    yield "cut", gguf(llama(), [EMBED])[:-200]
    yield "no_data", gguf(llama(), [EMBED], data=False)
    yield "version_2", gguf(llama(), [EMBED], version=2)
    yield "counts", b"GGUF" + struct.pack("<IQQ", 3, 2**64 - 1, 2**64 - 1)
    yield "huge", gguf([], [("t", (2**61 - 8,), 0, 32), ("u", (2**61 - 8,), 0, 32)])


def safetensors(header, n_data):
    data = header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))
    return struct.pack("<Q", len(data)) + data.encode() + bytes(i % 251 for i in range(n_data))


def safetensors_files():
    yield "empty", safetensors({}, 0)
    yield "one", safetensors({"a": ONE}, 8)
    yield "types", safetensors({
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "BF16", "shape": [2, 1, 2], "data_offsets": [0, 8]},
        "b": {"dtype": "F16", "shape": [2], "data_offsets": [8, 12]},
        "c": {"dtype": "I64", "shape": [], "data_offsets": [12, 20]},
        "d": {"dtype": "F32", "shape": [0], "data_offsets": [20, 20]}}, 20)
    yield "overlap", safetensors({"a": ONE, "b": ONE}, 8)
    yield "hole", safetensors({"a": {**ONE, "data_offsets": [8, 16]}}, 16)
    yield "overflow", safetensors({"a": {**ONE, "shape": [2**32, 2**32]}}, 8)
    yield "offsets", safetensors({"a": {**ONE, "data_offsets": [8, 0]}}, 8)
    yield "deep", safetensors('{"a":' + "[   " * 80, 0)
    yield "twice", safetensors('{"a":{},"a":{}}', 0)
    yield "padded", safetensors('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}' + " " * 74, 8)
    yield "long", struct.pack("<Q", 2**63) + b"{}"
    yield "pickle", b"\x80\x02}q\0."


def main():
    for folder, files in (("gguf", gguf_files()), ("safetensors", safetensors_files())):
        (CORPUS / folder).mkdir(parents=True, exist_ok=True)
        for name, data in files:
            (CORPUS / folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
