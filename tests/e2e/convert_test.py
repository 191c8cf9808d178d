#!/usr/bin/env python3
"""The same conversations in every form give the same ids and masks, read as they are and converted.
convert_test.py SOURCE_DIR BUILD_DIR
"""
import copy
import csv
import gzip
import io
import json
import pathlib
import re
import subprocess
import sys
import tempfile

SOURCE, BUILD = (pathlib.Path(path).resolve() for path in sys.argv[1:3])
ATTUNE, MODEL = BUILD / "attune", SOURCE / "tests" / "golden" / "models" / "tiny_llama"


def message(role, content):
    return {"role": role, "content": content}


def pair(prompt, chosen, rejected):
    return {"prompt": prompt, "chosen": [message("assistant", chosen)], "rejected": [message("assistant", rejected)]}


# What every form can hold: one question; then a system message; then several turns.
SINGLE = [pair([message("user", f"Where is parcel {i}, please?")], f"On its way, \"Jo\" {i}!\nSoon.", f"No idea, {i}.")
          for i in range(4)]
SYSTEM = [pair([message("system", "Be kind.")] + row["prompt"], row["chosen"][0]["content"], "No.") for row in SINGLE]
TURNS = [pair([message("user", "Hello"), message("assistant", "Hi!"), message("user", "And now?")], "Tea.", "Nothing.")]


def turns(messages):
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return [{"from": names[m["role"]], "value": m["content"]} for m in messages]


def transcript(messages):
    return "".join(("\n\nHuman: " if m["role"] == "user" else "\n\nAssistant: ") + m["content"] for m in messages)


def alpaca(row):
    prompt = row["prompt"]
    out = {"instruction": prompt[-1]["content"], "chosen": row["chosen"][0]["content"],
           "rejected": row["rejected"][0]["content"], "input": ""}
    if prompt[0]["role"] == "system":
        out["system"], prompt = prompt[0]["content"], prompt[1:]
    if len(prompt) > 1:
        out["history"] = [[prompt[i]["content"], prompt[i + 1]["content"]] for i in range(0, len(prompt) - 1, 2)]
    return out


# form -> a row of TRL's explicit pairs in it, written down here by itself
FORMS = {
    "alpaca": alpaca,
    "hh-rlhf": lambda r: {side: transcript(r["prompt"] + r[side]) for side in ("chosen", "rejected")},
    "openai": lambda r: {"input": {"messages": r["prompt"], "tools": [], "parallel_tool_calls": True},
                         "preferred_output": r["chosen"], "non_preferred_output": r["rejected"]},
    "openpipe": lambda r: {"messages": r["prompt"] + r["chosen"], "rejected_message": r["rejected"][0]},
    "sharegpt": lambda r: {"conversations": turns(r["prompt"]), "chosen": turns(r["chosen"])[0],
                           "rejected": turns(r["rejected"])[0]},
    "ultrafeedback": lambda r: {"prompt": r["prompt"][-1]["content"], "chosen": r["prompt"] + r["chosen"],
                                "rejected": r["prompt"] + r["rejected"], "score_chosen": 8.5, "score_rejected": 3.0},
}
READ_ONLY = {
    "orca": lambda r: {"system": r["prompt"][0]["content"] if len(r["prompt"]) > 1 else "",
                       "question": r["prompt"][-1]["content"], "chosen": r["chosen"][0]["content"],
                       "rejected": r["rejected"][0]["content"]},
    "ratings": lambda r: {"messages": r["prompt"], "ratings": [3, 1, 5],
                          "generations": ["So so.", r["rejected"][0]["content"], r["chosen"][0]["content"]]},
}
HOLDS = {form: [SINGLE, SYSTEM, TURNS] for form in (*FORMS, "ratings")}
HOLDS["hh-rlhf"] = [SINGLE, TURNS]  # no system messages
HOLDS["orca"] = [SINGLE, SYSTEM]  # one turn


