"""Summary table and figure of each probe, from its rows; one file per probe, without torch.

Each module defines `table(frame) -> Summary` and `draw(frame) -> Figure`. The frame has the columns label, network,
which, dataset and seed, followed by the columns of the probe; the rows of each label are in the probe's order.
"""
