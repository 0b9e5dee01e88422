"""The cost of a run: images are counted as the engine works, times are extrapolated from a few, without warm-up."""

from types import SimpleNamespace
from unittest.mock import Mock, create_autospec

import pytest
import torch

from resnet_cli import bench, device
from resnet_cli.bench import (
    NUM_WARMUP_STEPS,
    Timing,
    count_images,
    estimate,
    matrix_peak,
    measure,
    random_dataset,
    setup_for,
    summarize,
    time_batches,
)
from resnet_cli.data.digits import load_digits
from resnet_cli.device import decide
from resnet_cli.engine import Engine, EpochRecord, StepEvent
from resnet_cli.errors import ResnetError, UsageError
from resnet_cli.recipes import make_config
from resnet_cli.session import train

TIMING = Timing((2.0, 1.0, 3.01), eval_seconds_per_image=0.5, compile_seconds=7.0)


@pytest.fixture
def clock(monkeypatch):
    """A clock for the benchmark that stands still until a test moves it."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def digits(**fields):
    return make_config("demo", **{"arch": "plain", "depth": 8, "device": "cpu", "compile": "off", **fields})


def step(phase, done, total):
    return StepEvent(phase, 1, done, total, 0, None, None)


class TestCountingImages:
    @pytest.mark.parametrize(
        "fields",
        [
            {"epochs": 3, "clean_train_every": 0}, {"epochs": 3, "clean_train_every": 2},
            {"steps": 7, "clean_train_every": 1}, {"steps": 7, "clean_train_every": 5},
            {"steps": 2, "clean_train_every": 1}, {"epochs": 1, "clean_train_every": 5},
        ],
        ids=str,
    )  # fmt: skip
    def test_the_counted_images_are_those_that_the_engine_processes(self, fields):
        config = digits(**fields, batch_size=500, val_size=37)
        dataset = random_dataset(config)
        engine = Engine(config, dataset, decide(config))
        seen = {"train": 0, "evaluate": 0}
        for phase, num_images, _ in time_batches(engine.run(), synchronize=lambda: None):
            seen[phase] += num_images
        assert count_images(config, dataset) == (engine.num_epochs, seen["train"], seen["evaluate"])

    def test_the_images_of_64k_steps_are_counted_with_partial_batches(self):
        config = make_config("he2015", arch="resnet", depth=56)
        splits = SimpleNamespace(train=range(45_000), val=range(5_000), test=range(10_000))
        assert count_images(config, splits) == (
            182,  # epochs of 352 steps, the last step of each with 72 images
            64_000 * 128 - 181 * (128 - 72),
            182 * 15_000 + 19 * 45_000,
        )


class TestTiming:
    def test_the_time_of_a_batch_includes_the_device_but_not_the_caller(self, clock):
        def engine():
            for seconds, event in [
                (2, step("train", 100, 130)), (3, step("train", 130, 130)),
                (5, step("evaluate", 50, 60)), (7, step("evaluate", 60, 60)), (1, step("evaluate", 20, 20)),
                (50, EpochRecord(None, [], torch.zeros(0))), (4, step("train", 100, 130)),
            ]:  # fmt: skip
                clock.now += seconds
                yield event

        def synchronize():
            clock.now += 10  # the device finishes its work

        timed = []
        for batch in time_batches(engine(), synchronize=synchronize):
            timed.append(batch)
            clock.now += 1000
        assert timed == [
            ("train", 100, 12), ("train", 30, 13), ("evaluate", 50, 15), ("evaluate", 10, 17), ("evaluate", 20, 11),
            ("train", 100, 14),
        ]  # fmt: skip

    def test_warm_up_is_excluded_and_its_excess_is_the_compile_time_of_a_compiled_step(self):
        steps = [30.0, 2.0, 2.5, 2.0, *[2.0, 1.0, 4.0]]
        batches = [("evaluate", 500, 11.0), ("evaluate", 500, 5.0), ("evaluate", 200, 2.0)]
        compiled = summarize(steps, batches, is_compiled=True)
        assert compiled.step_seconds == (2.0, 1.0, 4.0)
        assert compiled.eval_seconds_per_image == pytest.approx(0.01)
        assert compiled.compile_seconds == pytest.approx(36.5 - 4 * 2.0 + 11.0 - 5.0)
        assert summarize(steps, batches, is_compiled=False) == compiled._replace(compile_seconds=0.0)
        fast = [0.1] * NUM_WARMUP_STEPS + [2.0]  # the excess is never negative
        assert summarize(fast, batches[1:2] * 2, is_compiled=True).compile_seconds == 0

    def test_evaluated_batches_of_the_warm_up_are_used_only_if_there_are_no_others(self):
        batches = [("evaluate", 1, seconds) for seconds in (9.0, 8.0, 7.0, 6.0, 1.0)]
        steps = [1.0] * (NUM_WARMUP_STEPS + 1)
        assert summarize(steps, batches, 4, is_compiled=False).eval_seconds_per_image == 1.0
        assert summarize(steps, batches[:4], 4, is_compiled=False).eval_seconds_per_image == 6.0


def test_the_cost_of_a_run_is_extrapolated_from_the_median_step_and_the_counted_images():
    config = digits(arch="resnet", depth=56, batch_size=100, val_size=37)
    dataset = random_dataset(config)
    cost = estimate(config, dataset, setup_for(config, dataset), TIMING)
    assert (cost.network, cost.batch_size, cost.parameters) == ("resnet-56", 100, 853_018)
    evaluated = 20 * (360 + 37) + 19 * 360 + 1400  # the clean error of 360 training images before the last epoch
    assert (cost.num_epochs, cost.num_train_images, cost.num_eval_images) == (20, 28_000, evaluated)
    assert (cost.step_seconds, cost.step_seconds_min, cost.step_seconds_max) == (2.0, 1.0, 3.01)
    assert cost.images_per_second == 50
    # forward and backward take three forward passes; a multiply-accumulate is two operations
    assert cost.flops_per_second == 3 * 2 * cost.macs * 50
    assert (cost.train_seconds, cost.eval_seconds) == (560, 8090)
    assert cost.epoch_seconds == 432.5
    assert cost.total_seconds == 560 + 8090 + 7
    assert cost.decisions["compile"].value == "off"


class TestRandomData:
    def test_random_digits_have_the_shape_of_the_real_ones(self):
        real, noise = load_digits(), random_dataset(digits())
        assert noise.train.pixels.shape == real.train.pixels.shape
        assert noise.test.pixels.shape == real.test.pixels.shape
        assert len(noise.classes) == len(real.classes)

    def test_random_data_have_a_validation_split_of_the_requested_size(self):
        dataset = random_dataset(digits(val_size=100))
        assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (1337, 100, 360)


@pytest.mark.parametrize(
    "fields",
    [{}, {"epochs": 500, "depth": 20}, {"steps": 100, "val_size": 50}, {"arch": "resnet", "shortcut": "B"}],
    ids=str,
)
def test_a_benchmark_sets_up_the_device_as_a_run_does(tmp_path, monkeypatch, fields):
    config = digits(**{"compile": "auto", **fields})
    decide = create_autospec(device.decide, side_effect=UsageError("decided"))
    monkeypatch.setattr("resnet_cli.session.loop.decide", decide)
    monkeypatch.setattr(bench, "decide", decide)
    with pytest.raises(UsageError, match="decided"):
        train(config, tmp_path / "run")
    with pytest.raises(UsageError, match="decided"):
        setup_for(config, random_dataset(config))
    of_run, of_bench = decide.call_args_list
    assert {"recorded": None, "ranks": None, **of_bench.kwargs} == of_run.kwargs
    assert of_bench.args == of_run.args == (config,)
    assert of_bench.kwargs["planned_macs"] > 0


class TestMeasuring:
    @pytest.mark.parametrize(
        ("fields", "num_steps"), [({}, 2), ({}, 20), ({"batch_size": 2000}, 1)], ids=["within", "epochs", "whole"]
    )
    def test_the_requested_number_of_whole_batches_is_timed(self, fields, num_steps):
        config, progress = digits(**fields), Mock()
        dataset = random_dataset(config)
        timing = measure(config, dataset, setup_for(config, dataset), num_steps=num_steps, progress=progress)
        assert len(timing.step_seconds) == num_steps
        assert min(timing.step_seconds) > 0
        assert timing.eval_seconds_per_image > 0
        assert timing.compile_seconds == 0
        needed = num_steps + NUM_WARMUP_STEPS
        reported = [call.args for call in progress.call_args_list]
        assert reported[0] == ("warming up plain-8", 0, needed, "steps")
        assert reported[-1] == ("timing plain-8", needed, needed, "steps")
        assert [done for _, done, *_ in reported] == list(range(needed + 1))

    def test_a_recipe_whose_learning_rate_would_diverge_can_be_timed(self):
        config = digits(arch="resnet", lr=1e6)
        dataset = random_dataset(config)
        assert min(measure(config, dataset, setup_for(config, dataset), num_steps=5).step_seconds) > 0

    @pytest.mark.parametrize(
        ("error", "expected", "message"),
        [
            (MemoryError(), ResnetError, "plain-8 with a batch size of 64; use a smaller batch_size"),
            (RuntimeError("can't allocate memory: 9 bytes"), ResnetError, "plain-8 with a batch size of 64"),
            (
                RuntimeError("GET was unable to find an engine to execute this computation"),
                ResnetError,
                "^probably out of memory .cuDNN was unable to find an engine .* for plain-8 with a batch size of 64;",
            ),
            (
                RuntimeError("could not create a primitive"),
                ResnetError,
                "^probably out of memory .oneDNN could not create a primitive. for plain-8 with a batch size of 64;",
            ),
            (RuntimeError("could not execute a primitive"), ResnetError, "^probably out of memory .oneDNN could not"),
            (RuntimeError("could not create a primitive descriptor for the convolution"), RuntimeError, "descriptor"),
            (RuntimeError("odd"), RuntimeError, "odd"),
        ],
    )
    def test_only_running_out_of_memory_is_reported_with_the_network_and_the_batch_size(
        self, monkeypatch, error, expected, message
    ):
        monkeypatch.setattr(bench, "measure", Mock(side_effect=error))
        with pytest.raises(expected, match=message):
            bench.bench([digits(batch_size=64)])


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_matrix_peak_is_the_fastest_product_in_the_precision_of_the_run(monkeypatch, clock, precision, dtype):
    seconds, dtypes, product = iter([9.0, 4.0, 0.5, 2.0]), set(), torch.mm

    def mm(a, b, **kwargs):
        clock.now += next(seconds)
        dtypes.update({a.dtype, b.dtype})
        return product(a, b, **kwargs)

    monkeypatch.setattr(torch, "mm", mm)
    monkeypatch.setattr(bench, "NUM_PRODUCTS", 3)
    monkeypatch.setitem(bench._MATRIX_SIZES, "cpu", 10)
    assert matrix_peak(decide(digits(precision=precision))) == (2 * 10**3 / 0.5, 10, precision)
    assert dtypes == {dtype}
