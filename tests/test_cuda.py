"""Training and measuring on a GPU; skipped on machines without CUDA.

Most tests use deterministic kernels, for which two computations of the same steps must agree in every bit.
`benchmarks/on_gpu.py` selects by name: tests of CUDA graphs contain `cuda_graph`, tests that compile `compiled`.
"""

import importlib
import os
import signal

import pytest
import torch
from msgspec.structs import asdict

from resnet_cli.checkpoint import dump_state, load_state
from resnet_cli.config import RunOptions
from resnet_cli.data import open_data
from resnet_cli.data.batches import DeviceImages, Normalizer
from resnet_cli.device import decide
from resnet_cli.engine import Engine, EpochRecord, StepEvent, evaluate
from resnet_cli.errors import DivergedError, ResnetError, StoppedError
from resnet_cli.measure.probe import ProbeOptions, run_probe
from resnet_cli.measure.subjects import fresh_subjects
from resnet_cli.model import build_model
from resnet_cli.probes.gradflow import measure_gradflow
from resnet_cli.recipes import make_config
from resnet_cli.rundir import GradflowRow
from resnet_cli.session import Reporter, train

DEVICE = "cuda"
# by name, since the package has a function of the same name
EVALUATE = importlib.import_module("resnet_cli.engine.evaluate")

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def config_for(**overrides):
    values = {
        "arch": "resnet", "depth": 8, "limit_train": 500, "limit_test": 100, "epochs": 3, "batch_size": 32,
        "device": DEVICE, "deterministic": True,
    }  # fmt: skip
    return make_config("demo", **{**values, **overrides})


EAGER_AND_GRAPH = pytest.mark.parametrize("cuda_graph", [False, True], ids=["eager", "cuda_graph"])


def engine_for(*, cuda_graph=False, **overrides):
    name = os.environ["PYTEST_CURRENT_TEST"]
    assert "cuda_graph" in name or not cuda_graph, "a test of CUDA graphs needs `cuda_graph` in its name"
    assert "compiled" in name or overrides.get("compile") != "on", "a test that compiles needs `compiled` in its name"
    config = config_for(**overrides)
    return Engine(config, open_data(config), decide(config, cuda_graph=cuda_graph))


def run(engine):
    """Losses of every epoch, all gradient norms, test logits, and the final weights and momentum."""
    events = list(engine.run())
    records = [event for event in events if isinstance(event, EpochRecord)]
    losses = [(record.metrics.train_loss, record.metrics.test_loss) for record in records]
    gradients = [row.grad_norm for event in events if hasattr(event, "gradflow") for row in event.gradflow]
    momentum = [values["momentum_buffer"] for values in engine.optimizer.state.values()]
    tensors = [*engine.model.state_dict().values(), *momentum]
    return losses, gradients, records[-1].test_logits, [value.clone() for value in tensors]


def assert_equal_in_every_bit(found, expected):
    assert found[:2] == expected[:2]
    assert torch.equal(found[2], expected[2])
    for value, other in zip(found[3], expected[3], strict=True):
        assert torch.equal(value, other)


def assert_a_cuda_graph_changes_nothing(monkeypatch, **fields):
    monkeypatch.setattr(EVALUATE, "_GPU_EVAL_BATCH_SIZE", 16)  # so that some batches are full
    fields |= {"augment": "crop-flip", "milestones": (1, 2), "gradflow_every": 1}
    expected = run(engine_for(**fields))
    engine = engine_for(**fields, cuda_graph=True)
    assert engine.setup.cuda_graph
    assert_equal_in_every_bit(run(engine), expected)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_training_with_a_cuda_graph_equals_training_without_it_in_every_bit(monkeypatch, precision):
    assert_a_cuda_graph_changes_nothing(monkeypatch, precision=precision)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_compiled_training_with_a_cuda_graph_equals_training_without_it_in_every_bit(monkeypatch, precision):
    assert_a_cuda_graph_changes_nothing(monkeypatch, precision=precision, compile="on")


def test_a_cuda_graph_with_default_kernels_changes_the_loss_by_rounding_only():
    losses, *_ = run(engine_for(deterministic=False, epochs=1, cuda_graph=True))
    expected, *_ = run(engine_for(deterministic=False, epochs=1))
    assert losses == [pytest.approx(row, rel=1e-2) for row in expected]


@EAGER_AND_GRAPH
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_every_precision_learns_the_training_images(precision, cuda_graph):
    engine = engine_for(precision=precision, cuda_graph=cuda_graph, deterministic=False)
    assert engine.setup.precision == precision
    losses, *_ = run(engine)
    assert losses[-1][0] < 0.8 * losses[0][0]


