"""Kills training processes at random moments, and holds what they leave to what is promised of it."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter

import sameness
from zygote import ENVIRONMENT

from resnet_cli.checkpoint import load_state
from resnet_cli.data import open_data
from resnet_cli.device import decide
from resnet_cli.engine import Engine
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunDir
from resnet_cli.weights import read_weights

SAVE_EVERY_STEPS = 2
LIMITS = {"limit_train": 300, "limit_test": 60}  # three steps an epoch


class CommandLine:
    """Starts `python -m resnet_cli` in new processes; what `Zygote` does by forking."""

    def __init__(self, folder):
        self.folder, self.processes = folder, {}

    def start(self, *args):
        """Start `resnet ARGS`; returns the process id."""
        command = [sys.executable, "-m", "resnet_cli", *map(str, args)]
        with open(self.folder / "command-line.txt", "ab") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=ENVIRONMENT)
        self.processes[process.pid] = process
        return process.pid

    def wait(self, pid, seconds=120.0):
        """The exit code, negative for the signal that ended the process."""
        return self.processes.pop(pid).wait(seconds)

    def kill(self, pid):
        """Kill -9; returns False when the process had ended by itself."""
        self.processes[pid].kill()
        return self.wait(pid) == -signal.SIGKILL

    def output(self, _):
        """What all processes printed."""
        return (self.folder / "command-line.txt").read_text()

    def close(self):
        """End all processes."""
        for pid in list(self.processes):
            self.kill(pid)


class Subject:
    """One configuration that is trained again and again.

    Args:
        folder: where its runs go.
        arch: `plain` or `resnet`.
        epochs: its length.
    """

    def __init__(self, folder, arch, epochs):
        self.folder, self.epochs = folder, epochs
        self.config = make_config("demo", arch=arch, depth=8, device="cpu", epochs=epochs, augment="crop", **LIMITS)
        self._engine = Engine(self.config, open_data(self.config), decide(self.config))
        self.straight = None
        self._runs = 0

    def command(self, out):
        """The command that trains it in `out`."""
        options = {**LIMITS, "save_every": f"{SAVE_EVERY_STEPS}steps", "epochs": self.epochs, "augment": "crop"}
        named = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
        network = ["--arch", self.config.arch, "--depth", self.config.depth]
        return ["train", "--recipe", "demo", *network, "--device", "cpu", *named, "--out", out]

    def new_out(self):
        """A run directory that nothing has touched."""
        self._runs += 1
        return self.folder / f"{self.config.arch}-{self._runs}"

    def train_straight(self, launcher):
        """Train it without interruption, as what all others are compared with; returns the seconds it took."""
        started, out = time.monotonic(), self.new_out()
        pid = launcher.start(*self.command(out))
        code = launcher.wait(pid)
        assert code == 0, f"exit code {code}: {launcher.output(pid)}"
        self.straight = sameness.parts(RunDir(out))
        return time.monotonic() - started

    def saved_step(self, run):
        """The step of the checkpoint, after loading all of it; 0 where there is none."""
        if not run.checkpoint_path.exists():
            return 0
        load_state(self._engine, run.checkpoint_path)
        return self._engine.step


class KilledRun:
    """One run directory and the processes that work on it one after another.

    Args:
        subject: what is trained.
        launcher: what starts processes.
        found: counts the states in which kills left the directory.
    """

    def __init__(self, subject, launcher, found):
        self.subject, self.launcher, self.found = subject, launcher, found
        self.run = RunDir(subject.new_out())
        self.kills = self.saved = self.attempts = 0

    def live(self, seconds):
        """Start or resume it and kill it after `seconds`; returns whether it was killed before it was done."""
        pid = self.launcher.start(*self.subject.command(self.run.path))
        time.sleep(seconds)
        if not self.launcher.kill(pid):
            assert self.run.status() == "complete", self.launcher.output(pid)
            return False
        self.kills += 1
        self.found["kills"] += 1
        self.check()
        return True

    def finish(self):
        """Resume it to its end and compare it with the straight run."""
        pid = self.launcher.start(*self.subject.command(self.run.path))
        code = self.launcher.wait(pid, 120)
        assert code == 0, f"exit code {code}: {self.launcher.output(pid)}"
        self._check_sittings()
        self.compare()

    def compare(self):
        """Hold the finished run to the straight one, bit by bit."""
        run = self.run
        assert run.status() == "complete"
        parts = sameness.parts(run)
        assert parts == self.subject.straight, [n for n in parts if parts[n] != self.subject.straight[n]]
        assert run.read_metrics()["epoch"].tolist() == list(range(1, self.subject.epochs + 1))
        layers = run.read_gradflow().groupby("epoch")["layer_index"].apply(list)
        assert layers.index.tolist() == list(range(1, self.subject.epochs + 1))
        assert all(layer == list(range(1, self.subject.config.depth + 1)) for layer in layers), "gradflow rows"
        assert sameness.leftovers(run) == []
        self.found["runs compared"] += 1
        self.found["most kills of one run"] = max(self.found["most kills of one run"], self.kills)

    def check(self):
        """Hold what a kill left to what is promised: all readable, nothing lost that was saved, nobody's lock."""
        run = self.run
        readers = {
            run.record_path: run.read_record, run.metrics_path: run.read_metrics, run.gradflow_path: run.read_gradflow,
            run.summary_path: run.read_summary, run.predictions_path: run.read_predictions,
            run.attempts_path: run.read_attempts, run.last_weights_path: lambda: read_weights(run.last_weights_path),
            run.best_weights_path: lambda: read_weights(run.best_weights_path),
        }  # fmt: skip
        tables = {path: read() for path, read in readers.items() if path.exists()}
        assert run.status() in ("empty", "incomplete", "complete")
        self._check_sittings()
        saved = self.subject.saved_step(run)
        assert saved >= self.saved, f"the checkpoint went back from step {self.saved} to {saved}"
        metrics = tables.get(run.metrics_path)
        recorded = 0 if metrics is None or metrics.empty else int(metrics["step"].iloc[-1])
        assert saved >= recorded // SAVE_EVERY_STEPS * SAVE_EVERY_STEPS, f"step {recorded} was done, {saved} is saved"
        if metrics is not None:
            assert metrics["epoch"].tolist() == list(range(1, len(metrics) + 1))
        self.saved = saved
        self._count(recorded)

    def _check_sittings(self):
        attempts = self.run.read_attempts()
        assert len(attempts) >= self.attempts
        # at most one process has begun since the last look, and it began where the checkpoint of then stands
        assert all(attempt.step == self.saved for attempt in attempts[self.attempts :])
        self.attempts = len(attempts)

    def _count(self, recorded):
        run, where = self.run, self.found
        ends = [path.read_bytes()[-1:] for path in (run.metrics_path, run.gradflow_path) if path.exists()]
        where["before run.json was there"] += not run.exists()
        where["before the first checkpoint"] += not run.checkpoint_path.exists()
        where["inside a write: a temporary file was left"] += bool(sameness.leftovers(run))
        where["with rows that the checkpoint did not have"] += recorded > self.saved
        where["with a torn row"] += any(end != b"\n" for end in ends)
        where["when all was done, before the process ended"] += run.status() == "complete"


def kill_often(subject, launcher, *, kills, most_seconds, seed, found=None):
    """Kill processes that train `subject` until `kills` have died, and finish and compare each run they worked on.

    Args:
        subject: with its straight run.
        launcher: `Zygote` or `CommandLine`.
        kills: number of processes to kill.
        most_seconds: a process is killed after a time between 0 and this, the sooner the likelier, so that starting
            and the first epochs are hit as often as what follows.
        seed: of these times.
        found: counted on when given.

    Returns:
        how many kills left which state.
    """
    rng, found = random.Random(seed), Counter() if found is None else found  # noqa: S311 (moments, not secrets)
    killed = KilledRun(subject, launcher, found)
    for _ in range(kills):
        while not killed.live(most_seconds * rng.random() ** 2):
            killed.compare()
            killed = KilledRun(subject, launcher, found)
    killed.finish()
    return found
