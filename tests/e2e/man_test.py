#!/usr/bin/env python3
"""attune man: groff sets every command's page without a warning, and it says what --help says.
man_test.py SOURCE_DIR BUILD_DIR
"""
import re
import shutil
import subprocess
import sys

from harness import run


def page(*command):
    roff = run("man", *command).stdout
    out = subprocess.run(["groff", "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=200n"], input=roff, capture_output=True, text=True)
    assert out.returncode == 0 and not out.stderr, f"{command}: {out.stderr}"
    return re.sub(r"\s+", " ", out.stdout.replace("\u2010", "-").replace("\u2212", "-"))


if not shutil.which("groff"):
    print("skipped: groff is not installed")
    sys.exit(125)
help_text = run("--help").stdout
whole = page()
for name, text in re.findall(r"^  ([a-z_]+(?: [a-z_]+)?) {2,}(\S.*)$", help_text, re.M):
    assert text in whole, text
    one = page(*name.split())
    assert ".fi" not in one and ".nf" not in one, name
    assert f"attune-{name.replace(' ', '-')} - {text}" in one, one[:300]
    printed = run(*name.split(), "--help").stdout
    assert all(len(line) <= 100 for line in printed.splitlines()), name
    lines = re.sub(r"^(  --\S+( \S+)*)\n {37}(?=\S)", r"\1  ", printed, flags=re.M)  # no room for the text
    for words in re.findall(r"^ {39}(\S+)$", printed.replace("|\n" + 39 * " ", "|"), re.M):  # of a key
        assert f" {words.replace('|', ', ')} " in one, f"{name}: {words}"
    lines = re.sub(r"(?<![|])\n {37}(?=\S)", " ", lines).replace("|\n" + 37 * " ", "|")
    for flag, what in re.findall(r"^  --(\S+).*? {2,}(\S.*)$", lines, re.M):
        assert f"--{flag}" in one and what.replace("  ", " ") in one, f"{name}: --{flag}: {what}"
assert "130/143 signals" in whole
assert "unknown command nothing" in run("man", "nothing", code=2).stderr