def test_fp16_learns_the_training_images():
    losses, *_ = run(engine_for(precision="fp16", augment="none"))
    assert losses[-1][0] < 0.8 * losses[0][0]


def test_fp16_is_not_recorded_as_a_cuda_graph():
    assert not engine_for(precision="fp16", cuda_graph=True).setup.cuda_graph


def test_reduced_precisions_start_with_the_loss_of_fp32():
    losses = {}
    for precision in ("fp32", "tf32", "bf16", "fp16"):
        engine = engine_for(precision=precision, steps=1, epochs=None)
        record = next(event for event in engine.run() if isinstance(event, EpochRecord))
        losses[precision] = record.metrics.train_loss
    assert losses["tf32"] == pytest.approx(losses["fp32"], rel=2e-3)
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=2e-2)
    assert losses["fp16"] == pytest.approx(losses["fp32"], rel=2e-3)


def test_training_on_a_gpu_agrees_with_the_cpu_within_rounding():
    fields = {"precision": "fp32", "epochs": 1, "lr": 0.01}
    losses, *_ = run(engine_for(**fields))
    expected, *_ = run(engine_for(**fields, device="cpu", deterministic=False))
    assert losses == [pytest.approx(row, rel=1e-3) for row in expected]


@EAGER_AND_GRAPH
def test_the_cpu_never_waits_for_the_gpu_within_an_epoch(cuda_graph):
    # 125 steps per epoch, so the sums are read several times
    engine = engine_for(epochs=2, batch_size=4, cuda_graph=cuda_graph)
    events = engine.run()
    for event in events:
        if isinstance(event, EpochRecord):
            break
    next(events)  # the draws of an epoch are copied before its first step
    torch.cuda.set_sync_debug_mode("error")
    try:
        while engine.step < engine.total_steps - 1:
            assert isinstance(next(events), StepEvent)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_divergence_names_the_same_step_with_and_without_a_cuda_graph():
    messages = []
    for cuda_graph in (False, True):
        with pytest.raises(DivergedError, match=r"not finite at step \d+ ") as caught:
            list(engine_for(arch="plain", depth=20, lr=1e6, epochs=20, cuda_graph=cuda_graph).run())
        messages.append(caught.value.message)
    assert messages[0] == messages[1]


def resumed(path, stop_step, **fields):
    """The result of a run that was saved at `stop_step` and continued by a new engine."""
    engine = engine_for(**fields)
    for event in engine.run():
        if isinstance(event, StepEvent) and event.step == stop_step:
            path.write_bytes(dump_state(engine, {}))
            break
    second = engine_for(**fields)
    load_state(second, path)
    return run(second)


@EAGER_AND_GRAPH
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_with_deterministic_kernels_a_run_resumes_bit_identically(tmp_path, precision, cuda_graph):
    fields = {"precision": precision, "cuda_graph": cuda_graph, "augment": "crop-flip"}
    losses, gradients, *rest = run(engine_for(**fields))
    found = resumed(tmp_path / "state", 20, **fields)
    assert_equal_in_every_bit(found, (losses[1:], gradients[len(gradients) - len(found[1]) :], *rest))


@EAGER_AND_GRAPH
def test_with_default_kernels_a_run_resumes_within_rounding(tmp_path, cuda_graph):
    fields = {"deterministic": False, "lr": 0.001, "warmup_steps": 0, "cuda_graph": cuda_graph}
    expected, *_ = run(engine_for(**fields))
    losses, *_ = resumed(tmp_path / "state", 20, **fields)
    assert losses == [pytest.approx(row, rel=1e-2) for row in expected[1:]]


class StopAt(Reporter):
    """Sends this process SIGTERM at a training step."""

    def __init__(self, step):
        self.step = step

    def tick(self, tick):
        if tick.step == self.step and tick.phase == "train":
            os.kill(os.getpid(), signal.SIGTERM)


@EAGER_AND_GRAPH
def test_a_run_directory_resumes_bit_identically_after_a_signal(tmp_path, cuda_graph):
    config, options = config_for(gradflow_every=1, precision="tf32"), RunOptions(cuda_graph=cuda_graph)
    expected = train(config, tmp_path / "whole", options=options)
    with pytest.raises(StoppedError):
        train(config, tmp_path / "stopped", options=options, reporter=StopAt(21))
    found = train(config, tmp_path / "stopped", options=options)
    for name in ("gradflow.csv", "predictions.npz"):
        assert found.summary.files[name] == expected.summary.files[name]
    assert found.summary.last.test_loss == expected.summary.last.test_loss
    assert found.record.decisions["cuda_graph"].value == ("on" if cuda_graph else "off")


