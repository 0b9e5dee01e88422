"""Tables that several commands print."""

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from resnet_cli.cli.output import Output
from resnet_cli.cli.views import summary_table

OUT = Path("runs/plain-8-seed0")


@pytest.fixture
def made(make_run, tmp_path):
    """A complete run of 56 layers as record and summary."""
    run = make_run(tmp_path / "run", arch="plain", depth=56, accuracy=86.71, train_error=5.0)
    return run.read_record(), run.read_summary()


class TestSummaryTable:
    def lines(self, table, width=60):
        console = Output().stdout
        console.width = width
        with console.capture() as printed:
            console.print(table)
        return [line.strip() for line in printed.get().splitlines()]

    def test_the_summary_table_fits_sixty_columns(self, made):
        lines = self.lines(summary_table(*made, OUT))
        assert lines[0] == "plain-56 on CIFAR-10"
        values = {re.split(r"\s{2,}", line)[0]: re.findall(r"[\d.]+ %", line) for line in lines if "%" in line}
        assert values == {
            "test accuracy": ["86.71 %", "86.81 %"],
            "test error": ["13.29 %", "13.19 %"],
            "training error": ["6.00 %", "5.90 %"],
            "clean training error": ["5.00 %", "4.90 %"],
        }
        text = " ".join(lines)
        assert "* chosen on the test set; trained for 1 min 30 s, evaluated for 9.0 s" in text
        assert str(OUT) in text

    def test_the_summary_table_names_the_epochs_of_last_and_best(self, made):
        header = self.lines(summary_table(*made, OUT), width=100)[1]
        assert re.split(r"\s{2,}", header) == ["measure", "last (epoch 3)", "best (epoch 2)*"]

    def test_the_summary_table_shows_the_validation_error_if_there_is_one(self, make_run, tmp_path):
        run = make_run(tmp_path / "val", val_size=5000, accuracy=90.0)
        text = "\n".join(self.lines(summary_table(run.read_record(), run.read_summary(), OUT)))
        assert re.search(r"validation error\s+10\.50 %\s+10\.40 %", text)
        assert "* chosen on the val set" in text

    def test_the_summary_table_shows_a_dash_where_a_value_was_not_measured(self, made):
        record, summary = made
        best = replace(summary.best, train_clean_error_pct=None)
        text = "\n".join(self.lines(summary_table(record, replace(summary, best=best), OUT)))
        assert re.search(r"clean training error\s+5\.00 %\s+—", text)

    def test_the_summary_table_escapes_control_characters_in_names(self, made):
        record, summary = made
        hostile = replace(record.dataset, display_name="cats\x1b[2J[/b][red]")
        table = summary_table(replace(record, dataset=hostile), summary, Path("runs/\x1b[2J[/b]"))
        text = "\n".join(self.lines(table, width=100))
        assert "\x1b" not in text
        assert r"cats\x1b[2J[/b][red]" in text
        assert r"runs/\x1b[2J[/b]" in text
