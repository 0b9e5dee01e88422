"""Kill training processes at random moments and check what they leave."""

import random
import time
from collections import Counter

import sameness
from launching import was_killed

from resnet_cli.checkpoint import load_state
from resnet_cli.data import open_data
from resnet_cli.device import decide
from resnet_cli.engine import Engine
from resnet_cli.recipes import make_config, train_arguments
from resnet_cli.rundir import RunDir

SAVE_EVERY_STEPS = 2


class Subject:
    """One configuration that is trained again and again.

    Args:
        folder: receives its run directories.
        arch: `plain` or `resnet`.
        epochs: its length.
        fields: other fields of its configuration.
    """

    def __init__(self, folder, arch, epochs, **fields):
        self.folder, self.epochs = folder, epochs
        self.config = make_config(
            "demo", arch=arch, depth=8, device="cpu", epochs=epochs, limit_test=60, warmup_steps=6,
            **{"augment": "crop", "limit_train": 300, "clean_train_every": 1, "gradflow_every": 1, **fields},  # 3 steps
        )  # fmt: skip
        self._engine = Engine(self.config, open_data(self.config), decide(self.config))
        self.straight = self.straight_run = None
        self._runs = 0

    def command(self, out):
        """The arguments of `resnet` that train it in `out`."""
        return [*train_arguments(self.config), "--save-every", f"{SAVE_EVERY_STEPS}steps", "--out", out]

    def new_out(self):
        """A fresh run directory."""
        self._runs += 1
        return self.folder / f"{self.config.arch}-{self.config.fingerprint()[:6]}-{self._runs}"

    def train_straight(self, launcher):
        """Train it without interruption, for comparison; returns the seconds it took."""
        started, out = time.monotonic(), self.new_out()
        launcher.succeed(*self.command(out))
        self.straight, self.straight_run = sameness.parts(RunDir(out)), RunDir(out)
        return time.monotonic() - started

    def finish(self, launcher, run):
        """Resume a run to its end and compare it with the uninterrupted one, bit by bit."""
        launcher.succeed(*self.command(run.path))
        self.compare(run)

    def compare(self, run):
        """Compare a finished run with the uninterrupted one, bit by bit; no row is lost or doubled."""
        parts = sameness.parts(run)
        assert parts == self.straight, [name for name in parts if parts[name] != self.straight[name]]
        assert run.status() == "complete"
        assert run.read_metrics()["epoch"].tolist() == list(range(1, self.epochs + 1))
        measured = range(self.epochs + 1) if self.config.gradflow_every else []
        assert run.read_gradflow(self.config.depth)["epoch"].unique().tolist() == list(measured)
        assert sameness.leftovers(run) == []

    def saved_step(self, run):
        """The step of the checkpoint, after loading all of it; 0 without a checkpoint."""
        if not run.checkpoint_path.exists():
            return 0
        load_state(self._engine, run.checkpoint_path)
        return self._engine.step


def kill_often(subject, launcher, *, kills, most_seconds, seed, found=None):
    """Kill processes that train `subject` until `kills` have died; finish and compare each run they worked on.

    Args:
        subject: with its uninterrupted run.
        launcher: what starts the processes.
        kills: number of processes to kill.
        most_seconds: a process is killed after a time between 0 and this, more likely soon, so that starting and the
            first epochs are hit as often as later epochs.
        seed: of these times.
        found: counted on when given.

    Returns:
        how many kills left which state.
    """
    rng, found = random.Random(seed), Counter() if found is None else found  # noqa: S311 (moments, not secrets)
    run, saved, num_kills, num_attempts = RunDir(subject.new_out()), 0, 0, 0
    left = kills
    while left:
        process = launcher.start(*subject.command(run.path))
        time.sleep(most_seconds * rng.random() ** 2)
        if was_killed(process):
            left, num_kills = left - 1, num_kills + 1
            saved, num_attempts = _check(subject, run, saved, num_attempts, found)
        else:
            assert run.status() == "complete", process.output()
            subject.compare(run)
            _count_finished(found, num_kills)
            run, saved, num_kills, num_attempts = RunDir(subject.new_out()), 0, 0, 0
    subject.finish(launcher, run)
    _count_finished(found, num_kills)
    return found


def _check(subject, run, saved_before, attempts_before, found):
    """Check that all files are readable and nothing saved was lost; returns the step saved and the attempts made."""
    sameness.assert_readable(run)
    attempts = run.read_attempts()
    # at most one process has started since the last check, from the checkpoint of then
    assert all(attempt.step == saved_before for attempt in attempts[attempts_before:])
    saved = subject.saved_step(run)
    assert saved >= saved_before, f"the checkpoint went back from step {saved_before} to {saved}"
    rows = run.read_epochs() if run.metrics_path.exists() else []
    assert [row.epoch for row in rows] == list(range(1, len(rows) + 1))
    recorded = rows[-1].step if rows else 0
    assert saved >= recorded // SAVE_EVERY_STEPS * SAVE_EVERY_STEPS, f"step {recorded} was done, {saved} is saved"

    ends = [path.read_bytes()[-1:] for path in (run.metrics_path, run.gradflow_path) if path.exists()]
    found["kills"] += 1
    found["before run.json was there"] += not run.exists()
    found["before the first checkpoint"] += not run.checkpoint_path.exists()
    found["inside a write: a temporary file was left"] += bool(sameness.leftovers(run))
    found["with rows that the checkpoint did not have"] += recorded > saved
    found["with a torn row"] += any(end != b"\n" for end in ends)
    found["when all was done, before the process ended"] += run.status() == "complete"
    return saved, len(attempts)


def _count_finished(found, num_kills):
    found["runs compared"] += 1
    found["most kills of one run"] = max(found["most kills of one run"], num_kills)
