#!/usr/bin/env python3
"""The same conversations in every form give the same ids and masks, read as they are and converted.
convert_test.py SOURCE_DIR BUILD_DIR
"""
import copy
import csv
import gzip
import io
import itertools
import json
import pathlib
import re
import tempfile

import harness
from harness import GOLDEN, SOURCE

MODEL = GOLDEN / "models" / "tiny_llama"


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


def given(users):
    """Answers of 1.x: {user: (status, {question: value})} as its list of responses."""
    return [{"user_id": user, "status": status, "values": {q: {"value": v} for q, v in values.items()}}
            for user, (status, values) in users.items()]


def ranks(*names):
    return [{"rank": i + 1, "value": name} for i, name in enumerate(names)]


def argilla_record(fields):
    """1.x, a record: two people rank, one of them the other way, a third decides; a draft does not count."""
    good, bad = ranks("Response 2", "Response 1"), ranks("response1", "response2")
    return {"fields": fields, "metadata": {"source": "x"}, "external_id": None, "suggestions": [
        {"question_name": "preference", "value": bad, "type": "model"}], "responses": given({
            "a": ("submitted", {"preference": good}), "b": ("submitted", {"preference": bad}),
            "c": ("submitted", {"preference": good}), "d": ("draft", {"preference": bad}), "e": ("discarded", {})})}


def argilla_v1_columns(fields):
    """1.x, of `datasets`: a rating question for each generation, as distilabel's PreferenceToArgilla asks."""
    names = {"prompt": "instruction", "response1": "generations-0", "response2": "generations-1"}
    columns = {names[key]: value for key, value in fields.items()}
    for i, rating in enumerate((2, 4)):
        columns[f"generations-{i}-rating"] = [{"user_id": "a", "value": rating, "status": "submitted"}]
        columns[f"generations-{i}-rationale"] = [{"user_id": "a", "value": ("Both", "Better than 1")[i], "status": "submitted"}]
        columns[f"generations-{i}-rating-suggestion"] = 5 - rating
        columns[f"generations-{i}-rating-suggestion-metadata"] = {"type": None, "score": None, "agent": None}
    columns["comment"] = [{"user_id": "a", "value": "generations-0", "status": "submitted"}]
    columns["verdict"] = [{"user_id": "a", "value": "I took some 0", "status": "submitted"}]
    return {"id": "7", **columns, "generations-2": None, "generations-2-rating": [], "metadata": "{}", "external_id": None}


def argilla_json(fields):
    """2.x, to_json: rankings are lists of names."""
    return {"id": "7", "_server_id": "s", "status": "completed", "fields": fields, "metadata": {}, "vectors": {},
            "suggestions": {"preference": {"value": ["response1", "response2"], "score": None, "agent": "m"}},
            "responses": {"preference": [{"value": ["response2", "response1"], "user_id": "a"}]}}


def argilla_columns(fields):
    """2.x, to_datasets: the reply is chosen by its label; metadata stands beside the fields."""
    return {"id": "7", "status": "completed", "_server_id": "s", **fields, "topic": "post", "preference.suggestion": None,
            "preference.responses": ["response2", "tie"], "preference.responses.users": ["a", "b"],
            "preference.responses.status": ["submitted", "submitted"], "preference.suggestion.agent": None}


ARGILLA = [argilla_record, argilla_v1_columns, argilla_json, argilla_columns]
LAYOUT = itertools.cycle(ARGILLA)


