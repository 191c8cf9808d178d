#!/usr/bin/env python3
# labels: gpu;quick
"""Models named hf:ORG/NAME and ollama:NAME, wherever a command takes a model. stores_test.py SOURCE_DIR BUILD_DIR

The stores are made here: tiny_llama as Hugging Face's cache keeps it (snapshots of links to blobs), and as a
GGUF blob of Ollama's with a manifest. What a command says and computes is what it does with the path.
"""
import hashlib
import json
import os
import pathlib
import struct
import tempfile

from harness import GOLDEN, check, finish, run

TINY = GOLDEN / "models" / "tiny_llama"
PAIRS = GOLDEN / "data" / "pairs.jsonl"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SETTINGS = {"preset": "trl", "use_peft": True, "lora_dropout": 0, "lora_target_modules": "all-linear",
            "train_dataset": str(PAIRS), "max_steps": 1, "save_strategy": "no"}


def make_hub(hub):
    """models--org--tiny: refs/main, and a snapshot of links to blobs."""
    top = hub / "models--org--tiny"
    for name in ("refs", "blobs", f"snapshots/{COMMIT}"):
        (top / name).mkdir(parents=True)
    (top / "refs" / "main").write_text(COMMIT)
    for file in TINY.iterdir():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        (top / "blobs" / digest).write_bytes(file.read_bytes())
        (top / "snapshots" / COMMIT / file.name).symlink_to(f"../../blobs/{digest}")
    return top / "snapshots" / COMMIT


def read_tensors():
    for path in sorted(TINY.glob("*.safetensors")):
        raw = path.read_bytes()
        n = struct.unpack("<Q", raw[:8])[0]
        for name, t in json.loads(raw[8:8 + n]).items():
            if name != "__metadata__":
                begin, end = t["data_offsets"]
                yield name, t["shape"], raw[8 + n + begin:8 + n + end]


def gguf_name(name):
    parts = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "o_proj": "attn_output",
             "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "gate_proj": "ffn_gate",
             "up_proj": "ffn_up", "down_proj": "ffn_down"}
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}
    words = name.split(".")
    return whole.get(name) or f"blk.{words[2]}.{parts[words[-2]]}.weight"


def text(s):
    s = s.encode()
    return struct.pack("<Q", len(s)) + s


def value(x):
    if isinstance(x, str):
        return struct.pack("<I", 8) + text(x)
    if isinstance(x, float):
        return struct.pack("<If", 6, x)
    if isinstance(x, int):
        return struct.pack("<II", 4, x)
    items = b"".join(map(text, x)) if isinstance(x[0], str) else struct.pack(f"<{len(x)}i", *x)
    return struct.pack("<IIQ", 9, 8 if isinstance(x[0], str) else 5, len(x)) + items


def make_gguf(path):
    c, t = (json.loads((TINY / f"{name}.json").read_text()) for name in ("config", "tokenizer"))
    ids = {**t["model"]["vocab"], **{a["content"]: a["id"] for a in t["added_tokens"]}}
    special = {a["id"] for a in t["added_tokens"]}
    pairs = {
        "general.architecture": "llama", "llama.block_count": c["num_hidden_layers"],
        "llama.embedding_length": c["hidden_size"], "llama.feed_forward_length": c["intermediate_size"],
        "llama.context_length": c["max_position_embeddings"],
        "llama.attention.head_count": c["num_attention_heads"],
        "llama.attention.head_count_kv": c["num_key_value_heads"],
        "llama.attention.key_length": c["head_dim"], "llama.attention.value_length": c["head_dim"],
        "llama.rope.dimension_count": c["head_dim"], "llama.attention.layer_norm_rms_epsilon": c["rms_norm_eps"],
        "llama.rope.freq_base": 10000.0, "llama.vocab_size": c["vocab_size"],
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": sorted(ids, key=ids.get),
        "tokenizer.ggml.token_type": [3 if i in special else 1 for i in range(len(ids))],
        "tokenizer.ggml.merges": [m if isinstance(m, str) else " ".join(m) for m in t["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": json.loads((TINY / "tokenizer_config.json").read_text())["chat_template"],
        "tokenizer.chat_templates": ["tool_use", "shout", "lost"],
        "tokenizer.chat_template.tool_use": "{{ tools[0].function.name }}:{{ messages[0].content }}",
        "tokenizer.chat_template.shout": "{{ messages[0].content | upper }}!",
    }
    tensors = [(gguf_name(n), shape, data) for n, shape, data in read_tensors()]
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    out += b"".join(text(k) + value(v) for k, v in pairs.items())
    at = 0
    for name, shape, data in tensors:
        out += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], 0, at)
        at += (len(data) + 31) // 32 * 32
    out += b"\0" * (-len(out) % 32)
    out += b"".join(data + b"\0" * (-len(data) % 32) for _, _, data in tensors)
    path.write_bytes(out)


