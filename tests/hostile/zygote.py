"""A process that has imported everything and starts `resnet` by forking: in milliseconds in place of seconds.

Run as a program it is that process, and takes orders as JSON lines on its standard input; `Zygote` gives them. Each
child runs `resnet_cli.cli.app.run`, what the console script runs, in a process of its own that can be killed for good.
The process computes nothing itself and runs one thread, so that its children can be forked safely.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import resnet_cli

# one thread, and the package under test also where it is not installed
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(resnet_cli.__file__).parents[1])}


class Zygote:
    """Starts commands in processes of their own; one thread each.

    Args:
        folder: where the commands' output goes, a file each.
    """

    def __init__(self, folder):
        self.folder = folder
        self.children = set()
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        assert self._answer() == "ready"

    def start(self, *args, prepare=None):
        """Start `resnet ARGS`; returns the process id. `prepare` names one of `PREPARATIONS`."""
        order = {"args": list(map(str, args)), "output": str(self.folder), "prepare": prepare}
        pid = self._ask(order)
        self.children.add(pid)
        return pid

    def wait(self, pid, seconds=60.0):
        """The exit code, negative for the signal that ended the process."""
        code = self._ask({"wait": pid, "seconds": seconds})
        if code is None:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"process {pid} did not end within {seconds} s: {self.output(pid)}")
        self.children.discard(pid)
        return code

    def run(self, *args, **fields):
        """Run `resnet ARGS` to its end; returns exit code and output."""
        pid = self.start(*args, **fields)
        return self.wait(pid), self.output(pid)

    def kill(self, pid):
        """Kill -9; returns False when the process had ended by itself."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return self.wait(pid) == -signal.SIGKILL

    def output(self, pid):
        """What the process printed on stdout and stderr."""
        return (self.folder / f"{pid}.txt").read_text()

    def is_stalled(self, pid):
        """Whether the process is where its preparation stalls it."""
        return self._marker(pid).exists()

    def let_go(self, pid):
        """Let a stalled process go on."""
        self._marker(pid).unlink()

    def _marker(self, pid):
        return self.folder / f"{pid}.stalled"

    def close(self):
        """End all children and the process."""
        for pid in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def _ask(self, order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self):
        return json.loads(self.process.stdout.readline())


def wait_until(condition, seconds=30.0):
    """Wait for `condition()` and return what it gives."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.002)
    return found


# ---------------------------------------------------------------------- inside the process


def _slow_save(stall):
    """The disk stalls when the second checkpoint is half saved."""
    fsync, seen = os.fsync, []

    def stalling(descriptor):
        if ".resume.safetensors." in os.readlink(f"/proc/self/fd/{descriptor}"):
            seen.append(descriptor)
            if len(seen) == 2:
                stall()
        fsync(descriptor)

    os.fsync = stalling


def _slow_evaluation(stall):
    """A batch of the second epoch's evaluation stalls."""
    from resnet_cli.engine import Engine

    module = sys.modules[Engine.__module__]
    evaluate_batches, seen = module.evaluate_batches, []

    def stalling(*args, **fields):
        seen.append(args)
        if len(seen) == 4:  # two sets an epoch
            stall()
        return evaluate_batches(*args, **fields)

    module.evaluate_batches = stalling


def _little_memory(_):
    """The process may take 200 MiB more than it has, of which its threads and libraries take a part."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + 200 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _nobody(_):
    """The process belongs to an account that may write nowhere, and perhaps may not read the packages of ours."""
    from resnet_cli.cli.app import run

    # a whole run and a refused one, so that nothing remains to be imported
    tiny = ["--depth", "8", "--limit-train", "100", "--limit-test", "20", "--epochs", "1", "--device", "cpu"]
    train = ["train", "--recipe", "demo", "--arch", "resnet", *tiny, "--out"]
    with (
        tempfile.TemporaryDirectory() as folder,
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        codes = [run([*train, out]) for out in (f"{folder}/run", f"{folder}/run", f"{os.devnull}/run")]
    assert codes == [0, 0, 1], codes
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


def _stall(marker):
    marker.touch()
    deadline = time.monotonic() + 60
    while marker.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


PREPARATIONS = {
    "slow save": _slow_save, "slow evaluation": _slow_evaluation, "little memory": _little_memory, "nobody": _nobody,
}  # fmt: skip


def _serve():
    _import_everything()
    _say("ready")
    for line in sys.stdin:
        order = json.loads(line)
        _say(_reap(order["wait"], order["seconds"]) if "wait" in order else _fork(order))


def _import_everything():
    import pandas
    import safetensors.torch
    import sklearn.datasets
    import torch
    import torchvision

    import resnet_cli.checkpoint
    import resnet_cli.cli.app
    import resnet_cli.cli.train_progress
    import resnet_cli.data.digits
    import resnet_cli.session.loop
    import resnet_cli.weights

    torch.set_num_threads(1)
    digits = resnet_cli.data.digits.load_digits()
    resnet_cli.data.digits.load_digits = lambda: digits
    del pandas, safetensors, sklearn, torchvision


def _fork(order):
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = _child(order)
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    return pid


def _child(order):
    from resnet_cli.cli.app import run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(f"{order['output']}/{os.getpid()}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    sys.argv = ["resnet", *order["args"]]
    if order["prepare"]:
        marker = Path(order["output"], f"{os.getpid()}.stalled")
        PREPARATIONS[order["prepare"]](lambda: _stall(marker))
    return run(order["args"])


def _reap(pid, seconds):
    deadline = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.001)


def _say(answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve()
