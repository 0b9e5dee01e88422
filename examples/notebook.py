# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Plain and residual networks from Python
#
# Every cell runs on a laptop CPU in seconds and needs no network connection. The networks are small, the images are
# scikit-learn's digits. Open this file in Jupyter with jupytext, or run it with Python.

# %%
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

import resnet_cli

# %% [markdown]
# ## Train two networks
#
# A recipe supplies the default of every setting. `train` writes a run directory; called again with the same
# configuration, it resumes an unfinished run and returns the result of a complete one.

# %%
EPOCHS = 8
configs = [resnet_cli.make_config("demo", arch=arch, depth=8, epochs=EPOCHS) for arch in ("plain", "resnet")]
results = [resnet_cli.train(config, f"notebook/{config.network}") for config in configs]
for config, result in zip(configs, results, strict=True):
    print(f"{config.network}: test accuracy {result.summary.last.test_accuracy_pct:.1f} %")

# %% [markdown]
# ## Compare the runs as pandas frames

# %%
print(resnet_cli.load_runs(["notebook"])[["network", "test_accuracy_pct", "train_clean_error_pct"]])
print(resnet_cli.load_epochs(["notebook"]).pivot(index="epoch", columns="network", values="test_error_pct"))

# %% [markdown]
# ## Use a trained network
#
# `load_model` returns an `nn.Module` that takes images (N, 3, H, W), as bytes or as floats in [0, 1], and normalises
# them itself. It accepts run directories and weight files.

# %%
digits = load_digits()
grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), values 0 … 16 before
pixels = grey.repeat(2, axis=1).repeat(2, axis=2)[..., None].repeat(3, axis=3)  # (1797, 16, 16, 3)

model = resnet_cli.load_model("notebook/resnet-8", which="best")
with torch.no_grad():
    logits = model(torch.from_numpy(pixels[:10]).permute(0, 3, 1, 2))  # (10, classes)
print("predicted:", *(model.classes[label] for label in logits.argmax(dim=1)))
print("correct:  ", *digits.target[:10])

# %% [markdown]
# ## Train on your own images
#
# `dataset` takes the training and the test split, each as arrays (images, labels) or as a torch `Dataset`.

# %%
few = np.flatnonzero(digits.target < 3)  # three classes
train, test = ((pixels[indices], digits.target[indices]) for indices in (few[:400], few[400:]))
result = resnet_cli.train(configs[1], "notebook/three-digits", dataset=(train, test))
print(f"{len(result.record.dataset.classes)} classes: test accuracy {result.summary.last.test_accuracy_pct:.1f} %")

# %% [markdown]
# ## Plan a study
#
# `plan` lists the runs of a grid with their state and trains nothing. `resnet_cli.run_study(jobs)` then trains the
# missing runs in child processes, and `resnet_cli.write_results(Path("study"))` writes the table and the figures.

# %%
jobs = resnet_cli.plan(configs, Path("study") / "runs")
print([(job.name, job.state) for job in jobs])
