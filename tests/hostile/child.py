"""What a forked command imports, does and is prepared for; see `launching`."""

import os
import resource
import signal
import sys
import time
from pathlib import Path

import pandas  # noqa: F401 (imported once, by the server that commands are forked from)
import pydantic  # noqa: F401 (by typer, when it parses options)
import torch._dynamo  # noqa: F401 (by the first optimizer)

import resnet_cli.checkpoint
import resnet_cli.cli.train_progress
import resnet_cli.engine.step
import resnet_cli.session.loop  # noqa: F401
from resnet_cli import dist, engine
from resnet_cli.cli.app import run


def run_command(args, output, marker, prepare, environment):
    """Run `resnet ARGS` as a process of its own, with its output in the file `output`, and exit with its code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    descriptor = os.open(output, os.O_WRONLY | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["resnet", *args]
    os.environ.update(environment)
    if prepare:
        PREPARATIONS[prepare](lambda: _stall(marker))
    sys.exit(run(args))


def _stall(marker):
    handler = signal.getsignal(signal.SIGTERM)
    marker.touch()
    deadline = time.monotonic() + 120
    while marker.exists() and time.monotonic() < deadline:
        if signal.getsignal(signal.SIGTERM) != handler:  # which the first stop signal of any kind resets
            marker.with_suffix(".signalled").touch()
        time.sleep(0.01)


def _slow_save(stall):
    """Stall when the second checkpoint is half saved."""
    fsync, seen = os.fsync, []

    def stalling(descriptor):
        if ".resume.safetensors." in os.readlink(f"/proc/self/fd/{descriptor}"):
            seen.append(descriptor)
            if len(seen) == 2:
                stall()
        fsync(descriptor)

    os.fsync = stalling


def _slow_step(stall):
    """Stall in the second step of the second epoch."""
    step, seen = engine.step.TrainStep.__call__, []

    def stalling(*args):
        seen.append(args)
        if len(seen) == 5:  # three steps per epoch
            stall()
        return step(*args)

    engine.step.TrainStep.__call__ = stalling


def _slow_evaluation(stall):
    """Stall in the evaluation of the second epoch."""
    evaluate_batches, seen = engine.core.evaluate_batches, []

    def stalling(*args, **fields):
        seen.append(args)
        if len(seen) == 4:  # two sets per epoch
            stall()
        return evaluate_batches(*args, **fields)

    engine.core.evaluate_batches = stalling


def _little_memory(_):
    """Limit the process to 200 MiB more than it has, part of which its threads and libraries need."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + 200 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _connected_before(_):
    """Leave an earlier run, after which rank 0 is the last to start the next one."""
    with dist.joined() as ranks:
        ranks.all_reduce_max(0)
    if ranks.rank == 0:
        time.sleep(1.5)


def _signalled_in_epoch_2(number):
    def prepare(_):
        reduce, seen = dist.Ranks.all_reduce_max, []

        def reduce_then_signal(self, value):
            seen.append(value)
            if len(seen) == 7:  # after 3 steps, 2 sets and the end of an epoch; acted on one step later
                os.kill(os.getpid(), number)
            return reduce(self, value)

        dist.Ranks.all_reduce_max = reduce_then_signal

    return prepare


PREPARATIONS = {
    "slow step": _slow_step, "slow save": _slow_save, "slow evaluation": _slow_evaluation,
    "little memory": _little_memory, "connected before": _connected_before,
    "SIGTERM in epoch 2": _signalled_in_epoch_2(signal.SIGTERM),
    "SIGKILL in epoch 2": _signalled_in_epoch_2(signal.SIGKILL),
}  # fmt: skip
