#!/usr/bin/env python3
"""Makes the seeds of the fuzz targets: small files that reach each part of a reader.

Usage  make_corpus.py       (no package needed)
Writes corpus/<target>/<name>, each under 4 KiB; files that no function here makes are left alone
       (inputs that found something are kept beside the seeds, named after what they found)
"""

import base64
import json
import struct
from pathlib import Path

HERE = Path(__file__).resolve().parent / "corpus"
MAX_BYTES = 4096

HARD_TEXT = "I'm 12 days\r\n\r\n  caf\u00e9 cafe\u0301 \u4f60\u597d \U0001f468\u200d\U0001f469 <|end|><L>  x\u00a0y\t\n"


def alphabet():
    """GPT-2's letters for the bytes, in the order of their code points."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


def added(content, id, **flags):
    return {"id": id, "content": content, "special": flags.pop("special", False), **flags}


def tokenizer(pre, letters=None, **parts):
    letters = letters or ["a", "b", "c", "d", "e", "i", "m", "'", "Ġ", "Ċ", "1", "2", "Ã", "©"]
    merges = parts.pop("merges", [["a", "b"], ["Ġ", "a"], ["Ã", "©"], ["Ġ", "ab"]])
    vocab = {t: i for i, t in enumerate([*letters, *("".join(m) for m in merges)])}
    model = {"type": "BPE", "vocab": vocab, "merges": merges, **parts.pop("model", {})}
    n = len(vocab)
    return {
        "added_tokens": [added("<|end|>", n, special=True), *parts.pop("added", [])],
        "pre_tokenizer": pre,
        "model": model,
        "decoder": {"type": "ByteLevel"},
        **parts,
    }


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


def sequence(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def template(id):
    end = {"SpecialToken": {"id": "<|end|>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    special = {"<|end|>": {"ids": [id]}}
    return {"type": "TemplateProcessing", "single": [end, text], "special_tokens": special}


MARK = "\u2581"
METASPACE = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "first", "split": True}


def replace(pattern, content, kind="String"):
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def strip_decoders(*front):
    fuse = [{"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    return {"type": "Sequence", "decoders": [*front, {"type": "ByteFallback"}, *fuse]}


def sentencepiece_tokenizers():
    letters = ["<unk>", MARK, "a", "b", "c", "i", "m", "\n", "\u4f60", "<0x0A>", "<0xC3>", "<0xA9>", "<0xF0>"]
    merges = [["a", "b"], [MARK, "a"], [MARK, "ab"], [MARK, MARK]]
    model = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    yield "llama", tokenizer(
        None, letters, merges=merges, model=model,
        normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": MARK}, replace(" ", MARK)]},
        decoder=strip_decoders(replace(MARK, " ")),
    )  # fmt: skip
    yield "metaspace", tokenizer(
        METASPACE, letters, merges=merges, model={"unk_token": "<unk>"},
        normalizer={"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}, {"type": "StripAccents"}]},
        decoder=METASPACE,
        post_processor={"type": "BertProcessing", "sep": ["a", 2], "cls": ["b", 3]},
    )  # fmt: skip
    yield "cuts", tokenizer(
        sequence(split("ab", "MergedWithNext"), split(r"\d", "MergedWithPrevious"), {"type": "Whitespace"},
                 {"type": "Punctuation", "behavior": "Contiguous"}, {"type": "WhitespaceSplit"}),
        letters, merges=merges, model={"unk_token": "<unk>"},
        normalizer={"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "Nmt"}, replace(" {2,}", "", "Regex"),
                                                        {"type": "Strip", "strip_left": True, "strip_right": True}]},
        decoder={"type": "Strip", "content": "a", "start": 2, "stop": 1},
    )  # fmt: skip
    vocab = [[t, -1.5 * i] for i, t in enumerate([*letters, MARK + "a", "ab", MARK + "ab", "cab"])]
    # A double array with one key: "c" becomes "ab".
    units = [0] * 256
    units[0], units[1 ^ ord("c")] = 1 << 10, (1 ^ ord("c") ^ 2) << 10 | 1 << 8 | ord("c")
    units[2] = 1 << 31
    blob = struct.pack("<257I", 1024, *units) + b"ab\0"
    yield "unigram", tokenizer(
        METASPACE,
        normalizer={"type": "Precompiled", "precompiled_charsmap": base64.b64encode(blob).decode()},
        model={"type": "Unigram", "vocab": vocab, "unk_id": 0, "byte_fallback": True},
        decoder=strip_decoders(METASPACE),
    )


def tokenizers():
    yield "byte_level", tokenizer(BYTE_LEVEL)
    yield "all_bytes", tokenizer(BYTE_LEVEL, alphabet(), model={"unk_token": "a"})
    yield "digits", tokenizer(sequence({"type": "Digits", "individual_digits": True}, BYTE_LEVEL))
    yield "split", tokenizer(
        sequence(split(r"(?i:'s|'m)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+"),
                 {**BYTE_LEVEL, "use_regex": False}),
        model={"ignore_merges": True},
    )  # fmt: skip
    yield "removed", tokenizer(
        sequence(split(r"\p{L}+|\s", "Removed", True), {"type": "Digits"},
                 {**BYTE_LEVEL, "add_prefix_space": True}),
        normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}]},
    )  # fmt: skip
    yield "added", tokenizer(
        BYTE_LEVEL,
        normalizer={"type": "NFC"},
        added=[
            added("<L>", 30, lstrip=True),
            added("<R>", 31, rstrip=True),
            added("cafe\u0301", 32, normalized=True),
            added("days", 33, single_word=True, normalized=True),
        ],
    )
    yield "template", tokenizer(BYTE_LEVEL, post_processor=template(18))
    yield "template_out_of_range", tokenizer(BYTE_LEVEL, post_processor=template(1000))
    yield "refused_wordpiece", {"model": {"type": "WordPiece", "vocab": {"a": 0}}}
    yield from sentencepiece_tokenizers()
    yield "large_id", tokenizer(BYTE_LEVEL, added=[added("<far>", (1 << 24) - 1)])


def tokenizer_seeds():
    for name, data in tokenizers():
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        yield name + ".json", text + "\n%%\n" + HARD_TEXT
    plain = json.dumps(tokenizer(BYTE_LEVEL, alphabet()), separators=(",", ":")).encode()
    yield "bad_text.json", plain + b"\n%%\na\xff\xc3(\xe4\xbd \xf0\x9f\x98\0\xed\xa0\x80"
    yield "merges_as_text.json", json.dumps(
        tokenizer(BYTE_LEVEL), separators=(",", ":")
    ).replace('["a","b"]', '"a b"')


def json_seeds():
    yield "numbers.json", "[0,-0,1,-1.5,1e5,1E-300,123456789012345678,0.1,9007199254740993,1e400]"
    yield "strings.json", '{"a":"\\u00e9\\ud83d\\ude00\\n\\\\\\"\\/","":"\u4f60","b":null,"c":[true,false]}'
    yield "nested.json", "[" * 60 + "]" * 60
    yield "too_deep.json", "[" * 70 + "]" * 70
    yield "twice.json", '{"a":1,"a":2}'
    yield "cut_off.json", '{"a":[1,2,{"b":"c'
    yield "bad_utf8.json", b'["\xff\xc3\x28"]'
    yield "zero.json", '["a\\u0000b"]'
    yield "map.yaml", "a: 1\nb:\n  - x\n  - 'y z'\n  - \"\\u00e9\\n\"\nc: {d: ~, e: [1.5, .inf, 0x10]}\nf:\n"
    yield "block.yaml", "# words\na: |\n  one\n   two\nb: >-\n  folded\n  text\n"
    yield "words.yaml", "yes: no\non: off\nnull: true\n1: 01\n? k\n: v\n- x\n"
    yield "nested.yaml", "[" * 60 + "a" + "]" * 60
    yield "too_deep.yaml", "".join(" " * i + "a:\n" for i in range(70))
    yield "anchor.yaml", "a: &x [1]\nb: *x\n<<: *x\n"
    yield "tag.yaml", "a: !!int '1'\n--- \nb: 2\n"


def message(role, content):
    return {"role": role, "content": content}


def form_seeds():
    ask, good, bad = message("user", "a"), message("assistant", "b"), message("assistant", "c")
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    rows = {
        "alpaca": {"instruction": "a", "input": "b", "output": "c", "system": "s", "history": [["x", "y"]]},
        "argilla": {"fields": {"prompt": "a", "response1": "b", "response2": "c"}, "suggestions": [{"value": "x"}],
                    "responses": [{"user_id": "u", "status": "submitted", "values": {
                        "q": {"value": [{"rank": 1, "value": "response1"}, {"rank": 2, "value": "Response 2"}]}}},
                        {"user_id": "v", "status": "draft", "values": {}}]},
        "argilla_columns": {"instruction": "a", "generations-0": "b", "generations-1": "c", "generations-0-rating": [
            {"user_id": None, "value": 2, "status": "submitted"}], "generations-1-rating": {
                "user_id": ["u"], "value": [1], "status": ["submitted"]}, "q-suggestion-metadata": {}},
        "argilla_json": {"_server_id": "s", "fields": {"prompt": [ask], "reply": "b", "context": "c"},
                         "suggestions": {}, "responses": {"edit": [{"value": "d", "user_id": "u"}]}},
        "argilla_v2": {"prompt": "a", "response1": "b", "response2": "c", "q.responses": [["response2", "response1"], "tie"],
                       "q.responses.users": ["u", "v"], "q.responses.status": ["submitted", None], "q.suggestion": 1},
        "hh-rlhf": {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant:"},
        "openai": {"input": {"messages": [ask], "tools": []}, "preferred_output": [good], "non_preferred_output": bad},
        "openpipe": {"messages": [ask, good], "rejected_message": bad},
        "orca": {"system": "", "question": "q", "chosen": "a", "rejected": "b"},
        "ratings": {"instruction": "q", "generations": ["a", "b"], "ratings": [1, 2.5]},
        "sharegpt": {"conversations": turns, "chosen": turns[1], "rejected": turns[1]},
        "ultrafeedback": {"prompt": "q", "chosen": [ask, good], "rejected": [ask, bad]},
        "odd": {"conversations": [{"from": 1}], "messages": [1, [], {}], "rejected_message": [], "generations": [],
                "ratings": [], "prompt": [], "chosen": [], "rejected": [{}]},
    }
    for name, row in rows.items():
        yield f"{name}.json", json.dumps(row)


def jinja_seeds():
    """Some of the unit test's templates with its variables, and those of families."""
    fixtures = HERE.parents[1] / "unit/fixtures"
    data = json.loads((fixtures / "jinja.json").read_text())
    variables = json.dumps(data["variables"])
    for i, (text, _) in enumerate(data["cases"]):
        if i % 40 == 0 or (i > 640 and i % 6 == 0):
            yield f"case{i:03}", f"{text}\n%%\n{variables}"
    for path in sorted((fixtures / "chats").glob("*.jinja")):
        if path.stat().st_size < MAX_BYTES:
            yield path.stem, path.read_text()


TARGETS = {"forms": form_seeds, "jinja": jinja_seeds, "json": json_seeds, "tokenizer": tokenizer_seeds}


def main():
    for target, seeds in TARGETS.items():
        folder = HERE / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in seeds():
            data = content if isinstance(content, bytes) else content.encode()
            if len(data) >= MAX_BYTES:
                raise SystemExit(f"{target}/{name}: {len(data)} bytes, must be under {MAX_BYTES}")
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