def argilla_fields(row):
    """The prompt as a text, or as messages where it is more than a question; the better reply is the second."""
    prompt = row["prompt"][-1]["content"] if len(row["prompt"]) == 1 else row["prompt"]
    return {"prompt": prompt, "response1": row["rejected"][0]["content"], "response2": row["chosen"][0]["content"]}


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
    "argilla": lambda r: next(LAYOUT)(argilla_fields(r)),
    "orca": lambda r: {"system": r["prompt"][0]["content"] if len(r["prompt"]) > 1 else "",
                       "question": r["prompt"][-1]["content"], "chosen": r["chosen"][0]["content"],
                       "rejected": r["rejected"][0]["content"]},
    "ratings": lambda r: {"messages": r["prompt"], "ratings": [3, 1, 5],
                          "generations": ["So so.", r["rejected"][0]["content"], r["chosen"][0]["content"]]},
}
HOLDS = {form: [SINGLE, SYSTEM, TURNS] for form in (*FORMS, "argilla", "ratings")}
HOLDS["hh-rlhf"] = [SINGLE, TURNS]  # no system messages
HOLDS["orca"] = [SINGLE, SYSTEM]  # one turn


def run(*arguments, code=0):
    if "--output" in arguments and code == 0:
        pathlib.Path(arguments[arguments.index("--output") + 1]).unlink(missing_ok=True)
    return harness.run(*arguments, code=code)


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
        told = ("score_chosen", "score_rejected", "id", "metadata", "external_id")
        assert [without(row, *told) for row in rows_of(out)] == rows, f"{form} to trl"
        assert shown(out) == shown(trl), f"{form}: converted, it is read as something else"
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


