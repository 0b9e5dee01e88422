"""A disk that is full, read-only or somebody else's: one line, before the first epoch where possible, nothing lost."""

import contextlib
import errno
import os
import shutil
import subprocess

import pytest
import sameness
from killing import CommandLine
from zygote import wait_until

from resnet_cli.rundir import RunDir

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount disks")


@pytest.fixture
def disk(tmp_path):
    """Mount a small disk: `disk("12m")`; returns its folder. More mount options may follow."""
    mounted = []

    def mount(size, *options):
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this machine lets nobody mount a disk: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def command_line(tmp_path):
    """Starts `python -m resnet_cli`."""
    command_line = CommandLine(tmp_path)
    yield command_line
    command_line.close()


def remount(folder, how):
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


def fill(folder):
    """Write a file until there is no space; returns it."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def assert_refused(launcher, pid, words, *, is_early=True):
    """The process ended with exit code 1 and one line that says why, before it computed anything when `is_early`."""
    assert launcher.wait(pid) == 1
    lines = launcher.output(pid).splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert errors == lines[-1:]
    assert all(word in errors[0] for word in words), errors
    if is_early:
        assert lines == errors


def test_a_disk_without_room_for_a_run_is_found_before_the_first_epoch(subject, command_line, disk):
    out = disk("4m") / "run"
    pid = command_line.start(*subject.command(out))
    assert_refused(command_line, pid, [f"{out} has 4.2 MB of free space, a run needs about 9.8 MB", "another --out"])
    assert not out.exists()


def test_a_disk_that_holds_no_more_files_is_found_before_the_first_epoch(subject, zygote, disk):
    out = disk("64m", "nr_inodes=6") / "run"
    pid = zygote.start(*subject.command(out))
    assert_refused(zygote, pid, [str(out), os.strerror(errno.ENOSPC)])
    assert not out.joinpath("run.json").exists()


@pytest.mark.parametrize("stalled_in", ["slow evaluation", "slow save"])
def test_a_disk_that_runs_full_while_a_run_is_trained_costs_nothing_that_was_saved(subject, zygote, disk, stalled_in):
    out = disk("16m") / "run"
    pid = zygote.start(*subject.command(out), prepare=stalled_in)
    wait_until(lambda: zygote.is_stalled(pid))
    run = RunDir(out)
    saved = sameness.step_of(run)
    filler = fill(out.parent)
    zygote.let_go(pid)
    assert_refused(zygote, pid, [str(out), os.strerror(errno.ENOSPC), "the same command"], is_early=False)
    assert sameness.step_of(run) >= saved > 0
    assert sameness.leftovers(run) == []
    assert run.status() == "incomplete"

    pid = zygote.start(*subject.command(out))
    assert_refused(zygote, pid, [str(out), "space"])
    filler.unlink()
    code, output = zygote.run(*subject.command(out))
    assert code == 0, output
    assert sameness.parts(run) == subject.straight


def test_a_read_only_disk_is_found_before_the_first_epoch(subject, command_line, disk):
    folder = disk("64m")
    remount(folder, "ro")
    pid = command_line.start(*subject.command(folder / "run"))
    assert_refused(command_line, pid, [str(folder / "run"), os.strerror(errno.EROFS)])


def test_a_run_on_a_disk_that_became_read_only_can_be_read_and_goes_on_when_it_is_mended(subject, zygote, disk):
    out = disk("64m") / "run"
    pid = zygote.start(*subject.command(out), prepare="slow evaluation")
    wait_until(lambda: zygote.is_stalled(pid))
    zygote.kill(pid)
    remount(out.parent, "ro")
    assert_refused(zygote, zygote.start(*subject.command(out)), [str(out), os.strerror(errno.EROFS)])
    code, output = zygote.run("eval", out)
    assert code == 0, output
    remount(out.parent, "rw")
    code, output = zygote.run(*subject.command(out))
    assert code == 0, output
    assert sameness.parts(RunDir(out)) == subject.straight


@pytest.fixture
def public_folder(tmp_path_factory):
    """A folder that everybody may read and only root may write to."""
    folder = tmp_path_factory.mktemp("public")
    # pytest's own folders are closed to other accounts
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(0o755)
    return folder


def test_a_folder_that_cannot_be_written_to_is_found_before_the_first_epoch(subject, zygote, public_folder):
    pid = zygote.start(*subject.command(public_folder / "run"), prepare="nobody")
    assert_refused(zygote, pid, [str(public_folder / "run"), os.strerror(errno.EACCES)])


def test_the_run_of_another_account_is_not_touched(subject, zygote, public_folder):
    out = public_folder / "run"
    pid = zygote.start(*subject.command(out), prepare="slow evaluation")
    wait_until(lambda: zygote.is_stalled(pid))
    zygote.kill(pid)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    pid = zygote.start(*subject.command(out), prepare="nobody")
    assert_refused(zygote, pid, [str(out), os.strerror(errno.EACCES)])
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    shutil.rmtree(out)
