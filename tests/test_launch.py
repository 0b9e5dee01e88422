"""One job as a child process: its command line, its output and its exit code."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import resnet_cli
from resnet_cli.errors import DivergedError, ExitCode, InterruptedByUserError, ResnetError, StoppedError
from resnet_cli.launch import RESUME_HINT, Job, launch
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunDir
from resnet_cli.util.progress import StudyPosition
from resnet_cli.util.signals import SignalForwarder


@pytest.fixture
def job():
    """A run that has not started."""
    return Job(make_config("demo", arch="plain", depth=8), Path("study/runs/plain-8-seed0"), "todo")


@pytest.fixture
def keyboard():
    """Replace stdin of this process by a terminal on which `yes` was typed."""
    reading, writing = os.pipe()
    os.write(writing, b"yes\n")
    os.close(writing)
    before = os.dup(0)
    os.dup2(reading, 0)
    os.close(reading)
    yield
    os.dup2(before, 0)
    os.close(before)


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Replace Python by a script that records its arguments and input, prints, and ends in the given way."""

    def replace(ending):
        script = tmp_path / "python"
        lines = [
            "#!/bin/sh",
            f'printf "%s\\n" "$@" > {tmp_path}/arguments',
            f"cat > {tmp_path}/typed",
            "echo result",
            "echo progress >&2",
            ending,
        ]
        script.write_text("\n".join(lines))
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        return tmp_path

    return replace


def test_a_job_is_launched_as_resnet_train_with_its_configuration_and_directory(job, child):
    folder = child("exit 0")
    launch(job, SignalForwarder(), data_dir=Path("my data"), quiet=True)
    assert (folder / "arguments").read_text().splitlines() == [
        "-m", "resnet_cli", "train", "--recipe", "demo", "--arch", "plain", "--depth", "8", "--data-dir", "my data",
        "--out", "study/runs/plain-8-seed0", "--quiet",
    ]  # fmt: skip


def test_only_the_progress_of_the_child_is_shown_and_the_terminal_is_not_read(job, child, keyboard, capfd):
    folder = child("exit 0")
    launch(job, SignalForwarder())
    assert capfd.readouterr() == ("", "progress\n")
    assert (folder / "typed").read_text() == ""
    assert "--quiet" not in (folder / "arguments").read_text()


def test_the_child_receives_its_position_in_the_study(job, child, tmp_path):
    position = StudyPosition(2, 4, 0.25, 0.5)
    (name,) = position.to_environment()
    child(f'echo "${name}" > {tmp_path}/position')
    launch(job, SignalForwarder(), position=position)
    assert (tmp_path / "position").read_text() == "2 4 0.25 0.5\n"


STOPPED = f"stopped in plain-8, seed 0; {RESUME_HINT}"
DIE_OF_CTRL_C = "exec python3 -c 'import os, signal as s; s.signal(2, s.SIG_DFL); os.kill(os.getpid(), 2)'"


@pytest.mark.parametrize(
    ("ending", "error", "exit_code", "message"),
    [
        ("exit 4", DivergedError, ExitCode.DIVERGED, "plain-8, seed 0 diverged"),
        *(
            (ending, InterruptedByUserError, ExitCode.CTRL_C, STOPPED)
            for ending in ("exit 130", f"trap - INT; {DIE_OF_CTRL_C}")
        ),
        *(
            (ending, StoppedError, ExitCode.STOPPED, STOPPED)
            for ending in ("exit 75", "kill -TERM $$", "kill -USR1 $$")
        ),
        ("exit 2", ResnetError, ExitCode.USAGE, "plain-8, seed 0 failed with exit code 2"),
        ("exit 1", ResnetError, ExitCode.FAILED, "plain-8, seed 0 failed with exit code 1"),
        ("kill -KILL $$", ResnetError, ExitCode.FAILED, f"plain-8, seed 0 was killed by signal 9; {RESUME_HINT}"),
    ],
)
def test_the_exit_code_of_the_child_becomes_a_typed_error(job, child, ending, error, exit_code, message):
    child(ending)
    with pytest.raises(ResnetError) as caught:
        launch(job, SignalForwarder())
    assert type(caught.value) is error
    assert (caught.value.exit_code, str(caught.value)) == (exit_code, message)
    assert ResnetError("another failure").exit_code == ExitCode.FAILED


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_the_child_receives_each_stop_signal_once_and_is_awaited(job, child, tmp_path, name):
    child(
        f"exec python3 -c 'import pathlib, signal, sys, time\n"
        f"count = 0\n"
        f"def stop(*_):\n    global count\n    count += 1\n"
        f"signal.signal(signal.{name}, stop)\n"
        f'pathlib.Path("{tmp_path}/ready").touch()\n'
        f"while not count: time.sleep(0.01)\n"
        f"time.sleep(0.3)\n"
        f"sys.exit(75 if count == 1 else 1)'"
    )

    def send():
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), getattr(signal, name))

    sender = threading.Thread(target=send)
    sender.start()
    with SignalForwarder() as signals, pytest.raises(StoppedError):
        launch(job, signals)
    sender.join()
    assert signals.signal_name == name


def test_a_signal_that_arrives_while_the_child_starts_reaches_it(job, child):
    child("sleep 60")
    signals = SignalForwarder()
    signals.signal_name = "SIGTERM"
    with pytest.raises(StoppedError):
        launch(job, signals)


def test_code_in_the_current_folder_is_not_executed_by_the_child(tmp_path):
    (tmp_path / "numpy.py").write_text("raise SystemExit('the numpy.py of the current folder was imported')")
    (tmp_path / "resnet_cli").mkdir()
    (tmp_path / "resnet_cli" / "__init__.py").write_text("raise SystemExit('the resnet_cli of the current folder')")
    study = (
        "from pathlib import Path; from resnet_cli import make_config; from resnet_cli.study import plan, run_study\n"
        "config = make_config('demo', arch='plain', depth=8, epochs=1, limit_train=200, limit_test=10)\n"
        "assert run_study(plan([config], Path('runs')), quiet=True)[0].state == 'done'"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(resnet_cli.__file__).parents[1])}
    command = [sys.executable, "-P", "-c", study]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_child_stops_resumably_when_its_parent_is_killed(tmp_path):
    study = (
        "from pathlib import Path; from resnet_cli import make_config; from resnet_cli.study import plan, run_study\n"
        "config = make_config('demo', arch='plain', depth=8, epochs=100_000, limit_train=20, limit_test=10)\n"
        "run_study(plan([config], Path('runs')))"
    )
    run = RunDir(tmp_path / "runs" / "plain-8-seed0")
    environment = {**os.environ, "PYTHONPATH": str(Path(resnet_cli.__file__).parents[1])}
    parent = subprocess.Popen([sys.executable, "-c", study], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    wait_until(lambda: run.metrics_path.exists() and run.metrics_path.read_bytes().count(b"\n") > 2)
    parent.kill()
    parent.wait()
    wait_until(lambda: run.status() == "incomplete")
    assert run.checkpoint_path.is_file()


def wait_until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen within a minute")
