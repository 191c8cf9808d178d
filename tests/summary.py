#!/usr/bin/env python3
"""Prints the count of a ctest log and fails on a skip without leave: summary.py LOG [--strict]

allowed_skips gives leave; with --strict its rows that are marked "optional" (tools that CI installs) do not.
"""
import pathlib
import re
import sys

ROW = re.compile(r"^\s*\d+/\d+ Test\s+#\d+: (\S+) \.+\s*(\**)\s*(.*?)\s+[\d.]+ sec")
UNSTARTED = re.compile(r"^\s*\d+ - (\S+) \(Not Run\)")  # its row is torn apart by messages


def allowed_skips(strict):
    rows = (pathlib.Path(__file__).parent / "allowed_skips").read_text().splitlines()
    rows = [row.split() for row in rows if row.strip() and not row.startswith("#")]
    return {row[0] for row in rows if not (strict and row[1] == "optional")}


def main():
    passed, failed, skipped = 0, 0, []
    for line in pathlib.Path(sys.argv[1]).read_text(errors="replace").splitlines():
        unstarted = UNSTARTED.match(line)
        if unstarted:
            failed += 1
            print(f"not run: {unstarted.group(1)}")
        row = ROW.match(line)
        if not row or row.group(3) == "Not Run":
            continue
        name, verdict = row.group(1), row.group(3)
        if "Skipped" in verdict:
            skipped.append(name)
        elif "Passed" in verdict:
            passed += 1
        else:
            failed += 1
            print(f"failed: {name}")
    bad = [name for name in skipped if name not in allowed_skips("--strict" in sys.argv)]
    for name in bad:
        print(f"skipped without leave (tests/allowed_skips): {name}")
    print(f"{passed} passed, {failed + len(bad)} failed, {len(skipped) - len(bad)} skipped")
    return 1 if failed or bad or passed == 0 else 0


sys.exit(main())
