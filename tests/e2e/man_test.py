#!/usr/bin/env python3
"""attune man: groff sets every command's page without a warning, and it says what --help says.
man_test.py SOURCE_DIR BUILD_DIR
"""
import pathlib
import re
import shutil
import subprocess
import sys

BUILD = pathlib.Path(sys.argv[2]).resolve()
ATTUNE = BUILD / "attune"


def page(*command):
    roff = subprocess.run([ATTUNE, "man", *command], capture_output=True, text=True, check=True).stdout
    out = subprocess.run(["groff", "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=200n"], input=roff, capture_output=True, text=True)
    assert out.returncode == 0 and not out.stderr, f"{command}: {out.stderr}"
    return re.sub(r"\s+", " ", out.stdout.replace("\u2010", "-").replace("\u2212", "-"))


if not shutil.which("groff"):
    print("skipped: groff is not installed")
    sys.exit(125)
help_text = subprocess.run([ATTUNE, "--help"], capture_output=True, text=True, check=True).stdout
whole = page()
for name, text in re.findall(r"^  ([a-z_]+(?: [a-z_]+)?) {2,}(\S.*)$", help_text, re.M):
    assert text in whole, text
    one = page(*name.split())
    assert ".fi" not in one and ".nf" not in one, name
    assert f"attune-{name.replace(' ', '-')} - {text}" in one, one[:300]
    lines = subprocess.run([ATTUNE, *name.split(), "--help"], capture_output=True, text=True, check=True).stdout
    for flag, what in re.findall(r"^  --(\S+).*? {2,}(\S.*)$", lines, re.M):
        assert f"--{flag}" in one and what.replace("  ", " ") in one, f"{name}: --{flag}: {what}"
assert "130 interrupted" in whole
unknown = subprocess.run([ATTUNE, "man", "nothing"], capture_output=True, text=True)
assert unknown.returncode == 2 and "unknown command nothing" in unknown.stderr
