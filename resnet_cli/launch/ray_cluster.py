"""Tasks on a Ray cluster without a shared file system: run directories travel to the nodes and come back."""

import contextlib
import importlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from resnet_cli.errors import ExitCode, InputError, ResnetError, UsageError
from resnet_cli.launch.channel import Message, Position
from resnet_cli.launch.machine import num_cores
from resnet_cli.launch.pool import RESUME_HINT, Ending, Observer, Task, run_tasks
from resnet_cli.rundir import RunDir
from resnet_cli.rundir.transfer import ChangedFiles, write_files
from resnet_cli.util.extras import require_extra
from resnet_cli.util.text import one_line
from resnet_cli.version import __version__

if TYPE_CHECKING:
    from resnet_cli.launch.ray_worker import Update

_SECONDS_TO_CONNECT = 10.0
_SECONDS_BETWEEN_CHECKS = 1.0
_SECONDS_UNAVAILABLE = 60.0
"""How long a node may be out of reach. Ray itself gives a node up after about 15 seconds."""


class RayCluster:
    """Context that is connected to a Ray cluster and runs tasks on it.

    Ray's own messages are suppressed, including those on stdout.

    Args:
        address: `HOST:PORT` of the head, for a program on one of its nodes, or `ray://HOST:PORT` from anywhere; None:
            the environment variable RAY_ADDRESS, or without it a Ray instance on this machine that ends with the
            context.

    Raises:
        UsageError: the extra `ray` is not installed.
        InputError: no cluster with the same versions of Ray and Python answers.
    """

    def __init__(self, address: str | None = None) -> None:
        require_extra("ray", "--executor ray")
        self._address = address or os.environ.get("RAY_ADDRESS") or "local"
        self._context = contextlib.ExitStack()
        self._next_check = 0.0
        self._is_lost = False

    def __enter__(self) -> Self:
        # read by Ray and by the processes that it starts
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        with contextlib.ExitStack() as context:
            # a thread of Ray prints there
            sink = context.enter_context(open(os.devnull, "w", encoding="utf-8"))
            context.enter_context(contextlib.redirect_stdout(sink))
            self._connect()
            context.callback(_ray().shutdown)
            self._context = context.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def _connect(self) -> None:
        ray, place = _ray(), self._address.rpartition("://")[2]
        if self._address not in ("local", "auto"):
            try:
                _connect_to(place)
            except ValueError:
                raise UsageError(f"--ray-address must be HOST:PORT (got {self._address})", hint=_CONNECT_HINT) from None
            except OSError as error:
                problem = f"--ray-address {self._address}: no Ray cluster answers ({one_line(error)})"
                raise InputError(problem, hint=_CONNECT_HINT) from error
        options = {"num_cpus": num_cores(), "include_dashboard": False} if self._address == "local" else {}
        # Ray lets the nodes import modules from the current folder of this process
        with _keeping_sigterm(), contextlib.chdir(Path(__file__).parents[2]):
            try:
                ray.init(self._address, log_to_driver=False, logging_level=logging.ERROR, **options)
            except Exception as error:  # of many types
                raise InputError(f"--ray-address {self._address}: {one_line(error)}", hint=_CONNECT_HINT) from error
        self._head = place if "://" in self._address else ray.get_runtime_context().gcs_address

    def check(self) -> None:
        """Raise `ResnetError` if the head of the cluster no longer answers; asks it at most once per second.

        Ray itself notices it after a minute, and then ends this process.
        """
        now = time.monotonic()
        with self.connection():
            if self._is_lost:
                raise ConnectionError
            if now >= self._next_check:
                self._next_check = now + _SECONDS_BETWEEN_CHECKS
                _connect_to(self._head)

    @contextlib.contextmanager
    def connection(self) -> Iterator[None]:
        """Context of calls of Ray; raises `ResnetError` if the connection is lost."""
        try:
            yield
        except (OSError, _ray().exceptions.RayError) as error:
            self._is_lost = True
            hint = f"{RESUME_HINT} once it is back, or with --executor local on this machine"
            raise ResnetError(f"the connection to the Ray cluster at {self._head} was lost", hint=hint) from error

    def choose_num_jobs(self, num_tasks: int, *, device: str = "auto") -> int:
        """Choose how many tasks to run at the same time: one per GPU, or one per CPU of the cluster.

        Args:
            num_tasks: number of tasks.
            device: `device` of their configurations.

        Raises:
            UsageError: no node has what a task needs.
        """
        num_gpus = self._num_gpus(device)
        capacity = sum(_fitting(node, 1, num_gpus) for node in _nodes())
        if not capacity:
            needed = "a GPU" if num_gpus else "a CPU"
            raise UsageError(
                f"--device {device}: no node of the Ray cluster at {self._head} has {needed} for tasks",
                hint="add a node, or choose another --device",
            )
        return max(1, min(capacity, num_tasks))

    def run_tasks(self, tasks: Sequence[Task], num_jobs: int, device: str, observer: Observer) -> list[Ending]:
        """Run every task on a node, as `launch.run_tasks` does on this machine; a task that is lost is restarted.

        Args:
            tasks: commands with `--out RUN`; RUN is sent to the node and kept up to date.
            num_jobs: number of tasks that run or wait for a node at the same time.
            device: `device` of their configurations.
            observer: receives what happens.

        Raises:
            StoppedError: a signal stopped the tasks; those in progress have saved their state.
            UsageError: no node has what a task needs, or a node has another version of this tool.
            ResnetError: the connection was lost.
        """
        self.choose_num_jobs(len(tasks), device=device)  # raises an error if no task ever fits on a node
        num_jobs = min(num_jobs, len(tasks))
        num_gpus = self._num_gpus(device)
        slot = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(_num_threads(num_jobs, num_gpus))}

        def start(task: Task, slot: dict[str, str], num_restarts: int) -> RayTask:
            return RayTask(self, task, slot, num_restarts, num_gpus)

        return run_tasks(tasks, [slot] * num_jobs, observer, start)

    def _num_gpus(self, device: str) -> int:
        """Number of GPUs that a task needs."""
        has_gpu = device == "auto" and any(node.get("GPU", 0) >= 1 for node in _nodes())
        return int(device == "cuda" or has_gpu)


