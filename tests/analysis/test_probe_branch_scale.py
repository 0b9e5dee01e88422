"""Summary and figure of the probe `branch-scale`."""

import pandas as pd

from resnet_cli.analysis.figures.probes.branch_scale import draw, table

# α → error with running and with re-estimated statistics, deliberately not in order
ERRORS = {1.0: (10.0, 11.0), 0.0: (90.0, 80.0), 1.5: (60.0, 9.0)}
FRAME = pd.DataFrame([
    {
        "label": "a run", "network": "resnet-20", "alpha": alpha, "statistics": statistics, "split": split,
        "loss": error / 10 + offset, "error_pct": error + offset,
    }
    for alpha, errors in ERRORS.items()
    for statistics, error in zip(("running", "re-estimated"), errors, strict=True)
    for split, offset in (("train", 0.0), ("test", 1.0))
])  # fmt: skip


def test_the_summary_has_the_test_error_at_each_factor_and_the_factor_of_the_lowest_loss():
    summary = table(FRAME)
    assert summary.columns == ["network", "statistics", "α = 0", "α = 1", "α = 1.5", "α of lowest loss"]
    assert summary.rows == [
        ["a run", "running", 91.0, 11.0, 61.0, 1.0],
        ["a run", "re-estimated", 81.0, 12.0, 10.0, 1.5],
    ]


def test_the_figure_shows_error_and_loss_of_training_and_test_images_over_the_factor():
    train_error, test_error, train_loss, test_loss = draw(FRAME).axes
    assert train_error.lines[0].get_xydata().tolist() == [[0, 90], [1, 10], [1.5, 60]]
    assert test_error.lines[1].get_xydata().tolist() == [[0, 81], [1, 12], [1.5, 10]]
    assert train_loss.lines[1].get_ydata().tolist() == [8.0, 1.1, 0.9]
    assert test_loss.lines[0].get_ydata().tolist() == [10.0, 2.0, 7.0]
