"""Full and read-only disks: one error line, before the first epoch where possible, and no saved step is lost."""

import contextlib
import errno
import os
import subprocess

import pytest
import sameness
from launching import was_killed

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
            pytest.skip(f"disks cannot be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder, how):
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


def fill(folder):
    """Write a file until there is no space; returns it."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def assert_refused(process, *words, is_early=True):
    """Check for exit code 1 and one error line with `words`, before anything was computed when `is_early`."""
    assert process.wait() == 1
    lines = process.output().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert errors == lines[-1:]
    assert all(word in errors[0] for word in words), errors
    if is_early:
        assert lines == errors


def test_a_disk_without_space_for_a_run_is_found_before_the_first_epoch(subject, zygote, disk):
    out = disk("4m") / "run"
    process = zygote.start(*subject.command(out))
    assert_refused(process, f"{out} has 4.2 MB of free space, but a run needs about 9.8 MB", "another --out")
    assert not out.exists()


def test_a_disk_without_free_inodes_is_found_before_the_first_epoch(subject, zygote, disk):
    out = disk("64m", "nr_inodes=6") / "run"
    assert_refused(zygote.start(*subject.command(out)), str(out), os.strerror(errno.ENOSPC))
    assert not out.joinpath("run.json").exists()


@pytest.mark.parametrize("stalled_in", ["slow evaluation", "slow save"])
def test_a_disk_that_fills_up_during_training_costs_no_saved_step(subject, zygote, disk, stalled_in):
    out = disk("16m") / "run"
    process = zygote.start(*subject.command(out), prepare=stalled_in).wait_for_stall()
    run = RunDir(out)
    saved = sameness.step_of(run)
    filler = fill(out.parent)
    process.let_go()
    assert_refused(process, str(out), os.strerror(errno.ENOSPC), "the same command", is_early=False)
    assert sameness.step_of(run) >= saved > 0
    assert sameness.leftovers(run) == []
    assert run.status() == "incomplete"

    assert_refused(zygote.start(*subject.command(out)), str(out), "space")
    filler.unlink()
    subject.finish(zygote, run)


def test_a_read_only_disk_is_found_before_the_first_epoch(subject, zygote, disk):
    folder = disk("64m")
    remount(folder, "ro")
    assert_refused(zygote.start(*subject.command(folder / "run")), str(folder / "run"), os.strerror(errno.EROFS))


def test_a_run_on_a_disk_that_became_read_only_can_be_read_and_resumed_when_it_is_writable_again(subject, zygote, disk):
    out = disk("64m") / "run"
    assert was_killed(zygote.start(*subject.command(out), prepare="slow evaluation").wait_for_stall())
    remount(out.parent, "ro")
    assert_refused(zygote.start(*subject.command(out)), str(out), os.strerror(errno.EROFS))
    zygote.succeed("eval", out)
    remount(out.parent, "rw")
    subject.finish(zygote, RunDir(out))
