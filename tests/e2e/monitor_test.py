#!/usr/bin/env python3
"""attune monitor: figures of a feedback log and their drift against an earlier log and an evaluation, flagged only where
there is one; data convert --from feedback: edits become pairs, other thumbs labelled rows, as dpo and kto read them.
monitor_test.py SOURCE_DIR BUILD_DIR
"""
import json
import math
import pathlib
import random
import tempfile

from harness import GOLDEN, run

MODEL = GOLDEN / "models" / "tiny_llama"


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def message(role, content):
    return {"role": role, "content": content}


def log(seed, n=400, words=12, latency=1.0, up=0.8, flagged=0.05, completed=0.7):
    """What was drawn, and the lines."""
    rng = random.Random(seed)
    for i in range(n):
        reply = " ".join(rng.choice(["gladly", "here", "is", "the", "tea", "and", "more"]) for _ in range(
            max(1, round(rng.gauss(words, 3)))))
        if rng.random() < 0.03:
            reply = "I'm sorry, but I can't help with that."
        yield {"messages": [message("user", f"question {i}"), message("assistant", reply)],
               "thumb": None if i % 2 else "up" if rng.random() < up else "down", "edit": None if i % 10 else reply + " now",
               "flagged": rng.random() < flagged, "escalated": rng.random() < 0.1, "completed": rng.random() < completed,
               "finish_reason": "length" if rng.random() < 0.1 else "stop", "latency_s": rng.expovariate(1 / latency),
               "usage": {"prompt_tokens": rng.randrange(20, 60), "completion_tokens": len(reply.split()) + 2}}


def monitor(path, *arguments, code=0):
    out = run("monitor", path, "--json", *arguments, code=code)
    return json.loads(out.stdout)["figures"], out.stderr


def wilson(hits, n, z=1.959963984540054):
    p, d = hits / n, 1 + z * z / n
    centre, half = (p + z * z / (2 * n)) / d, z / d * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return p, centre - half, centre + half


def near(found, want, what):
    assert math.isclose(found, want, rel_tol=1e-9, abs_tol=1e-12), f"{what}: {found}, {want} expected"


def figures(work):
    rows = list(log(1))
    rows[0]["finish_reason"], rows[1]["finish_reason"] = "content_filter", "tool_calls"
    ends = [row["finish_reason"] for row in rows if row["finish_reason"] != "content_filter"]  # which says nothing
    found, _ = monitor(write(work / "june.jsonl", rows))
    replies = [row["messages"][-1]["content"] for row in rows]
    thumbs = [row["thumb"] for row in rows if row["thumb"]]
    shares = {"completed": [row["completed"] for row in rows], "flagged": [row["flagged"] for row in rows],
              "escalated": [row["escalated"] for row in rows], "edited": [row["edit"] is not None for row in rows],
              "ended": [end != "length" for end in ends], "thumbs_up": [t == "up" for t in thumbs],
              "refusals": ["can't help" in reply for reply in replies]}
    means = {"words": [len(reply.split()) for reply in replies], "latency_s": [row["latency_s"] for row in rows],
             "prompt_tokens": [row["usage"]["prompt_tokens"] for row in rows],
             "completion_tokens": [row["usage"]["completion_tokens"] for row in rows]}
    assert sorted(found) == sorted([*shares, *means, "repetition"]), sorted(found)
    for name, values in shares.items():
        for key, want in zip(("value", "low", "high"), wilson(sum(values), len(values))):
            near(found[name][key], want, f"{name} {key}")
        assert found[name]["n"] == len(values)
    for name, values in means.items():
        n, mean = len(values), sum(values) / len(values)
        half = 1.959963984540054 * math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)
        for key, want in zip(("value", "low", "high"), (mean, mean - half, mean + half)):
            near(found[name][key], want, f"{name} {key}")


def drifted(found):
    return {name: figure["drift"] for name, figure in found.items() if figure.get("drift", "none") != "none"}


