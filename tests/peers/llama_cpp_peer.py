#!/usr/bin/env python3
"""One adapter, three programs: Attune, transformers with PEFT, and llama.cpp with the exported GGUF adapter and
with the merged GGUF model reply with the same words to 50 prompts. llama_cpp_peer.py ATTUNE PEERS

llama.cpp is Debian's (testing), in the folder PEERS/llama.cpp that `setup.sh --llama_cpp` makes; without it
the test skips. All three compute the real model in f32. The adapter is rsLoRA of random values on every
linear layer, so strong that hardly a reply stays what it was.
"""
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import llama_cpp
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

ATTUNE, PEERS = (pathlib.Path(path).resolve() for path in sys.argv[1:3])
GGUF, FOLDER, DEBIAN = (PEERS / name for name in ("SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct-hf",
                                                  "llama.cpp"))
SAMPLES = pathlib.Path(__file__).resolve().parents[2] / "data" / "samples"
N, LENGTH, R = 50, 16, 8


def backend():
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    name = "libggml-cpu-haswell.so" if "avx2" in flags and "fma" in flags else "libggml-cpu-x64.so"
    return str(DEBIAN / "usr/lib/x86_64-linux-gnu/ggml/backends0" / name)


def make_adapter(folder, model):
    """rsLoRA of random values; B so that a layer's outputs move by some percent."""
    torch.manual_seed(3)
    tensors = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and ".layers." in name:
            scale = 0.15 * module.weight.std()
            for part, shape in [("A", (R, module.in_features)), ("B", (module.out_features, R))]:
                tensors[f"base_model.model.{name}.lora_{part}.weight"] = torch.randn(shape) * (scale if part == "B" else 1)
    for name in tensors:
        tensors[name] /= R if "lora_B" in name else 1
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(
        {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(FOLDER), "r": R, "lora_alpha": 8,
         "use_rslora": True, "bias": "none", "inference_mode": True, "target_modules": sorted(
             {name.split(".")[-3] for name in tensors})}))


def prompts():
    lines = (SAMPLES / "tone_eval.jsonl").read_text().splitlines()[:N]
    return [row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][-1]["content"] for row in map(json.loads, lines)]


def ours(folder, adapter=None):
    rows = folder / "prompts.jsonl"
    rows.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in prompts()))
    out = subprocess.run([ATTUNE, "generate", FOLDER, "--prompts", rows, "--max_new_tokens", str(LENGTH), "--json",
                          *(["--adapter", adapter] if adapter else [])], capture_output=True, text=True, check=True)
    return [json.loads(line)["text"] for line in out.stdout.splitlines()]


def of_transformers(model, tokenizer, ids):
    replies = []
    for prompt in ids:
        with torch.no_grad():
            out = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=LENGTH,
                                 do_sample=False, pad_token_id=0)
        replies.append(tokenizer.decode(out[0, len(prompt):], skip_special_tokens=True))
    return replies


def of_llama_cpp(folder, ids, *files):
    """Replies of llama-server with "-m", model and perhaps "--lora", adapter."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (folder / "server.log").open("w")
    server = subprocess.Popen(llama_cpp.command(PEERS, "llama-server", *files, "--port", port, "-c", "1024", "-t", "1",
                                        "-np", "1", "--no-webui", "-ctk", "f32", "-ctv", "f32", "-fa", "off"),
                              env={**os.environ, "GGML_BACKEND_PATH": backend()}, stdout=log, stderr=log)
    try:
        return [ask(server, port, prompt) for prompt in ids]
    finally:
        server.terminate()
        server.wait()
        log.close()
        if server.returncode not in (0, -15):
            print((folder / "server.log").read_text()[-2000:])


def ask(server, port, prompt):
    body = json.dumps({"prompt": prompt, "n_predict": LENGTH, "temperature": 0, "cache_prompt": False}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/completion", body, {"Content-Type": "application/json"})
    for _ in range(120):
        try:
            with urllib.request.urlopen(request, timeout=300) as reply:
                return json.loads(reply.read())["content"]
        except OSError:
            if server.poll() is not None:
                sys.exit("llama-server ended")
            time.sleep(0.5)
    sys.exit("llama-server does not answer")


def main():
    if not (DEBIAN / "usr/bin/llama-server").exists():
        print(f"skipped: no llama.cpp in {DEBIAN}; sh tests/peers/setup.sh --llama_cpp makes it (root, debootstrap)")
        sys.exit(125)
    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    ids = [tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True,
                                         return_dict=False) for text in prompts()]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make_adapter(folder / "adapter", model)
        base, merged, exported = (folder / name for name in ("f32.gguf", "merged.gguf", "adapter.gguf"))
        subprocess.run(llama_cpp.command(PEERS, "llama-quantize", "--allow-requantize", GGUF, base, "F32"), check=True, capture_output=True)
        subprocess.run([ATTUNE, "export", folder / "adapter", "--output", exported], check=True)
        subprocess.run([ATTUNE, "merge", folder / "adapter", "--model_name_or_path", base, "--output", merged], check=True)
        bare, engine = ours(folder), ours(folder, folder / "adapter")
        server = of_llama_cpp(folder, ids, "-m", base, "--lora", exported)
        whole = of_llama_cpp(folder, ids, "-m", merged)
        python = of_transformers(PeftModel.from_pretrained(model, folder / "adapter"), tokenizer, ids)
    moved = sum(a != b for a, b in zip(bare, engine, strict=True))
    same = {name: sum(a == b for a, b in zip(engine, other, strict=True))
            for name, other in (("llama.cpp", server), ("llama.cpp with the merged model", whole), ("transformers", python))}
    print(f"{N} replies of {LENGTH} tokens: {moved} changed by the adapter; the same as " +
          ", ".join(f"{name} {n}" for name, n in same.items()))
    for replies in zip(engine, server, whole, python):
        if len(set(replies)) > 1:
            print(*(f"  {reply!r}" for reply in replies), sep="\n")
    sys.exit(0 if moved >= 0.8 * N and all(n >= N - 1 for n in same.values()) else 1)


if __name__ == "__main__":
    main()
