"""Runs tests with pytest and prints the outcome of each as one JSON object; pytest's own output goes to stderr.

python benchmarks/gpu/run_tests.py SECONDS [arguments of pytest]

A test that takes longer than SECONDS is taken to hang: the process ends, and the outcomes so far are known.
"""

import contextlib
import faulthandler
import importlib.util
import json
import os
import sys
from typing import Any, TextIO

_MESSAGE_LENGTH = 160


class Outcomes:
    """Plugin that prints the name of each test when it starts, and its outcome as soon as it is known."""

    def __init__(self, output: TextIO, errors: TextIO, limit_seconds: float) -> None:
        self._output, self._errors, self._limit_seconds = output, errors, limit_seconds

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Print the name, and end the process if the test hangs."""
        print(json.dumps({"kind": "started", "name": nodeid}), file=self._output, flush=True)
        faulthandler.dump_traceback_later(self._limit_seconds, file=self._errors, exit=True)

    def pytest_runtest_logfinish(self) -> None:
        """The test did not hang."""
        faulthandler.cancel_dump_traceback_later()

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Print the outcome of a test, and of a set-up or tear-down that failed or skipped it."""
        if report.when != "call" and report.passed:
            return
        crash = getattr(report.longrepr, "reprcrash", None)
        message = crash.message.partition("\n")[0][:_MESSAGE_LENGTH] if crash else ""
        self._print(report.nodeid, report.outcome, message)

    def pytest_collectreport(self, report: Any) -> None:
        """Print a file that cannot be imported as a failure."""
        if report.failed:
            self._print(report.nodeid, "failed", str(report.longrepr).strip().rpartition("\n")[2][:_MESSAGE_LENGTH])

    def _print(self, name: str, outcome: str, message: str) -> None:
        value = {"kind": "test", "name": name, "outcome": outcome, "message": message}
        print(json.dumps(value), file=self._output, flush=True)


def main() -> None:
    """Run the tests that the arguments name; the exit code is 0 whether they pass or fail."""
    if importlib.util.find_spec("pytest") is None:
        raise SystemExit("missing packages: pytest; give its wheels with --wheels")
    import pytest

    limit, *arguments = sys.argv[1:]
    # copies, since pytest captures what is written to descriptors 1 and 2
    with (
        os.fdopen(os.dup(sys.stdout.fileno()), "w") as output,
        os.fdopen(os.dup(sys.stderr.fileno()), "w") as errors,
        contextlib.redirect_stdout(sys.stderr),
    ):
        plugin = Outcomes(output, errors, float(limit))
        code = pytest.main(["-q", "-p", "no:cacheprovider", *arguments], plugins=[plugin])
    # 1: some tests failed, 2 and more: pytest itself did not run them all
    raise SystemExit(0 if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) else int(code))


if __name__ == "__main__":
    main()
