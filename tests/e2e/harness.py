"""What the tests of the program share: where it is, how it is run, what has failed.

A test is called X_test.py SOURCE_DIR BUILD_DIR [MORE ...]; SOURCE, BUILD, ATTUNE (the program) and GOLDEN are taken from
that call when this is imported. Only the count of failed checks is kept here: folders, files and what is made of an
output are the test's.

A test fails in two ways, both with exit code 1. run() and assert end it at once, where what follows needs what went
wrong. check() counts and goes on; a test that calls it ends with finish().
"""
import os
import pathlib
import subprocess
import sys

SOURCE, BUILD = (pathlib.Path(path).resolve() for path in sys.argv[1:3])
ATTUNE, GOLDEN = BUILD / "attune", SOURCE / "tests" / "golden"
UNVALIDATED = {**os.environ, "ATTUNE_VALIDATE": "0"}  # as the test began; for kernels that others run with validation
failures = 0


def run(*arguments, code=0, text=True, timeout=600, **more):
    """attune with these arguments: its finished process, with what it wrote. code: the exit code that it must have, a
    tuple of those that it may have, or None where the caller looks at it. The rest is subprocess.run's; a
    command that has not ended after ten minutes (ctest gives a test thirty) fails the test."""
    out = subprocess.run([ATTUNE, *map(str, arguments)], capture_output=True, text=text, timeout=timeout, **more)
    codes = code if isinstance(code, tuple) else (code,)
    assert code is None or out.returncode in codes, (
        f"attune {' '.join(map(str, arguments))}: exit {out.returncode}, {code} expected\n{out.stdout}\n{out.stderr}")
    return out


def check(what, good, more=""):
    """more: what was found; its end is printed where that is not good."""
    global failures
    print(f"ok   {what}" if good else f"FAIL {what} {str(more)[-2000:]}")
    failures += not good


def finish():
    """Prints how many checks have failed, and ends the test if any has."""
    print(f"{failures} failures")
    if failures:
        sys.exit(1)
