"""Expected failures, each with its exit code."""

import enum
import re


class ExitCode(enum.IntEnum):
    """Exit codes of every command; docs/options.md lists them for users."""

    DONE = 0
    """The command succeeded."""
    FAILED = 1
    """The command failed for a reason outside the command line: disk, memory, network."""
    USAGE = 2
    """Wrong usage or unusable input."""
    CHECK_FAILED = 3
    """A requested check (`--assert`) does not hold."""
    DIVERGED = 4
    """The training loss became non-finite."""
    STOPPED = 75
    """A signal stopped training after saving; the same command resumes it (EX_TEMPFAIL of sysexits.h)."""
    BROKEN_PIPE = 141
    """The reader of stdout closed it before the result was written (128 + SIGPIPE)."""
    CTRL_C = 130
    """Ctrl-C; a run that had started is saved and resumable (128 + SIGINT)."""


# a whole command of this tool, or an option
_COMMAND_OR_OPTION = re.compile(r"(\bresnet [a-z][^;]*)|(?<![\w-])--([a-z][a-z-]*[a-z])")


class ResnetError(Exception):
    """A failure that the user can act on.

    Message and hint name command-line options (`--batch-size`), and `as_options` shows them so. The text of the
    exception, which users of Python see, names the arguments instead (`batch_size`).

    Args:
        message: what is wrong, with the offending value and path; one line.
        hint: the command or option that fixes it; one line.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return as_arguments(self.as_options())

    def as_options(self) -> str:
        """Message and hint for the command line."""
        return f"{self.message}; {self.hint}" if self.hint else self.message


def as_arguments(text: str) -> str:
    """Write each option in `text`, except in commands, as the argument that it sets: `--batch-size` as `batch_size`."""
    return _COMMAND_OR_OPTION.sub(lambda found: found[1] or found[2].replace("-", "_"), text)


class UsageError(ResnetError):
    """A wrong option or argument, or options that cannot be combined."""

    exit_code = ExitCode.USAGE


class NotApplicableError(UsageError):
    """A probe that applies to none of the networks."""


class ConfigError(UsageError):
    """An invalid configuration."""


class InputError(ResnetError):
    """A missing, damaged or unsafe file, folder or archive."""

    exit_code = ExitCode.USAGE


class RunFileError(InputError):
    """A missing, damaged or invalid file of a run directory."""


class CheckFailedError(ResnetError):
    """A requested check (`--assert`) that does not hold."""

    exit_code = ExitCode.CHECK_FAILED


class DivergedError(ResnetError):
    """A training loss that became non-finite."""

    exit_code = ExitCode.DIVERGED


class StoppedError(ResnetError):
    """Training that a signal stopped after saving; the same command resumes it."""

    exit_code = ExitCode.STOPPED


class InterruptedByUserError(StoppedError):
    """Training that Ctrl-C stopped after saving; the same command resumes it."""

    exit_code = ExitCode.CTRL_C


class RankZeroError(ResnetError):
    """An error that ended rank 0 of a run of several processes, and that rank 0 reports itself."""
