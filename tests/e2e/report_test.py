#!/usr/bin/env python3
# labels: slow
"""attune report and score --tokens: report_test.py SOURCE_DIR BUILD_DIR

One run on pairs of which 5 % have their sides swapped: the report finds them among the worst tenth, with file and
line. Its page has no script, no address and nothing of the data unescaped, and has the same bytes again; a metrics
file of 100,000 steps makes a page of bounded size that keeps an outlier.
"""
import functools
import html.parser
import json
import pathlib
import random
import signal
import subprocess
import tempfile
import urllib.request

import harness
from harness import ATTUNE, GOLDEN, SOURCE

MODEL = GOLDEN / "models" / "tiny_llama"
HOSTILE = "</p><script>alert(1)</script><img src=x onerror=alert(1)> & \"'"
run = functools.partial(harness.run, env=harness.UNVALIDATED)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Page(html.parser.HTMLParser):
    """Tags that are opened and closed in turn, their attributes, and the text."""
    EMPTY = {"meta", "br", "path", "circle"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], set(), set(), ""
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        self.words += data


def check_page(path):
    text = path.read_text()
    page = Page(text)
    assert not page.tags & {"script", "img", "link", "iframe", "object"}, page.tags
    assert not page.attributes & {"src", "href"} and not any(a.startswith("on") for a in page.attributes), page.attributes
    assert "http://" not in text and "https://" not in text and "nan" not in page.words.lower().split()
    return page


