#!/usr/bin/env python3
"""Prints the runner's count from ctest's log; fails on a skip that allowed_skips does not name."""
import pathlib
import re
import sys

ROW = re.compile(r"^\s*\d+/\d+ Test\s+#\d+: (\S+) \.+\s*(\**)\s*(.*?)\s+[\d.]+ sec")
text = pathlib.Path(sys.argv[2]).read_text(errors="replace")
allowed_file = pathlib.Path(__file__).parent / "allowed_skips"
allowed = {line.split()[0] for line in allowed_file.read_text().splitlines()
           if line.strip() and not line.startswith("#")}
passed, failed, skipped = 0, 0, []
for line in text.splitlines():
    row = ROW.match(line)
    if not row:
        continue
    name, verdict = row.group(1), row.group(3)
    if "Skipped" in verdict:
        skipped.append(name)
    elif "Passed" in verdict:
        passed += 1
    else:
        failed += 1
bad = [name for name in skipped if name not in allowed]
for name in bad:
    print(f"skipped without leave (tests/allowed_skips): {name}")
print(f"{passed} passed, {failed + len(bad)} failed, {len(skipped) - len(bad)} skipped")
sys.exit(1 if failed or bad or passed == 0 else 0)
