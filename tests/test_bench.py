"""What a run costs: its workload is counted as the engine works, its times are scaled from a few, warm-up apart."""

import itertools
import statistics

import msgspec
import pytest
import torch

from resnet_cli import bench
from resnet_cli.bench import (
    NUM_WARMUP_STEPS,
    SHAPES,
    Bench,
    Cost,
    MatrixPeak,
    Piece,
    Timing,
    Workload,
    matrix_peak,
    measure,
    plan_of,
    random_dataset,
    summarize,
    timed,
)
from resnet_cli.data.digits import load_digits
from resnet_cli.device import decide
from resnet_cli.engine import Engine, EpochRecord, StepEvent
from resnet_cli.errors import OutOfMemoryError
from resnet_cli.recipes import make_config
from resnet_cli.session import train


class Watch:
    """A clock that stands still unless it is moved, or else moves by itself from reading to reading."""

    def __init__(self, *laps):
        self.now, self.laps = 100.0, iter(laps)

    def __call__(self):
        self.now += next(self.laps, 0.0)
        return self.now


def digits(**fields):
    return make_config("demo", **{"arch": "plain", "depth": 8, "device": "cpu", "compile": "off", **fields})


def tick(phase, done, total):
    return StepEvent(phase, 1, done, total, 0, None, None)


def cost(config, timing, **fields):
    values = {"parameters": 10, "macs": 1000, "images_per_step": 100, "workload": Workload(4, 3800, 900)}
    return Cost(config=config, decisions={}, timing=timing, peak_memory_bytes=None, **{**values, **fields})


class TestWorkload:
    @pytest.mark.parametrize("clean_train_every", [0, 1, 2, 5])
    @pytest.mark.parametrize("length", [{"epochs": 3}, {"steps": 7}, {"steps": 2}, {"epochs": 1}], ids=str)
    def test_it_is_what_the_engine_works_through(self, length, clean_train_every):
        config = digits(**length, batch_size=500, val_size=37, clean_train_every=clean_train_every)
        dataset = random_dataset(config)
        engine = Engine(config, dataset, decide(config))
        pieces = list(timed(engine.run(), synchronize=lambda: None))
        seen = {
            phase: sum(p.num_images for p in pieces if p.phase == phase) for phase in ("train", "evaluate")
        }  # fmt: skip
        workload = Workload.of(config, num_train=1400, num_val=37, num_test=360)
        assert workload == (engine.num_epochs, seen["train"], seen["evaluate"])

    def test_of_the_paper_it_is_64k_steps_of_128_but_for_the_partial_ones(self):
        config = make_config("he2015", arch="resnet", depth=56)
        workload = Workload.of(config, num_train=45_000, num_val=5_000, num_test=10_000)
        assert workload.num_epochs == 182  # 352 steps each, the last of 72 images
        assert workload.num_train_images == 64_000 * 128 - 181 * (128 - 72)
        assert workload.num_eval_images == 182 * 15_000 + 19 * 45_000


