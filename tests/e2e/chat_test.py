#!/usr/bin/env python3
# labels: slow
"""attune chat: every reply is what generate gives for the same conversation, with adapters switched on and off, also
where the cache goes on; stop strings end a reply in both; what begins with a slash does what it says.
chat_test.py SOURCE_DIR BUILD_DIR
"""
import functools
import json
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import harness
from harness import ATTUNE, GOLDEN

MODEL = GOLDEN / "models" / "tiny_llama"
LENGTH = ["--max_new_tokens", "12"]
run = functools.partial(harness.run, input="")


def chat(lines, *arguments, code=0):
    return run("chat", MODEL, *LENGTH, *arguments, input="\n".join(lines) + "\n", code=code)


def generate(work, messages, *arguments):
    (work / "prompts.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
    line = run("generate", MODEL, *LENGTH, "--prompts", work / "prompts.jsonl", "--json", *arguments).stdout
    return json.loads(line)


def conversation(path):
    return json.loads(path.read_text().splitlines()[-1])["messages"]


def check_turns(work, messages, adapters_of_turn):
    """Every assistant's message beside generate with the adapters that were on."""
    replies = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    assert len(replies) == len(adapters_of_turn)
    for i, adapters in zip(replies, adapters_of_turn):
        want = generate(work, messages[:i], *(a for folder in adapters for a in ("--adapter", folder)))["text"]
        assert messages[i]["content"] == want, (messages[i]["content"], want)


def adapters_in(work):
    """Two that were trained in the golden runs."""
    folders = []
    for name in ("dpo_sigmoid", "kto"):
        folder = work / name
        folder.mkdir()
        shutil.copy(GOLDEN / name / "init_adapter" / "adapter_config.json", folder)
        shutil.copy(GOLDEN / name / "final_adapter.safetensors", folder / "adapter_model.safetensors")
        folders.append(folder)
    return folders


def talks(work):
    one, other = adapters_in(work)
    saved = work / "saved.jsonl"
    lines = ["where is the tea", "and a second line \\", "that goes on", "/adapter none", "help", "/adapter 2", "help",
             "/adapter 1 2", "once more", "//slash", f"/save {saved}"]
    out = chat(lines, "--adapter", one, "--adapter", other, "--system_prompt", "be kind")
    messages = conversation(saved)
    assert [m["content"] for m in messages if m["role"] != "assistant"] == [
        "be kind", "where is the tea", "and a second line \nthat goes on", "help", "help", "once more", "/slash"]
    check_turns(work, messages, [[one, other], [one, other], [], [other], [one, other], [one, other]])
    texts = [m["content"] for m in messages if m["role"] == "assistant"]
    assert out.stdout == "".join(text + "\n" for text in texts)
    assert len(set(texts)) > 1
    bare = [generate(work, messages[:i])["text"] for i, m in enumerate(messages) if m["role"] == "assistant"]
    assert any(a != b for a, b in zip(bare, texts)), "the adapters change nothing: they show nothing here"

    lines = ["/scale 0", "help", f"/save {saved}", "/undo", "/system be brief", "help", f"/save {saved}", "/new", "tea", f"/save {saved}"]
    chat(lines, "--adapter", one)
    rows = [json.loads(line)["messages"] for line in saved.read_text().splitlines()[1:]]
    check_turns(work, rows[0], [[]])
    assert [m["content"] for m in rows[1] if m["role"] != "assistant"] == ["be brief", "help"]
    assert [m["content"] for m in rows[2] if m["role"] != "assistant"] == ["be brief", "tea"]
    check_turns(work, rows[1], [[]])  # the cache held another beginning
    check_turns(work, rows[2], [[]])


def stops(work):
    messages = [{"role": "user", "content": "where is the tea"}]
    whole = generate(work, messages)
    assert len(whole["text"]) > 8, whole
    stop = whole["text"][4:7]
    cut = generate(work, messages, "--stop", "never there", "--stop", stop)
    assert cut["end"] == "stop" and cut["text"] == whole["text"][:whole["text"].index(stop)], (cut, whole)
    assert chat(["where is the tea"], "--stop", stop).stdout == cut["text"] + "\n"
    held = whole["text"][-2:] + "never"  # begins as the reply ends: held back, and shown at the end
    assert chat(["where is the tea"], "--stop", held).stdout == whole["text"] + "\n"


def samples(work):
    messages = [{"role": "user", "content": "where is the tea"}]
    greedy = generate(work, messages)["text"]
    hot = ["--temperature", "5", "--seed", "7"]
    assert generate(work, messages, *hot)["text"] != greedy
    assert generate(work, messages, *hot, "--min_p", "1")["text"] == greedy
    told = chat(["/set temperature 5", "/set seed 7", "/set min_p 1", "where is the tea"])
    assert told.stdout == greedy + "\n" and "temperature 5" in told.stderr
    assert generate(work, messages, "--repetition_penalty", "100")["text"] != greedy


def forgets(work):
    saved = work / "long.jsonl"
    out = chat([f"the message number {i} of many that fill the context" for i in range(8)] + [f"/save {saved}"],
               "--context", "128")
    assert "are forgotten" in out.stderr
    messages = conversation(saved)
    assert messages[0]["content"] != "the message number 0 of many that fill the context"
    assert messages[-2]["content"] == "the message number 7 of many that fill the context"
    out = chat(["hello", "x " * 400, "help", f"/save {saved}"], "--context", "128")
    messages = conversation(saved)
    assert [m["content"] for m in messages if m["role"] == "user"] == ["hello", "help"], "the long one alone goes"
    check_turns(work, messages, [[], []])
    out = chat(["x " * 400, "help"], "--context", "128")
    assert "the context has 128" in out.stderr and out.stdout == generate(
        work, [{"role": "user", "content": "help"}])["text"] + "\n"


def ends(work):
    """A signal ends a chat that waits; what is no text is refused whole."""
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen([ATTUNE, "chat", MODEL], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert any("context" in line for line in process.stderr), "it opens"
        time.sleep(0.3)
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number
    raw = run("chat", MODEL, *LENGTH, input=b"/save \xff\nhelp\x00me\nhelp\n", text=False)
    assert raw.stderr.count(b"no UTF-8 text") == 2, raw.stderr
    assert raw.stdout.decode() == generate(work, [{"role": "user", "content": "help"}])["text"] + "\n"


def refusals(work):
    says = chat(["/nothing", "/adapter 1", "/adapter x", "/scale x", "/set x 1", "/set top_p 2", "/set seed 1.5", "/set top_p",
                 "/undo", "/save", "/save /nonexistent/x.jsonl", "/help", "/quit", "never read"]).stderr
    for text in ("/nothing is no command", "/adapter 1", "/scale x", "x is none", "top_p: a number in", "seed: a whole number",
                 "the value is missing", "no turn to take back", "the file is missing", "nothing has been said", "/quit"):
        assert text in says, text
    assert "no model is named" in run("chat", code=2).stderr
    assert "named twice" in chat([], "--model_name_or_path", MODEL, code=2).stderr
    assert "lists commands" in run("chat", "--model_name_or_path", MODEL, input="/quit\n").stderr
    run("chat", work / "missing", code=66)
    assert "an empty text" in chat([], "--stop", "", code=2).stderr
    assert "there is no adapter" in chat([], "--adapter_scale", "2", code=2).stderr
    assert "--min_p" in run("generate", MODEL, "--prompt", "x", "--min_p", "2", code=2).stderr


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    talks(folder)
    stops(folder)
    samples(folder)
    forgets(folder)
    ends(folder)
    refusals(folder)
