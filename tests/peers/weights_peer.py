#!/usr/bin/env python3
"""Every weight of the real model as the device has it beside gguf-py's and transformers' values.

Usage  weights_peer.py BENCH_LOAD PEERS
       BENCH_LOAD  the program of tests/bench/load_bench.c
       PEERS       the folder of setup.sh, with the model
How    hashes of f32 values, so equal means every bit. transformers names the tensors, turns rows of
       q and k to its own order and dequantises with gguf-py; what has no rows to turn is compared
       with gguf-py directly, too.
Needs  the environment of tests/peers/setup.sh.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TQDM_DISABLE="1")

import gguf  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

transformers.utils.logging.disable_progress_bar()
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"


def digest(values):
    data = np.ascontiguousarray(values, dtype=np.float32).tobytes()
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def ours(program, path):
    out = subprocess.run([program, path, "--values"], check=True, capture_output=True, text=True)
    return dict(line.split() for line in out.stdout.splitlines())


def with_transformers(path):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    return {name: digest(tensor.numpy()) for name, tensor in state.items()}


def with_gguf(path):
    """Digests of all tensors but q and k, whose rows lie in another order."""
    tensors = gguf.GGUFReader(path).tensors
    return [
        digest(gguf.dequantize(t.data, t.tensor_type))
        for t in tensors
        if not t.name.endswith(("attn_q.weight", "attn_k.weight"))
    ]


def main():
    program, path = sys.argv[1], Path(sys.argv[2]) / MODEL
    got, want = ours(program, path), with_transformers(path)
    complaints = [f"{name}: not in both" for name in sorted(got.keys() ^ want.keys())]
    complaints += [f"{name}: differs" for name in got if name in want and got[name] != want[name]]
    plain = [d for d in with_gguf(path) if d not in got.values()]
    if plain:
        complaints.append(f"{len(plain)} tensors differ from gguf-py's values")
    print("\n".join(complaints) or f"{len(got)} tensors: every value as gguf-py and transformers have it")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
