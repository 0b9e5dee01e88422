"""Rows of gradflow.csv with the columns of layers and blocks."""

import pandas as pd


def gradient_rows(depth, epochs, *, scale=1.0, weight_norm=4.0, residual=False):
    """Rows in which ‖W‖·‖∂L/∂W‖ of a layer is `scale` × its number, and ‖∂L/∂x‖ of a block `scale` / its layer.

    ‖∂L/∂W‖ alone is proportional to 1 / `weight_norm`, as under batch normalisation.
    """
    per_stage = (depth - 2) // 3
    rows = []
    for epoch in epochs:
        for layer in range(1, depth + 1):
            stage, position = divmod(layer - 2, per_stage)
            stage = 0 if layer == 1 else 4 if layer == depth else stage + 1
            is_first = stage in (1, 2, 3) and position % 2 == 0
            norm = scale * layer
            rows.append({
                "epoch": epoch, "layer_index": layer, "layer": f"layer{layer}", "stage": stage,
                "block": position // 2 + 1 if stage in (1, 2, 3) else 0,
                "grad_norm": norm / weight_norm, "weight_norm": weight_norm, "scale_free_grad_norm": norm,
                "effective_step": 0.1 / weight_norm**2, "update_to_weight_ratio": 0.01 if epoch else None,
                "input_grad_norm": scale / layer if is_first else None,
                "skip_share": 0.75 if is_first and residual else None,
                "branch_share": 0.25 if is_first and residual else None,
                "skip_branch_cosine": 0.5 if is_first and residual else None,
            })  # fmt: skip
    return pd.DataFrame(rows).astype({"input_grad_norm": float, "skip_share": float})