def make_ollama(store):
    blobs, manifest = store / "blobs", store / "manifests/registry.ollama.ai/library/tiny/latest"
    blobs.mkdir(parents=True)
    manifest.parent.mkdir(parents=True)
    make_gguf(blobs / "made")
    digest = hashlib.sha256((blobs / "made").read_bytes()).hexdigest()
    blob = (blobs / "made").rename(blobs / f"sha256-{digest}")
    kind = "application/vnd.ollama.image."
    layers = [{"mediaType": kind + "template", "digest": "sha256:" + "0" * 64},
              {"mediaType": kind + "model", "digest": f"sha256:{digest}"}]
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    return blob


def without(text, *words):
    for word in words:
        text = text.replace(str(word), "MODEL")
    return text


def check_commands(name, path):
    """Each command on the name and on the path."""
    commands = {
        "inspect": ("inspect", "{}", "--json"),
        "tokenize": ("tokenize", "--model", "{}", "--json"),
        "generate": ("generate", "{}", "--raw", "--prompt", "where is", "--max_new_tokens", 4, "--json"),
        "score": ("score", "--method", "dpo", "--train_dataset", PAIRS, "--preset", "trl", "--use_peft", "true",
                  "--model_name_or_path", "{}", "--json"),
        "data stats": ("data", "stats", PAIRS, "--model_name_or_path", "{}", "--json"),
    }
    for what, command in commands.items():
        got, want = ([without(run(*(str(c).replace("{}", str(model)) for c in command),
                                  input='"the tea"\n').stdout, name, path)] for model in (name, path))
        if what == "inspect":
            got, want = ({k: v for k, v in json.loads(x[0]).items() if k != "layers_not_read"}
                         for x in (got, want))
        check(f"{what} {name}", got == want)


def check_runs(folder, snapshot, blob):
    configs = folder / "configs"
    configs.mkdir()
    named = {**SETTINGS, "method": "dpo", "model_name_or_path": "hf:org/tiny", "output_dir": str(folder / "run"),
             "ref_model_name_or_path": "ollama:tiny"}
    (configs / "run.json").write_text(json.dumps(named))  # its folder is not put before such a name
    plan = run("plan", configs / "run.json", "--json").stdout
    check("plan names where the reference lies", json.loads(plan)["reference"]["model"] == str(blob))
    run("dpo", configs / "run.json")
    record = json.loads((folder / "run" / "run.json").read_text())
    check("run.json says what was found", record["found"] == {"model_name_or_path": str(snapshot),
                                                             "ref_model_name_or_path": str(blob)})
    adapter = json.loads((folder / "run" / "adapter_config.json").read_text())
    check("the adapter's base is the hub's name", adapter["base_model_name_or_path"] == "org/tiny")
    run("export", folder / "run", "--output", folder / "tone.gguf")
    check("export finds the base that the run recorded", (folder / "tone.gguf").exists())
    sft = {k: v for k, v in SETTINGS.items() if k != "preset"}
    pipeline = {"preset": "trl", "stages": [{**sft, "name": "sft", "method": "sft", "model_name_or_path": "hf:org/tiny"}],
                "output_dir": str(folder / "pipeline")}
    (configs / "pipeline.json").write_text(json.dumps(pipeline))
    run("run", configs / "pipeline.json")
    check("a pipeline takes the name", (folder / "pipeline" / "sft" / "result.json").exists())


