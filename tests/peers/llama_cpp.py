"""Debian's llama.cpp in PEERS/llama.cpp, which `setup.sh --llama_cpp` makes: its programs, and its quantiser over tensors
of a test."""

import pathlib
import subprocess

import gguf
import numpy as np

# Types with fitted scales, and what llama-quantize calls the mixture that --pure makes one type.
FITTED = {"IQ4_NL": "IQ4_NL", "IQ4_XS": "IQ4_XS", "Q2_K": "Q2_K", "Q3_K": "Q3_K_S", "Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S",
          "Q6_K": "Q6_K"}


def command(peers, program, *arguments):
    """The command of a program in Debian's folder, which needs no chroot this way."""
    debian = pathlib.Path(peers) / "llama.cpp"
    lib = debian / "usr/lib/x86_64-linux-gnu"
    paths = ":".join(map(str, [lib, lib / "llama", lib / "ggml"]))
    return [str(word) for word in [debian / "lib64/ld-linux-x86-64.so.2", "--library-path", paths,
                                   debian / "usr/bin" / program, *arguments]]


def is_here(peers):
    return (pathlib.Path(peers) / "llama.cpp/usr/bin/llama-quantize").exists()


def write_model(path, tensors):
    """A Llama of one layer as far as llama-quantize looks at it: tensors by GGUF's names, f32."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(256)
    writer.add_feed_forward_length(256)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-6)
    for name, x in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(x, dtype=np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()


def quantised(peers, path, kind):
    """The tensors of the file's model with every matrix of one type, as far as its rows allow."""
    out = pathlib.Path(path).with_suffix(f".{kind}.gguf")
    subprocess.run(command(peers, "llama-quantize", "--pure", path, out, FITTED[kind]), check=True, capture_output=True)
    tensors = {t.name: t for t in gguf.GGUFReader(out).tensors}
    out.unlink()
    return tensors
