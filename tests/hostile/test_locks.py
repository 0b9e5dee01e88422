"""One process trains a run; others are refused with its name, and a killed process leaves no lock behind."""

import platform

from launching import wait_until, was_killed

from resnet_cli.rundir import RunDir


def files_of(run):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.path.rglob("*") if path.is_file()}


def test_one_of_four_simultaneous_processes_trains_and_the_others_name_it(subject, zygote):
    run = RunDir(subject.new_out())
    processes = {zygote.start(*subject.command(run.path), prepare="slow evaluation") for _ in range(4)}
    (holder,) = wait_until(lambda: [process for process in processes if process.marker.exists()])
    for process in processes - {holder}:
        assert process.wait() == 2
        (line,) = process.output().splitlines()
        named = f"another process (pid {holder.pid}, host {platform.node()}"
        assert line.startswith(f"error: {run.path} is being trained by {named}")
        assert line.endswith("wait for it or choose another --out")
    assert run.status() == "running"

    assert was_killed(holder)
    assert run.status() == "incomplete"
    zygote.succeed(*subject.command(run.path))
    assert len(run.read_attempts()) == 2
    subject.compare(run)


def test_reading_a_run_while_it_trains_changes_no_file(subject, zygote):
    run = RunDir(subject.new_out())
    process = zygote.start(*subject.command(run.path), prepare="slow evaluation").wait_for_stall()
    before = files_of(run)
    code, output = zygote.run("compare", run.path)
    assert code == 2
    assert "running" in output
    code, output = zygote.run("plot", run.path, "--out", run.path.parent / "figures")
    assert (code, "curves.png" in output) == (0, True), output
    assert files_of(run) == before
    process.kill()
