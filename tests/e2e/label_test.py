#!/usr/bin/env python3
"""attune label over HTTP: blind and in random order, every decision on the disk before the next pair, goes on after
SIGKILL, strangers see nothing, agreement and export are what the log says, wrong input is refused by name.
label_test.py SOURCE_DIR BUILD_DIR
"""
import http.client
import json
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile

from harness import ATTUNE, run

PAIRS = [{"prompt": [{"role": "user", "content": f"question {i} <b>&\u00e9"}],
          "chosen": [{"role": "assistant", "content": f"good {i}"}],
          "rejected": [{"role": "assistant", "content": f"bad {i}"}], "margin": 1.5} for i in range(40)]


class Server:
    def __init__(self, *arguments, **how):
        self.process = subprocess.Popen([ATTUNE, "label", *map(str, arguments), "--json"], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, **how)
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        self.host, self.path = json.loads(line)["url"].removeprefix("http://").split("/", 1)
        self.path = "/" + self.path

    def ask(self, path, body=None, code=200, **headers):
        """`path` behind the token, or from the root with a slash before it."""
        connection = http.client.HTTPConnection(self.host, timeout=20)
        where = path if path.startswith("/") else self.path + path
        connection.request("GET" if body is None else "POST", where, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == code, f"{where}: {answer.status} {text}"
        self.headers = dict(answer.getheaders())
        connection.close()
        return json.loads(text) if "json" in self.headers["Content-Type"] else text

    def end(self, code=0):
        out, err = self.process.communicate(timeout=20)
        assert self.process.returncode == code, f"exit {self.process.returncode}\n{err}"
        return err


def text_of(side):
    return side[-1]["content"]


def label_all(server, choose, log):
    """Decides every pair as `choose` says of (a, b); after each answer the log must have the line."""
    shown = server.ask("next")
    places, lefts, kept = [], [], log.read_text().count("\n") if log.exists() else 0
    while "finished" not in shown:
        assert set(shown) == {"done", "total", "review", "place", "dimensions", "prompt", "a", "b"}, set(shown)
        a, b = text_of(shown["a"]), text_of(shown["b"])
        places.append(a.split()[1])
        lefts.append(a.startswith("good"))
        shown = server.ask("label", {"place": shown["place"], **choose(a, b)})
        kept += 1
        assert log.read_text().count("\n") == kept and log.read_text().endswith("\n")
    return places, lefts


def blind_and_safe(work):
    pairs, log = work / "pairs.jsonl", work / "pairs.jsonl.labels.jsonl"
    pairs.write_text("".join(json.dumps(p) + "\n" for p in PAIRS))
    server = Server(pairs, "--annotator", "ann")
    assert "chosen" not in json.dumps(server.ask("next"))
    first = server.ask("next")
    for _ in range(3):
        first = server.ask("label", {"place": first["place"], "choice": "a"})
    server.process.kill()
    server.end(-signal.SIGKILL)
    log.write_bytes(log.read_bytes() + b'{"format_version":1,"line":')
    before = [json.loads(line) for line in log.read_text().splitlines()[:3]]
    server = Server(pairs, "--annotator", "ann")
    assert server.ask("next") == first, "the same pair, sides alike, after a kill"
    assert "another process writes it" in run("label", pairs, "--annotator", "bob", code=73).stderr
    places, lefts = label_all(server, lambda a, b: {"choice": "a" if a.startswith("good") else "b"}, log)
    assert len(places) == 37 and places != sorted(places, key=int), "random order"
    assert 10 <= sum(lefts) <= 27, f"{sum(lefts)} of 37 have the file's first on the left"
    server.ask("finish", {})
    assert "cut off" in server.end()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines[:3] == before and len(lines) == 40 and {line["annotator"] for line in lines} == {"ann"}
    assert all(line["choice"] == "first" for line in lines[3:])
    return pairs, log


def other_orders(work, pairs):
    orders = []
    for name in ("ann", "bob"):
        server = Server(pairs, "--annotator", name, "--log", work / f"{name}.jsonl")
        orders.append(label_all(server, lambda a, b: {"choice": "tie"}, work / f"{name}.jsonl"))
        server.ask("finish", {})
        server.end()
    assert orders[0] != orders[1], "annotators have orders of their own"


def kappa(one, other):
    """Cohen 1960."""
    n = len(one)
    equal = sum(x == y for x, y in zip(one, other)) / n
    chance = sum(one.count(c) / n * other.count(c) / n for c in set(one) | set(other))
    return (equal - chance) / (1 - chance)


def two_annotators(work, pairs, log):
    """bob finds every third pair the other way round, some equal; he rewrites one and changes his mind on it."""
    server = Server(pairs, "--annotator", "bob", "--dimensions", "warmth,length")
    bad = server.ask("label", {"place": 0, "choice": "a", "ratings": {"warmth": 6}}, code=400)
    assert "ratings" in bad["error"]
    for body in ({}, [], {"place": 0}, {"place": 40, "choice": "a"}, {"place": 0, "choice": "c"},
                 {"place": 0, "choice": "tie", "edit": {"of": "tie", "text": "x"}},
                 {"place": 0, "choice": "a", "edit": {"of": "a", "text": " "}},
                 {"place": 0, "choice": "a", "ratings": {"other": 3}}):
        assert server.ask("label", body, code=400)["error"], body
    assert server.ask("next")["done"] == 0

    def choose(a, b):
        i = int(a.split()[1])
        good = "a" if a.startswith("good") else "b"
        other = "b" if good == "a" else "a"
        answer = {"choice": "tie" if i % 10 == 0 else "skip" if i == 7 else other if i % 3 == 1 else good}
        if i == 5:
            answer |= {"edit": {"of": good, "text": "better 5"}, "reason": "short \u00fc", "ratings": {"warmth": 4}}
        return answer

    shown = server.ask("next")
    decided = {}
    while "finished" not in shown:
        answer = choose(text_of(shown["a"]), text_of(shown["b"]))
        decided[int(text_of(shown["a"]).split()[1])] = shown["place"]
        shown = server.ask("label", {"place": shown["place"], **answer})
    again = server.ask("show", {"place": decided[5]})["before"]
    assert again["edit"]["text"] == "better 5" and again["ratings"] == {"warmth": 4}, again
    assert server.ask("show", {"place": 99}, code=400)["error"]
    again = server.ask("show", {"place": decided[2]})
    wrong = "a" if text_of(again["a"]).startswith("bad") else "b"
    server.ask("label", {"place": decided[2], "choice": wrong})
    server.ask("finish", {})
    told = server.end()

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    last = {who: {line["line"] - 1: line for line in lines if line["annotator"] == who} for who in ("ann", "bob")}
    both = [i for i in range(40) if "skip" not in (last["ann"][i]["choice"], last["bob"][i]["choice"])]
    words = [[last[who][i]["choice"] for i in both] for who in ("ann", "bob")]
    out = run("label", pairs, "--export", work / "out.jsonl", "--json")
    got = json.loads(out.stdout)
    agreement = got["agreement"][0]
    assert agreement["n"] == len(both) == 39
    assert agreement["equal"] == sum(x == y for x, y in zip(*words))
    assert abs(agreement["kappa"] - kappa(*words)) < 1e-12, (agreement, kappa(*words))
    assert f"kappa {kappa(*words):.2f}" in told, told

    rows = [json.loads(line) for line in (work / "out.jsonl").read_text().splitlines()]
    want, divided, undecided = [], 0, 0
    for i in range(40):
        votes = [last[who][i]["choice"] for who in ("ann", "bob")]
        first, second = votes.count("first"), votes.count("second")
        if max(first, second) == 0:
            undecided += 1
        elif first == second or max(first, second) <= votes.count("tie"):
            divided += 1
        else:
            want.append((PAIRS[i]["prompt"], *((f"good {i}", f"bad {i}") if first > second else (f"bad {i}", f"good {i}"))))
        if i == 5:
            want.append((PAIRS[5]["prompt"], "better 5", "good 5"))
    assert [(r["prompt"], text_of(r["chosen"]), text_of(r["rejected"])) for r in rows] == want
    assert all(r["reviewed"] is True for r in rows)
    assert all(("margin" in r) == (text_of(r["rejected"]).startswith("bad")) for r in rows), "a margin of the other side"
    assert (got["rows"], got["edits"], got["divided"], got["undecided"]) == (len(want), 1, divided, undecided)
    assert divided > 0
    assert "exists already" in run("label", pairs, "--export", work / "out.jsonl", code=73).stderr
    run("data", "convert", work / "out.jsonl", "--output", work / "same.jsonl")


def strangers(pairs, work):
    server = Server(pairs, "--log", work / "strangers.jsonl")
    for path in ("/", "/next", "/" + "0" * 32 + "/next", server.path[:-2] + "/next", "/../etc/passwd"):
        server.ask(path, code=404)
    server.ask("next", code=403, Host="attacker.example")
    server.ask("label", {"place": 0, "choice": "a"}, code=403, Origin="http://attacker.example")
    server.ask("label", {"place": 0, "choice": "a"}, code=403, Origin="null")
    server.ask("next", code=200, Host=server.host.replace("127.0.0.1", "localhost"))
    server.ask("label", code=404)
    server.ask("label", {"place": 0, "reason": "x" * (5 << 20)}, code=413)
    for name in ("", "page.js", "page.css"):
        text = server.ask(name)
        assert "default-src 'none'" in server.headers["Content-Security-Policy"]
        assert "http" not in text.replace("http-equiv", ""), "the page asks the network for nothing"
    port = server.host.split(":")[1]
    assert port in run("label", pairs, "--log", work / "x.jsonl", "--port", port, code=73).stderr
    server.process.send_signal(signal.SIGINT)
    assert "on the disk" in server.end(130)


def full_disk(work, pairs):
    """No room for the second line: the page is told, nothing is counted, the first one stays whole."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))

    log = work / "full.jsonl"
    server = Server(pairs, "--annotator", "x", "--log", log, preexec_fn=limit, restore_signals=False)
    shown = server.ask("label", {"place": 0, "choice": "a"})
    told = server.ask("label", {"place": shown["place"], "choice": "a"}, code=500)
    assert "full.jsonl" in told["error"], told
    assert server.ask("next") == shown and shown["done"] == 1
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert server.ask("label", {"place": shown["place"], "choice": "b"})["done"] == 2
    server.ask("finish", {})
    server.end()
    assert [json.loads(line)["format_version"] for line in log.read_text().splitlines()] == [1, 1]


def review_and_candidates(work):
    candidates = work / "candidates.jsonl"
    candidates.write_text(json.dumps({"prompt": "p", "responses": ["one", "two"], "synthetic": True}) + "\n"
                          + json.dumps({"prompt": [{"role": "user", "content": "q"}], "responses": ["three", "four"]}) + "\n")
    server = Server(candidates, "--review", "--annotator", "x", "--log", work / "r.jsonl")
    shown = server.ask("next")
    assert shown["review"] and (text_of(shown["a"]), text_of(shown["b"])) == ("one", "two")
    shown = server.ask("label", {"place": 0, "choice": "b"})
    assert (text_of(shown["a"]), text_of(shown["b"])) == ("three", "four")
    server.ask("label", {"place": 1, "choice": "tie"})
    server.ask("finish", {})
    server.end()
    run("label", candidates, "--log", work / "r.jsonl", "--export", work / "r.out")
    rows = [json.loads(line) for line in (work / "r.out").read_text().splitlines()]
    assert rows == [{"prompt": "p", "synthetic": True, "chosen": "two", "rejected": "one", "reviewed": True}], rows
    assert "reviews, not labels" in run("label", candidates, "--log", work / "r.jsonl", code=65).stderr


def refusals(work, pairs, log):
    def refused(code, says, *arguments):
        out = run("label", *arguments, code=code).stderr
        assert says in out, f"{arguments}: {says!r} expected\n{out}"

    bad = work / "bad.jsonl"
    for text, says in (('{"prompt": "p", "responses": ["a"]}', "1 entries"), ('{"prompt": "p"}', "two replies"),
                       ('{"prompt": "p", "chosen": 1, "rejected": "b"}', "bad.jsonl:1"), ("[]", "JSON object"),
                       ("{", "bad.jsonl:1"), ("", "no pair")):
        bad.write_text(text + "\n")
        refused(65, says, bad)
    refused(66, "missing.jsonl", work / "missing.jsonl")
    refused(66, "nothing has been labelled", pairs, "--log", work / "none", "--export", work / "y.jsonl")
    refused(2, "annotator", pairs, "--annotator", "a b")
    refused(2, "dimension", pairs, "--dimensions", "a,,b")
    refused(2, "at most 8", pairs, "--dimensions", "a,b,c,d,e,f,g,h,i")
    refused(2, "usage", "--port", "1")
    lines = log.read_text().splitlines()
    for change, says in (({"format_version": 9}, "format_version 9"), ({"digest": "0"}, "the file was changed"),
                         ({"choice": "left"}, '"left"'), ({"edit": {"of": "first"}}, '"edit"'), ({"line": 99}, "line 99")):
        broken = work / "broken.jsonl"
        broken.write_text(lines[0] + "\n" + json.dumps({**json.loads(lines[1]), **change}) + "\n")
        refused(65, says, pairs, "--log", broken)
        refused(65, "broken.jsonl:2", pairs, "--log", broken)


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    probe = folder / "probe.jsonl"
    probe.write_text(json.dumps(PAIRS[0]) + "\n")
    built = subprocess.run(["timeout", "1", ATTUNE, "label", probe], capture_output=True, text=True)
    if "has no web page" in built.stderr:
        print("skipped: built without libmicrohttpd")
        sys.exit(125)
    assert built.returncode == 124 and built.stdout.startswith("http://127.0.0.1:"), built
    pairs_file, log_file = blind_and_safe(folder)
    other_orders(folder, pairs_file)
    two_annotators(folder, pairs_file, log_file)
    strangers(pairs_file, folder)
    full_disk(folder, pairs_file)
    review_and_candidates(folder)
    refusals(folder, pairs_file, log_file)
