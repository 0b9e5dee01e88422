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
from resnet_cli.cli.train_progress import Speedometer, TimeLeft, TrainReporter
from resnet_cli.engine import StepEvent
from resnet_cli.rundir import EpochMetrics
from resnet_cli.session.reporter import Start

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


def start(num_epochs, *, step=0, is_resumed=False):
    """The start of a run of 16 steps per epoch."""
    return Start(step, 16 * num_epochs, step // 16, num_epochs, is_resumed)


def step(**fields):
    standard = {"phase": "train", "epoch": 1, "done": 0, "total": 2000, "step": 1}
    return StepEvent(**{**standard, "running_loss": 1.23456, "running_error_pct": 45.67, **fields})


METRICS = EpochMetrics(**{
    "epoch": 3, "step": 1173, "lr": 0.1, "train_loss": 0.51234, "train_error_pct": 16.44, "train_clean_loss": 0.4,
    "train_clean_error_pct": 15.4, "train_clean_images": 100,
    "val_loss": 0.8, "val_error_pct": 9.05, "test_loss": 0.78, "test_error_pct": 19.5,
    "test_accuracy_pct": 80.5, "images_per_second": 12345.6, "train_seconds": 30.0, "eval_seconds": 3.25,
    "peak_memory_bytes": None,
})  # fmt: skip


class TestLines:
    def test_the_start_of_training_shows_network_data_folder_and_decisions(self, made, capsys):
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, start(200))
        assert capsys.readouterr() == (
            "",
            "training plain-56 (853,018 parameters) on CIFAR-10, 50,000 images, in runs/plain-8-seed0\n"
            "device cpu: for the test\nprecision fp32: for the test\ncompile off: for the test\n",
        )

    @pytest.mark.parametrize(
        ("step", "line"),
        [
            pytest.param(5, "resuming after step 5 of 3200 (epoch 1 of 200): plain-56", id="within the first epoch"),
            pytest.param(32, "resuming after step 32 of 3200 (epoch 3 of 200): plain-56", id="between two epochs"),
            pytest.param(3200, "resuming after step 3200 of 3200 (epoch 200 of 200): plain-56", id="at the end"),
            pytest.param(0, "restarting, since no checkpoint was saved: plain-56", id="before the first checkpoint"),
        ],
    )
    def test_a_resumed_run_shows_where_it_resumes(self, made, capsys, step, line):
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, start(200, step=step, is_resumed=True))
        assert capsys.readouterr().err.startswith(line)

    @pytest.mark.parametrize(
        ("width", "line"),
        [
            (40, "epoch   3/200  train err 16.44 %  test acc 80.50 %"),
            (60, "epoch   3/200  train err 16.44 %  test acc 80.50 %"),
            (80, "epoch   3/200  train err 16.44 %  clean err 15.40 %  test acc 80.50 %"),
            (
                120,
                "epoch   3/200  time 33 s  train loss 0.5123  train err 16.44 %  clean err 15.40 %  val err  9.05 %  "
                "test acc 80.50 %",
            ),
            (
                160,
                "epoch   3/200  step 1173  lr 0.1  time 33 s  12,346 images/s  train loss 0.5123  train err 16.44 %  "
                "clean err 15.40 %  val err  9.05 %  test acc 80.50 %",
            ),
        ],
    )
    def test_the_line_of_an_epoch_labels_its_numbers_and_shows_as_many_as_fit(self, made, terminal, width, line):
        shown = terminal(width)
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, start(200))
            reporter.epoch(METRICS)
        assert line in " ".join(shown().splitlines())
        assert max(map(len, shown().splitlines())) <= width

    def test_a_log_has_lines_of_80_columns_that_end_with_the_accuracy(self, made, capsys):
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, start(200))
            capsys.readouterr()
            reporter.tick(step())
            reporter.epoch(METRICS)
            reporter.epoch(msgspec.structs.replace(METRICS, train_clean_error_pct=None, val_error_pct=None))
        assert capsys.readouterr().err == (
            "epoch   3/200  train err 16.44 %  clean err 15.40 %  test acc 80.50 %\n"
            "epoch   3/200  time 33 s  train loss 0.5123  train err 16.44 %  test acc 80.50 %\n"
        )

    def test_notes_and_progress_of_reading_the_data_are_shown_before_the_start(self, made, capsys):
        with TrainReporter(Output()) as reporter:
            reporter.progress("decoding", 3, 3, "images")
            reporter.note("torch 2.10.0 → 2.11.0")
            reporter.started(made[0], OUT, start(200))
        shown = capsys.readouterr().err
        assert shown.startswith("decoding: 3 of 3 images\ntorch 2.10.0 → 2.11.0\ntraining plain-56")

    def test_quiet_shows_no_training_progress(self, made, capsys):
        with TrainReporter(Output(quiet=True)) as reporter:
            reporter.note("torch 2.10.0 → 2.11.0")
            reporter.progress("decoding", 1, 2)
            reporter.started(made[0], OUT, start(200))
            reporter.tick(step())
            reporter.epoch(METRICS)
        assert capsys.readouterr() == ("", "")