class TestTiming:
    def test_a_piece_lasts_from_one_event_to_the_next_without_the_callers_time(self):
        watch = Watch()

        def engine():
            for seconds, event in [
                (2, tick("train", 100, 130)), (3, tick("train", 130, 130)),
                (5, tick("evaluate", 50, 60)), (7, tick("evaluate", 60, 60)), (1, tick("evaluate", 20, 20)),
                (50, EpochRecord(None, [], torch.zeros(0))), (4, tick("train", 100, 130)),
            ]:  # fmt: skip
                watch.now += seconds
                yield event

        pieces = []
        for piece in timed(engine(), synchronize=lambda: None, clock=watch):
            pieces.append(piece)
            watch.now += 1000
        assert pieces == [
            ("train", 100, 2), ("train", 30, 3), ("evaluate", 50, 5), ("evaluate", 10, 7), ("evaluate", 20, 1),
            ("train", 100, 4),
        ]  # fmt: skip

    def test_the_device_is_waited_for_before_the_clock_is_read(self):
        watch = Watch()

        def wait():
            watch.now += 9

        (piece,) = timed([tick("train", 100, 100)], synchronize=wait, clock=watch)
        assert piece.seconds == 9

    def test_warm_up_is_left_out_and_its_excess_is_compilation_where_there_is_any(self):
        steps = [30.0, 2.0, 2.5, 2.0, *[2.0, 1.0, 4.0]]
        batches = [Piece("evaluate", 500, 11.0), Piece("evaluate", 500, 5.0), Piece("evaluate", 200, 2.0)]
        compiled = summarize(steps, batches, is_compiled=True)
        assert compiled.step_seconds == (2.0, 1.0, 4.0)
        assert compiled.eval_seconds_per_image == pytest.approx(0.01)
        assert compiled.compile_seconds == pytest.approx(36.5 - 4 * 2.0 + 11.0 - 5.0)
        assert summarize(steps, batches, is_compiled=False) == compiled._replace(compile_seconds=0.0)

    def test_a_quick_warm_up_gives_no_negative_compilation(self):
        timing = summarize(
            [1.0] * NUM_WARMUP_STEPS + [2.0], [Piece("evaluate", 1, 1.0), Piece("evaluate", 1, 1.0)], is_compiled=True
        )
        assert timing.compile_seconds == 0

    def test_batches_that_are_recorded_first_are_left_out_unless_there_are_no_others(self):
        batches = [Piece("evaluate", 1, seconds) for seconds in (9.0, 8.0, 7.0, 6.0, 1.0)]
        steps = [1.0] * (NUM_WARMUP_STEPS + 1)
        assert summarize(steps, batches, 4, is_compiled=False).eval_seconds_per_image == 1.0
        assert summarize(steps, batches[:4], 4, is_compiled=False).eval_seconds_per_image == 6.0


class TestCost:
    TIMING = Timing((2.0, 1.0, 2.2), eval_seconds_per_image=0.5, compile_seconds=7.0)

    def test_totals_are_the_sums_of_their_parts(self):
        one = cost(digits(), self.TIMING)
        assert one.step_seconds == 2.0
        assert one.images_per_second == 50
        assert one.train_seconds == 3800 / 50
        assert one.eval_seconds == 450
        assert one.epoch_seconds == (76 + 450) / 4
        assert one.total_seconds == 76 + 450 + 7
        other = cost(digits(), self.TIMING._replace(compile_seconds=0.0))
        assert Bench([one, other], MatrixPeak(1.0, 1, 1, "fp32")).total_seconds == 533 + 526

    def test_a_step_computes_three_forward_passes_of_two_operations_a_multiply_accumulate(self):
        one = cost(digits(), self.TIMING)
        assert one.flops_per_second == 3 * 2 * 1000 * 100 / 2.0
        assert Bench([one], MatrixPeak(3e6, 1, 1, "fp32")).peak_fraction(one) == pytest.approx(0.1)

    @pytest.mark.parametrize(("slowest", "noisy"), [(3.0, False), (3.01, True)])
    def test_a_step_slower_than_one_and_a_half_medians_is_noise(self, slowest, noisy):
        assert cost(digits(), self.TIMING._replace(step_seconds=(2.0, 2.0, slowest))).is_noisy is noisy


class TestRandomData:
    def test_digits_have_their_own_shape(self):
        real, noise = load_digits(), random_dataset(digits())
        assert noise.train.pixels.shape == real.train.pixels.shape
        assert noise.test.pixels.shape == real.test.pixels.shape
        assert len(noise.classes) == len(real.classes)

    @pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagefolder"])
    def test_cifar_has_50000_and_10000_of_32_pixels(self, name):
        assert SHAPES[name] == (50_000, 10_000, 32, 100 if name == "cifar100" else 10)

    def test_the_validation_split_is_as_large_as_asked_for(self):
        dataset = random_dataset(digits(val_size=100))
        assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (1337, 100, 360)


class AskedError(Exception):
    """Carries what `decide` was asked."""


