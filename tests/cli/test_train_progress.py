"""What `resnet train` shows: plain lines off a terminal, a live line on one, and a table at the end."""

import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from resnet_cli.cli import train_progress
from resnet_cli.cli.output import Output
from resnet_cli.cli.train_progress import Speedometer, TrainReporter, summary_table
from resnet_cli.engine import StepEvent
from resnet_cli.recipes import make_config
from resnet_cli.rundir import EpochMetrics
from resnet_cli.util.text import duration

OUT = Path("runs/plain-8-seed0")


@pytest.fixture
def made(make_run, tmp_path):
    """A complete run of 56 layers as record and summary."""
    run = make_run(tmp_path / "run", arch="plain", depth=56, accuracy=86.71, train_error=5.0)
    return run.read_record(), run.read_summary()


@pytest.fixture
def clock(monkeypatch):
    """The time that speed is measured by, which stands still until it is set."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(train_progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def terminal(monkeypatch):
    """Call it with a width to make stderr a terminal; returns what it was sent so far, without escapes, by a call."""
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


def tick(**fields):
    standard = {"phase": "train", "epoch": 1, "done": 0, "total": 2000, "step": 1}
    return StepEvent(**{**standard, "running_loss": 1.23456, "running_error_pct": 45.67, **fields})


METRICS = EpochMetrics(**{
    "epoch": 3, "step": 1173, "lr": 0.1, "train_loss": 0.51234, "train_error_pct": 16.44, "train_clean_loss": 0.4,
    "train_clean_error_pct": 15.4, "val_loss": 0.8, "val_error_pct": 20.05, "test_loss": 0.78, "test_error_pct": 19.5,
    "test_accuracy_pct": 80.5, "images_per_second": 12345.6, "train_seconds": 30.0, "eval_seconds": 3.25,
    "peak_memory_bytes": None,
})  # fmt: skip


class TestLines:
    def test_the_start_says_what_is_trained_where_and_how_it_is_computed(self, made, capsys):
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, 200, 0)
        assert capsys.readouterr() == (
            "",
            "training plain-56 (853,018 parameters) on CIFAR-10, 50,000 images, in runs/plain-8-seed0\n"
            "device cpu: for the test; precision fp32: for the test; compile off: for the test\n",
        )

    def test_a_resumed_run_says_from_where(self, made, capsys):
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, 200, 7)
        assert capsys.readouterr().err.startswith("resuming after epoch 7 of 200: plain-56")

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"epochs": 80}, "lr stays at 0.1: the first milestone is epoch 80"),
            ({"epochs": 81}, None),
            ({"milestones": ()}, None),
            ({"recipe": "he2015"}, None),
        ],
    )
    def test_a_run_that_ends_before_its_first_milestone_says_so(self, made, capsys, fields, said):
        config = make_config(**{"arch": "plain", "depth": 56, **fields})
        with TrainReporter(Output()) as reporter:
            reporter.started(msgspec.structs.replace(made[0], config=config), OUT, 80, 0)
        lines = capsys.readouterr().err.splitlines()
        assert lines[2:] == ([said] if said else [])

    def test_an_epoch_is_one_line_with_all_that_was_measured(self, made, capsys):
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, 200, 0)
            capsys.readouterr()
            reporter.tick(tick())
            reporter.epoch(METRICS)
        assert capsys.readouterr().err == (
            "epoch 3/200  step 1173  lr 0.1  train loss 0.5123  error 16.44 %  clean 15.40 %  val 20.05 %  "
            "test 19.50 %  12,346 images/s  33.2 s\n"
        )

    def test_what_was_not_measured_is_left_out(self, made, capsys):
        with TrainReporter(Output()) as reporter:
            reporter.epoch(msgspec.structs.replace(METRICS, train_clean_error_pct=None, val_error_pct=None))
        line = capsys.readouterr().err
        assert "clean" not in line
        assert "val" not in line
        assert "error 16.44 %  test 19.50 %" in line

    def test_reading_the_data_is_shown_before_the_start(self, made, capsys):
        with TrainReporter(Output()) as reporter:
            reporter.progress("decoding", 3, 3, "images")
            reporter.started(made[0], OUT, 200, 0)
        assert capsys.readouterr().err.startswith("decoding: 3 images of 3 images\ntraining plain-56")

    def test_a_note_is_passed_on(self, capsys):
        with TrainReporter(Output()) as reporter:
            reporter.note("torch 2.10.0 → 2.11.0")
        assert capsys.readouterr().err == "torch 2.10.0 → 2.11.0\n"

    def test_quiet_says_nothing(self, made, capsys):
        with TrainReporter(Output(quiet=True)) as reporter:
            reporter.note("torch 2.10.0 → 2.11.0")
            reporter.progress("decoding", 1, 2)
            reporter.started(made[0], OUT, 200, 0)
            reporter.tick(tick())
            reporter.epoch(METRICS)
        assert capsys.readouterr() == ("", "")


class TestLive:
    def test_training_shows_epoch_step_loss_error_speed_and_time_left(self, made, terminal, clock):
        shown = terminal(120)
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, 2, 0)
            reporter.tick(tick(done=500, step=4))
            clock.now += 0.5
            reporter.tick(tick(done=1000, step=8))
        row = shown().splitlines()[-2]  # the last drawing before it is wiped
        assert row.startswith("epoch 1/2 ")
        # 500 images in half a second; 1000 of this epoch and 2000 of the next are left
        assert row.endswith("step 8 loss 1.2346 error 45.7 % 1,000 images/s, 3 s left")

    def test_the_first_tick_has_no_speed_yet(self, made, terminal, clock):
        shown = terminal(120)
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, 2, 0)
            reporter.tick(tick(done=500, step=4))
        assert shown().splitlines()[-2].rstrip().endswith("step 4 loss 1.2346 error 45.7 %")

    def test_a_loss_that_was_not_asked_for_leaves_the_last_one_in_sight(self, made, terminal, clock):
        shown = terminal(120)
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, 1, 0)
            reporter.tick(tick(done=500))
            clock.now += 1.0
            reporter.tick(tick(done=1000, running_loss=None, running_error_pct=None))
        assert shown().splitlines()[-2].endswith("loss 1.2346 error 45.7 % 500 images/s, 2 s left")

    def test_before_the_first_look_at_the_loss_the_step_is_shown_alone(self, made, terminal, clock):
        shown = terminal(120)
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, 1, 0)
            reporter.tick(tick(done=500, running_loss=None, running_error_pct=None))
        assert shown().splitlines()[-2].rstrip().endswith("━ step 1")

    def test_evaluation_is_shown_as_such(self, made, terminal, clock):
        shown = terminal(120)
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, 2, 0)
            reporter.tick(tick(phase="evaluate", done=100))
        assert shown().splitlines()[-2].rstrip().endswith("evaluating")

    @pytest.mark.parametrize("width", [40, 60, 80])
    def test_a_narrow_terminal_shows_everything_without_being_overrun(self, made, terminal, clock, width):
        shown = terminal(width)
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, 200, 0)
            start = len(shown())
            reporter.tick(tick(done=500, step=99_999))
            clock.now += 1
            reporter.tick(tick(done=1000, step=100_000))
        rows = shown()[start:].splitlines()
        assert max(map(len, rows)) <= width
        last_drawing = " ".join(word for row in rows for word in row.split()).rpartition("epoch 1/200 ")
        assert last_drawing[1]
        assert last_drawing[2].endswith("step 100000 loss 1.2346 error 45.7 % 500 images/s, 13 min 18 s left")

    def test_epochs_stay_on_the_screen_and_the_live_line_goes(self, made, terminal, clock):
        shown = terminal(200)
        with TrainReporter(Output()) as reporter:
            reporter.started(made[0], OUT, 200, 0)
            reporter.tick(tick(done=500))
            reporter.epoch(METRICS)
        assert "epoch 3/200  step 1173  lr 0.1  train loss 0.5123" in shown()
        assert sys.stderr.getvalue().endswith("\x1b[1A\x1b[2K")

    def test_an_exception_on_the_way_puts_the_terminal_in_order(self, made, terminal, clock):
        terminal(120)

        def interrupted():
            with TrainReporter(Output()) as reporter:
                reporter.started(made[0], OUT, 2, 0)
                reporter.tick(tick())
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert "\x1b[?25h" in sys.stderr.getvalue()  # the cursor is shown again


class TestSpeed:
    def test_it_is_unknown_until_time_has_passed(self, clock):
        meter = Speedometer()
        assert meter.update(1, 128, 1000) is None
        assert meter.update(2, 256, 1000) is None

    def test_it_is_the_images_since_the_first_look_by_the_time_since(self, clock):
        meter = Speedometer()
        meter.update(1, 100, 1000)
        clock.now += 2
        assert meter.update(2, 300, 1000) == 100

    def test_it_goes_on_into_the_next_epoch(self, clock):
        meter = Speedometer()
        meter.update(9, 900, 1000)
        clock.now += 1
        meter.update(10, 1000, 1000)
        clock.now += 1
        assert meter.update(11, 100, 1000) == 100

    def test_an_epoch_of_one_batch_counts_every_time(self, clock):
        meter = Speedometer()
        for step in range(5):
            speed = meter.update(step, 64, 64)
            clock.now += 1
        assert speed == 64

    def test_it_forgets_what_is_older_than_ten_seconds(self, clock):
        meter = Speedometer()
        for done in (0, 10, 20):  # slow: 2 images a second
            meter.update(0, done, 10**6)
            clock.now += 5
        for done in range(1020, 12_020, 1000):  # then 1000
            clock.now += 1
            speed = meter.update(0, done, 10**6)
        assert speed == 1000

    def test_a_step_of_more_than_ten_seconds_still_has_a_speed(self, clock):
        meter = Speedometer()
        for done in (100, 200, 300):
            speed = meter.update(0, done, 1000)
            clock.now += 50
        assert speed == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (12.4, "12 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (250, "4 min 10 s"),
        (3599.6, "1 h 00 min"),
        (11_100, "3 h 05 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_a_duration_is_read_in_two_units_at_most(seconds, text):
    assert duration(seconds) == text


class TestSummaryTable:
    def lines(self, table, width=60):
        console = Output().stdout
        console.width = width
        with console.capture() as printed:
            console.print(table)
        return [line.strip() for line in printed.get().splitlines()]

    def test_at_sixty_columns_every_value_is_shown_whole(self, made):
        lines = self.lines(summary_table(*made, OUT))
        assert lines[0] == "plain-56 on CIFAR-10"
        values = {re.split(r"\s{2,}", line)[0]: re.findall(r"[\d.]+ %", line) for line in lines if "%" in line}
        assert values == {
            "test accuracy": ["86.71 %", "86.81 %"],
            "test error": ["13.29 %", "13.19 %"],
            "training error": ["6.00 %", "5.90 %"],
            "clean training error": ["5.00 %", "4.90 %"],
        }
        text = " ".join(lines)
        assert "* chosen on the test set; trained for 1 min 30 s, evaluated for 9 s" in text
        assert str(OUT) in text

    def test_epochs_of_last_and_best_head_their_columns(self, made):
        header = self.lines(summary_table(*made, OUT), width=100)[1]
        assert re.split(r"\s{2,}", header) == ["measure", "last (epoch 3)", "best (epoch 2)*"]

    def test_a_validation_error_is_shown_where_there_is_one(self, make_run, tmp_path):
        run = make_run(tmp_path / "val", val_size=5000, accuracy=90.0)
        text = "\n".join(self.lines(summary_table(run.read_record(), run.read_summary(), OUT)))
        assert re.search(r"validation error\s+10\.50 %\s+10\.40 %", text)
        assert "* chosen on the val set" in text

    def test_what_was_measured_at_one_epoch_only_is_a_dash_at_the_other(self, made):
        record, summary = made
        best = msgspec.structs.replace(summary.best, train_clean_error_pct=None)
        unmeasured = msgspec.structs.replace(summary, best=best)
        text = "\n".join(self.lines(summary_table(record, unmeasured, OUT)))
        assert re.search(r"clean training error\s+5\.00 %\s+—", text)

    def test_what_was_never_measured_has_no_row(self, made):
        record, summary = made
        last, best = (msgspec.structs.replace(row, train_clean_error_pct=None) for row in (summary.last, summary.best))
        unmeasured = msgspec.structs.replace(summary, last=last, best=best)
        text = "\n".join(self.lines(summary_table(record, unmeasured, OUT)))
        assert "clean" not in text

    def test_names_from_outside_cannot_reach_the_terminal_raw(self, made):
        record, summary = made
        hostile = msgspec.structs.replace(record.dataset, display_name="cats\x1b[2J[/b][red]")
        table = summary_table(msgspec.structs.replace(record, dataset=hostile), summary, Path("runs/\x1b[2J[/b]"))
        text = "\n".join(self.lines(table, width=100))
        assert "\x1b" not in text
        assert r"cats\x1b[2J[/b][red]" in text
        assert r"runs/\x1b[2J[/b]" in text
