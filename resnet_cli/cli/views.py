"""Tables that several commands print."""

from pathlib import Path

from rich.table import Table
from rich.text import Text

from resnet_cli.rundir import RunRecord, Summary
from resnet_cli.util.text import duration, printable


def summary_table(record: RunRecord, summary: Summary, path: Path) -> Table:
    """Table of the last and best results of a run."""
    table = Table(
        title=f"{record.config.network} on {printable(record.dataset.display_name)}", title_justify="left", box=None
    )
    table.add_column("measure")
    table.add_column(f"last (epoch {summary.last.get('epoch', '?')})", justify="right")
    table.add_column(f"best (epoch {summary.best.get('epoch', '?')})*", justify="right")
    rows = [
        ("test accuracy", "test_accuracy_pct"),
        ("test error", "test_error_pct"),
        ("validation error", "val_error_pct"),
        ("training error", "train_error_pct"),
        ("clean training error", "train_clean_error_pct"),
    ]
    for label, name in rows:
        values = [source.get(name) for source in (summary.last, summary.best)]
        if any(value is not None for value in values):
            table.add_row(label, *("—" if value is None else f"{value:.2f} %" for value in values))
    table.caption = Text(
        f"* chosen on the {summary.best_chosen_on} set; trained for {duration(summary.train_seconds)}, "
        f"evaluated for {duration(summary.eval_seconds)}\n{printable(str(path))}",
        justify="left",
    )
    return table
