"""One job as a child process: its command line, its output and its exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_cli.errors import DivergedError, ExitCode, InterruptedByUserError, ResnetError, StoppedError
from resnet_cli.launch import Job, launch
from resnet_cli.recipes import make_config


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
    launch(job, data_dir=Path("my data"), quiet=True)
    assert (folder / "arguments").read_text().splitlines() == [
        "-m", "resnet_cli", "train", "--recipe", "demo", "--arch", "plain", "--depth", "8", "--data-dir", "my data",
        "--out", "study/runs/plain-8-seed0", "--quiet",
    ]  # fmt: skip


def test_only_the_progress_of_the_child_is_shown_and_the_terminal_is_not_read(job, child, keyboard, capfd):
    folder = child("exit 0")
    launch(job)
    assert capfd.readouterr() == ("", "progress\n")
    assert (folder / "typed").read_text() == ""
    assert "--quiet" not in (folder / "arguments").read_text()


DIE_OF_CTRL_C = "exec python3 -c 'import os, signal as s; s.signal(2, s.SIG_DFL); os.kill(os.getpid(), 2)'"


@pytest.mark.parametrize(
    ("ending", "error", "exit_code", "message"),
    [
        ("exit 4", DivergedError, ExitCode.DIVERGED, "diverged"),
        *(
            (ending, InterruptedByUserError, ExitCode.CTRL_C, "was interrupted; run the same command again to resume")
            for ending in ("exit 130", f"trap - INT; {DIE_OF_CTRL_C}")
        ),
        *(
            (ending, StoppedError, ExitCode.STOPPED, "was stopped; run the same command again to resume")
            for ending in ("exit 75", "kill -TERM $$", "kill -USR1 $$")
        ),
        ("exit 2", ResnetError, ExitCode.USAGE, "failed with exit code 2"),
        ("exit 1", ResnetError, ExitCode.FAILED, "failed with exit code 1"),
        ("kill -KILL $$", ResnetError, ExitCode.FAILED, "failed with exit code -9"),
    ],
)
def test_the_exit_code_of_the_child_becomes_a_typed_error(job, child, ending, error, exit_code, message):
    child(ending)
    with pytest.raises(ResnetError) as caught:
        launch(job)
    assert type(caught.value) is error
    assert (caught.value.exit_code, str(caught.value)) == (exit_code, f"plain-8, seed 0 {message}")
    assert ResnetError("another failure").exit_code == ExitCode.FAILED


def test_on_ctrl_c_the_launcher_waits_until_the_child_has_saved_and_exited(job, child, monkeypatch):
    waited = []
    wait = subprocess.Popen.wait

    def interrupted_once(process, *arguments, **options):
        waited.append(process.poll())
        if len(waited) == 1:
            raise KeyboardInterrupt
        return wait(process, *arguments, **options)

    child("exit 130")
    monkeypatch.setattr(subprocess.Popen, "wait", interrupted_once)
    with pytest.raises(InterruptedByUserError):
        launch(job)
    assert len(waited) == 2
