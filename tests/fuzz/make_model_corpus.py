"""Writes the seeds of gguf_fuzz and safetensors_fuzz: small files, right ones and near misses.

Files called pNN_* are wrong in one place; NN: the point of tests/README.md's table of hostile files.
unit.weights demands that each is refused with its path.

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


def entry(name, n_dims, dims, kind, offset, more=b""):
    """A file of one tensor whose fields need not fit each other."""
    name = name if isinstance(name, bytes) else text(name)
    out = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + name + struct.pack("<I", n_dims)
    out += struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, offset) + more
    return out + b"\0" * (-len(out) % 32) + bytes(64)


def key(raw):
    """A file of one key, as it is in the file."""
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + raw


def hostile_gguf_files():
    a, b = ("a", (8,), 0, 32), ("b", (8,), 0, 32)
    two = gguf([], [a, b])
    u32 = struct.pack("<II", U32, 1)
    yield "p01_magic", b"GGML" + two[4:]
    yield "p01_version_1", gguf([], [a], version=1)
    yield "p01_version_swapped", gguf([], [a], version=0x03000000)
    yield "p02_keys", b"GGUF" + struct.pack("<IQQ", 3, 0, 2**64 - 1)
    yield "p02_tensors", b"GGUF" + struct.pack("<IQQ", 3, 2**64 - 1, 0)
    yield "p03_key_length", key(struct.pack("<Q", 2**64 - 1) + bytes(40))
    yield "p03_key_length_one_more", key(struct.pack("<Q", 41) + bytes(40))
    yield "p03_string_length", key(text("k") + struct.pack("<IQ", STRING, 2**63) + bytes(8))
    yield "p04_duplicate", gguf([("k", U32, 1), ("k", U32, 2)], [])
    yield "p04_empty_key", key(text("") + u32)
    yield "p04_key_utf8", key(struct.pack("<Q", 2) + b"\xff\xfe" + u32)
    yield "p05_deep", key(text("k") + struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 1000)
    yield "p05_type_13", key(text("k") + struct.pack("<IQ", 13, 0))
    yield "p05_type_minus_1", key(text("k") + struct.pack("<iQ", -1, 0))
    yield "p07_alignment_0", gguf([("general.alignment", U32, 0)], [])
    yield "p07_alignment_13", gguf([("general.alignment", U32, 13)], [])
    yield "p07_alignment_uint64", gguf([("general.alignment", U64, 32)], [])
    yield "p08_dimension_0", entry("t", 2, (32, 0), 2, 0)
    yield "p08_dimension_negative", entry("t", 1, (2**64 - 1,), 0, 0)
    yield "p08_dimensions_5", entry("t", 5, (1,) * 5, 0, 0)
    yield "p08_dimensions_many", entry("t", 2**32 - 1, (1,), 0, 0)
    yield "p09_elements", entry("t", 3, (2**62, 3, 5), 0, 0)
    yield "p09_padding", entry("t", 1, (2**62 - 1,), 0, 0)
    yield "p09_row", entry("t", 1, (2**62,), 0, 0)
    yield "p09_total", gguf([], [("a", (2**61 - 8,), 0, 32), ("b", (2**61 - 8,), 0, 32)])
    yield "p10_block", entry("t", 1, (33,), 2, 0)
    yield "p10_removed", entry("t", 1, (32,), 4, 0)
    yield "p10_unknown", entry("t", 1, (32,), 1000, 0)
    yield "p11_misaligned", entry("t", 1, (8,), 0, 8)
    yield "p11_overlap", two.replace(struct.pack("<IQ", 0, 32), struct.pack("<IQ", 0, 0))
    yield "p11_short_by_one", two[:-1]
    yield "p12_duplicate", gguf([], [a, a])
    yield "p12_empty", entry("", 1, (8,), 0, 0)
    yield "p12_long", entry("n" * 64, 1, (8,), 0, 0)
    yield "p12_zero_byte", entry(struct.pack("<Q", 3) + b"a\0b", 1, (8,), 0, 0)


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


def hostile_safetensors_files():
    def one(**changes):
        return {"a": {**ONE, **changes}}

    yield "p13_7_bytes", b"\2\0\0\0\0\0\0"
    yield "p13_deep", safetensors('{"a":' + "[     " * 1000, 0)
    yield "p13_duplicate", safetensors('{"a":{},"a":{}}', 0)
    yield "p13_header_over_100_MB", struct.pack("<Q", 100_000_001) + b"{}"
    yield "p13_header_over_file", struct.pack("<Q", 3) + b"{}"
    yield "p13_json", safetensors('{"a":}', 0)
    yield "p13_list", safetensors("[]", 0)
    yield "p13_utf8", struct.pack("<Q", 10) + b'{"\xff":{}}  '
    yield "p14_begin_behind_end", safetensors(one(data_offsets=[8, 0]), 8)
    yield "p14_dtype", safetensors(one(dtype="F31"), 8)
    yield "p14_hole", safetensors(one(data_offsets=[8, 16]), 16)
    yield "p14_inside", safetensors({**one(), "none": {**ONE, "shape": [0], "data_offsets": [4, 4]}}, 8)
    yield "p14_overlap", safetensors({"a": ONE, "b": ONE}, 8)
    yield "p14_product", safetensors(one(shape=[2**32, 2**32]), 8)
    yield "p14_span", safetensors(one(shape=[3]), 8)
    yield "p14_trailing", safetensors(one(), 9)
    yield "p16_pickle", b"\x80\x02}q\0."
    yield "p16_zip", b"PK\3\4" + bytes(28)


def main():
    for folder, files in (("gguf", (*gguf_files(), *hostile_gguf_files())),
                          ("safetensors", (*safetensors_files(), *hostile_safetensors_files()))):
        (CORPUS / folder).mkdir(parents=True, exist_ok=True)
        for name, data in files:
            (CORPUS / folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