def run(*arguments, code=0):
    if "--output" in arguments and code == 0:
        pathlib.Path(arguments[arguments.index("--output") + 1]).unlink(missing_ok=True)
    out = subprocess.run([ATTUNE, *map(str, arguments)], capture_output=True, text=True)
    assert out.returncode == code, f"{arguments}: exit {out.returncode}, {code} expected\n{out.stderr}"
    return out


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def shown(path, method="dpo"):
    """What the trainer sees, by line."""
    out = run("data", "show", "--method", method, "--train_dataset", path, "--model_name_or_path", MODEL, "--json",
              "--n", 1000, "--eval_split", 0)
    form = path.stem if path.stem in FORMS or path.stem in READ_ONLY else None
    assert ("in the form " + form in out.stderr) if form else "in the form" not in out.stderr, out.stderr
    return [json.loads(line) for line in out.stdout.splitlines()]


def rows_of(path):
    return [json.loads(line) for line in path.open()]


def without(row, *keys):
    return {key: value for key, value in row.items() if key not in keys}


def check_forms(folder):
    for form, make in {**FORMS, **READ_ONLY}.items():
        rows = [row for part in HOLDS[form] for row in part]
        trl = write(folder / "trl.jsonl", rows)
        path = write(folder / f"{form}.jsonl", [make(copy.deepcopy(row)) for row in rows])
        assert shown(path) == shown(trl), f"{form}: other ids than TRL's form"
        out = folder / "out.jsonl"
        said = run("data", "convert", path, "--output", out).stderr
        assert f"{len(rows)} rows, {form} to trl" in said, said
        assert [without(row, "score_chosen", "score_rejected") for row in rows_of(out)] == rows, f"{form} to trl"
        if form not in FORMS:
            run("data", "convert", trl, "--output", out, "--to", form, code=2)
            continue
        run("data", "convert", trl, "--output", out, "--to", form)
        keys = ("score_chosen", "score_rejected")
        made = [without(make(copy.deepcopy(row)), *keys) for row in rows]
        if form == "openai":
            made = [{**row, "input": {"messages": row["input"]["messages"]}} for row in made]
        assert rows_of(out) == made, f"trl to {form}:\n{rows_of(out)[0]}\n{made[0]}"
        out = out.rename(folder / f"{form}.jsonl")
        assert shown(out) == shown(trl)


def check_singles(folder):
    """Rows with one completion."""
    prompt, reply = [message("system", "Be kind."), message("user", "Hello")], message("assistant", "Hi!")
    trl = write(folder / "trl.jsonl", [{"messages": prompt + [reply]}])
    share = write(folder / "sharegpt.jsonl", [{"conversations": turns(prompt[1:] + [reply]), "system": "Be kind."}])
    assert shown(share, "sft") == shown(trl, "sft")
    write(trl, [{"prompt": prompt, "completion": [reply]}])
    alpaca_file = write(folder / "alpaca.jsonl", [{"system": "Be kind.", "instruction": "Hello", "input": "", "output": "Hi!"}])
    assert shown(alpaca_file, "sft") == shown(trl, "sft")
    write(alpaca_file, [{"instruction": "Sum up:", "input": "A text.", "output": "Hi!"}])
    out = folder / "out.jsonl"
    run("data", "convert", alpaca_file, "--output", out)
    assert rows_of(out) == [{"prompt": [message("user", "Sum up:\nA text.")], "completion": [reply]}]


def check_tables(folder):
    out = folder / "out.jsonl"
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["Question", "New", "Old", "system", "topic"])
    for i, row in enumerate(SYSTEM + SINGLE):
        system = row["prompt"][0]["content"] if len(row["prompt"]) > 1 else ""
        writer.writerow([row["prompt"][-1]["content"], row["chosen"][0]["content"], row["rejected"][0]["content"], system,
                         f"t{i}"])
    columns = ("--columns", "prompt=Question,chosen=New,rejected=Old")
    table = folder / "pairs.csv"
    table.write_bytes(("\ufeff" + text.getvalue()).encode())
    said = run("data", "convert", table, "--output", out, *columns).stderr
    assert "8 rows, csv to trl" in said, said
    assert [without(row, "topic") for row in rows_of(out)] == SYSTEM + SINGLE
    assert [row["topic"] for row in rows_of(out)] == [f"t{i}" for i in range(8)]
    packed = folder / "pairs.csv.gz"
    packed.write_bytes(gzip.compress(table.read_bytes()[:40]) + gzip.compress(table.read_bytes()[40:]))
    again = folder / "again.jsonl"
    run("data", "convert", packed, "--output", again, *columns)
    assert again.read_bytes() == out.read_bytes()
    (folder / "semicolons.csv").write_text('prompt;chosen;rejected;margin\n"a;1";b, c;d;0.5\n')
    run("data", "convert", folder / "semicolons.csv", "--output", out, "--plain")
    assert rows_of(out) == [{"prompt": "a;1", "chosen": "b, c", "rejected": "d", "margin": 0.5}]
    (folder / "labels.tsv").write_text('prompt\tcompletion\tlabel\na\t"b\t""c"""\tTRUE\nd\te\t0\n')
    run("data", "convert", folder / "labels.tsv", "--output", out, "--plain")
    assert rows_of(out) == [{"prompt": "a", "completion": 'b\t"c"', "label": True},
                            {"prompt": "d", "completion": "e", "label": False}]


