"""A trained run with hostile files: `eval` and `gradflow` measure it or refuse it in one line."""

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from mutations import all_mutations
from watch import watched
from weight_mutations import mutations_of_weights

CANARY = Path("/tmp/resnet-cli-was-here")  # noqa: S108 (what the hostile pickles would make)
WEIGHTS = list(mutations_of_weights())
READ = ("run.json", "the folder is", "weights/")
# all those of what both commands read, and every tenth of the others
MUTATIONS = [mutation for mutation in all_mutations() if mutation.name.startswith(READ)]
MUTATIONS += [mutation for mutation in all_mutations() if not mutation.name.startswith(READ)][::10]
EVAL = ["eval", "--device", "cpu", "--limit-test", "10"]
GRADFLOW = ["gradflow", "--device", "cpu", "--batches", "1", "--batch-size", "4"]
COMMANDS = {"eval": EVAL, "gradflow": GRADFLOW}


def damaged(trained, folder, mutation, number=0):
    """The path of a copy of the run after a mutation, which may have renamed it."""
    run = folder / f"m{number:03d}"
    shutil.copytree(trained, run)
    mutation.apply(run, random.Random(number))  # noqa: S311 (damage, not a secret)
    if run.exists():
        return run
    (moved,) = folder.glob(f"m{number:03d}*")
    return moved


@pytest.mark.parametrize("command", COMMANDS)
def test_hostile_weights_are_refused_with_their_path_and_not_executed(trained, tmp_path, capfd, command):
    CANARY.unlink(missing_ok=True)
    for number, mutation in enumerate(WEIGHTS):
        run = damaged(trained, tmp_path, mutation, number)
        said = watched(capfd, [*COMMANDS[command], run])
        assert said.code == 2, (mutation.name, said)
        assert str(run) in said.errors[0]
        assert said.out == ""
    assert not CANARY.exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_hostile_run_is_refused_in_one_line_or_measured(trained, tmp_path, capfd, command):
    good = watched(capfd, [*COMMANDS[command], trained, "--json"])
    assert good.code == 0
    outcomes = {0: 0, 2: 0}
    for number, mutation in enumerate(MUTATIONS):
        run = damaged(trained, tmp_path, mutation, number)
        said = watched(capfd, [*COMMANDS[command], run, "--json"])
        outcomes[said.code] += 1
        if said.code == 0:
            assert json.loads(said.out).keys() == json.loads(good.out).keys()
        elif mutation.is_refused and "name" not in mutation.name:
            assert f"m{number:03d}" in said.errors[0]
    assert min(outcomes.values()) > 10
    subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True)  # some are deeper than Python's own can go


def test_a_weight_file_of_hostile_bytes_needs_no_run(trained, tmp_path, capfd):
    for number, mutation in enumerate(WEIGHTS):
        file = damaged(trained, tmp_path, mutation, number) / "weights/last.safetensors"
        said = watched(capfd, ["eval", file, "--dataset", "digits", "--limit-test", "10", "--device", "cpu"])
        assert said.code in (0, 2), (mutation.name, said)
        assert said.code == 0 or str(file) in said.errors[0]


def test_hostile_names_of_folders_are_shown_as_escapes_in_every_format(trained, tmp_path, capfd):
    names = ["a\x1b[31m\x9b", "b\n\r", "c<b>[red]$x$", os.fsdecode(b"d\xff"), "e\u202e"]
    runs = [shutil.copytree(trained, tmp_path / name) for name in names]
    for form in ("table", "csv", "json"):
        said = watched(capfd, [*GRADFLOW, *runs, "--format", form, "--plot", tmp_path / "norms.svg"])
        assert said.code == 0
        assert all(shown in said.out.replace("\\\\", "\\") for shown in ("c<b>[red]$x$", "d\\udcff"))
    assert [one["label"] for one in json.loads(said.out)["networks"]] == [*names[:3], "d\\udcff", names[4]]
    for run in runs:
        for more in ([], ["--json"]):
            assert watched(capfd, [*EVAL, run, *more]).code == 0