def check_argilla(folder):
    """What people left open is left out and counted; who disagrees is outvoted; edits are pairs; lists of records are read."""
    fields = argilla_fields(SINGLE[0])
    want = without(SINGLE[0])

    def record(**users):
        return {"fields": fields, "responses": given(users)}

    def vote(name, status="submitted"):
        return status, {"preference": ranks(*(("response2", "response1") if name == "good" else ("response1", "response2")))}

    tie = "submitted", {"preference": [{"rank": 1, "value": "response1"}, {"rank": 1, "value": "response2"}]}
    records = [
        record(a=vote("good")), record(a=vote("good"), b=vote("bad"), c=vote("good"), d=vote("bad", "draft")),
        record(a=vote("good"), b=tie),  # who ties does not object
        record(a=tie), record(a=vote("good"), b=vote("bad")),  # tied
        record(a=vote("good", "draft")), record(a=("discarded", {})), record(),  # not answered
        {"fields": fields, "responses": [], "suggestions": [{"question_name": "preference", "value": ranks("response1")}]},
    ]
    out, source = folder / "out.jsonl", folder / "export.json"
    for text, place in (("".join(json.dumps(r) + "\n" for r in records), ":"), (json.dumps(records), ", record "),
                        ("\ufeff" + json.dumps(records, indent=1), ", record ")):
        source.write_text(text)
        said = run("data", "convert", source, "--output", out).stderr
        assert rows_of(out) == [want] * 3, rows_of(out)
        for line in ("2 rows were left out: the answers tie, so no reply is preferred (first ", f"export.json{place}4)",
                     "1 row was left out: no answer was submitted, there are drafts", f"export.json{place}6)",
                     "1 row was left out: the answers were discarded", "1 row was left out: nobody has answered",
                     "1 row was left out: a model suggested answers, no person gave one",
                     "not counted: 2 answers that are drafts, 1 that were discarded"):
            assert line in said, (line, said)
    show = run("data", "show", "--method", "dpo", "--train_dataset", write(source, records[:4]), "--model_name_or_path", MODEL,
               "--eval_split", 0, code=65).stderr
    assert f"{source}:4: the answers tie" in show and "`attune data convert`" in show, show

    source.write_text(json.dumps(records[:1], indent=1))
    show = run("data", "show", "--method", "dpo", "--train_dataset", source, "--model_name_or_path", MODEL, code=65).stderr
    assert f"{source}:1: a JSON object is expected" in show and "`attune data convert` makes lines of a list" in show, show

    def answered(question, *texts, **more):
        return {"fields": {"prompt": "p", "reply": "old", **more}, "responses": given(
            {str(i): ("submitted", {question: text}) for i, text in enumerate(texts)})}

    edits = [answered("corrected", "new", "other", "new"), answered("corrected", "old"), answered("edit", "a", "b"),
             answered("edit", "new", context="c", system="s")]
    said = run("data", "convert", write(source, edits), "--output", out).stderr
    assert rows_of(out) == [pair([message("user", "p")], "new", "old"),
                            {"prompt": [message("user", "p")], "completion": [message("assistant", "old")]},
                            pair([message("system", "s"), message("user", "p\n\nc")], "new", "old")], rows_of(out)
    assert "people wrote different replies" in said
    loud = {"fields": fields, "responses": given({user: ("submitted", {"response1_rating": x, "response2_rating": y})
                                                  for user, x, y in (("a", 5, 1), ("b", 3, 4), ("c", 3, 4))})}
    run("data", "convert", write(source, [loud, loud, records[0]]), "--output", out)
    assert rows_of(out) == [want], "one person's high rating outvoted two others"
    two = {"prompt": "p", "gpt": "a", "llama": "b"}
    faults = [
        (answered("comment", "nice"), "no answer ranks, chooses or rates two replies"),
        ({"fields": {"text": "p", "a": "x", "b": "y"}, "responses": given({"u": ("submitted", {"q": ranks("a", "b")})})},
         "none of the fields is instruction, prompt"),
        ({"fields": two, "responses": given({"u": ("submitted", {"q": ranks("gpt", "mistral")})})},
         'the answer to "q" names "mistral", and the replies are gpt, llama'),
        ({"fields": two, "responses": given({"u": ("submitted", {"q": ranks("gpt"), "r": ranks("llama")})})},
         '"q" and "r" both prefer a reply'),
        ({"fields": two, "responses": given({"u": ("maybe", {"q": 1})})}, 'the status of an answer to "q" is none of'),
        ({**argilla_columns(fields), "preference.responses.users": ["a"]}, "are not as many as their users"),
    ]
    for row, text in faults:
        said = run("data", "convert", write(source, [row]), "--output", folder / "never.jsonl", code=65).stderr
        assert said.splitlines()[-1].startswith(f"attune: error: {source}:1: ") and text in said, said
    said = run("data", "convert", write(source, records[3:5]), "--output", folder / "never.jsonl", code=65).stderr
    assert "2 rows were left out: the answers tie" in said and "all 2 rows would be left out" in said, said

    meta = {"a_generation_model": "gpt-4", "response_model": "gpt-4"}

    def columns(question, *texts, **more):
        return {"status": "completed", "_server_id": "s", "instruction": "p", **meta, **more,
                f"{question}.responses": list(texts), f"{question}.responses.users": [str(i) for i in range(len(texts))],
                f"{question}.responses.status": ["submitted"] * len(texts)}

    told = [columns("corrected_response", "new", text="old"), columns("correction", "new", response="old"),
            columns("preferred", "response2", response1="old", response2="new"),
            columns("q", ["llama", "gpt"], gpt="old", llama="new")]
    run("data", "convert", write(source, told), "--output", out)
    one = {"prompt": [message("user", "p")], "completion": [message("assistant", "new")]}
    assert rows_of(out) == [one] + [pair([message("user", "p")], "new", "old")] * 3, rows_of(out)
    said = run("data", "convert", write(source, [columns("q", ["llama", "mistral"], gpt="old", llama="new")]),
               "--output", folder / "never.jsonl", code=65).stderr
    assert "no answer ranks" in said and "; among these columns" in said and "to_json" in said, said
    source.write_text(json.dumps([records[0], faults[0][0]]))
    said = run("data", "convert", source, "--output", folder / "never.jsonl", code=65).stderr
    assert f"{source}: record 2: no answer ranks" in said, said


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
    check_argilla(pathlib.Path(name))
    check_singles(pathlib.Path(name))
    check_tables(pathlib.Path(name))
    check_complete(pathlib.Path(name))
    check_faults(pathlib.Path(name))
    check_system(pathlib.Path(name))
print("convert: the same rows in every form")
