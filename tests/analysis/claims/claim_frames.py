"""Small synthetic evidence in which every claim holds, or the opposite of it."""

import msgspec
import numpy as np
import pandas as pd

from resnet_cli.analysis.claims.evidence import CorrectImages, Evidence, Networks

NETWORKS = Networks("plain-20", "plain-56", "resnet-20", "resnet-56")
DEPTHS = {"plain-20": 20, "plain-56": 56, "resnet-20": 20, "resnet-56": 56}
EPOCHS = 24
TEST_IMAGES = 200
NO_ROWS = pd.DataFrame()


def make_evidence(*, holds=True, seeds=5, without=(), diverged=0, **fields):
    """Evidence of four networks.

    Args:
        holds: whether the claims hold; else the opposite of each.
        seeds: per network.
        without: names of probes and frames that were not measured.
        diverged: number of seeds of plain-56 that diverged.
        fields: of `Evidence`, to replace.
    """
    rng = np.random.default_rng(0)

    def identities(network):
        first = diverged if network == "plain-56" else 0
        return [
            {"network": network, "depth": DEPTHS[network], "seed": seed, "path": f"{network}-{seed}"}
            for seed in range(first, seeds)
        ]

    def frame(*rows_of):
        """Rows of every run; each function gives the rows of one network, with noise."""
        return pd.DataFrame(
            [identity | row for network in DEPTHS for identity in identities(network)
             for of in rows_of for row in of(network)]
        )  # fmt: skip

    def level(network, good, bad, spread=0.02):
        """A value that is `good` for the network in whose favour the claim speaks, with the noise of a seed."""
        is_residual = network.startswith("resnet")
        return (good if is_residual == holds else bad) + rng.normal(0, spread)

    accuracy = {"plain-20": 91, "plain-56": 87, "resnet-20": 92, "resnet-56": 94} if holds else {
        "plain-20": 91, "plain-56": 95, "resnet-20": 92, "resnet-56": 90,
    }  # fmt: skip
    training_error = {**dict.fromkeys(DEPTHS, 5.0), "plain-56": 9.0 if holds else 1.0}
    guessing = [
        {"network": "plain-56", "depth": 56, "seed": seed, "path": f"diverged-{seed}", "status": "diverged",
         "test_accuracy_pct": 10.0, "train_clean_error_pct": 90.0}
        for seed in range(diverged)
    ]  # fmt: skip

    def run(network):
        noise = rng.normal(0, 0.05)
        return [{"status": "complete", "test_accuracy_pct": accuracy[network] + noise,
                 "train_clean_error_pct": training_error[network] + noise}]  # fmt: skip

    def epoch_rows(network):
        scale, wiggle = level(network, 4.0, 8.0), level(network, 0.1, 2.0, 0.01)
        return [
            {"epoch": epoch, "lr": 0.1, "train_clean_error_pct": 90 * np.exp(-epoch / scale),
             "test_accuracy_pct": 50 + wiggle * (-1) ** epoch}
            for epoch in range(1, EPOCHS + 1)
        ]  # fmt: skip

    def gradients(network):
        is_plain = network.startswith("plain")
        growth = (0.5 if is_plain else 1.02) if holds else (1.02 if is_plain else 1.4)
        return [
            {"epoch": 0, "layer": f"layer{stage}.{block}.conv1", "stage": stage, "block": block,
             "growth": growth + rng.normal(0, 0.002), "input_grad_norm": 1.0, "scale_free_grad_norm": 1.0,
             "skip_share": None if is_plain else 0.7, "layer_index": 8 * stage + block, "weight_norm": 1.0}
            for stage in (1, 2, 3) for block in range(1, 9)
        ]  # fmt: skip

    def gradflow(network):
        survival = 0.2 if network.startswith("resnet") else None
        return [{"which": "init", "stage": 1, "block": 1, "skip_path_survival": survival}]

    def bn(network):
        error = training_error[network] + rng.normal(0, 0.05)
        return [{"which": "last", "statistics": kind, "split": "train", "error_pct": error, "num_images": 1000}
                for kind in ("running", "re-estimated")]  # fmt: skip

    def capacity(network):
        if network != "plain-20":
            return []
        difference = 1e-6 if holds else 1.0
        columns = ("built_depth", "mode", "split", "epoch", "max_logit_difference", "num_changed", "error_pct")
        rows = [(20, "eval", "train", 0, 0.0, 0, 5.0), (56, "eval", "train", 0, difference, 0, 5.0),
                (56, "train", "train", 0, 20.0, 90, 23.0), (56, "fine-tuned", "train", 2, 20.0, 90, 4.0)]  # fmt: skip
        return [
            {"which": "last", "statistics": "initial", "dtype": "float64", **dict(zip(columns, row, strict=True))}
            for row in rows
        ]

    def shattering(network):
        levels = {"network": level(network, 0.8, 0.1), "white": 0.0, "brown": 1.0}
        return [{"which": "init", "quantity": "autocorrelation", "series": series, "lag": 1, "distance": 0.1,
                 "autocorrelation": value} for series, value in levels.items()]  # fmt: skip

    def responses(network):
        growth = np.exp(rng.normal(0, 0.05)) * (0.4 if holds else 2.5)
        return [{"which": "last", "branch_to_skip_growth": growth if network.startswith("resnet") else None,
                 "downsampling": False, "deviation": 0.9}]  # fmt: skip

    def lesion(network):
        harm = level(network, 0.5, 40.0)
        return [{"which": "last", "lesion": "delete", "blocks": "layer1.0", "statistics": kind, "downsampling": False,
                 "error_change_pp": harm, "num_images": 1000} for kind in ("running", "re-estimated")]  # fmt: skip

    def landscape(network):
        return [{"which": "last", "part": "slice", "direction": 1, "alpha": 0.0, "loss": 0.5},
                {"which": "last", "part": "eigenvalue", "matrix": "DHD", "end": "largest",
                 "eigenvalue": level(network, 2.0, 20.0), "residual": 0.01}]  # fmt: skip

    def similarity(network):
        loss = level(network, 0.5, 10.0)
        return [{"which": "last", "quantity": "linear probe", "block_index": index, "accuracy_pct": value,
                 "num_images": 1000}
                for index, value in enumerate((60.0, 90.0, 90.0 - loss))]  # fmt: skip

    def calibration(network):
        confidence, gap = level(network, 95.0, 85.0), level(network, 2.0, 6.0)
        return [{"which": which, "scaling": "none", "bin": None, "confidence_pct": value, "gap_pct": gap,
                 "entropy": 0.2, "nll": 0.3, "brier": 0.1, "ece_pct": 3.0}
                for which, value in (("last", confidence), ("init", 10.0))]  # fmt: skip

    def correct(network):
        runs = identities(network)
        right = np.array([level(network, 0.95, 0.7, 0.001) > rng.random(TEST_IMAGES) for _ in runs])
        return CorrectImages(pd.DataFrame(runs), np.arange(TEST_IMAGES) % 2, right)

    probes = {probe.__name__: probe for probe in (
        bn, gradflow, capacity, shattering, responses, lesion, landscape, similarity, calibration,
    )}  # fmt: skip
    evidence = Evidence(**{
        "networks": NETWORKS, "num_classes": 10, "num_train": 1000, "num_test": TEST_IMAGES,
        "runs": pd.concat([frame(run), pd.DataFrame(guessing)], ignore_index=True),
        "epochs": frame(epoch_rows).iloc[: 0 if "epochs" in without else None],
        "gradflow": NO_ROWS if "gradflow" in without else frame(gradients),
        "load_probe": lambda name: NO_ROWS if name in without else frame(probes[name]),
        "load_correct": lambda network: None if "correct" in without else correct(network),
        **fields,
    })  # fmt: skip
    return evidence if "warmup" in without else msgspec.structs.replace(evidence, warmup=evidence)


def without_networks(evidence, *networks):
    """The same evidence, without the runs of some networks."""

    def kept(frame):
        return frame if frame.empty else frame[~frame["network"].isin(networks)]

    return msgspec.structs.replace(
        evidence, runs=kept(evidence.runs), epochs=kept(evidence.epochs), gradflow=kept(evidence.gradflow),
        load_probe=lambda name: kept(evidence.load_probe(name)),
        load_correct=lambda network: None if network in networks else evidence.load_correct(network),
    )  # fmt: skip
