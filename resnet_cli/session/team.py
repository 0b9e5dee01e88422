"""One run trained by several processes: rank 0 keeps the run directory, and the others follow it."""

import contextlib
import signal
from collections.abc import Callable
from typing import NamedTuple, Self

from resnet_cli.config import RunConfig
from resnet_cli.data import Dataset
from resnet_cli.dist import Ranks
from resnet_cli.errors import ExitCode, RankZeroError, ResnetError, UsageError
from resnet_cli.rundir import DatasetRecord, Decision
from resnet_cli.session.reporter import Result
from resnet_cli.util.signals import StopFlag


class InitialState(NamedTuple):
    """What rank 0 starts from; the others start from the same."""

    config: RunConfig
    dataset: DatasetRecord
    decisions: dict[str, Decision]
    state: bytes
    """A checkpoint."""


class RankZeroFailure(NamedTuple):
    """Why rank 0 does not start, resume or finish the run."""

    message: str
    hint: str | None
    exit_code: ExitCode


class Team:
    """The processes of a run, seen from rank 0; a context in which the others learn of its errors.

    Args:
        ranks: None for a process on its own, for which nothing needs to be told or agreed on.
    """

    def __init__(self, ranks: Ranks | None) -> None:
        self.ranks = ranks
        self._are_waiting = bool(ranks and ranks.rank == 0)
        """Whether the others wait to be told something, rather than train."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ResnetError) and self._are_waiting:
            with contextlib.suppress(ResnetError):  # they may have been stopped too
                self._send(RankZeroFailure(error.message, error.hint, error.exit_code))

    def begin(self, beginning: InitialState) -> None:
        """Let the others start to train."""
        self._send(beginning)
        self._are_waiting = False

    def wait(self) -> None:
        """Let the others, which have stopped training, wait for what comes next."""
        self._are_waiting = self.ranks is not None

    def end(self, result: Result) -> Result:
        """Tell the others the result of the run, and return it."""
        self._send(result)
        self._are_waiting = False
        return result

    def _send(self, message: InitialState | RankZeroFailure | Result) -> None:
        if self.ranks:
            self.ranks.broadcast(message)


def follow(ranks: Ranks, config: RunConfig, read_data: Callable[..., Dataset]) -> Result:
    """Train along with rank 0, which writes all files.

    Args:
        ranks: this process is not rank 0.
        config: the configuration in the command line of this process.
        read_data: reads the `recorded` data, and raises an error if this machine has others.

    Raises:
        RankZeroError: rank 0 could not start, resume or finish the run, or has saved after a signal to any process.
        ResnetError: this machine cannot take part in the run, or another process has ended.
        DivergedError: a loss was not finite.
    """
    told = _receive(ranks)
    if isinstance(told, Result):
        return told
    from resnet_cli.checkpoint import load_state
    from resnet_cli.device import decide
    from resnet_cli.engine import Engine, InitialRecord

    try:
        if config != told.config:
            raise UsageError(f"its command line differs from that of rank 0: {'; '.join(told.config.diff(config))}")
        setup = decide(config, recorded=told.decisions, ranks=ranks)
        data = read_data(recorded=told.dataset)
    except UsageError as error:
        raise ResnetError(f"rank {ranks.rank} cannot join the run: {error.message}", hint=error.hint) from error
    engine = Engine(config, data, setup)
    load_state(engine, told.state)
    with stop_flag(ranks) as stop:
        for event in engine.run():
            if not isinstance(event, InitialRecord) and agreed_signal(ranks, stop):
                break
        # torchrun ends all processes when one has ended, so none ends before rank 0 has saved
        result = _receive(ranks)
    assert isinstance(result, Result)
    return result


def _receive(ranks: Ranks) -> InitialState | Result:
    told: InitialState | RankZeroFailure | Result = ranks.broadcast()
    if isinstance(told, RankZeroFailure):
        refused = RankZeroError(told.message, hint=told.hint)
        refused.exit_code = told.exit_code
        raise refused
    return told


def stop_flag(ranks: Ranks | None) -> StopFlag:
    """The stop flag of a process of the run.

    A signal to a whole process group or SLURM step reaches each process twice, since torchrun also passes its own on,
    so later ones are ignored; torchrun kills processes that do not end.
    """
    return StopFlag(ignores_more=ranks is not None)


def agreed_signal(ranks: Ranks | None, stop: StopFlag) -> str | None:
    """Name of the stop signal that any process has received, the same in every process; None without a signal."""
    if ranks is None:
        return stop.signal_name
    number = ranks.all_reduce_max(signal.Signals[stop.signal_name].value if stop.signal_name else 0)
    return signal.Signals(number).name if number else None
