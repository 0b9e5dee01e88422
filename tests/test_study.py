"""A study: what is left to do follows from the directories, and each job is one process with one exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_cli.errors import DivergedError, ExitCode, InterruptedByUserError, ResnetError, StoppedError, UsageError
from resnet_cli.recipes import make_config
from resnet_cli.study import Job, launch, plan, status_of

GRID = [
    make_config("demo", arch=arch, depth=depth, seed=seed)
    for seed in (0, 1)
    for depth in (8, 14)
    for arch in ("plain", "resnet")
]


@pytest.fixture
def job():
    """One run of a study that has not started."""
    return Job(GRID[0], Path("study/runs/plain-8-seed0"), "todo")


@pytest.fixture
def keyboard():
    """Somebody has typed `yes` on the terminal that this process reads."""
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
    """Put a script in the place of Python: it writes its arguments and input down, talks, ends with the given code."""

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
        return tmp_path / "arguments"

    return replace


class TestPlan:
    def test_every_configuration_has_a_directory_of_its_own(self):
        jobs = plan(GRID, Path("study"), lambda _: "empty")
        assert [job.config for job in jobs] == GRID
        assert jobs[0].out == Path("study/plain-8-seed0")
        assert jobs[-1].out == Path("study/resnet-14-seed1")
        assert len({job.out for job in jobs}) == len(GRID)

    def test_projection_shortcuts_do_not_share_a_directory_with_identity_ones(self):
        both = [make_config("demo", arch="resnet", depth=8, shortcut=shortcut) for shortcut in "AB"]
        assert [job.out.name for job in plan(both, Path(), lambda _: "empty")] == ["resnet-8-seed0", "resnet-8-B-seed0"]

    @pytest.mark.parametrize(
        ("status", "state"),
        [
            ("complete", "done"),
            ("diverged", "diverged"),
            ("empty", "todo"),
            ("incomplete", "resume"),
            ("running", "resume"),
        ],
    )
    def test_what_is_left_follows_from_the_status(self, status, state):
        assert [job.state for job in plan(GRID[:1], Path("study"), lambda _: status)] == [state]

    def test_statuses_are_read_from_the_directories(self, make_run, tmp_path):
        made = {"complete": "plain-8-seed0", "incomplete": "resnet-8-seed0", "diverged": "plain-14-seed0"}
        for status, name in made.items():
            make_run(tmp_path / name, recipe="demo", dataset="digits", depth=8, epochs=2, status=status)
        jobs = plan(GRID[:4], tmp_path, status_of)
        assert [job.state for job in jobs] == ["done", "resume", "diverged", "todo"]

    def test_planning_makes_nothing(self, tmp_path):
        plan(GRID, tmp_path / "study", status_of)
        assert os.listdir(tmp_path) == []


class TestLaunch:
    def test_the_child_is_resnet_train_with_the_configuration_and_the_directory(self, job, child):
        arguments = child("exit 0")
        launch(job)
        assert arguments.read_text().splitlines() == [
            "-m", "resnet_cli", "train", "--recipe", "demo", "--arch", "plain", "--depth", "8",
            "--out", "study/runs/plain-8-seed0",
        ]  # fmt: skip

    def test_folder_of_the_data_saving_and_silence_are_passed_on(self, job, child):
        arguments = child("exit 0")
        launch(job, data_dir=Path("my data"), save_every="10min", quiet=True)
        assert arguments.read_text().splitlines()[9:] == [
            "--data-dir", "my data", "--out", "study/runs/plain-8-seed0", "--save-every", "10min", "--quiet",
        ]  # fmt: skip

    def test_only_the_child_s_progress_is_shown(self, job, child, capfd):
        child("exit 0")
        launch(job)
        assert capfd.readouterr() == ("", "progress\n")

    def test_the_child_reads_nothing_from_the_terminal(self, job, child, keyboard):
        arguments = child("exit 0")
        launch(job)
        assert arguments.with_name("typed").read_text() == ""

    @pytest.mark.parametrize(
        ("ending", "error", "exit_code", "message"),
        [
            ("exit 4", DivergedError, ExitCode.DIVERGED, "plain-8, seed 0 diverged"),
            (
                "exit 130",
                InterruptedByUserError,
                ExitCode.CTRL_C,
                "plain-8, seed 0 was interrupted; the same command resumes it",
            ),
            (
                "trap - INT; exec python3 -c 'import os, signal as s; s.signal(2, s.SIG_DFL); os.kill(os.getpid(), 2)'",
                InterruptedByUserError,
                ExitCode.CTRL_C,
                "plain-8, seed 0 was interrupted; the same command resumes it",
            ),
            ("exit 75", StoppedError, ExitCode.STOPPED, "plain-8, seed 0 was stopped; the same command resumes it"),
            (
                "kill -TERM $$",
                StoppedError,
                ExitCode.STOPPED,
                "plain-8, seed 0 was stopped; the same command resumes it",
            ),
            (
                "kill -USR1 $$",
                StoppedError,
                ExitCode.STOPPED,
                "plain-8, seed 0 was stopped; the same command resumes it",
            ),
            ("exit 2", ResnetError, ExitCode.USAGE, "plain-8, seed 0 failed with exit code 2"),
            ("exit 1", ResnetError, ExitCode.FAILED, "plain-8, seed 0 failed with exit code 1"),
            ("kill -KILL $$", ResnetError, ExitCode.FAILED, "plain-8, seed 0 failed with exit code -9"),
        ],
    )
    def test_the_child_s_end_is_reported_as_its_kind_of_failure(self, job, child, ending, error, exit_code, message):
        child(ending)
        with pytest.raises(ResnetError) as caught:
            launch(job)
        assert type(caught.value) is error
        assert (caught.value.exit_code, str(caught.value)) == (exit_code, message)

    def test_a_failure_of_one_job_does_not_change_the_exit_code_of_others(self, job, child):
        child("exit 2")
        with pytest.raises(ResnetError):
            launch(job)
        assert ResnetError("x").exit_code == ExitCode.FAILED
        assert UsageError("x").exit_code == ExitCode.USAGE

    def test_ctrl_c_waits_for_the_child_to_save_and_end(self, job, child, monkeypatch):
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
