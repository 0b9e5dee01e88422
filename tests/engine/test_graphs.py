"""Recording training steps changes no number, with warm-up, partial batches and gradients.

Without a GPU a recording is replayed by calling its function; `test_cuda.py` tests real CUDA graphs.
"""

import contextlib
import functools
from types import SimpleNamespace

import pytest
import torch
from msgspec.structs import asdict

from resnet_cli.data import open_data
from resnet_cli.device import decide
from resnet_cli.engine import Engine, EpochRecord
from resnet_cli.engine.graphs import NUM_WARMUP_CALLS, Graphed, record_cuda
from resnet_cli.errors import ResnetError
from resnet_cli.recipes import make_config


class Recorder:
    """Records a function and replays it by calling it; all results share one address, as those of a CUDA graph."""

    def __init__(self):
        self.num_records = self.num_replays = 0

    def __call__(self, body, parameters):
        self.num_records += 1
        outputs = []

        def replay():
            self.num_replays += 1
            outputs.append(body())
            return outputs[0].copy_(outputs[-1])

        return replay


def run(engine):
    records = [event for event in engine.run() if isinstance(event, EpochRecord)]
    return records, {name: value.clone() for name, value in engine.model.state_dict().items()}


@pytest.mark.parametrize("augment", ["none", "crop-flip"])
@pytest.mark.parametrize("limit_train", [300, 320])  # with and without a partial last batch
def test_recorded_steps_train_bit_identically_to_direct_ones(monkeypatch, limit_train, augment):
    config = make_config(
        "demo", arch="resnet", depth=8, device="cpu", limit_train=limit_train, epochs=3, milestones=(1, 2),
        batch_size=32, augment=augment, clean_train_every=1, gradflow_every=1,
    )  # fmt: skip
    data, setup = open_data(config), decide(config)
    expected, expected_state = run(Engine(config, data, setup))
    recorder = Recorder()
    graphed = functools.partial(Graphed, record=recorder, warm_up=contextlib.nullcontext)
    monkeypatch.setattr("resnet_cli.engine.core.Graphed", graphed)
    found, found_state = run(Engine(config, data, setup._replace(cuda_graph=True)))
    assert all(torch.equal(expected_state[name], found_state[name]) for name in expected_state)
    clock = {"images_per_second", "train_seconds", "eval_seconds", "peak_memory_bytes"}
    for a, b in zip(expected, found, strict=True):
        ours, theirs = asdict(a.metrics), asdict(b.metrics)
        assert {n: v for n, v in ours.items() if n not in clock} == {n: v for n, v in theirs.items() if n not in clock}
        assert a.gradflow == b.gradflow
        assert torch.equal(a.test_logits, b.test_logits)
    assert recorder.num_records == 2, "one for training steps, one for predictions"
    assert recorder.num_replays > 3 * (limit_train // 32) - NUM_WARMUP_CALLS


def test_full_batches_are_replayed_after_a_few_direct_calls_and_other_sizes_are_always_computed_directly():
    recorder = Recorder()
    double = Graphed(lambda x: 2 * x, 1, record=recorder, warm_up=contextlib.nullcontext)
    results = [double(torch.tensor([float(i)])) for i in range(8)]
    assert [result.item() for result in results] == [2.0 * i for i in range(8)], "each result is its own tensor"
    assert double(torch.ones(3)).tolist() == [2.0, 2.0, 2.0]
    assert (recorder.num_records, recorder.num_replays) == (1, 8 - NUM_WARMUP_CALLS)


class TestRecording:
    @pytest.fixture(autouse=True)
    def graph(self, monkeypatch):
        """Replace CUDA graphs by one that records nothing and counts its replays."""
        graph = SimpleNamespace(replays=0)

        def replay():
            graph.replays += 1

        graph.replay = replay
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
        monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: contextlib.nullcontext())
        monkeypatch.setattr("resnet_cli.engine.graphs._stream", lambda: None)
        return graph

    def test_a_replay_points_gradients_to_the_recorded_tensors_again(self, graph):
        parameters = [torch.nn.Parameter(torch.ones(())) for _ in range(2)]
        result = torch.zeros(())
        replay = record_cuda(lambda: sum(parameters).backward() or result, parameters)
        recorded = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = torch.full((), 7.0)  # as a partial batch does
        assert replay() is result
        assert all(a.grad is b for a, b in zip(parameters, recorded, strict=True))
        assert graph.replays == 1

    def test_a_function_that_cannot_be_recorded_is_one_error_line_that_names_the_option_to_use(self):
        def fail():
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

        with pytest.raises(ResnetError, match=r"cannot record a CUDA graph: operation not permitted[^\n]*$") as caught:
            record_cuda(fail, [])
        assert caught.value.hint == "use --no-cuda-graph"


def test_cuda_graphs_are_never_used_on_a_cpu():
    setup = decide(make_config("demo", arch="plain", depth=8, device="cpu"), cuda_graph=True)
    assert not setup.cuda_graph
    assert "cuda_graph" not in setup.decisions
