"""Every expected failure, each with the exit code that the command line ends with."""

import enum


class ExitCode(enum.IntEnum):
    """Exit codes of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    CHECK_FAILED = 3
    DIVERGED = 4
    STOPPED = 75  # EX_TEMPFAIL: stopped by a signal, resumable
    CTRL_C = 130  # 128 + SIGINT


class ResnetError(Exception):
    """A failure the user can act on.

    Args:
        message: what is wrong, with the offending value and path; one line.
        hint: the command or option that mends it; one line.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(ResnetError):
    """Wrong usage: an option, an argument or a combination of them."""

    exit_code = ExitCode.USAGE


class ConfigError(UsageError):
    """A configuration that cannot be run; the message names the field."""


class InputError(ResnetError):
    """An unusable input: a file, folder or archive that is missing, damaged or unsafe."""

    exit_code = ExitCode.USAGE


class RunFileError(InputError):
    """A file of a run directory that cannot be read as what it should be."""


class RunLockedError(UsageError):
    """Another process is training in this run directory."""


class CannotContinueError(UsageError):
    """A run cannot be continued on this machine as it began."""


class OutOfMemoryError(ResnetError):
    """A batch does not fit into memory."""


class CheckFailedError(ResnetError):
    """A check that was asked for (`--assert`) does not hold."""

    exit_code = ExitCode.CHECK_FAILED


class DivergedError(ResnetError):
    """Training produced a non-finite loss."""

    exit_code = ExitCode.DIVERGED


class StoppedError(ResnetError):
    """Training was stopped by a signal after saving; the same command resumes it."""

    exit_code = ExitCode.STOPPED


class InterruptedByUserError(StoppedError):
    """Training was stopped by Ctrl-C after saving; the same command resumes it."""

    exit_code = ExitCode.CTRL_C
