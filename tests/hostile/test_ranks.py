"""One run trained by several processes: the numbers, stops, kills, resumption and refusals."""

import json
import signal

import numpy as np
import pytest
import sameness
from safetensors.numpy import load_file
from torch.distributed import TCPStore

from resnet_cli.rundir import RunDir

NUM_TRAIN, NUM_TEST = 257, 203  # the last of three steps has one image
COMMAND = (
    "train", "--recipe", "demo", "--arch", "resnet", "--depth", 8, "--device", "cpu", "--epochs", 2,
    "--limit-train", NUM_TRAIN, "--limit-test", NUM_TEST, "--clean-train-every", 1, "--gradflow-every", 1,
)  # fmt: skip


class Team:
    """The processes of one run; `more` and `prepare` are further arguments and the preparation of one rank."""

    def __init__(self, zygote, size, args, more=None, prepare=None):
        self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun has
        where = {
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self._store.port), "TORCHELASTIC_USE_AGENT_STORE": "True",
            "WORLD_SIZE": str(size),
        }  # fmt: skip
        self.processes = [
            zygote.start(
                *args,
                *(more or {}).get(rank, []),
                prepare=(prepare or {}).get(rank),
                environment={**where, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(size)
        ]

    def wait(self):
        """The exit codes."""
        return [process.wait() for process in self.processes]

    def outputs(self):
        """What each process printed."""
        return [process.output() for process in self.processes]


@pytest.fixture(scope="module")
def straight(zygote, tmp_path_factory):
    """An uninterrupted run of two processes."""
    run = RunDir(tmp_path_factory.mktemp("ranks") / "straight")
    team = Team(zygote, 2, [*COMMAND, "--out", run.path])
    assert team.wait() == [0, 0], team.outputs()
    assert team.processes[1].output() == ""
    return run


def assert_same(run, straight):
    assert run.status() == "complete"
    assert sameness.parts(run) == sameness.parts(straight)


def resume(zygote, run):
    team = Team(zygote, 2, [*COMMAND, "--out", run.path])
    assert team.wait() == [0, 0], team.outputs()


def test_two_processes_with_synchronised_batch_normalisation_follow_one_process(zygote, tmp_path):
    alone, together = RunDir(tmp_path / "alone"), RunDir(tmp_path / "together")
    zygote.succeed(*COMMAND, "--out", alone.path)
    team = Team(zygote, 2, [*COMMAND, "--sync-bn", "--out", together.path])
    assert team.wait() == [0, 0], team.outputs()
    expected, found = (load_file(run.last_weights_path) for run in (alone, together))
    for name, value in expected.items():
        assert np.allclose(found[name], value, rtol=1e-3, atol=1e-5), name
    columns = ["train_loss", "train_clean_loss", "test_loss"]
    losses = [run.read_metrics()[columns].to_numpy() for run in (alone, together)]
    assert np.allclose(*losses, rtol=1e-4)
    assert together.read_gradflow(8).shape == alone.read_gradflow(8).shape


def test_three_processes_evaluate_every_image_once_and_in_order(zygote, tmp_path):
    run = RunDir(tmp_path / "run")
    team = Team(zygote, 3, [*COMMAND, "--out", run.path])
    assert team.wait() == [0, 0, 0], team.outputs()
    last = run.read_metrics().iloc[-1]
    saved = run.read_predictions()
    num_wrong = int((saved.logits.argmax(axis=1) != saved.labels).sum())
    assert len(saved.labels) == NUM_TEST
    assert last["train_clean_images"] == NUM_TRAIN
    assert last["test_error_pct"] == 100 * num_wrong / NUM_TEST
    # the weights in the run directory, evaluated by one process, give the same logits
    assert json.loads(zygote.succeed("eval", run.path, "--json", "--quiet"))["error_pct"] == last["test_error_pct"]
    record = run.read_record()
    assert record.decisions["ranks"].value == "3"
    assert "each process's part" in record.decisions["ranks"].reason


@pytest.mark.parametrize("signalled", [0, 1])
def test_a_signal_to_one_process_stops_all_of_them_after_the_same_step(zygote, tmp_path, straight, signalled):
    run = RunDir(tmp_path / "run")
    team = Team(zygote, 2, [*COMMAND, "--out", run.path], prepare={signalled: "SIGTERM in epoch 2"})
    assert team.wait() == [75, 75], team.outputs()
    first, second = team.outputs()
    assert "stopped by SIGTERM at step 5 of 6; checkpoint saved" in first
    assert sameness.step_of(run) == 5
    assert second == ""
    resume(zygote, run)
    assert_same(run, straight)


def test_no_process_ends_before_rank_0_has_saved_whatever_signals_follow(zygote, tmp_path, straight):
    run = RunDir(tmp_path / "run")
    team = Team(zygote, 2, [*COMMAND, "--out", run.path], prepare={0: "slow save", 1: "SIGTERM in epoch 2"})
    saving, waiting = team.processes
    saving.wait_for_stall()
    assert not waiting.ends_within(0.5)  # torchrun would end the other one too
    for process in 2 * team.processes:  # a signal to the process group, which torchrun passes on
        process.send_signal(signal.SIGTERM)
    saving.let_go()
    assert team.wait() == [75, 75], team.outputs()
    assert sameness.step_of(run) == 5


def test_a_script_can_connect_its_processes_again_for_another_run(zygote, straight):
    team = Team(zygote, 2, [*COMMAND, "--out", straight.path], prepare=dict.fromkeys(range(2), "connected before"))
    assert team.wait() == [0, 0], team.outputs()
    assert "is already complete" in team.outputs()[0]


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_others_and_the_run_can_be_resumed(zygote, tmp_path, straight, killed):
    run = RunDir(tmp_path / "run")
    args = [*COMMAND, "--save-every", "1steps", "--out", run.path]
    team = Team(zygote, 2, args, prepare={killed: "SIGKILL in epoch 2"})
    codes = team.wait()
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] == 1
    (error,) = [line for line in team.outputs()[1 - killed].splitlines() if line.startswith("error: ")]
    assert "the connection to the other processes of this run was lost" in error
    resume(zygote, run)
    assert_same(run, straight)


def test_another_number_of_processes_is_refused_unless_the_change_is_accepted_and_then_recorded(
    zygote, tmp_path, straight
):
    run = RunDir(tmp_path / "run")
    team = Team(zygote, 2, [*COMMAND, "--out", run.path], prepare={0: "SIGTERM in epoch 2"})
    assert team.wait() == [75, 75]
    error = zygote.fail(2, *COMMAND, "--out", run.path)
    assert "the run was trained by 2 processes, not 1" in error
    assert "--accept-changes" in error
    output = zygote.succeed(*COMMAND, "--accept-changes", "--out", run.path)
    assert "results may differ from those of an uninterrupted run: ranks 2 → 1" in output
    before, after = (attempt.decisions for attempt in run.read_attempts())
    assert before["ranks"].value == "2"
    assert "ranks" not in after


def test_a_refusal_is_printed_once_and_gives_every_process_its_code(zygote, straight):
    team = Team(zygote, 2, [*COMMAND, "--lr", "0.5", "--out", straight.path])
    assert team.wait() == [2, 2]
    first, second = team.outputs()
    assert "contains a run with a different configuration (lr: 0.01 → 0.5)" in first
    assert second == ""


def test_a_complete_run_is_left_unchanged_by_every_process(zygote, straight):
    before = sameness.parts(straight)
    team = Team(zygote, 2, [*COMMAND, "--out", straight.path])
    assert team.wait() == [0, 0]
    assert "is already complete" in team.outputs()[0]
    assert sameness.parts(straight) == before


def test_a_process_with_another_command_line_takes_no_part(zygote, tmp_path):
    team = Team(zygote, 2, [*COMMAND, "--out", tmp_path / "run"], more={1: ["--seed", "1"]})
    assert team.wait() == [1, 1]
    first, second = team.outputs()
    assert "error: rank 1 cannot join the run: its command line differs from that of rank 0: seed: 0 → 1" in second
    assert "the connection to the other processes of this run was lost" in first