WITHOUT_LOSS = {"running_loss": None, "running_error_pct": None}


class TestLive:
    @pytest.mark.parametrize(
        ("steps", "shown"),
        [
            # 500 images in half a second; 16 of the 32 steps of the run in two seconds
            pytest.param(
                [{"done": 500, "step": 4}, {"done": 1000, "step": 8}],
                "step 8  train loss 1.2346  train err 45.7 %  1,000 images/s  3.0 s left",
                id="step, loss, error, speed and time left of the run",
            ),
            pytest.param([{"done": 500, "step": 4}], "step 4  train loss 1.2346  train err 45.7 %", id="no speed yet"),
            pytest.param(
                [{"done": 500, "step": 4}, {"done": 1000, "step": 8, **WITHOUT_LOSS}],
                "step 8  train loss 1.2346  train err 45.7 %  1,000 images/s  3.0 s left",
                id="the previous loss",
            ),
            pytest.param([{"done": 500, **WITHOUT_LOSS}], "━ step 1", id="no loss yet"),
            pytest.param(
                [{"done": 500, "step": 4}, {"done": 1000, "step": 8}, {"phase": "evaluate", "step": 8}],
                "evaluating  3.0 s left",
                id="an evaluation",
            ),
        ],
    )
    def test_the_live_line_shows_the_epoch_and_what_is_known(self, made, terminal, clock, steps, shown):
        text = terminal(120)
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, start(2))
            for fields in steps:
                reporter.tick(step(**fields))
                clock.now += 0.5
        row = text().splitlines()[-2].rstrip()  # the last drawing before it is wiped
        assert row.startswith("epoch 1/2 ")
        assert row.endswith(shown)

    @pytest.mark.parametrize("is_resumed", [False, True])
    def test_bar_and_time_left_are_those_of_the_whole_run(self, made, terminal, clock, is_resumed):
        shown = terminal(120)
        first = 80 if is_resumed else 0
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, start(10, step=first, is_resumed=is_resumed))
            reporter.tick(step(epoch=1 + first // 16, step=first + 1, done=100))
            clock.now += 10
            reporter.tick(step(epoch=3 + first // 16, step=first + 40, done=1000))
        row = shown().splitlines()[-2]
        seconds = (160 - first - 40) * 10 / 39
        assert f"{seconds:.0f} s left" in row
        width = row.count("━") + row.count("╸") + row.count("╺")
        assert reporter._live.tasks[0].percentage == pytest.approx(100 * (first + 40) / 160)
        assert width >= 10

    @pytest.mark.parametrize(
        ("width", "values"),
        [
            (60, "train err 45.7 %  13 min 19 s left"),
            (80, "train loss 1.2346  train err 45.7 %  13 min 19 s left"),
            (120, "step 10  train loss 1.2346  train err 45.7 %  9 images/s  13 min 19 s left"),
        ],
    )
    def test_the_live_line_shows_as_many_values_as_fit_next_to_the_bar(self, made, terminal, clock, width, values):
        shown = terminal(width)
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, start(200))
            reporter.tick(step(done=500, step=0))
            clock.now += 2.505
            reporter.tick(step(done=522, step=10))
        row = shown().splitlines()[-2].rstrip()
        assert row.startswith("epoch 1/200 ━")
        assert row.endswith(values)
        assert len(row) <= width

    def test_epoch_lines_stay_on_the_screen_and_the_live_line_is_removed(self, made, terminal, clock):
        shown = terminal(200)
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, start(200))
            reporter.tick(step(done=500))
            reporter.epoch(METRICS)
        assert "epoch   3/200  step 1173  lr 0.1" in shown()
        assert sys.stderr.getvalue().endswith("\x1b[1A\x1b[2K")

    def test_an_exception_during_training_restores_the_terminal(self, made, terminal, clock):
        terminal(120)
        with contextlib.suppress(KeyboardInterrupt), TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, start(2))
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


def test_the_time_left_follows_from_the_mean_speed_since_the_first_update(clock):
    clock_of_run = TimeLeft()
    assert clock_of_run.update(0.5) is None
    clock.now += 10
    assert clock_of_run.update(0.5) is None
    assert clock_of_run.update(0.6) == pytest.approx(40)
    clock.now += 10
    assert clock_of_run.update(1.0) == 0