def flipped(folder):
    """160 pairs of the toy, 8 of them swapped; the file and the lines of these."""
    rows = [json.loads(line) for line in (SOURCE / "data" / "toy" / "pairs.jsonl").read_text().splitlines()[:160]]
    planted = random.Random(5).sample(range(len(rows)), len(rows) // 20)
    for i in planted:
        rows[i]["chosen"], rows[i]["rejected"] = rows[i]["rejected"], rows[i]["chosen"]
    rows[planted[0]]["prompt"][0]["content"] += HOSTILE
    return write(folder / "pairs.jsonl", rows), {i + 1 for i in planted}


def check_flips(folder):
    rows, planted = flipped(folder)
    out = folder / "out"
    run("dpo", "--model_name_or_path", MODEL, "--train_dataset", rows, "--eval_dataset", rows, "--output_dir", out,
        "--num_train_epochs", 1, "--learning_rate", 0.01, "--save_strategy", "no", "--per_device_train_batch_size", 8,
        "--quiet")
    said = json.loads(run("report", out, "--json").stdout)
    worst = said["pairs"]["worst"]
    found = planted & {pair["line"] for pair in worst}
    assert said["pairs"]["n"] == 160 and len(worst) == 16, said["pairs"]
    assert len(found) >= 0.8 * len(planted), f"{len(found)} of {len(planted)} planted flips are in the worst tenth"
    assert all(pair["file"] == str(rows) for pair in worst)
    backwards = [pair["line"] for pair in worst if pair["fate"] == "learnt backwards"]
    assert len(planted & set(backwards)) >= 0.8 * len(planted), backwards
    assert sum(said["pairs"][fate] for fate in ("learnt", "never learnt", "forgotten", "learnt backwards")) == 160
    last = [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()][-160:]
    lowest = min(last, key=lambda pair: pair["margin"])
    if said["result"]["best_step"] in (0, lowest["step"]):
        assert (worst[0]["line"], worst[0]["margin"]) == (lowest["line"], lowest["margin"]), worst[0]
    page = check_page(out / "report.html")
    assert f"{rows}:{worst[0]['line']}" in page.words and "learnt backwards" in page.words
    check_review(out, worst, rows)
    print(f"{len(found)} of {len(planted)} planted flips are in the worst tenth of 160 pairs")
    return rows, out


def check_review(out, worst, rows):
    """lint --with: the same pairs, worst first, as rows that label's page shows for review."""
    said = json.loads(run("data", "lint", "--with", out, "--json").stdout)
    assert said["judged"] == 160 and said["bad_pairs"] == worst, said
    bad, lines = out / "bad_pairs.jsonl", rows.read_text().splitlines()
    want = [{**json.loads(lines[pair["line"] - 1]), "source": pair} for pair in worst]
    assert [json.loads(line) for line in bad.open()] == want
    page = subprocess.Popen([ATTUNE, "data", "lint", "--with", out], stdout=subprocess.PIPE, text=True)
    try:
        told = [page.stdout.readline().strip() for _ in range(len(worst) + 1)]
        assert told[0].startswith(f"{rows}:{worst[0]['line']}: {worst[0]['fate']}"), told[0]
        with urllib.request.urlopen(told[-1] + "next", timeout=20) as answer:
            shown = json.load(answer)
        page.send_signal(signal.SIGINT)
        assert page.wait(20) == 130
    finally:
        page.kill()
        page.communicate()
    assert shown["review"] and shown["total"] == len(worst), shown
    assert [shown["a"], shown["b"]] == [want[0]["chosen"], want[0]["rejected"]], shown
    assert "--with" in run("data", "lint", rows, "--port", 1, code=2).stderr
    rows.write_text("\n".join(lines[:1]) + "\n")
    assert "has changed" in run("data", "lint", "--with", out, "--json", code=65).stderr
    rows.write_text("\n".join(lines) + "\n")


def check_tokens(rows, out):
    """Tokens sum up to what score prints of sides, and the lists to the tokens."""
    few = write(out.parent / "few.jsonl", [json.loads(line) for line in rows.read_text().splitlines()[:40]])
    flags = ["score", "--method", "dpo", "--train_dataset", few, "--model_name_or_path", MODEL, "--adapter_name_or_path",
             out, "--json"]
    plain = [json.loads(line) for line in run(*flags).stdout.splitlines()]
    text = run(*flags, "--tokens").stdout
    *lines, last = [json.loads(line) for line in text.splitlines()]
    sums, counts = {}, {}
    for line, whole in zip(lines, plain, strict=True):
        for side in ("chosen", "rejected"):
            tokens = line[side].pop("tokens")
            assert line[side] == whole[side], (line[side], whole[side])
            for key in ("logp", "ref_logp"):
                assert abs(sum(tokens[key]) - whole[side][key]) < 1e-3, (key, line["row"])
                assert len(tokens[key]) == len(tokens["ids"]) == len(tokens["texts"]) == whole[side]["n_tokens"]
            for i, a, b in zip(tokens["ids"], tokens["logp"], tokens["ref_logp"]):
                sums[i] = sums.get(i, 0) + a - b
                counts[i] = counts.get(i, 0) + 1
    gained = last["learnt"]["tokens"]["gained"]
    assert gained[0]["id"] == max(sums, key=sums.get) and gained[0]["n"] == counts[gained[0]["id"]], gained[0]
    assert abs(gained[0]["log_ratio"] - sums[gained[0]["id"]]) < 1e-3
    assert last["learnt"]["tokens"]["lost"][0]["id"] == min(sums, key=sums.get)
    assert last["learnt"]["openings"]["gained"] and "\033" not in run(*flags[:-1], "--tokens").stdout
    (out / "tokens.jsonl").write_text(text)


def check_replies(out):
    """Replies with differences, everything escaped; the same bytes twice."""
    write(out / "replies.jsonl", [{"prompt": HOSTILE, "before": "it is here " + HOSTILE, "after": "gladly ,\r\nit is here"}])
    run("report", out)
    first = (out / "report.html").read_bytes()
    page = check_page(out / "report.html")
    assert HOSTILE in page.words and "What was learnt" in page.words, "texts are missing"
    assert b"<ins>gladly ,</ins>" in first and "\ufffd".encode() not in first and b"&lt;script&gt;" in first
    run("report", out, "--output", out / "again.html")
    assert (out / "again.html").read_bytes() == first


def check_long(out):
    """100,000 steps: thinned, with the outlier."""
    path = out / "metrics.jsonl"
    kept = path.read_text()
    with path.open("w") as file:
        for step in range(1, 100001):
            loss = 1 / step + (777 if step == 54321 else 0)
            file.write(json.dumps({"step": step, "loss": loss, "grad_norm": 1.0}) + "\n")
    said = json.loads(run("report", out, "--json").stdout)
    path.write_text(kept)
    assert said["curves"]["loss"]["greatest"] > 777 and said["curves"]["loss"]["last"] == 1e-5, said["curves"]
    size = (out / "report.html").stat().st_size
    assert size < 200000, size


def check_run_files(out):
    """run.json may lack what is only told; what is no object is refused."""
    path = out / "run.json"
    kept = path.read_text()
    run_json = json.loads(kept)
    for key in ("attune", "device", "trainable_values", "digests", "data", "config"):
        path.write_text(json.dumps({k: v for k, v in run_json.items() if k != key}))
        run("report", out)
        check_page(out / "report.html")
    for key in ("digests", "data", "config", "device"):
        path.write_text(json.dumps({**run_json, key: ["x"]}))
        assert f'"{key}" must be an object' in run("report", out, code=65).stderr
    assert sum(kind["count"] for kind in run_json["warning_kinds"]) == run_json["warnings"]
    for kinds, says in (([{"kind": "a", "count": 3, "first": "<b>row 1"}], "<b>row 1 (and 2 more of this kind)"), (["x"], "3 warnings")):
        path.write_text(json.dumps({**run_json, "warnings": 3, "warning_kinds": kinds}))
        run("report", out)
        assert says in check_page(out / "report.html").words, kinds
    path.write_text(json.dumps({**run_json, "method": "cpo"}))
    lines = [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()]
    pairs = (out / "pairs.jsonl").read_text()
    first, last = min(line["step"] for line in lines), max(line["step"] for line in lines)
    write(out / "pairs.jsonl", [{**line, "margin": {first: -5, last: -0.5}.get(line["step"], -5)} for line in lines])
    said = json.loads(run("report", out, "--json").stdout)["pairs"]
    assert said["learnt"] == said["n"] == 160 and said["learnt backwards"] == 0, "it rose, though it is below 0"
    write(out / "pairs.jsonl", [{k: v for k, v in line.items() if k != "margin"} for line in lines])
    assert "pairs" not in json.loads(run("report", out, "--json").stdout)
    assert "Pairs to look at" not in check_page(out / "report.html").words
    result = json.loads((out / "result.json").read_text())
    (out / "pairs.jsonl").write_text(pairs)
    path.write_text(kept)
    shares = {"before": {"value": None, "low": None, "high": None, "n": 1}, "after": {"value": None}}
    (out / "result.json").write_text(json.dumps({**result, "eval_logps/accuracies": shares, "eval_loss": {"before": 1, "after": None}}))
    run("report", out)
    check_page(out / "report.html")
    (out / "result.json").write_text(json.dumps(result))


def check_errors(folder, out):
    assert "no finished run" in run("report", folder, code=66).stderr
    run("report", folder / "missing", code=66)
    run("report", code=2)
    named = folder / "cut.json"
    (out / "replies.jsonl").rename(folder / "replies.kept")  # which stand before those of eval.json
    for text in ("", '{"states": [', '{"states": [{"name": "a"}], "texts": [{"prompt": 1}]}'):  # what a command that failed leaves
        (out / "eval.json").write_text(text)
        named.write_text(text)
        said = run("report", out).stderr
        assert f"warning: {out}/eval.json:" in said and "made without it" in said and f"attune eval --adapter {out} " in said, said
        assert "cut.json:" in run("report", out, "--eval", named, code=65).stderr
    (out / "eval.json").unlink()
    (folder / "replies.kept").rename(out / "replies.jsonl")
    assert "nowhere.json" in run("report", out, "--eval", folder / "nowhere.json", code=66).stderr
    bad = folder / "bad.jsonl"
    bad.write_text('{"prompt": "a", "before": "b"}\n')
    assert "bad.jsonl:1" in run("report", out, "--replies", bad, code=65).stderr
    said = run("report", out, "--output", folder / "no" / "where.html", code=73).stderr
    assert f"there is no folder {folder / 'no'}; create it" in said, said


def check_whole_model(folder, rows):
    """What is named after a full fine-tune works, and commands on adapters say that it is none."""
    whole, flags = folder / "whole", ["--model_name_or_path", MODEL, "--train_dataset", rows, "--max_steps", 1, "--quiet"]
    run("dpo", *flags, "--use_peft", "false", "--eval_split", 0.1, "--learning_rate", 1e-4, "--output_dir", whole)
    last = run("report", whole).stderr.splitlines()[-1]
    assert last == f"next       attune generate --model_name_or_path {whole} --prompt TEXT", last
    assert run(*last.split()[2:-1], "is it here", "--max_new_tokens", 2).returncode == 0
    for words in (("export", whole, "--output", folder / "tone.gguf"), ("merge", whole, "--output", folder / "merged"), ("dial", whole),
                  ("eval", "--adapter", whole), ("eval", rows, "--model_name_or_path", MODEL, "--adapter", whole),
                  ("generate", MODEL, "--prompt", "is it here", "--adapter", whole)):
        said = run(*words, code=66)
        assert f"{whole} is a whole model and no adapter" in said.stderr and not said.stdout, (words, said.stderr)
    run("reward", *flags, "--use_peft", "false", "--eval_split", 0, "--output_dir", folder / "scores")
    assert "attune score CONFIG --method reward --use_peft false" in run("report", folder / "scores").stderr.splitlines()[-1]


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        rows, out = check_flips(folder)
        check_tokens(rows, out)
        check_replies(out)
        check_long(out)
        check_run_files(out)
        check_errors(folder, out)
        check_whole_model(folder, rows)
    print("report: flips found, page whole and escaped, tokens sum up")


if __name__ == "__main__":
    main()