_CONNECT_HINT = "check that the cluster runs, and has the same versions of Ray and Python"


def _connect_to(place: str) -> None:
    """Raise `OSError` unless something answers at `HOST:PORT`, or `ValueError` for other text."""
    host, _, port = place.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_CONNECT).close()


@contextlib.contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """Restore the handler of SIGTERM, which Ray replaces in the main thread."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _ray() -> Any:
    """The package, which is imported only here."""
    return importlib.import_module("ray")


def _nodes() -> list[dict[str, float]]:
    """The resources of every node that is alive."""
    return [node["Resources"] for node in _ray().nodes() if node["Alive"]]


def _fitting(node: dict[str, float], num_cpus: int, num_gpus: int) -> int:
    """How many tasks fit on a node at the same time."""
    most = int(node.get("CPU", 0)) // num_cpus
    return min(most, int(node.get("GPU", 0)) // num_gpus) if num_gpus else most


def _num_threads(num_jobs: int, num_gpus: int) -> int:
    """The largest number of CPUs per task with which `num_jobs` tasks fit on the cluster; at least 1."""
    nodes = _nodes()
    most = max((int(node.get("CPU", 0)) for node in nodes), default=1)
    fitting = (n for n in range(most, 1, -1) if sum(_fitting(node, n, num_gpus) for node in nodes) >= num_jobs)
    return next(fitting, 1)


class RayTask:
    """A task on a node, as a `launch.Process`; the run directory on this machine is locked meanwhile.

    Args:
        cluster: where it runs.
        task: a command with `--out RUN`.
        slot: its environment variables, with OMP_NUM_THREADS.
        num_restarts: how often it was started before.
        num_gpus: number of GPUs that it needs.

    Raises:
        UsageError: another process trains the run.
        RunFileError: a file of the run cannot be read.
    """

    def __init__(self, cluster: RayCluster, task: Task, slot: dict[str, str], num_restarts: int, num_gpus: int) -> None:
        from resnet_cli.launch.ray_worker import RayWorker

        self.task, self.slot, self.num_restarts = task, slot, num_restarts
        self._cluster = cluster
        self._run, arguments, folder = _relocate(task.arguments)
        self._messages: list[Message] = [Position(0.0, "waiting for a node")]
        self._signals: list[int] = []
        self._node: str | None = None  # its name, once the task has started there
        self._number = 0
        self._exit_code: int | None = None
        self._loss: str | None = None
        self._reason = ""
        self._unavailable_since: float | None = None
        self._lock = self._run.lock()
        files = ChangedFiles(self._run).read()
        ray = _ray()
        with cluster.connection():
            most = max((int(node.get("CPU", 0)) for node in _nodes()), default=1)  # fewer if the largest node is gone
            actor = ray.remote(RayWorker).options(num_cpus=max(1, min(_leading_number(slot), most)), num_gpus=num_gpus)
            self._actor = actor.remote(__version__)
            self._start: tuple[Any, ...] = (Task(task.name, arguments), folder, slot, ray.put(files))
            self._request()

    def _request(self) -> None:
        """Ask the node to start, or for the next update; a request that had no answer is repeated."""
        if self._node is None:
            self._answer = self._actor.start.remote(*self._start)
        else:
            self._answer = self._actor.update.remote(self._number, self._sent)

    def poll(self) -> int | None:
        """The exit code of the task; None: it runs, or waits for a node.

        Raises:
            UsageError: the node has another version of this tool.
            ResnetError: the connection to the cluster was lost.
            OSError: a file that came back cannot be written.
        """
        if self._exit_code is not None:
            return self._exit_code
        self._cluster.check()
        if signal.SIGKILL in self._signals or (self._signals and self._node is None):
            self._exit_code = -signal.SIGKILL  # there is no time, or nothing to save
            return self._exit_code
        with self._cluster.connection():
            update = self._receive()
        if update:
            self._store(update)
        return self._exit_code

    def _receive(self) -> "Update | None":
        """The next update, if it has arrived; the one after it is then requested."""
        ray = _ray()
        if not ray.wait([self._answer], timeout=0)[0]:
            return None
        try:
            answer = ray.get(self._answer)
        except ray.exceptions.ActorUnavailableError:
            now = time.monotonic()
            self._unavailable_since = self._unavailable_since or now
            if now - self._unavailable_since > _SECONDS_UNAVAILABLE:
                self._lose()
            else:
                self._request()
            return None
        except ray.exceptions.RayActorError as error:
            if error.actor_init_failed:
                raise UsageError(
                    f"resnet-cli cannot run on a node of the Ray cluster: {_last_line(error)}",
                    hint=f"install resnet-cli {__version__} on every node",
                ) from error
            self._lose()
            return None
        except ray.exceptions.RayTaskError as error:
            self._exit_code, self._reason = ExitCode.FAILED, one_line(error.cause)
            return None
        except (ray.exceptions.ObjectLostError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError):
            self._lose()
            return None
        self._unavailable_since = None
        update = None if self._node is None else answer
        if self._node is None:
            self._node, self._start = answer, ()  # frees the files
        if update is None or update.exit_code is None:
            self._number += 1
            self._sent, self._signals = self._signals, []
            self._request()
        return update

    def _store(self, update: "Update") -> None:
        self._messages += update.messages
        self._exit_code, self._loss, self._reason = update.exit_code, update.loss, update.reason
        try:
            write_files(self._run, update.files)
        except ResnetError as error:  # such as a lost lock
            self._exit_code, self._loss, self._reason = error.exit_code, None, error.as_options()

    def _lose(self) -> None:
        self._exit_code = -signal.SIGKILL
        self._loss = f"the worker on node {self._node} was lost" if self._node else "the worker was lost"

    def read(self) -> list[Message]:
        """The messages that have arrived."""
        messages, self._messages = self._messages, []
        return messages

    def send_signal(self, number: int, /) -> None:
        """Send a signal with the next request."""
        self._signals.append(number)

    def wait(self) -> None:
        """Wait until the task has saved its state and ended, unless that is impossible."""
        with contextlib.suppress(ResnetError, OSError):
            while self.poll() is None:
                time.sleep(0.05)

    def loss(self) -> str | None:
        """Why the task did not come to its own end."""
        return self._loss

    def close(self) -> str:
        """Release node and run directory, and return the error of the task."""
        with contextlib.suppress(ResnetError), self._cluster.connection():
            self._cluster.check()
            _ray().kill(self._actor)
        self._lock.release()
        is_input = self._exit_code == ExitCode.USAGE and self._run.path.name not in self._reason
        needs = ", which needs its own copy of the dataset" if is_input else ""
        return f"on node {self._node}{needs}: {self._reason}" if self._reason and self._node else self._reason


def _relocate(arguments: Sequence[str]) -> tuple[RunDir, list[str], str]:
    """The run directory of a task; its arguments with a run directory on a node instead; and this directory."""
    moved = list(arguments)
    position = moved.index("--out") + 1
    run = Path(moved[position])
    moved[position] = f"runs/{run.name}"
    if "--data-dir" in moved:
        position = moved.index("--data-dir") + 1
        moved[position] = os.path.abspath(moved[position])
    return RunDir(run), moved, f"runs/{run.name}"


def _leading_number(slot: dict[str, str]) -> int:
    """The number of threads in OMP_NUM_THREADS, which may also be a list for nested loops."""
    first = slot["OMP_NUM_THREADS"].partition(",")[0]
    return int(first) if first.isdecimal() else 1


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()
