"""A recorded step is the step: fixed inputs, warm-up, gradients and partial batches change no number.

Here a record is replayed by calling its function, as a GPU would replay its kernels; on a machine with one,
`test_cuda.py` holds real graphs to the same.
"""

import contextlib
from types import SimpleNamespace

import pytest
import torch
from msgspec.structs import asdict

from resnet_cli.data import load_dataset
from resnet_cli.device import decide
from resnet_cli.engine import Engine, EpochRecord
from resnet_cli.engine import core as engine_core
from resnet_cli.engine.graphs import NUM_WARMUP_CALLS, Graphed, record_cuda
from resnet_cli.errors import ResnetError
from resnet_cli.recipes import make_config


class Recorder:
    """Replays by calling the function; what it gives lies at one address, as that of a graph does."""

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


@pytest.fixture
def recorder():
    return Recorder()


def graphed(function, size, recorder, **fields):
    return Graphed(function, size, record=recorder, warm_up=contextlib.nullcontext, **fields)


def run(engine):
    records = [event for event in engine.run() if isinstance(event, EpochRecord)]
    return records, {name: value.clone() for name, value in engine.model.state_dict().items()}


def engine_for(**overrides):
    values = {"arch": "resnet", "depth": 8, "limit_train": 300, "limit_test": 60, "epochs": 3, "batch_size": 32}
    config = make_config("demo", device="cpu", **{**values, **overrides})
    return Engine(config, load_dataset(config), decide(config))


@pytest.fixture
def graphed_engine_for(recorder, monkeypatch):
    """Engines that replay records, as on a GPU."""
    monkeypatch.setattr(
        engine_core, "Graphed", lambda function, size, **fields: graphed(function, size, recorder, **fields)
    )

    def make(**overrides):
        engine = engine_for(**overrides)
        engine.plan = engine.plan._replace(cuda_graph=True)
        engine._build_steps()
        return engine

    return make


@pytest.mark.parametrize("augment", ["none", "crop-flip"])
@pytest.mark.parametrize("limit_train", [300, 320])  # with and without a partial batch at the end
def test_training_with_records_equals_training_without(graphed_engine_for, recorder, limit_train, augment):
    fields = {"limit_train": limit_train, "augment": augment, "gradflow_every": 1, "milestones": (1, 2)}
    expected, expected_state = run(engine_for(**fields))
    found, found_state = run(graphed_engine_for(**fields))
    assert all(torch.equal(expected_state[name], found_state[name]) for name in expected_state)
    clock = {"images_per_second", "train_seconds", "eval_seconds", "peak_memory_bytes"}
    for a, b in zip(expected, found, strict=True):
        ours, theirs = asdict(a.metrics), asdict(b.metrics)
        assert {n: v for n, v in ours.items() if n not in clock} == {n: v for n, v in theirs.items() if n not in clock}
        assert a.gradflow == b.gradflow
        assert torch.equal(a.test_logits, b.test_logits)
    full_steps = 3 * (limit_train // 32)
    assert recorder.num_replays >= full_steps - NUM_WARMUP_CALLS


def test_the_first_calls_are_made_as_they_are_and_all_others_from_one_record(recorder):
    double = graphed(lambda x: 2 * x, 1, recorder)
    results = [double(torch.tensor([float(i)])) for i in range(8)]
    assert [result.item() for result in results] == [2.0 * i for i in range(8)]  # each its own tensor
    assert recorder.num_records == 1
    assert recorder.num_replays == 8 - NUM_WARMUP_CALLS


def test_inputs_of_another_size_go_past_the_record(recorder):
    double = graphed(lambda x: 2 * x, 2, recorder)
    for _ in range(6):
        double(torch.ones(2))
    replays = recorder.num_replays
    assert double(torch.ones(3)).tolist() == [2.0, 2.0, 2.0]
    assert recorder.num_replays == replays


class TestRecording:
    @pytest.fixture(autouse=True)
    def graph(self, monkeypatch):
        """A graph that records nothing and counts its replays."""
        graph = SimpleNamespace(replays=0)

        def replay():
            graph.replays += 1

        graph.replay = replay
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
        monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: contextlib.nullcontext())
        monkeypatch.setattr("resnet_cli.engine.graphs._stream", lambda: None)
        return graph

    def test_a_replay_sets_the_gradients_to_where_the_record_left_them(self, graph):
        parameters = [torch.nn.Parameter(torch.ones(())) for _ in range(2)]
        result = torch.zeros(())
        replay = record_cuda(lambda: sum(parameters).backward() or result, parameters)
        recorded = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = torch.full((), 7.0)  # as a partial batch does
        assert replay() is result
        assert all(a.grad is b for a, b in zip(parameters, recorded, strict=True))
        assert graph.replays == 1

    def test_what_cannot_be_recorded_is_one_line_that_names_the_way_out(self):
        def fail():
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

        with pytest.raises(ResnetError, match=r"no CUDA graph could be made: operation not permitted[^\n]*$") as caught:
            record_cuda(fail, [])
        assert caught.value.hint == "--no-cuda-graph does without"


def test_each_of_step_and_prediction_is_recorded_once(graphed_engine_for, recorder):
    run(graphed_engine_for(limit_test=None, limit_train=500))
    assert recorder.num_records == 2


def test_a_cpu_has_no_graphs():
    plan = decide(make_config("demo", arch="plain", depth=8, device="cpu"))
    assert not plan.cuda_graph
    assert "cuda_graph" not in plan.decisions