def check_complete(folder):
    """A row of TRL's own stays what it is, whatever other keys and nulls it has."""
    rows = [{"prompt": "p", "chosen": "a", "rejected": "b", "instruction": "i"},
            {"prompt": [message("user", "p")], "chosen": [message("assistant", "a")], "generations": ["x", "y"],
             "rejected": [message("assistant", "b")], "ratings": [1, 1], "instruction": "i"}]
    out = folder / "out.jsonl"
    said = run("data", "convert", write(folder / "in.jsonl", rows), "--output", out).stderr
    assert rows_of(out) == rows and "trl to trl" in said
    orca = {"prompt": None, "question": "q", "chosen": "a", "rejected": "b", "completion": None}
    run("data", "convert", write(folder / "in.jsonl", [orca]), "--output", out)
    assert rows_of(out) == [pair([message("user", "q")], "a", "b")], rows_of(out)
    sft = {"conversations": turns([message("user", "p"), message("assistant", "a")]), "chosen": None, "rejected": None}
    run("data", "convert", write(folder / "in.jsonl", [sft]), "--output", out)
    assert rows_of(out) == [{"messages": [message("user", "p"), message("assistant", "a")]}]
    tools = [{"type": "function", "function": {"name": "f"}}]
    calls = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    row = {"prompt": [message("user", "p")], "chosen": [calls], "rejected": [message("assistant", "b")], "tools": tools}
    made = folder / "made.jsonl"
    run("data", "convert", write(folder / "in.jsonl", [row]), "--output", made, "--to", "openai")
    assert rows_of(made)[0]["input"]["tools"] == tools
    run("data", "convert", made, "--output", out)
    assert rows_of(out) == [{**row, "chosen": [without(calls, "content")]}] or rows_of(out) == [row], rows_of(out)
    out.unlink()
    run("data", "convert", folder / "in.jsonl", "--output", out, "--to", "sharegpt", code=65)
    run("data", "convert", write(folder / "in.jsonl", [{"question": "q", "answer": "a"}]), "--output", out, code=65)
    assert not out.exists()


def check_faults(folder):
    """A clear sentence with the place; nothing is written over a good file."""
    good = write(folder / "good.jsonl", SINGLE)
    faults = {
        "x.csv": ("a,b\n1,2\n", [], 65, "x.csv: the columns prompt, chosen and rejected"),
        "q.csv": ('prompt,completion\n"a,b\n', [], 65, "q.csv:2: a quote is opened here and never closed"),
        "n.csv": ("prompt,completion\na\n", [], 65, "n.csv:2: 1 cells, the first row has 2"),
        "l.csv": ("prompt,completion,label\na,b,maybe\n", [], 65, 'l.csv:2: "label" is "maybe"'),
        "u.csv": (b"prompt,completion\na,\xe9\n", [], 65, "u.csv is not UTF-8"),
        "r.jsonl": ('{"prompt":"p","generations":["a","b"],"ratings":[1,1]}\n', [], 65, "r.jsonl:1: all \"ratings\" are equal"),
        "s.jsonl": ('{"conversations":[{"from":"bing","value":"x"}]}\n', [], 65, 's.jsonl:1: "conversations": "from" is "bing"'),
        "t.jsonl": (json.dumps(SYSTEM[0]), ["--to", "hh-rlhf"], 65, 't.jsonl:1: hh-rlhf rows have no messages of role "system"'),
        "o.jsonl": (json.dumps(SINGLE[0]), ["--from", "openai"], 65, "o.jsonl:1: the row is not of the form openai"),
        "f.jsonl": (json.dumps(SINGLE[0]), ["--to", "yaml"], 2, 'form "yaml": one of alpaca'),
        "c.csv": ("prompt,completion\na,b\n", ["--columns", "prompt"], 2, "--columns prompt: KEY=NAME"),
        "d.csv": ("prompt,completion\na,b\n", ["--columns", "prompt=Q"], 65, 'd.csv:1: there is no column "Q"'),
        "z.jsonl.gz": (gzip.compress(b'{"text":"a"}\n')[:-9], [], 65, "z.jsonl.gz is damaged: gzip says that its end is missing"),
        "e.jsonl": ("\n", [], 65, "the data set has no rows"),
    }
    before = good.read_bytes()
    for name, (content, flags, code, text) in faults.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        said = run("data", "convert", folder / name, "--output", folder / "never.jsonl", *flags, code=code).stderr
        assert text in said.splitlines()[-1] and said.splitlines()[-1].startswith("attune: error: "), (name, said)
        assert not (folder / "never.jsonl").exists(), f"{name}: something was written"
    run("data", "convert", good, "--output", good, code=73)
    assert good.read_bytes() == before
    run("data", "convert", good, "--output", folder / "none" / "x.jsonl", code=73)
    run("data", "convert", folder / "none.jsonl", "--output", folder / "never.jsonl", code=66)


