"""Progress of `resnet train`: plain lines off a terminal, a live line on one."""

import contextlib
import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from resnet_cli.cli import train_progress
from resnet_cli.cli.output import Output
from resnet_cli.cli.train_progress import Speedometer, TrainReporter
from resnet_cli.engine import StepEvent
from resnet_cli.recipes import make_config
from resnet_cli.rundir import EpochMetrics

OUT = Path("runs/plain-8-seed0")


@pytest.fixture
def made(make_run, tmp_path):
    """A complete run of 56 layers as record and summary."""
    run = make_run(tmp_path / "run", arch="plain", depth=56, accuracy=86.71, train_error=5.0)
    return run.read_record(), run.read_summary()


@pytest.fixture
def clock(monkeypatch):
    """The clock that speed is measured by, which stands still until a test moves it."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(train_progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def terminal(monkeypatch):
    """Call it with a width to make stderr a terminal; returns a function that gives its text without escapes."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")

    def connect(width):
        stream = io.StringIO()
        stream.isatty = lambda: True
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "stderr", stream)
        return lambda: re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).replace("\r", "\n")

    return connect


def step(**fields):
    standard = {"phase": "train", "epoch": 1, "done": 0, "total": 2000, "step": 1}
    return StepEvent(**{**standard, "running_loss": 1.23456, "running_error_pct": 45.67, **fields})


METRICS = EpochMetrics(**{
    "epoch": 3, "step": 1173, "lr": 0.1, "train_loss": 0.51234, "train_error_pct": 16.44, "train_clean_loss": 0.4,
    "train_clean_error_pct": 15.4, "val_loss": 0.8, "val_error_pct": 20.05, "test_loss": 0.78, "test_error_pct": 19.5,
    "test_accuracy_pct": 80.5, "images_per_second": 12345.6, "train_seconds": 30.0, "eval_seconds": 3.25,
    "peak_memory_bytes": None,
})  # fmt: skip


class TestLines:
    def test_the_start_of_training_shows_network_data_folder_and_decisions(self, made, capsys):
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, 200, 0)
        assert capsys.readouterr() == (
            "",
            "training plain-56 (853,018 parameters) on CIFAR-10, 50,000 images, in runs/plain-8-seed0\n"
            "device cpu: for the test; precision fp32: for the test; compile off: for the test\n",
        )

    def test_a_resumed_run_shows_where_it_resumes(self, made, capsys):
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, 200, 7)
        assert capsys.readouterr().err.startswith("resuming after epoch 7 of 200: plain-56")

    @pytest.mark.parametrize(
        ("fields", "note"),
        [
            ({"epochs": 80}, "lr stays at 0.1: the first milestone is epoch 80"),
            ({"epochs": 81}, None),
            ({"milestones": ()}, None),
            ({"recipe": "he2015"}, None),
        ],
    )
    def test_a_run_that_ends_before_its_first_milestone_gives_a_note(self, made, capsys, fields, note):
        config = make_config(**{"arch": "plain", "depth": 56, **fields})
        with TrainReporter(Output()) as reporter:
            reporter.started(msgspec.structs.replace(made[0], config=config), OUT, 80, 0)
        lines = capsys.readouterr().err.splitlines()
        assert lines[2:] == ([note] if note else [])

    def test_an_epoch_is_printed_on_one_line_with_all_its_measurements(self, made, capsys):
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, 200, 0)
            capsys.readouterr()
            reporter.tick(step())
            reporter.epoch(METRICS)
        assert capsys.readouterr().err == (
            "epoch 3/200  step 1173  lr 0.1  train loss 0.5123  error 16.44 %  clean 15.40 %  val 20.05 %  "
            "test 19.50 %  12,346 images/s  33.2 s\n"
        )

    def test_the_line_of_an_epoch_omits_measurements_that_were_not_made(self, made, capsys):
        with TrainReporter(Output()) as reporter:
            reporter.epoch(msgspec.structs.replace(METRICS, train_clean_error_pct=None, val_error_pct=None))
        line = capsys.readouterr().err
        assert "clean" not in line
        assert "val" not in line
        assert "error 16.44 %  test 19.50 %" in line

    def test_notes_and_progress_of_reading_the_data_are_shown_before_the_start(self, made, capsys):
        with TrainReporter(Output()) as reporter:
            reporter.progress("decoding", 3, 3, "images")
            reporter.note("torch 2.10.0 → 2.11.0")
            reporter.started(made[0], OUT, 200, 0)
        shown = capsys.readouterr().err
        assert shown.startswith("decoding: 3 of 3 images\ntorch 2.10.0 → 2.11.0\ntraining plain-56")

    def test_quiet_shows_no_training_progress(self, made, capsys):
        with TrainReporter(Output(quiet=True)) as reporter:
            reporter.note("torch 2.10.0 → 2.11.0")
            reporter.progress("decoding", 1, 2)
            reporter.started(made[0], OUT, 200, 0)
            reporter.tick(step())
            reporter.epoch(METRICS)
        assert capsys.readouterr() == ("", "")


