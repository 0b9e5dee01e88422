"""Expected failures, each with its exit code."""

import enum


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


class ResnetError(Exception):
    """A failure that the user can act on.

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
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(ResnetError):
    """A wrong option or argument, or options that cannot be combined."""

    exit_code = ExitCode.USAGE


class ConfigError(UsageError):
    """An invalid configuration.

    Args:
        message: what is wrong; its first mention of each field is replaced by the option.
        fields: fields of `RunConfig` in the message, which the command line shows as options (`--lr`).
        hint: as in `ResnetError`.
    """

    def __init__(self, message: str, *, fields: tuple[str, ...] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.fields = fields

    def as_options(self) -> str:
        """The message and hint with each field written as its command-line option."""
        text = str(self)
        for name in self.fields:
            text = text.replace(name, f"--{name.replace('_', '-')}", 1)
        return text


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