def check_system(folder):
    """Prompt distillation: system messages go, stay, or become another, in every form that holds them."""
    text = folder / "system.txt"
    text.write_text("Speak plainly.\n")
    plain = {"prompt": "p", "chosen": "a", "rejected": "b"}
    chat = {"messages": [message("system", "Old."), message("user", "u"), message("assistant", "a")]}
    alone = {"chosen": [message("user", "u"), message("assistant", "a")], "rejected": [message("user", "v"), message("assistant", "b")]}
    rows = SYSTEM + SINGLE + [chat, plain, alone]
    source = folder / "system.jsonl"
    source.write_text("".join(json.dumps(FORMS["openai"](row) if row in SYSTEM else row) + "\n" for row in rows))

    def with_system(row, content):
        row = copy.deepcopy(row)
        for key in ("prompt", "messages") if "prompt" in row or "messages" in row else ("chosen", "rejected"):
            if isinstance(row.get(key), list):
                row[key] = [message("system", content)] * (content is not None) + [m for m in row[key] if m["role"] != "system"]
        return row

    for how, content, changed in (("keep", None, None), ("drop", None, len(SYSTEM) + 1),
                                  (f"replace={text}", "Speak plainly.", len(rows) - 1)):
        to = folder / f"system_{how[:4]}.jsonl"
        said = run("data", "convert", source, "--output", to, "--system", how).stderr
        got = [json.loads(line) for line in to.read_text().splitlines()]
        got = [{k: v for k, v in row.items() if k not in ("tools", "parallel_tool_calls")} for row in got]
        want = rows if how == "keep" else [with_system(row, content) for row in rows]
        assert got == want, (how, [(a, b) for a, b in zip(got, want) if a != b][:1])
        assert changed is None or f"{changed} of them" in said, said
    for how, code, says in (("away", 2, "keep, drop or replace=FILE"), ("replace=", 2, "replace=FILE"),
                            (f"replace={folder}/none.txt", 66, "none.txt")):
        assert says in run("data", "convert", source, "--output", folder / "never.jsonl", "--system", how, code=code).stderr
    text.write_text("\n")
    run("data", "convert", source, "--output", folder / "never.jsonl", "--system", f"replace={text}", code=65)


def check_names():
    """Every form of the table stands in --help and in data/README.md."""
    table = set(re.findall(r'\.name = "([\w-]+)"', "".join(
        path.read_text() for path in (SOURCE / "data").glob("forms*.c"))))
    assert table == {*FORMS, *READ_ONLY, "trl"}, table
    texts = run("data", "convert", "--help").stdout, (SOURCE / "data" / "README.md").read_text()
    for text in texts:
        assert all(re.search(rf"(?<![\w-]){form}(?![\w-])", text) for form in table - {"trl"}), (table, text)


with tempfile.TemporaryDirectory() as name:
    check_names()
    check_forms(pathlib.Path(name))
    check_singles(pathlib.Path(name))
    check_tables(pathlib.Path(name))
    check_complete(pathlib.Path(name))
    check_faults(pathlib.Path(name))
    check_system(pathlib.Path(name))
print("convert: the same rows in every form")