WITHOUT_LOSS = {"running_loss": None, "running_error_pct": None}


class TestLive:
    @pytest.mark.parametrize(
        ("steps", "shown"),
        [
            # 500 images in half a second; 1000 of this epoch and 2000 of the next are left
            pytest.param(
                [{"done": 500, "step": 4}, {"done": 1000, "step": 8}],
                "step 8 loss 1.2346 error 45.7 % 1,000 images/s, 3.0 s left",
                id="step, loss, error, speed and time left",
            ),
            pytest.param([{"done": 500, "step": 4}], "step 4 loss 1.2346 error 45.7 %", id="no speed yet"),
            pytest.param(
                [{"done": 500}, {"done": 1000, **WITHOUT_LOSS}],
                "step 1 loss 1.2346 error 45.7 % 1,000 images/s, 3.0 s left",
                id="the previous loss",
            ),
            pytest.param([{"done": 500, **WITHOUT_LOSS}], "━ step 1", id="no loss yet"),
            pytest.param([{"phase": "evaluate", "done": 100}], "evaluating", id="an evaluation"),
        ],
    )
    def test_the_live_line_shows_the_epoch_and_what_is_known(self, made, terminal, clock, steps, shown):
        text = terminal(120)
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, 2, 0)
            for fields in steps:
                reporter.tick(step(**fields))
                clock.now += 0.5
        row = text().splitlines()[-2].rstrip()  # the last drawing before it is wiped
        assert row.startswith("epoch 1/2 ")
        assert row.endswith(shown)

    @pytest.mark.parametrize("width", [40, 60, 80])
    def test_the_live_line_fits_a_narrow_terminal_without_losing_anything(self, made, terminal, clock, width):
        shown = terminal(width)
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, 200, 0)
            start = len(shown())
            reporter.tick(step(done=500, step=99_999))
            clock.now += 1
            reporter.tick(step(done=1000, step=100_000))
        rows = shown()[start:].splitlines()
        assert max(map(len, rows)) <= width
        last_drawing = " ".join(word for row in rows for word in row.split()).rpartition("epoch 1/200 ")
        assert last_drawing[1]
        assert last_drawing[2].endswith("step 100000 loss 1.2346 error 45.7 % 500 images/s, 13 min 18 s left")

    def test_epoch_lines_stay_on_the_screen_and_the_live_line_is_removed(self, made, terminal, clock):
        shown = terminal(200)
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, 200, 0)
            reporter.tick(step(done=500))
            reporter.epoch(METRICS)
        assert "epoch 3/200  step 1173  lr 0.1  train loss 0.5123" in shown()
        assert sys.stderr.getvalue().endswith("\x1b[1A\x1b[2K")

    def test_an_exception_during_training_restores_the_terminal(self, made, terminal, clock):
        terminal(120)
        with contextlib.suppress(KeyboardInterrupt), TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, 2, 0)
            reporter.tick(step())
            raise KeyboardInterrupt
        assert "\x1b[?25h" in sys.stderr.getvalue()  # the cursor is shown again


@pytest.mark.parametrize(
    ("updates", "images_per_second"),
    [
        pytest.param([(0, 128), (0, 256)], None, id="unknown until time has passed"),
        pytest.param([(0, 100), (2, 300)], 100, id="since the first update"),
        pytest.param([(0, 900), (1, 1000), (1, 100)], 100, id="continues into the next epoch"),
        pytest.param([(0, 64), (1, 64), (1, 64)], 64, id="epochs of a single batch"),
        pytest.param(
            [(0, 0), (5, 10), (5, 20), *((1, done) for done in range(1020, 12_020, 1000))],
            1000,
            id="forgets what is older than ten seconds",
        ),
        pytest.param([(0, 100), (50, 200), (50, 300)], 2, id="steps of more than ten seconds"),
    ],
)
def test_the_speed_of_training_is_that_of_the_last_ten_seconds(clock, updates, images_per_second):
    meter = Speedometer()
    for seconds, done in updates:
        clock.now += seconds
        speed = meter.update(done)
    assert speed == images_per_second
