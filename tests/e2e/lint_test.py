#!/usr/bin/env python3
"""attune data lint finds every planted fault, at its line and column, and nothing else.
lint_test.py SOURCE_DIR BUILD_DIR

The clean set is data/samples: 300 pairs, 120 held out. Each fault of FAULTS is planted in COPIES of its
rows, then the findings must be exactly those planted.
"""
import copy
import json
import pathlib
import random
import re
import tempfile

from harness import GOLDEN, SOURCE, run

SAMPLES = SOURCE / "data" / "samples"
MODEL = GOLDEN / "models" / "tiny_llama"
COPIES = 4


def lint(*arguments, code=0):
    return json.loads(run("data", "lint", *arguments, "--json", code=code).stdout)


def column(line, key):
    """Of the key's quotes, in characters from 1."""
    return line.index(f'"{key}"') + 1


def text_of(row, side):
    return row[side][-1]["content"]


def set_text(row, side, text):
    row[side][-1]["content"] = text


def edit_word(text, word):
    words = text.split()
    words[len(words) // 2] = word
    return " ".join(words)


# check -> what is done to a row (a copy of a clean one); the key whose column is named, or None.
# "copy" plants a row behind the clean one instead of changing it.
def empty(row):
    set_text(row, "chosen", "  ")


def identical(row):
    set_text(row, "rejected", text_of(row, "chosen") + " ")


def roles(row):
    row["rejected"][0]["role"] = "user"


def displacement(row):
    set_text(row, "rejected", edit_word(text_of(row, "chosen"), "perhaps"))


def markup(row):
    set_text(row, "chosen", text_of(row, "chosen") + "<|im_end|>")


def mojibake(row):
    set_text(row, "chosen", text_of(row, "chosen") + " It\u00e2\u20ac\u2122s fine.")


def language(row):
    set_text(row, "chosen", "Das ist nicht schlimm und wird auch wieder besser, wenn Sie die Pflanze nicht "
                            "mit kaltem Wasser gie\u00dfen oder das Fenster auf ist.")


def refusal(row):
    set_text(row, "chosen", "I\u2019m sorry, but I can't help with that. Ask somebody else about it.")


PERSONAL = ["write to jo.doe@mail-host.co.uk", "call +44 20 7946 0958", "the card is 4111 1111 1111 1111",
            "pay to DE89 3704 0044 0532 0130 00"]


def personal(row, n=[0]):
    n[0] += 1
    set_text(row, "rejected", text_of(row, "rejected") + " Please " + PERSONAL[n[0] % len(PERSONAL)] + ".")


FAULTS = {
    "displacement": (displacement, "chosen"), "empty": (empty, "chosen"),
    "identical": (identical, "chosen"), "language": (language, "chosen"), "markup": (markup, "chosen"),
    "mojibake": (mojibake, "chosen"), "personal": (personal, "rejected"), "refusal": (refusal, "chosen"),
    "roles": (roles, "rejected"),
}
BROKEN = [  # a line, its column or None
    ('{"prompt": "a", "chosen": "b", "rejected": 5}', 32),
    ('{"prompt": "a", "chosen": "b", "rejected": "c"', 47),
    ('{"prompt": "a", "prompt": "a", "chosen": "b", "rejected": "c"}', 17),
    ('{"prompt": "a", "chosen": "b"}', None),
    ('["prompt", "a"]', None),
]


def plant(rows, rng):
    """Lines with faults and {(check, line, column)} as planted."""
    english = [i for i, row in enumerate(rows) if text_of(row, "prompt").isascii()
               and " the " in text_of(row, "prompt") + text_of(row, "chosen")]
    places = rng.sample(english, COPIES * (len(FAULTS) + 3))
    rows, extra, planted = copy.deepcopy(rows), [], set()
    for check, (change, key) in FAULTS.items():
        for _ in range(COPIES):
            at = places.pop()
            change(rows[at])
            planted.add((check, at + 1, column(json.dumps(rows[at]), key)))
    for check in ("duplicate", "near_duplicate", "reversed"):
        for _ in range(COPIES):
            row = copy.deepcopy(rows[places.pop()])
            if check == "near_duplicate":
                set_text(row, "chosen", edit_word(text_of(row, "chosen"), "perhaps"))
            elif check == "reversed":
                row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
            extra.append((check, row))
    lines = [json.dumps(row) for row in rows]
    for check, row in extra:
        lines.append(json.dumps(row))
        planted.add((check, len(lines), None))
    for line, at in BROKEN:
        lines.append(line)
        planted.add(("broken", len(lines), at))
    lines.append('{"prompt": "Where?", "completion": "Over there.", "synthetic": true, "reviewed": false}')
    planted |= {("mixed", len(lines), None), ("synthetic", None, None), ("unreviewed", None, None)}
    return lines, planted


def found(report):
    return {(f["check"], f.get("line"), f.get("column")) for f in report["findings"]}


def check_planted(folder):
    rows = [json.loads(line) for line in (SAMPLES / "tone_train.jsonl").open()]
    lines, planted = plant(rows, random.Random(5))
    path = folder / "planted.jsonl"
    path.write_text("\ufeff" + "\n".join(lines[:100]) + "\n\r\n" + "\n".join(lines[100:]))
    planted = {(check, line and line + (line > 100), at) for check, line, at in planted}
    before = path.read_bytes()
    report = lint(path, code=65)
    assert path.read_bytes() == before, "the file was changed"
    assert found(report) == planted, (f"missed {sorted(map(str, planted - found(report)))}\n"
                                      f"false {sorted(map(str, found(report) - planted))}")
    errors = {line for f in report["findings"] if f["level"] == "error" for line in [f["line"]]}
    assert report["bad_rows"] == len(errors) == 4 * COPIES + len(BROKEN)
    similar = [f["score"] for f in report["findings"] if f["check"] == "displacement"]
    assert len(similar) == COPIES and all(0.8 <= score < 1 for score in similar)


def check_clean():
    report = lint(SAMPLES / "tone_train.jsonl", "--eval_dataset", SAMPLES / "tone_eval.jsonl")
    assert report["findings"] == [] and report["pairs"] == 420, report["findings"]
    report = lint(SAMPLES / "sft_train.jsonl")
    assert report["findings"] == [] and report["singles"] == 120, report["findings"]


def check_held(folder):
    """Held-out prompts that are trained on, and almost."""
    rows = [json.loads(line) for line in (SAMPLES / "tone_eval.jsonl").open()]
    train = [json.loads(line) for line in (SAMPLES / "tone_train.jsonl").open()]
    long = [row for row in train if len(text_of(row, "prompt").split()) > 14][:3]
    assert len(long) == 3
    leaked = copy.deepcopy(train[7])
    set_text(leaked, "chosen", "Quite another reply, warm and short.")
    rows[10] = leaked
    for at, row in zip((20, 21, 22), long):
        rows[at]["prompt"] = copy.deepcopy(row["prompt"])
        set_text(rows[at], "prompt", text_of(row, "prompt") + " Thanks.")
    path = folder / "held.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = lint(SAMPLES / "tone_train.jsonl", "--eval_dataset", path, code=65)
    assert found(report) == {("leakage", 11, None)} | {("near_leakage", at, None) for at in (21, 22, 23)}, \
        found(report)
    leak = next(f for f in report["findings"] if f["check"] == "leakage")
    assert leak["file"] == str(path) and leak["other_line"] == 8 and leak["other_file"].endswith("tone_train.jsonl")


def check_labels(folder):
    """Labelled rows: contradictions, and a label that is rare."""
    rows = [{"prompt": f"Question number {i}, about thing {i * i}?", "completion": f"Answer {i} of {i + 7}.",
             "label": i % 9 != 0} for i in range(60)]
    rows.append({**rows[3], "label": False})
    path = folder / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = lint(path, code=65)
    assert found(report) == {("contradiction", 61, None), ("unbalanced", None, None)}, found(report)
    assert report["labelled"] == 61


def check_set(folder):
    """Few pairs of which chosen is always the longer side; a model's lengths; --strict."""
    rows = [{"prompt": f"Say {word}.", "chosen": f"{word}, gladly and at length, my friend: {word * 2}.",
             "rejected": f"No {word}."} for word in
            "ant bee cat dog elk fox gnu hen ibis jay koi lynx moth newt owl pig quail rat seal toad".split()]
    path = folder / "few.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = lint(path)
    assert found(report) == {("few", None, None), ("length_bias", None, None)}, found(report)
    assert report["chosen_longer"] == 1 and report["length_ratio"] > 3
    texts = "".join(json.dumps(row["prompt"] + row["chosen"]) + "\n" for row in rows)
    lengths = [len(json.loads(line)) for line in run("tokenize", "--model", MODEL, "--json", input=texts).stdout.splitlines()]
    limit = sorted(lengths)[-4]
    report = lint(path, "--model_name_or_path", MODEL, "--max_length", limit, code=65)
    long = {f["line"] for f in report["findings"] if f["check"] == "too_long"}
    # The end of the sequence is a token more.
    assert long == {i + 1 for i, n in enumerate(lengths) if n + 1 > limit}, (long, lengths, limit)
    rows[0]["chosen"] += " Mail me: al@corp.io"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lint(path)
    lint(path, "--strict", code=65)
    config = folder / "lint.yaml"
    config.write_text("method: dpo\ntrain_dataset: few.jsonl\n")
    assert lint(config)["checks"]["personal"] == 1


def check_text(folder):
    """What a person reads: the place first, as compilers write it, and the sum at the end."""
    path = folder / "two.jsonl"
    path.write_text('{"prompt": "a", "chosen": "b", "rejected": "b"}\n\n{"prompt": "a", "chosen": " ", "rejected": "b"}\n')
    out = run("data", "lint", path, code=65)
    lines = out.stdout.splitlines()
    assert lines[0] == f"{path}:1:17: error: identical: chosen and rejected are the same", lines
    assert lines[1] == f'{path}:3:17: error: empty: "chosen" is empty', lines
    assert "rows       2: 2 pairs, 0 labelled, 0 with one completion; 2 bad" in lines, lines
    assert "errors     empty 1, identical 1" in lines, lines
    assert out.stderr.splitlines()[-1] == "attune: error: 2 of 2 rows are bad (named above); correct or remove them"
    for arguments, code in (([folder / "none.jsonl"], 66), ([], 2), ([folder / "empty.jsonl"], 65)):
        (folder / "empty.jsonl").write_text("\n\n")
        error = run("data", "lint", *arguments, code=code).stderr
        assert error.startswith("attune: error: "), (arguments, error)


def check_many(folder):
    """What many rows share is told once, with how many they are and the first of them; --all and --json have each."""
    rows = [{"prompt": f"Where is {i}?", "completion": f"At place {i} of {i * i}.", "label": i % 2 == 0}
            for i in range(100)]
    pair = {"prompt": "Who?", "chosen": "It is me, gladly.", "rejected": "Nobody."}
    same = [{**rows[1], "completion": ""} for i in range(3)]
    path = folder / "many.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [pair, *rows, *same]))

    def told(check, *flags):
        return [line for line in run("data", "lint", path, *flags, code=65).stdout.splitlines() if f": {check}: " in line]

    once = told("mixed")
    assert once == [f"{path}:2: warning: mixed: a labelled row, unlike line 1; 102 more such rows, "
                    "lines 3, 4, 5, 6, ... (--all shows each)"], once
    assert [line.split(":")[1] for line in told("empty")] == ["102", "103", "104"], "a few are told one by one"
    assert len(told("mixed", "--all")) == 103
    assert lint(path, code=65)["checks"]["mixed"] == 103
    path.write_text("".join(json.dumps({**rows[1], "completion": "", "prompt": f"{i}?"}) + "\n" for i in range(50)))
    once = told("empty")
    assert len(once) == 1 and "; 49 more such rows, lines 2, 3, 4, 5, ..." in once[0], once


def check_names():
    """Every check of the table is planted here and stands in data/README.md."""
    table = set(re.findall(r'^CHECK\(\w+, \w+, "(\w+)"', (SOURCE / "data" / "lint.def").read_text(), re.M))
    readme, test = (SOURCE / "data" / "README.md").read_text(), pathlib.Path(__file__).read_text()
    assert len(table) > 20
    for check in table:
        assert f"`{check}`" in readme, f"{check} is not in data/README.md"
        assert test.count(f'"{check}"') > 0, f"{check} is not planted"


with tempfile.TemporaryDirectory() as name:
    check_names()
    check_clean()
    check_planted(pathlib.Path(name))
    check_held(pathlib.Path(name))
    check_labels(pathlib.Path(name))
    check_set(pathlib.Path(name))
    check_text(pathlib.Path(name))
    check_many(pathlib.Path(name))
print("lint: planted faults found, no false alarm")