def check_templates(blob):
    """The file's own template, those of its names, and what takes tools."""
    def render(*more, code=0, **keys):
        chat = json.dumps({"messages": [{"role": "user", "content": "tea"}], **keys})
        out = run("tokenize", "--model", blob, "--chat", "--render", "--json", *more, input=chat + "\n", code=code)
        return json.loads(out.stdout) if code == 0 else out.stderr

    tools = [{"type": "function", "function": {"name": "brew", "parameters": {}}}]
    check("a GGUF file's template", "tea" in render() and render() not in ("TEA!", "brew:tea"))
    check("a named template of a GGUF file", render("--chat_template", "shout") == "TEA!")
    check("tools take the template tool_use", render(tools=tools) == "brew:tea")
    said = render("--chat_template", "lost", code=65)
    check("a name without its template", 'is called "lost"' in said and "there are: default, tool_use, shout" in said)


def check_headers(folder):
    """A reference, or the base of a reward model, that is cut behind its header is planned as the whole file is."""
    other, prompts = folder / "other.gguf", folder / "prompts.jsonl"
    make_gguf(other)
    prompts.write_text('{"prompt": "hi"}\n{"prompt": "once more"}\n')
    settings = [x for key, value in {**SETTINGS, "model_name_or_path": other}.items() for x in (f"--{key}", value)]
    run("reward", *settings, "--output_dir", folder / "judge")
    settings[settings.index(other)] = TINY
    runs = {"reference": ("--method", "dpo", *settings, "--ref_model_name_or_path", other),
            "reward model": ("--method", "rloo", *settings, "--train_dataset", prompts, "--max_completion_length", 8,
                             "--reward_funcs", json.dumps([str(folder / "judge")]))}
    whole = {what: json.loads(run("plan", *keys, "--json").stdout) for what, keys in runs.items()}
    content = other.read_bytes()
    (folder / "same.gguf").write_bytes(content)
    other.write_bytes(content[:content.rindex(b"output_norm.weight") + 1000])
    for what, keys in runs.items():
        cut = json.loads(run("plan", *keys, "--json").stdout)
        same = all(cut["device_bytes"].get(key) == value for key, value in whole[what]["device_bytes"].items()
                   if key not in ("available", "free_here"))
        check(f"a {what} of header only is planned, and said to lack its weights", same and cut["has_weights"] is False
              and whole[what]["has_weights"] is True and cut.get("reference") == whole[what].get("reference"))
    keys = [other if key == TINY else key for key in runs["reference"]]
    beside = [json.loads(run("plan", *keys[:-1], path, "--json").stdout)["reference"]["device_bytes"]
              for path in (other, folder / "same.gguf")]
    check("a reference is planned for the device that the policy is planned for", beside[0] == beside[1])
    said = run("plan", *keys).stdout
    lacks = [f"the {what} {other} has no weights" in said for what in ("model", "reference")]
    check("each file that is cut is named", lacks == [True, True])
    said = run("dpo", *runs["reference"][2:], "--output_dir", folder / "none", code=65).stderr
    check("a training refuses it", "cut short" in said)


def check_misses(snapshot):
    said = run("generate", "hf:org/none", "--prompt", "x", code=66).stderr
    check("a model that is not in the cache", "`hf download org/none` fetches it" in said)
    (snapshot / "model-00002-of-00003.safetensors").resolve().unlink()
    said = run("generate", "hf:org/tiny", "--prompt", "x", code=66).stderr
    check("a model that is there in part", "`hf download org/tiny` fetches what is missing" in said)


with tempfile.TemporaryDirectory() as top:
    top = pathlib.Path(top).resolve()
    os.environ.update(HF_HUB_CACHE=str(top / "hub"), OLLAMA_MODELS=str(top / "ollama"))
    snapshot, blob = make_hub(top / "hub"), make_ollama(top / "ollama")
    check_commands("hf:org/tiny", snapshot)
    check_commands("ollama:tiny", blob)
    check_runs(top, snapshot, blob)
    check_templates(blob)
    check_headers(top)
    check_misses(snapshot)
finish()
