"""Tasks as child processes: how many at a time, how they end, and what a signal or a kill does to them."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import resnet_cli
from resnet_cli.errors import ExitCode, InterruptedByUserError, ResnetError, StoppedError
from resnet_cli.launch import Ending, Observer, Position, Task, Warned, run_tasks
from resnet_cli.launch.pool import MAX_RESTARTS
from resnet_cli.rundir import RunDir

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(resnet_cli.__file__).parents[1])}
LONG_RUN = (
    "from pathlib import Path; from resnet_cli import make_config; from resnet_cli.study import plan, run_study\n"
    "config = make_config('demo', arch='plain', depth=8, epochs=100_000, limit_train=20, limit_test=10)\n"
    "run_study(plan([config], Path('runs')))"
)


class Recorder(Observer):
    """Keeps what happens to the tasks."""

    def __init__(self):
        self.messages, self.order = [], []

    def started(self, task):
        self.order.append(f"{task.name} starts")

    def received(self, task, message):
        self.messages.append(message)

    def ended(self, task, ending):
        self.order.append(f"{task.name} is {ending.state}")

    def stopping(self, signal_name):
        self.order.append(f"stopping after {signal_name}")


def run(*arguments, slots=({},)):
    """Run one task with these arguments; return its ending and what was observed."""
    recorder = Recorder()
    (ending,) = run_tasks([Task("it", list(arguments))], slots, recorder)
    return ending, recorder


def wait_until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen within a minute")


def test_a_task_is_a_command_of_this_tool_with_the_environment_of_its_slot(python):
    folder = python('printf "%s\\n" "$@" "$OMP_NUM_THREADS" > "$0.arguments"')
    ending, recorder = run("train", "--depth", "8", slots=[{"OMP_NUM_THREADS": "3"}])
    assert ending == Ending("done", 0)
    assert (folder / "python.arguments").read_text().split() == ["-m", "resnet_cli", "train", "--depth", "8", "3"]
    assert recorder.order == ["it starts", "it is done"]


def test_a_task_reads_nothing_from_the_terminal_and_prints_nothing_on_it(python, capfd):
    python("cat", "echo result", "echo progress >&2")
    before = os.dup(0)
    reading, writing = os.pipe()
    os.write(writing, b"typed\n")
    os.dup2(reading, 0)
    try:
        run()
    finally:
        os.dup2(before, 0)
        for descriptor in (before, reading, writing):
            os.close(descriptor)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("script", "ending"),
    [
        ("exit 4", Ending("diverged", ExitCode.DIVERGED)),
        ("exit 130", Ending("stopped", ExitCode.CTRL_C, "it received a stop signal")),
        ("exit 75", Ending("stopped", ExitCode.STOPPED, "it received a stop signal")),
        ("kill -TERM $$", Ending("stopped", -signal.SIGTERM, "it received a stop signal")),
        ("kill -USR1 $$", Ending("stopped", -signal.SIGUSR1, "it received a stop signal")),
        ("exit 1", Ending("failed", ExitCode.FAILED, "exit code 1")),
        ("echo first >&2; echo 'error: disk full' >&2; exit 1", Ending("failed", ExitCode.FAILED, "disk full")),
        ("echo 'error: --depth 9' >&2; exit 2", Ending("failed", ExitCode.USAGE, "--depth 9")),
    ],
)
def test_how_a_task_ended_follows_from_the_exit_code_and_the_last_line_of_its_errors(python, script, ending):
    python(script)
    assert run()[0] == ending


def test_a_child_that_writes_many_errors_is_not_kept_waiting(python):
    python("head -c 1000000 /dev/zero | tr '\\0' x >&2", "echo >&2", "echo 'error: the last line' >&2", "exit 1")
    assert run()[0].reason == "the last line"


def test_a_killed_child_is_restarted_and_the_user_is_told(python):
    folder = python('echo . >> "$0.count"', 'if [ "$(wc -l < "$0.count")" -lt 2 ]; then kill -KILL $$; fi')
    ending, recorder = run()
    assert ending == Ending("done", 0)
    assert recorder.messages == [Warned("killed by signal 9 (SIGKILL); restarting it")]
    assert recorder.order == ["it starts", "it is done"]
    assert (folder / "python.count").read_text() == ".\n" * 2


def test_a_child_that_is_killed_again_and_again_has_failed(python):
    folder = python('echo . >> "$0.count"', "kill -KILL $$")
    assert run()[0] == Ending("failed", -signal.SIGKILL, "killed by signal 9 (SIGKILL)")
    assert (folder / "python.count").read_text() == ".\n" * (1 + MAX_RESTARTS)


def test_a_failed_task_does_not_stop_the_others_and_each_slot_has_one_task_at_a_time(python):
    folder = python(
        'echo "$3 starts in $SLOT" >> "$0.log"',
        # a and b wait for each other, but not forever
        'for i in $(seq 1000); do [ $(wc -l < "$0.log") -ge 2 ] && break; sleep 0.02; done',
        'echo "$3 ends in $SLOT" >> "$0.log"',
        '[ "$3" != b ]',
    )
    endings = run_tasks([Task(name, [name]) for name in "abcd"], [{"SLOT": "1"}, {"SLOT": "2"}], Recorder())
    assert [ending.state for ending in endings] == ["done", "failed", "done", "done"]
    log = (folder / "python.log").read_text().splitlines()
    for slot in "12":
        mine = [line for line in log if line.endswith(f"in {slot}")]
        assert len(mine) == 4
        assert [line.split()[1] for line in mine] == ["starts", "ends"] * 2
    assert {line.split()[0] for line in log[:2]} == {"a", "b"}


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_every_child_receives_the_first_stop_signal_and_no_task_starts_after_it(python, name):
    folder = python(
        f"trap 'echo $3 >> \"$0.stopped\"; exit 75' {name[3:]}", 'echo $3 >> "$0.ready"', "while :; do sleep 0.05; done"
    )

    def send():
        wait_until(lambda: (folder / "python.ready").exists() and len((folder / "python.ready").read_text()) == 4)
        os.kill(os.getpid(), getattr(signal, name))

    sender = threading.Thread(target=send)
    sender.start()
    recorder = Recorder()
    kind = InterruptedByUserError if name == "SIGINT" else StoppedError
    with pytest.raises(kind, match=f"stopped by {name}; run the same command again to resume"):
        run_tasks([Task(task, [task]) for task in "abc"], [{}, {}], recorder)
    sender.join()
    assert sorted((folder / "python.stopped").read_text().split()) == ["a", "b"]
    assert recorder.order[:3] == ["a starts", "b starts", f"stopping after {name}"]
    assert sorted(recorder.order[3:]) == ["a is stopped", "b is stopped"]


def test_a_second_stop_signal_kills_children_that_do_not_end(python):
    folder = python("trap '' INT", 'echo > "$0.ready"', "while :; do sleep 0.05; done")

    recorder = Recorder()

    def send():
        wait_until((folder / "python.ready").exists)
        os.kill(os.getpid(), signal.SIGINT)
        wait_until(lambda: "stopping after SIGINT" in recorder.order)
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(InterruptedByUserError):
        run_tasks([Task("it", [])], [{}], recorder)
    sender.join()


def test_a_signal_between_two_tasks_stops_them(python):
    python("exit 0")

    class Stopper(Recorder):
        def ended(self, task, ending):
            super().ended(task, ending)
            os.kill(os.getpid(), signal.SIGTERM)

    recorder = Stopper()
    with pytest.raises(StoppedError):
        run_tasks([Task(name, []) for name in "ab"], [{}], recorder)
    assert recorder.order == ["a starts", "a is done"]


def test_a_child_that_a_signal_without_a_name_killed_is_reported_by_its_number(python):
    python("kill -36 $$")
    assert run()[0].reason == "killed by signal 36"


def test_a_limit_of_the_system_stops_the_children_resumably_and_names_the_option(python, monkeypatch):
    folder = python("trap 'echo > \"$0.stopped\"; exit 75' TERM", 'echo > "$0.ready"', "while :; do sleep 0.05; done")
    popen = subprocess.Popen
    started = []

    def start(*arguments, **options):
        if started:
            wait_until((folder / "python.ready").exists)
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        started.append(popen(*arguments, **options))
        return started[0]

    monkeypatch.setattr("subprocess.Popen", start)
    with pytest.raises(ResnetError, match=r"b: no process can be started: Resource .* use fewer jobs"):
        run_tasks([Task(name, []) for name in "ab"], [{}, {}], Recorder())
    assert (folder / "python.stopped").exists()


def test_a_child_stops_resumably_when_its_parent_is_killed(tmp_path):
    run = RunDir(tmp_path / "runs" / "plain-8-seed0")
    parent = subprocess.Popen([sys.executable, "-c", LONG_RUN], cwd=tmp_path, env=ENVIRONMENT)
    wait_until(lambda: run.metrics_path.exists() and run.metrics_path.read_bytes().count(b"\n") > 2)
    parent.kill()
    parent.wait()
    wait_until(lambda: run.status() == "incomplete")
    assert run.checkpoint_path.is_file()


def test_a_child_sends_its_progress_and_the_end_of_every_epoch_and_ignores_code_in_the_current_folder(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "numpy.py").write_text("raise SystemExit('the numpy.py of the current folder was imported')")
    (tmp_path / "resnet_cli").mkdir()
    (tmp_path / "resnet_cli" / "__init__.py").write_text("raise SystemExit('the resnet_cli of the current folder')")
    recorder = Recorder()
    arguments = [
        "train",
        "--recipe",
        "demo",
        "--arch",
        "plain",
        "--depth",
        "8",
        "--epochs",
        "2",
        "--limit-train",
        "200",
    ]
    options = ["--limit-test", "20", "--batch-size", "200", "--warmup-steps", "0", "--out", str(tmp_path / "run")]
    (ending,) = run_tasks([Task("it", [*arguments, *options, "--quiet"])], [{}], recorder)
    assert ending.state == "done"
    ends = [(message.metrics.epoch, message.num_epochs) for message in recorder.messages if hasattr(message, "metrics")]
    assert ends == [(1, 2), (2, 2)]
    positions = [message for message in recorder.messages if isinstance(message, Position)]
    assert positions
    assert positions[0].activity in ("epoch 1/2", "reading digits")
    warnings = [message.text for message in recorder.messages if isinstance(message, Warned)]
    assert warnings == ["each epoch is a single step: --batch-size 200 takes all 200 training images at once"]
