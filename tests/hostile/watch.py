"""Run a command in this process and check what every command promises for any files on the disk."""

import contextlib
import resource
import signal
import warnings
from typing import NamedTuple

from resnet_cli.cli.app import run as resnet

DOCUMENTED = frozenset({0, 1, 2, 3, 4, 75, 130})
_MOST_SECONDS = 120
_MOST_MEMORY_GROWTH_KIB = 1.5 * 2**20


class Said(NamedTuple):
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines that say why it failed."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


def watched(capfd, args) -> Said:
    """Run `args`; fail where it hangs, fills the memory, prints a traceback, warns from inside, or obeys an escape."""
    capfd.readouterr()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with _deadline(args), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        code = resnet([str(arg) for arg in args])
    said = Said(code, *capfd.readouterr())
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert growth < _MOST_MEMORY_GROWTH_KIB, f"{args} took {growth / 2**20:.1f} GiB"
    assert code in DOCUMENTED, said
    both = said.out + said.err
    assert "Traceback (most recent call last)" not in both, both
    assert "; set RESNET_DEBUG=1 for the traceback" not in both, both
    control = sorted({c for c in both if not c.isprintable() and c not in "\n\N{NO-BREAK SPACE}"})
    assert not control, (args, control)
    assert len(said.errors) == (code != 0), said
    # on a terminal Python would print each of these with a line of source
    assert not [str(one.message) for one in caught if issubclass(one.category, RuntimeWarning | UserWarning)]
    return said


@contextlib.contextmanager
def _deadline(args):
    def late(*_):
        raise AssertionError(f"resnet {args} does not end")

    earlier = signal.signal(signal.SIGALRM, late)
    signal.alarm(_MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)
