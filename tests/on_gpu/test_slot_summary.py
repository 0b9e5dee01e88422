"""The summary of a slot: goals, estimates and what failed."""

import pytest
from slot_modules import NAME, module


class TestSummary:
    def summarize(self, tmp_path, values, **options):
        results = module("gpu.results").Results(
            tmp_path / "results.json", sources={"tests": "abc", "speed": "abc"}, device=NAME
        )
        record = module("gpu.results").Record("speed/all", "done", "", 1.0, "abc", NAME, "", values)
        results.add(record)
        notes = options.get("notes", [])
        return module("gpu.summary").write_lines(results, [], options.get("runs", []), tmp_path / "runs", notes)

    @staticmethod
    def step(network, variant, seconds):
        return {"kind": "step", "network": network, "variant": variant, "seconds": seconds}

    def test_the_best_variant_is_compared_with_the_goal(self, tmp_path):
        values = [
            self.step("resnet-20", "tf32", 2e-3), self.step("resnet-20", "tf32, graph", 5.5e-4),
            self.step("resnet-20", "textbook", 1e-4), self.step("resnet-56", "tf32, graph", 1.7e-3),
        ]  # fmt: skip
        lines = self.summarize(tmp_path, values)
        assert "goal resnet-20 step ≤ 0.6 ms: reached, 0.550 ms (tf32, graph)" in lines
        assert "goal resnet-56 step ≤ 1.6 ms: missed, 1.700 ms (tf32, graph)" in lines

    def test_the_estimate_of_table_1_adds_epochs_evaluations_and_starts(self, tmp_path):
        epoch = {"kind": "epoch", "variant": "tf32, graph", "first_seconds": 11.0, "seconds": 1.0}
        networks = ("plain-20", "resnet-20", "plain-56", "resnet-56")
        values = [{**epoch, "network": name, "with_clean_error_seconds": 1.5} for name in networks]
        # each: 10 s to start, 200 epochs of 1 s and 20 evaluations of 0.5 s
        assert module("gpu.summary").table1_seconds(
            {(value["network"], value["variant"]): value for value in values}
        ) == pytest.approx(4 * 220)
        assert "goal Table 1 in sequence ≤ 8 min (estimate): missed, 14.7 min" in self.summarize(tmp_path, values)

    def test_the_estimate_of_shared_runs_ends_with_the_two_deeper_networks(self):
        steps = {(name, "tf32, graph"): {"seconds": 1 / 391} for name in ("resnet-20", "resnet-56")}
        shared = {
            (str(len(rates)), ""): {"how": "processes", "networks": [""] * len(rates), "steps_per_second": rates}
            for rates in ([782, 782, 391, 391], [782, 782])
        }
        # 200 epochs of 391 steps: the shallow networks take 100 s, in which the deep ones do half of theirs; the other
        # half takes 50 s. In sequence, all but the steps took 1000 s - 4 · 200 s.
        estimate = module("gpu.summary").shared_table1_seconds
        assert estimate(shared, 1000.0, steps) == pytest.approx(100 + 50 + 200)
        assert estimate({}, 1000.0, steps) is None

    def test_packages_older_than_required_are_named(self, tmp_path):
        environment = {
            "kind": "environment", "name": NAME, "torch": "2.9", "python": "3.12", "copy_bytes_per_second": 3e12,
            "older": ["torch 2.9, not 2.10"],
        }  # fmt: skip
        assert "older than required: torch 2.9, not 2.10" in self.summarize(tmp_path, [environment])

    def test_an_epoch_is_compared_with_the_textbook_trainer(self, tmp_path):
        values = [
            {"kind": "epoch", "network": "resnet-20", "variant": variant, "seconds": seconds, "first_seconds": seconds,
             "with_clean_error_seconds": seconds}
            for variant, seconds in (("tf32, graph", 0.5), ("textbook, 8 workers", 6.0))
        ]  # fmt: skip
        assert "goal resnet-20 epoch ≥ 10 × the textbook loop: reached, 12.0 ×" in self.summarize(tmp_path, values)

    def test_the_summary_has_at_most_60_lines_and_keeps_the_notes(self, tmp_path):
        values = [self.step(f"resnet-{i}", "fp32", 1.0) for i in range(100)]
        lines = self.summarize(tmp_path, values, notes=[f"note {i}" for i in range(9)])
        assert len(lines) == 60
        assert lines[-1] == "note: note 5"
        assert "more lines; all values are in results.json" in lines[-7]

    def test_runs_share_the_device_only_if_together_they_are_faster(self):
        steps = [self.step("resnet-20", "tf32, graph", 0.001), self.step("resnet-56", "tf32, graph", 0.002)]
        shared = {"how": "processes", "networks": ["plain-20", "resnet-20", "plain-56", "resnet-56"]}
        best = module("gpu.summary").best_concurrency
        assert best([{**shared, "steps_per_second": [300, 300, 150, 150]}], steps) == 4  # 0.3 of alone, four times
        assert best([{**shared, "steps_per_second": [200, 200, 100, 100]}], steps) == 1
        assert best([], steps) is None
