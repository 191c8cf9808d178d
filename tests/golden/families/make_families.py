#!/usr/bin/env python3
"""Writes what transformers and PEFT compute on the models of family_models.py: <family>.json.

Usage  make_families.py [NAME ...]    (all without names; long_replies is one); needs the environment of
       tests/peers/setup.sh. Prints how far a log-prob moves without each flag that no
       configuration switches, and fails where that is less than 0.01.
File   rows: log-probs of the sides of four pairs, without and with the step-0 adapter; rope: the
       same without adapter for other rotary angles; reply: what greedy decoding writes after the
       first prompt (long_replies.json: after each, by its cache); update: name -> values, what one step of family_models.STEP adds to the adapter
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", CUDA_VISIBLE_DEVICES="")

import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

import family_models as fm  # noqa: E402

REPLY = 12  # tokens


def load(name, folder, changes=None):
    fm.write_config(name, folder, changes or {})
    cls = getattr(transformers, fm.FAMILIES[name]["class"])
    model, info = cls.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    return model.eval()


def side_logp(model, ids, prompt):
    model(input_ids=torch.tensor([[0]]))  # forgets the length of the sequence before (dynamic rope)
    logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
    targets = torch.tensor(ids[1:])[:, None]
    return torch.log_softmax(logits.double(), -1).gather(1, targets)[prompt - 1 :, 0].sum()


def logps(model):
    with torch.no_grad():
        return [
            [side_logp(model, ids, prompt).item() for ids in sides]
            for _, prompt, sides in fm.rows()
        ]


def most_moved(a, b):
    pairs = zip(sum(a, []), sum(b, []), strict=True)
    return max(abs(x - y) for x, y in pairs)


class Same(torch.nn.Module):
    def forward(self, x):
        return x


class Uncentred(torch.nn.LayerNorm):
    def forward(self, x):
        return super().forward(x) + self.weight * x.mean(-1, keepdim=True)


def swap_rows(linear, heads):
    """q, k and v side by side where they were grouped."""
    w = linear.weight.data
    groups = w.reshape(heads, -1, 8, w.shape[1])
    parts = groups[:, :-2], groups[:, -2], groups[:, -1]
    linear.weight.data = torch.cat([part.reshape(-1, w.shape[1]) for part in parts])


def switch_off_norms(model, flag):
    for module in model.modules():
        kind = type(module).__name__
        if flag == "norm offset" and kind.endswith("RMSNorm"):
            module.weight.data -= 1
        if flag == "head norms" and hasattr(module, "q_norm"):
            module.q_norm, module.k_norm = Same(), Same()
        if flag == "wide norms" and hasattr(module, "q_norm"):
            for norm in (module.q_norm, module.k_norm):
                norm.forward = lambda x, norm=norm: (
                    torch.nn.functional.rms_norm(x.unflatten(-1, (-1, 8)), (8,), eps=1e-5)
                    * norm.weight.unflatten(-1, (-1, 8))
                ).flatten(-2)
        if flag == "post-norms" and hasattr(module, "post_feedforward_layernorm"):
            module.post_attention_layernorm = module.post_feedforward_layernorm = Same()
        if flag == "biases" and isinstance(module, torch.nn.LayerNorm):
            module.bias.data.zero_()
        if flag == "means" and isinstance(module, torch.nn.LayerNorm):
            module.__class__ = Uncentred
        if flag == "norms apart" and hasattr(module, "ln_mlp"):
            module.ln_mlp = module.ln_attn


def switch_off(model, flag):
    """Takes a flag out of a transformers model that has it."""
    switch_off_norms(model, flag)
    for module in model.modules():
        kind = type(module).__name__
        if flag == "embedding scale" and hasattr(module, "embed_scale"):
            module.embed_scale.fill_(1.0)
        if flag == "gelu" and kind.endswith("MLP"):
            module.act_fn = module.act = torch.nn.SiLU()
        if flag == "qkv biases" and hasattr(module, "q_proj"):
            for linear in (module.q_proj, module.k_proj, module.v_proj):
                linear.bias.data.zero_()
        if flag.startswith("bias of ") and hasattr(module, flag[8:]):
            getattr(module, flag[8:]).bias.data.zero_()
        if flag == "groups" and hasattr(module, "query_key_value"):
            swap_rows(module.query_key_value, module.num_kv_heads)
        if flag == "parallel" and kind == "FalconDecoderLayer":
            make_serial(module)


def make_serial(layer):
    """The MLP reads the residual behind attention."""
    norm = layer.ln_mlp if hasattr(layer, "ln_mlp") else layer.input_layernorm

    def forward(x, **kwargs):
        first = layer.ln_attn if hasattr(layer, "ln_attn") else layer.input_layernorm
        out = layer.self_attention(first(x), **{"layer_past": None, **kwargs})
        x = x + out[0]
        return x + layer.mlp(norm(x)), *out[1:]

    layer.forward = forward


def check_inner_flags(name, folder, expected):
    for flag in fm.FAMILIES[name].get("inner", []):
        model = load(name, folder)
        switch_off(model, flag)
        moved = most_moved(expected, logps(model))
        print(f"{name}: without {flag} a log-prob moves by {moved:.3g}")
        assert moved > 1e-2


def dpo_update(model):
    """The reference is the policy at step 0: both margins are 0, and so is the loss's argument."""
    loss = 0
    for _, prompt, sides in fm.rows():
        chosen, rejected = (side_logp(model, ids, prompt) for ids in sides)
        margin = (chosen - chosen.detach()) - (rejected - rejected.detach())
        loss = loss - torch.nn.functional.logsigmoid(fm.STEP["beta"] * margin) / 4
    loss.backward()
    out = {}
    for key, p in model.named_parameters():
        if p.requires_grad:
            g = p.grad.double()
            bent = -fm.STEP["learning_rate"] * g / (g.abs() + fm.STEP["adam_epsilon"])
            out[key.replace(".default", "")] = [float(f"{x:.5g}") for x in bent.flatten().tolist()]
    return out


