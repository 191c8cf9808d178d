#!/usr/bin/env python3
"""Makes the toy that configs/quickstart.sh trains: a narrow language of errands, not real text.

A request names a verb, a colour and a thing ("bring the red cup"); the plain reply says that it is
done ("here is the red cup ."), the polite one starts with "gladly ,". SFT rows are plain but for one
in six; the pairs prefer the polite form; 30 requests are in no training file.
Writes sft.jsonl, pairs.jsonl, heldout.jsonl and model/ (config.json, tokenizer) beside itself.
"""
import itertools
import json
import pathlib
import random

HERE = pathlib.Path(__file__).parent
COLOURS = ["red", "blue", "green", "white", "black", "yellow", "brown", "grey"]
THINGS = ["cup", "book", "chair", "lamp", "coat", "box", "door", "bag", "plate", "shirt", "table",
          "clock"]
# Each starts with a word of its own: were one common first word the loser of most pairs, DPO would
# push it down in every sentence, and words that have nothing to do with the request would win.
REPLIES = {
    "bring": "here is the {c} {t} .",
    "find": "the {c} {t} was outside .",
    "wash": "now the {c} {t} is clean .",
    "paint": "look how the {c} {t} shines .",
    "move": "by the wall stands the {c} {t} .",
    "sell": "someone bought the {c} {t} today .",
    "mend": "at last the {c} {t} works .",
    "hide": "nobody can find the {c} {t} .",
}
POLITE = "gladly , "
# One SFT reply in so many is polite. With fewer polite ones DPO has farther to go, and
# "gladly" spreads into the middle of sentences.
POLITE_EVERY = 6
HELD_OUT, PAIRS = 30, 400
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
            "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
            "{{ '<|im_start|>assistant\n' }}{% endif %}")


def byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {}, 0
    for byte in range(256):
        table[byte] = chr(byte) if byte in keep else chr(256 + extra)
        extra += byte not in keep
    return table


def words():
    text = " ".join([POLITE, *REPLIES, *REPLIES.values(), *COLOURS, *THINGS, "the user assistant"])
    return sorted(set(text.replace("{c}", "").replace("{t}", "").split()))


def tokenizer():
    """Byte-level BPE in which every word of the language, with or without a blank before it, is a
    token (ignore_merges: merging alone would make "was" of "wash" first and stop there)."""
    alphabet = byte_alphabet()
    vocab = {token: i for i, token in enumerate([*SPECIAL, *alphabet.values()])}
    merges = []
    for start, word in itertools.product([" ", ""], words()):
        letters = [alphabet[b] for b in (start + word).encode()]
        for i in range(1, len(letters)):
            merge = ["".join(letters[:i]), letters[i]]
            if merge not in merges:
                merges.append(merge)
                vocab.setdefault("".join(merge), len(vocab))
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i, t in enumerate(SPECIAL)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": None, "pre_tokenizer": level, "post_processor": None, "decoder": level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None,
                      "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
                      "vocab": vocab, "merges": merges}}


def write_rows(name, rows):
    (HERE / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_json(name, value):
    (HERE / "model" / name).write_text(json.dumps(value, indent=1) + "\n")


def main():
    rng = random.Random(7)
    errands = list(itertools.product(REPLIES, COLOURS, THINGS))
    rng.shuffle(errands)
    held, sft = errands[:HELD_OUT], errands[HELD_OUT:]

    def user(errand):
        return {"role": "user", "content": "{} the {} {}".format(*errand)}

    def reply(errand, polite):
        text = REPLIES[errand[0]].format(c=errand[1], t=errand[2])
        return {"role": "assistant", "content": (POLITE if polite else "") + text}

    write_rows("sft.jsonl", [{"messages": [user(e), reply(e, i % POLITE_EVERY == 0)]}
                             for i, e in enumerate(sft)])
    write_rows("pairs.jsonl", [{"prompt": [user(e)], "chosen": [reply(e, True)],
                                "rejected": [reply(e, False)]} for e in sft[:PAIRS]])
    write_rows("heldout.jsonl", [{"prompt": [user(e)]} for e in held])
    bpe = tokenizer()
    (HERE / "model").mkdir(exist_ok=True)
    (HERE / "model" / "tokenizer.json").write_text(json.dumps(bpe, ensure_ascii=False) + "\n")
    write_json("tokenizer_config.json",
               {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
                "chat_template": TEMPLATE, "tokenizer_class": "PreTrainedTokenizerFast"})
    write_json("config.json",
               {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 192,
                "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 6,
                "num_key_value_heads": 6, "head_dim": 32, "hidden_act": "silu",
                "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
                "tie_word_embeddings": True, "torch_dtype": "float32",
                "vocab_size": (len(bpe["model"]["vocab"]) + 3) // 4 * 4})


if __name__ == "__main__":
    main()