@pytest.mark.parametrize(
    "fields",
    [{}, {"epochs": 500, "depth": 20}, {"steps": 100, "val_size": 50}, {"arch": "resnet", "shortcut": "B"}],
    ids=str,
)
def test_compilation_is_decided_as_a_run_decides_it(tmp_path, monkeypatch, fields):
    config = digits(**{"compile": "auto", **fields})
    asked = []

    def note(config, *, planned_macs, recorded=None, cuda_graph=True):
        asked.append((config, planned_macs, recorded))
        raise AskedError

    monkeypatch.setattr("resnet_cli.device.decide", note)
    monkeypatch.setattr(bench, "decide", note)
    with pytest.raises(AskedError):
        train(config, tmp_path / "run")
    with pytest.raises(AskedError):
        plan_of(config, random_dataset(config))
    assert asked[0] == asked[1]
    assert asked[0][1] > 0


class TestMeasuring:
    @pytest.mark.parametrize(
        ("fields", "num_steps"), [({}, 2), ({}, 20), ({"batch_size": 2000}, 1)], ids=["within", "epochs", "whole"]
    )
    def test_as_many_whole_batches_are_timed_as_asked_for(self, fields, num_steps):
        config, told = digits(**fields), []
        dataset = random_dataset(config)
        timing = measure(
            config, dataset, plan_of(config, dataset), num_steps=num_steps, progress=lambda *a: told.append(a)
        )
        assert len(timing.step_seconds) == num_steps
        assert min(timing.step_seconds) > 0
        assert timing.eval_seconds_per_image > 0
        assert timing.compile_seconds == 0
        needed = num_steps + NUM_WARMUP_STEPS
        assert told[0] == ("warming up plain-8", 0, needed, "steps")
        assert told[-1] == ("timing plain-8", needed, needed, "steps")
        assert [done for _, done, *_ in told] == list(range(needed + 1))

    def test_a_learning_rate_that_diverges_costs_as_much_as_another(self):
        result = bench.bench([digits(arch="resnet", lr=1e6)], num_steps=20)
        assert statistics.median(result.costs[0].timing.step_seconds) > 0

    def test_networks_are_described_as_a_run_describes_them(self, monkeypatch):
        monkeypatch.setattr(bench, "measure", lambda *_, **__: TestCost.TIMING)
        monkeypatch.setitem(bench._MATRIX_SIZES, "cpu", 8)
        configs = [digits(), digits(arch="resnet", depth=56)]
        plain, resnet = bench.bench(configs).costs
        assert (plain.config, resnet.config) == tuple(configs)
        assert resnet.parameters == 853_018
        assert plain.workload == Workload.of(configs[0], num_train=1437, num_val=0, num_test=360)
        assert plain.decisions["compile"].value == "off"
        assert plain.images_per_step == 128

    @pytest.mark.parametrize(
        "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")]
    )
    def test_too_little_memory_is_said_with_the_network_and_the_batch(self, monkeypatch, error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(bench, "measure", fail)
        with pytest.raises(OutOfMemoryError, match=r"plain-8 with batches of 64 images.*--batch-size"):
            bench.bench([digits(batch_size=64)])

    def test_another_failure_is_not_taken_for_it(self, monkeypatch):
        def fail(*_, **__):
            raise RuntimeError("odd")

        monkeypatch.setattr(bench, "measure", fail)
        with pytest.raises(RuntimeError, match="odd"):
            bench.bench([digits()])


class TestMatrixPeak:
    def test_it_is_the_fastest_of_the_products(self):
        laps = itertools.chain.from_iterable((1.0, seconds) for seconds in (4.0, 0.5, 2.0))
        peak = matrix_peak(decide(digits()), size=10, num_products=3, clock=Watch(*laps))
        assert peak == (2 * 10**3 / 0.5, 10, 3, "fp32")

    def test_it_multiplies_in_the_precision_of_the_run(self, monkeypatch):
        seen, product = [], torch.mm

        def mm(a, b, out=None):
            seen.append({a.dtype, b.dtype})
            return product(a, b, out=out) if out is not None else product(a, b)

        monkeypatch.setattr(torch, "mm", mm)
        config = msgspec.structs.replace(digits(), precision="bf16")
        assert matrix_peak(decide(config), size=8, num_products=2).precision == "bf16"
        assert seen == [{torch.bfloat16}] * 3
