"""Progress of a study: lines in a log, an overview on a terminal."""

import io
import sys

import pytest
from rich.console import Console, ConsoleDimensions

from resnet_cli.cli.output import Output
from resnet_cli.cli.study_progress import StudyReporter
from resnet_cli.launch import Ending, EpochEnd, Position, Task, Warned
from resnet_cli.rundir import EpochMetrics

METRICS = EpochMetrics(
    epoch=3, step=12, lr=0.01, train_loss=1.5, train_error_pct=50.0, train_clean_loss=1.0, train_clean_error_pct=40.0,
    train_clean_images=360, val_loss=None, val_error_pct=None, test_loss=1.2, test_error_pct=45.0,
    test_accuracy_pct=55.0, images_per_second=900.0, train_seconds=2.0, eval_seconds=0.5, peak_memory_bytes=None,
)  # fmt: skip
A, B, C = (Task(name, []) for name in ("plain-20, seed 0", "plain-56, seed 0", "resnet-56, seed 0"))


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test moves it."""

    class Clock:
        now = 100.0

    monkeypatch.setattr("time.monotonic", lambda: Clock.now)
    return Clock


def reporter(work=(1.0, 3.0, 4.0)):
    return StudyReporter(Output(), dict(zip((A.name, B.name, C.name), work, strict=True)), "runs")


def overview(shown, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(shown.overview())
    return console.file.getvalue().splitlines()


def test_a_log_has_one_line_per_start_epoch_and_end_each_with_the_name_of_its_run(capsys, clock):
    with reporter() as shown:
        shown.started(A)
        shown.received(A, Position(0.1, "epoch 3/20"))
        shown.received(A, EpochEnd(20, METRICS))
        clock.now += 90
        shown.ended(A, Ending("done", 0))
    assert capsys.readouterr().err.splitlines() == [
        "plain-20, seed 0: started",
        "plain-20, seed 0: epoch  3/20  train err 50.00 %  test acc 55.00 %",
        "plain-20, seed 0: test accuracy 55.00 %, clean training error 40.00 %, trained in 1 min 30 s (1 of 3 runs)",
    ]


def test_failed_and_diverged_runs_are_warnings_with_their_reason_even_with_quiet(capsys, clock):
    with StudyReporter(Output(quiet=True), {A.name: 1.0, B.name: 1.0}, "runs") as shown:
        for task, ending in (
            (A, Ending("failed", 1, "disk full")),
            (B, Ending("diverged", 4, "training diverged: why")),
        ):
            shown.started(task)
            shown.received(task, Warned("look out"))
            shown.ended(task, ending)
    assert capsys.readouterr().err.splitlines() == [
        "warning: plain-20, seed 0: look out",
        "warning: plain-20, seed 0 failed: disk full (1 of 2 runs)",
        "warning: plain-56, seed 0: look out",
        "warning: plain-56, seed 0 diverged: why (2 of 2 runs)",
    ]


def test_a_run_that_was_stopped_alone_is_reported_but_not_each_run_of_a_study_that_stops(capsys, clock):
    with StudyReporter(Output(quiet=True), {A.name: 1.0, B.name: 1.0}, "runs") as shown:
        for task, ending in ((A, Ending("stopped", 75, "it received a stop signal")), (B, Ending("stopped", 75))):
            shown.started(task)
            shown.ended(task, ending)
    assert capsys.readouterr().err == "warning: plain-20, seed 0 stopped: it received a stop signal (1 of 2 runs)\n"


def test_the_overview_shows_the_runs_in_progress_and_the_state_of_the_study(clock):
    with reporter() as shown:
        shown.started(A)
        shown.ended(A, Ending("diverged", 4))
        shown.started(B)
        shown.started(C)
        shown.received(B, Position(0.0, "epoch 1/20", 410.0, 90.0))
        clock.now += 30
        shown.received(B, Position(1 / 3, "epoch 7/20", 420.4, 61.26))
    first, second, last = overview(shown)
    assert first.split("  ")[0] == "plain-56, seed 0"
    assert "epoch 7/20" in first
    assert "━━━━────────" in first
    assert "train err 61.3 %" in first
    assert "420 images/s" in first
    assert "resnet-56, seed 0" in second
    assert "starting" in second
    # a quarter of the work was done after half a minute
    assert last == "1 of 3 runs ended, 2 in progress, 1 diverged, about 1 min 30 s left"


def test_the_work_of_a_resumed_run_is_what_was_left_of_it(clock):
    with reporter() as shown:
        shown.started(C)
        shown.received(C, Position(0.0, "decoding images"))
        shown.received(C, Position(0.5, "epoch 11/20"))
        clock.now += 10
        shown.received(C, Position(0.75, "epoch 16/20"))
    # half of what was left, 2 of 8 units of work in ten seconds
    assert overview(shown)[-1].endswith("about 30 s left")


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_overview_never_wraps(clock, width, monkeypatch):
    monkeypatch.setattr("rich.console.Console.width", width)
    with reporter() as shown:
        shown.started(A)
        shown.received(A, Position(0.5, "downloading cifar-10-python.tar.gz from far away", 123456.0, 99.9))
    lines = overview(shown, width)
    assert len(lines) == 2
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize(
    ("width", "shown_parts"), [(40, "61.3 %"), (60, "train err 61.3 %"), (80, "420 images/s"), (90, "━━━━────")]
)
def test_the_name_epoch_and_error_of_a_run_are_readable_at_every_width(clock, width, shown_parts, monkeypatch):
    monkeypatch.setattr("rich.console.Console.size", ConsoleDimensions(width, 25))
    with reporter() as shown:
        shown.started(C)
        shown.received(C, Position(0.35, "epoch 7/20", 420.4, 61.26))
    line = overview(shown, width)[0]
    assert line.startswith("resnet-56, seed 0  epoch 7/20  ")
    assert shown_parts in line


def test_the_line_about_all_runs_stays_visible_if_there_are_more_runs_than_lines(clock, monkeypatch):
    monkeypatch.setattr("rich.console.Console.size", ConsoleDimensions(100, 10))
    names = [f"plain-20, seed {seed}" for seed in range(50)]
    with StudyReporter(Output(), dict.fromkeys(names, 1.0), "runs") as shown:
        for name in names:
            shown.started(Task(name, []))
    lines = overview(shown)
    assert len(lines) == 8
    assert lines[-1] == "0 of 50 runs ended, 50 in progress"


def test_the_user_is_told_that_a_signal_stops_the_study(capsys, clock):
    with reporter() as shown:
        shown.stopping("SIGINT")
    note = "stopping after SIGINT: saving the runs in progress; a second signal kills them"
    assert capsys.readouterr().err.splitlines() == [note]


def test_lines_of_ended_runs_stay_above_the_overview_on_a_terminal(monkeypatch, clock):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with reporter() as shown:
        shown.started(A)
        shown.received(A, EpochEnd(20, METRICS))
        shown.ended(A, Ending("done", 0))
    text = sys.stderr.getvalue()
    assert "plain-20, seed 0: test accuracy 55.00 %" in text
    assert "epoch" not in text