def drift(work):
    june = work / "june.json"
    june.write_text(run("monitor", work / "june.jsonl", "--json").stdout)
    flagged = 0
    for seed in range(2, 12):  # the same world: nothing to flag, but for one in 15 at most
        out = run("monitor", write(work / "same.jsonl", log(seed)), "--against", june, "--json", code=(0, 1))
        flagged += out.returncode == 1
    assert flagged <= 1, f"{flagged} of 10 equal logs were flagged"
    july = write(work / "july.jsonl", log(20, words=24, latency=2.0, up=0.5, completed=0.95, flagged=0.2))
    found, said = monitor(july, "--against", june, code=1)
    want = {"words": "changed", "completion_tokens": "changed", "latency_s": "worse", "thumbs_up": "worse",
            "flagged": "worse", "completed": "better"}
    got = drifted(found)
    got.pop("repetition", None)  # longer texts of seven words
    assert got == want, got
    for name in ("words a reply (changed)", "latency, s (worse)", "thumbs up (worse)", "flagged (worse)"):
        assert name in said.splitlines()[-1], said
    assert "completed (" not in said.splitlines()[-1], said
    d = found["words"]["difference"]
    assert d["low"] < d["value"] < d["high"] and abs(d["value"] - 12) < 1, d
    better = write(work / "better.jsonl", log(1, latency=0.5, completed=0.95))
    assert drifted(monitor(better, "--against", june)[0]) == {"latency_s": "better", "completed": "better"}
    assert "drift" in run("monitor", july, "--against", june, code=1).stdout.splitlines()[0]


def against_evaluation(work):
    """The last state's replies; a rule is held against the replies that it shows."""
    rows = [{"prompt": [message("user", f"where is the tea {i}")], "chosen": [message("assistant", "gladly , it is here")],
             "rejected": [message("assistant", "look yourself")]} for i in range(30)]
    pairs, judged = write(work / "pairs.jsonl", rows), work / "eval.json"
    out = run("eval", pairs, "--model_name_or_path", MODEL, "--json", "--baseline_prompt", "be kind", "--n_replies", 30,
              "--max_new_tokens", 12, code=(0, 1, 3))
    judged.write_text(out.stdout)
    eval_ = json.loads(out.stdout)
    rule = work / "rule.json"
    rule.write_text(json.dumps({"max_words": 10}))
    found, said = monitor(work / "june.jsonl", "--against", judged, "--rule", rule, code=1)
    before = found["words"]["before"]
    for key in ("value", "low", "high", "n"):
        near(before[key], eval_["states"][-1]["replies"]["words"][key], f"words {key}")
    kept = [len(entry["replies"][-1].split()) <= 10 for entry in eval_["texts"]]
    assert found["rules"]["before"]["n"] == 30
    near(found["rules"]["before"]["value"], sum(kept) / 30, "rules")
    once, other = work / "once.json", work / "other_rule.json"
    once.write_text(run("monitor", work / "june.jsonl", "--rule", rule, "--json").stdout)
    other.write_text(json.dumps({"max_words": 100}))
    assert json.loads(once.read_text())["figures"]["rules"]["of"] == [{"max_words": 10}]
    assert monitor(work / "june.jsonl", "--against", once, "--rule", rule)[0]["rules"]["drift"] == "none"
    of_other, text = monitor(work / "june.jsonl", "--against", once, "--rule", other)
    assert "drift" not in of_other["rules"] and "is of other rules, and is not compared" in text, text
    assert found["words"]["drift"] == "changed" and "drift" not in found["latency_s"]  # an evaluation has no latency