def test_running_out_of_gpu_memory_is_one_line_that_names_the_batch_size(tmp_path):
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 50e6) / total)
    config = config_for(depth=56, batch_size=1000, limit_train=None)
    try:
        with pytest.raises(ResnetError, match=r"^out of memory with a batch size of 1000"):
            train(config, tmp_path / "run", options=RunOptions(cuda_graph=False))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def test_evaluation_on_a_gpu_counts_as_on_the_cpu_with_any_batch_size():
    engine = engine_for(precision="fp32")
    run(engine)
    on_gpu = [
        evaluate(engine.model, engine.test_images, engine.normalizer, engine.setup, batch_size=size)
        for size in (7, 32, 100)
    ]
    config = config_for(device="cpu", deterministic=False)
    data, cpu = open_data(config), torch.device("cpu")
    on_cpu = evaluate(
        engine.model.cpu(), DeviceImages.on(cpu, data.test), Normalizer.for_dataset(data, "channel", cpu),
        decide(config),
    )  # fmt: skip
    assert {(counts.num_examples, counts.num_wrong) for counts in on_gpu} == {(100, on_cpu.num_wrong)}
    for counts in on_gpu:
        assert counts.loss == pytest.approx(on_cpu.loss, rel=1e-4)
        torch.testing.assert_close(counts.logits, on_cpu.logits, rtol=1e-3, atol=1e-3)


def test_evaluation_recorded_as_a_cuda_graph_counts_as_direct_evaluation(monkeypatch):
    monkeypatch.setattr(EVALUATE, "_GPU_EVAL_BATCH_SIZE", 16)
    engine = engine_for(cuda_graph=True)
    run(engine)
    direct = evaluate(engine.model, engine.test_images, engine.normalizer, engine.setup)
    assert torch.equal(engine.predict_test(), direct.logits)


def assert_close(found, expected, tolerances=None):
    """Compare two rows: numbers within the rounding of fp32 or `tolerances` by name, all else exactly."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        tolerance = (tolerances or {}).get(name, {"rel": 1e-3, "abs": 1e-5})
        is_number = isinstance(value, float)
        assert found[name] == (pytest.approx(value, **tolerance, nan_ok=True) if is_number else value), name


# Noise of 5e-7 in every convolution of 20 layers changes gradients by up to 1.3e-3 of their size. The cosine of two
# nearly orthogonal gradients has no scale of its own.
OF_GRADIENTS = {
    name: {"rel": 1e-2, "abs": 1e-5}
    for name in GradflowRow.__struct_fields__
    if name not in ("weight_norm", "effective_step")
} | {"skip_branch_cosine": {"rel": 1e-2, "abs": 2e-4}}


@pytest.mark.parametrize("arch", ["plain", "resnet"])
def test_gradient_flow_on_a_gpu_is_that_of_the_cpu(arch):
    rows = {}
    for device in (DEVICE, "cpu"):
        config = config_for(arch=arch, device=device, precision="fp32", deterministic=device == DEVICE)
        data, where = open_data(config), decide(config).device
        model = build_model(arch, 20).to(where, memory_format=torch.channels_last)
        images, normalizer = DeviceImages.on(where, data.train), Normalizer.for_dataset(data, "channel", where)
        rows[device] = measure_gradflow(model, images, normalizer, lr=0.1, num_batches=2, batch_size=128)
    for found, expected in zip(rows[DEVICE], rows["cpu"], strict=True):
        assert_close(asdict(found), asdict(expected), OF_GRADIENTS)


@pytest.mark.parametrize("name", ["gradflow", "bn"])
def test_a_probe_on_a_gpu_measures_what_it_measures_on_the_cpu(name):
    subjects = fresh_subjects(depth=8)
    on_gpu, on_cpu = (
        run_probe(name, subjects, ProbeOptions(device=device, images=100)).frame.to_dict("records")
        for device in (DEVICE, "cpu")
    )
    for found, expected in zip(on_gpu, on_cpu, strict=True):
        # at most one of the 100 images changes its class by rounding
        assert found.pop("error_pct", 0.0) == pytest.approx(expected.pop("error_pct", 0.0), abs=1.0)
        assert_close(found, expected)
