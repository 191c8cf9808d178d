#!/usr/bin/env python3
"""The labelling page in a real browser (Chromium without a window, by WebDriver): keys and buttons decide, texts are
texts, a rewritten reply is an edit, the one before can be decided again, a narrow screen needs no sideways scrolling,
and a server killed in the middle loses no decision.
label_browser_test.py SOURCE_DIR BUILD_DIR
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

from harness import ATTUNE

HOSTILE = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script> ünïcode"
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
ESCAPE, ENTER = "\ue00c", "\ue007"


def request(url, body=None, method=None):
    data = None if body is None else json.dumps(body).encode()
    ask = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(ask, timeout=60) as answer:
        return json.loads(answer.read())["value"]


class Browser:
    def __init__(self, width):
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                       text=True)
        port = next(line.split()[-1].rstrip(".") for line in self.driver.stdout if "successfully on port" in line)
        self.root = f"http://127.0.0.1:{port}/session"
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]}
        self.root += "/" + request(self.root, {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options}}})["sessionId"]

    def close(self):
        try:
            request(self.root, method="DELETE")
        finally:
            self.driver.kill()
            self.driver.wait()

    def open(self, url):
        request(self.root + "/url", {"url": url})

    def run(self, script):
        return request(self.root + "/execute/sync", {"script": script, "args": []})

    def press(self, keys):
        """Keys where the focus is, as a keyboard gives them."""
        actions = [a for key in keys for a in ({"type": "keyDown", "value": key}, {"type": "keyUp", "value": key})]
        request(self.root + "/actions", {"actions": [{"type": "key", "id": "k", "actions": actions}]})

    def click(self, name):
        element = request(self.root + "/element", {"using": "css selector", "value": "#" + name})
        request(f"{self.root}/element/{element[ELEMENT]}/click", {})

    def text(self, name):
        return self.run(f"return document.getElementById('{name}').innerText")

    def wait(self, what, script):
        for _ in range(1200):
            if self.run("return Boolean(" + script + ")"):
                return
            time.sleep(0.05)
        raise AssertionError(f"{what}: {script} does not come true\n" + self.run("return document.body.innerText"))


class Server:
    def __init__(self, pairs, *arguments):
        self.process = subprocess.Popen([ATTUNE, "label", pairs, "--annotator", "ann", *arguments, "--json"],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.url = json.loads(self.process.stdout.readline())["url"]


def lines_of(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def decide(browser, key, done):
    """Presses, and waits until the next pair shows."""
    browser.press(key)
    browser.wait(f"decision {done}", f"document.getElementById('progress').textContent.startsWith('{done} of')")


def label(browser, work):
    pairs, log = work / "pairs.jsonl", work / "pairs.jsonl.labels.jsonl"
    pairs.write_text("".join(json.dumps({"prompt": [{"role": "user", "content": HOSTILE}],
                                         "chosen": [{"role": "assistant", "content": f"good {i} {HOSTILE}"}],
                                         "rejected": [{"role": "assistant", "content": f"bad {i}"}]}) + "\n" for i in range(8)))
    server = Server(pairs, "--dimensions", "warmth")
    browser.open(server.url)
    browser.wait("the first pair", "document.getElementById('progress').textContent === '0 of 8 decided'")
    assert HOSTILE in browser.text("prompt") and browser.run("return document.images.length + document.scripts.length") == 1
    lefts = [browser.text("reply_a").split()[0]]
    decide(browser, "a", 1)
    lefts.append(browser.text("reply_a").split()[0])
    decide(browser, "b", 2)
    decide(browser, "t", 3)
    lines = lines_of(log)
    side = {("good", "a"): "first", ("bad", "a"): "second", ("good", "b"): "second", ("bad", "b"): "first"}
    assert [line["choice"] for line in lines] == [side[lefts[0], "a"], side[lefts[1], "b"], "tie"], (lefts, lines)

    # killed in the middle: what was pressed is there, the page says so, another server goes on
    server.process.kill()
    server.process.wait()
    browser.press("a")
    browser.wait("the loss is told", "!document.getElementById('problem').hidden")
    assert "start it again" in browser.text("problem") and lines_of(log) == lines
    server = Server(pairs, "--dimensions", "warmth")
    browser.open(server.url)
    browser.wait("three are kept", "document.getElementById('progress').textContent === '3 of 8 decided'")

    # a rewritten reply, a reason, a rating; letters typed into fields decide nothing
    browser.press("4" + "r" + "abts" + ESCAPE)
    assert browser.run("return document.getElementById('reason').value") == "abts"
    browser.click("rewrite_a")
    browser.press("!")
    browser.click("choose_b")
    browser.wait("the wrong side is told", "document.getElementById('problem').textContent.includes('You rewrote A')")
    before = browser.text("reply_a")
    browser.click("choose_a")
    browser.wait("the edit is kept", "document.getElementById('progress').textContent.startsWith('4 of')")
    edit = lines_of(log)[-1]
    assert edit["reason"] == "abts" and edit["ratings"] == {"warmth": 4}
    assert edit["edit"]["text"].replace("!", "") == before and edit["edit"]["of"] == edit["choice"], edit

    # back, and another decision in its place
    browser.press("u")
    browser.wait("the one before", "!document.getElementById('before').hidden")
    assert "A is better" in browser.text("before")
    browser.press("s")
    browser.wait("the next one", "document.getElementById('before').hidden")
    lines = lines_of(log)
    assert lines[-1]["line"] == edit["line"] and lines[-1]["choice"] == "skip" and "edit" not in lines[-1]
    for done in range(5, 9):
        browser.press("b")
        browser.wait("on and on", f"document.getElementById('progress').textContent.startsWith('{done} of')")
    browser.wait("the end", "!document.getElementById('end').hidden")
    browser.press(ENTER)
    browser.wait("the farewell", "!document.getElementById('bye').hidden")
    assert server.process.wait(timeout=20) == 0
    assert browser.run("return document.title") == "Attune: which reply is better?"
    assert len({line["line"] for line in lines_of(log)}) == 8


def narrow(browser, work):
    server = Server(work / "pairs.jsonl", "--log", str(work / "narrow.jsonl"), "--dimensions", "warmth,clarity")
    request(browser.root + "/window/rect", {"width": 500, "height": 800})
    browser.open(server.url)
    browser.wait("a pair", "!document.getElementById('pair').hidden")
    wide = browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0, f"{wide} pixels to scroll sideways"
    if "SHOTS" in os.environ:
        import base64
        pathlib.Path(os.environ["SHOTS"]).write_bytes(base64.b64decode(request(browser.root + "/screenshot")))
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=20) == 143


if "microhttpd" not in subprocess.run(["ldd", ATTUNE], capture_output=True, text=True).stdout:
    print("skipped: built without libmicrohttpd")
    sys.exit(125)
for program in ("chromium", "chromedriver"):
    if not shutil.which(program):
        print(f"skipped: {program} is not installed (Debian: chromium-driver)")
        sys.exit(125)
with tempfile.TemporaryDirectory() as name:
    page = Browser(1200)
    try:
        label(page, pathlib.Path(name))
        narrow(page, pathlib.Path(name))
    finally:
        page.close()