def converted(work):
    rows = [
        {"prompt": "where is the tea", "completion": "look yourself", "edit": "gladly , here", "thumb": "down", "id": 7},
        {"messages": [message("user", "where is the cup"), message("assistant", "here")], "thumb": "up"},
        {"prompt": [message("user", "where is the salt")], "completion": "no", "thumb": -1},
        {"prompt": [message("user", "and the jam")], "completion": [message("assistant", "no")], "edit": "it is here", "latency_s": 1},
        {"messages": [message("user", "no opinion"), message("assistant", "yes")], "latency_s": 0.1},
        {"messages": [message("user", "an edit that changed nothing"), message("assistant", "yes")], "edit": "yes"},
    ]
    feedback, out = write(work / "feedback.jsonl", rows), work / "out.jsonl"
    said = run("data", "convert", feedback, "--from", "feedback", "--output", out, code=2).stderr
    assert "feedback.jsonl: rows of several kinds (2 pairs, 2 labelled), which no training reads together: say --only pairs or --only labelled" \
        in said and not out.exists(), said
    want = [
        {"prompt": "where is the tea", "id": 7, "chosen": "gladly , here", "rejected": "look yourself"},
        {"prompt": [message("user", "where is the cup")], "completion": [message("assistant", "here")], "label": True},
        {"prompt": [message("user", "where is the salt")], "completion": [message("assistant", "no")], "label": False},
        {"prompt": [message("user", "and the jam")], "chosen": [message("assistant", "it is here")],
         "rejected": [message("assistant", "no")], "latency_s": 1},
    ]
    for kind, method, lines in (("pairs", "dpo", [0, 3]), ("labelled", "kto", [1, 2])):
        part = work / f"only_{kind}.jsonl"
        said = run("data", "convert", feedback, "--from", "feedback", "--only", kind, "--output", part).stderr
        assert "2 rows, feedback to trl" in said and "2 rows were left out: neither edit nor thumb" in said, said
        assert [json.loads(line) for line in part.open()] == [want[i] for i in lines]
        shown = run("data", "show", part, "--method", method, "--model_name_or_path", MODEL, "--json").stdout
        assert len(shown.splitlines()) == 2, shown
    for row, words in (({"prompt": "p", "completion": "c", "thumb": "sideways"}, "\"thumb\""),
                       ({"prompt": "p", "thumb": "up"}, "a reply is expected"),
                       ({"prompt": "p", "completion": "c", "edit": 3}, "\"edit\""),
                       ({"prompt": 4, "completion": "c", "edit": "d"}, "\"prompt\"")):
        write(feedback, rows[:1] + [row])
        out.unlink(missing_ok=True)
        said = run("data", "convert", feedback, "--from", "feedback", "--output", out, code=65).stderr
        assert f"feedback.jsonl:2: {words}" in said, said
    write(feedback, rows[4:])
    assert "all 2 rows" in run("data", "convert", feedback, "--from", "feedback", "--output", out, code=65).stderr


def refusals(work):
    for row, words in (({"prompt": "p", "completion": "c", "latency_s": -1}, "\"latency_s\""),
                       ({"prompt": "p", "completion": "c", "flagged": "yes"}, "\"flagged\""),
                       ({"prompt": "p", "completion": "c", "finish_reason": 1}, "\"finish_reason\""), ({"text": "t"}, "a reply")):
        said = run("monitor", write(work / "bad.jsonl", [{"prompt": "p", "completion": "c"}, row]), code=65).stderr
        assert f"bad.jsonl:2: {words}" in said, said
    (work / "bad.jsonl").write_text("\n")
    assert "no replies" in run("monitor", work / "bad.jsonl", code=65).stderr
    (work / "bad.json").write_text("{}")
    assert "attune eval --json" in run("monitor", work / "june.jsonl", "--against", work / "bad.json", code=65).stderr
    one = run("monitor", write(work / "one.jsonl", [{"prompt": "p", "completion": "a b"}]), "--json").stdout
    assert json.loads(one)["figures"]["words"] == {"value": 2, "low": None, "high": None, "n": 1}, one
    (work / "one.json").write_text(one)
    run("monitor", work / "june.jsonl", "--against", work / "one.json", code=3)  # nothing is known, nothing is flagged
    (work / "none.json").write_text('{"figures": {}}')
    run("monitor", work / "june.jsonl", "--against", work / "none.json", code=3)
    three = [{"prompt": "p", "completion": text} for text in ("a b c d", "a b c e", "a b c f")]  # all of four words
    said = run("monitor", write(work / "three.jsonl", three), "--against", work / "june.json", "--json", code=3)
    assert "too few replies to judge drift by: 3 in the log, 400 before" in said.stderr, said.stderr
    assert json.loads(said.stdout)["figures"]["words"]["drift"] == "too few", said.stdout


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    figures(work)
    drift(work)
    against_evaluation(work)
    converted(work)
    refusals(work)
