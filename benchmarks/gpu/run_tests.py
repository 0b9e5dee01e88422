"""Runs tests with pytest and prints the outcome of each as one JSON object; pytest's own output goes to stderr."""

import contextlib
import importlib.util
import json
import os
import sys
from typing import Any, TextIO

_MESSAGE_LENGTH = 160
_TEST_SECONDS = 150  # a test that takes longer hangs; the process ends, and the outcomes so far are kept


class Outcomes:
    """Plugin that prints each outcome as soon as it is known."""

    def __init__(self, output: TextIO) -> None:
        self._output = output

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

    # a copy, since pytest captures what is written to descriptor 1
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as output, contextlib.redirect_stdout(sys.stderr):
        limits = ["-o", f"faulthandler_timeout={_TEST_SECONDS}", "-o", "faulthandler_exit_on_timeout=true"]
        code = pytest.main(["-q", "-p", "no:cacheprovider", *limits, *sys.argv[1:]], plugins=[Outcomes(output)])
    # 1: some tests failed, 2 and more: pytest itself did not run them all
    raise SystemExit(0 if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) else int(code))


if __name__ == "__main__":
    main()