def reply(model, folder):
    _, prompt, sides = next(fm.rows())
    ids = torch.tensor([sides[0][:prompt]])
    for _ in range(REPLY):
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, -1]
        ids = torch.cat([ids, logits.argmax()[None, None]], 1)
        if ids[0, -1].item() == 2:  # the end of a turn
            break
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    out = ids[0, prompt:].tolist()
    return {"n_tokens": len(out), "text": tokenizer.decode(out, skip_special_tokens=True)}


def long_replies(name, folder):
    """Greedy replies through the cache, each in a model that has seen nothing before."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    out = []
    for _, prompt, sides in fm.rows():
        ids = torch.tensor([sides[0][:prompt]])
        full = load(name, folder, fm.LONG_FAMILIES[name]).generate(
            ids, max_new_tokens=2 * REPLY, do_sample=False, use_cache=True,
            attention_mask=torch.ones_like(ids), pad_token_id=0, eos_token_id=2,
        )  # fmt: skip
        text = tokenizer.decode(full[0, prompt:], skip_special_tokens=True)
        out.append({"prompt": prompt, "n_tokens": full.shape[1] - prompt, "text": text})
    return out


def make_long_replies():
    out = {}
    for name in fm.LONG_FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            fm.write_model(name, Path(folder))
            out[name] = long_replies(name, Path(folder))
    (fm.HERE / "long_replies.json").write_text(json.dumps(out, indent=1) + "\n")


def make(name, folder):
    fm.write_model(name, folder)
    fm.write_adapter(name, folder / "adapter")
    base = load(name, folder)
    out = {"rows": {"base": logps(base)}, "reply": reply(base, folder), "rope": {}}
    for kind, changes in fm.FAMILIES[name].get("rope", {}).items():
        out["rope"][kind] = logps(load(name, folder, changes))
    check_inner_flags(name, folder, out["rows"]["base"])
    model = peft.PeftModel.from_pretrained(
        load(name, folder), folder / "adapter", is_trainable=True
    )
    out["rows"]["adapter"] = logps(model)
    out["update"] = dpo_update(model)
    update = ",\n  ".join(f'"{k}": {json.dumps(v)}' for k, v in sorted(out.pop("update").items()))
    body = json.dumps(out, sort_keys=True)[:-1] + ',\n "update": {\n  ' + update + "\n }}\n"
    (fm.HERE / f"{name}.json").write_text(body)


def main():
    torch.set_num_threads(2)
    for name in sys.argv[1:] or [*fm.FAMILIES, "long_replies"]:
        if name == "long_replies":
            make_long_replies()
            continue
        with tempfile.TemporaryDirectory() as folder:
            make(name, Path(folder))
        print(f"made {name}", flush=True)


if __name__ == "__main__":
    main()
