"""Training on a GPU; skipped on machines without CUDA."""

import pytest
import torch

from resnet_cli.checkpoint import dump_state, load_state
from resnet_cli.data import open_data
from resnet_cli.device import decide
from resnet_cli.engine import Engine, EpochRecord, StepEvent
from resnet_cli.errors import DivergedError
from resnet_cli.recipes import make_config

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def engine_for(*, cuda_graph=True, **overrides):
    values = {"arch": "resnet", "depth": 8, "limit_train": 500, "limit_test": 100, "epochs": 3, "batch_size": 32}
    config = make_config("demo", device="cuda", deterministic=True, **{**values, **overrides})
    return Engine(config, open_data(config), decide(config, cuda_graph=cuda_graph))


def results(engine):
    records = [event for event in engine.run() if isinstance(event, EpochRecord)]
    return [(record.metrics.train_loss, record.metrics.test_loss) for record in records], records[-1].gradflow


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("compile_mode", ["off", "on"])
def test_training_with_a_cuda_graph_agrees_with_training_without_it(monkeypatch, precision, compile_mode):
    monkeypatch.setattr("resnet_cli.engine.evaluate._GPU_EVAL_BATCH_SIZE", 16)  # so that some batches are full
    fields = {"precision": precision, "compile": compile_mode, "augment": "crop-flip", "milestones": (1, 2)}
    losses, gradflow = results(engine_for(**fields, gradflow_every=1))
    expected, expected_gradflow = results(engine_for(**fields, gradflow_every=1, cuda_graph=False))
    assert losses == [pytest.approx(row, rel=1e-5) for row in expected]
    assert [row["grad_norm"] for row in gradflow] == pytest.approx(
        [row["grad_norm"] for row in expected_gradflow], rel=1e-3
    )


def test_fp16_trains_without_a_cuda_graph():
    engine = engine_for(precision="fp16", augment="none")
    assert not engine.setup.cuda_graph
    losses, _ = results(engine)
    assert losses[-1][0] < losses[0][0]


def test_training_on_a_gpu_agrees_with_the_cpu_within_rounding():
    fields = {"precision": "fp32", "epochs": 1, "lr": 0.01}
    losses, _ = results(engine_for(**fields))
    config = make_config("demo", arch="resnet", depth=8, limit_train=500, limit_test=100, batch_size=32,
                         device="cpu", **fields)  # fmt: skip
    expected, _ = results(Engine(config, open_data(config), decide(config)))
    assert losses == [pytest.approx(row, rel=1e-3) for row in expected]


def test_the_cpu_never_waits_for_the_gpu_within_an_epoch():
    engine = engine_for(epochs=2, batch_size=4)  # 125 steps per epoch, so the sums are read several times
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


def test_divergence_on_a_gpu_names_its_step():
    engine = engine_for(arch="plain", depth=20, lr=1e6, epochs=20)
    with pytest.raises(DivergedError, match=r"at step \d+ "):
        list(engine.run())


def test_a_run_on_a_gpu_resumes_from_its_checkpoint(tmp_path):
    expected, _ = results(engine_for())
    engine, path = engine_for(), tmp_path / "state"
    for event in engine.run():
        if isinstance(event, StepEvent) and event.step == 20:
            path.write_bytes(dump_state(engine, {}))
            break
    resumed = engine_for()
    load_state(resumed, path)
    losses, _ = results(resumed)
    assert losses == [pytest.approx(row, rel=1e-4) for row in expected[1:]]
