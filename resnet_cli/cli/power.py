"""`resnet power`: how many seeds a study needs before it is trained."""

from pathlib import Path
from typing import Annotated

import typer

from resnet_cli.cli.completion import complete_runs
from resnet_cli.cli.options import Json, Quiet
from resnet_cli.cli.output import Output
from resnet_cli.cli.views import ReportView
from resnet_cli.errors import UsageError

HELP = """Plan a study: the effect that a number of seeds detects, and the seeds that a claim needs.

The spread over seeds comes from runs (--runs; the upper 80 % limit of its estimate) or is given (--sigma).
The number of seeds is for the smallest effect of interest, which is fixed for each claim, never for an observed effect.
For the names of all claims, see resnet compare --claims.

Examples:

  resnet power --claim gap --sigma 0.3

  resnet power --claim gap --runs runs

  resnet power --claim degradation --sigma 0.8 --n 4 --looks 3
"""


def command(
    *,
    claim: Annotated[
        str | None, typer.Option(metavar="CLAIM", help="Claim to plan for (required).", show_default=False)
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN", show_default=False, autocompletion=complete_runs,
            help="Run directories, or folders to search for them, that supply the spread. Can be given several times.",
        ),
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option(
            min=0.0, metavar="S", show_default=False,
            help="Standard deviation over seeds, of the noisiest network, in the unit of the claim: pp (percentage "
            "points), or natural logarithms for a claim about a ratio.",
        ),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option("--n", min=2, max=10_000, metavar="N", help="Seeds per network (default: 3, 5 and 10).",
                     show_default=False),
    ] = None,
    looks: Annotated[
        int, typer.Option(min=1, max=100, metavar="N", help="How often the claim is judged while seeds are added.")
    ] = 1,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """See `HELP`."""
    from resnet_cli.analysis.claims import check_claims
    from resnet_cli.analysis.claims.decisions import alpha_per_look
    from resnet_cli.analysis.claims.power import SEEDS, Spread, measured_spreads, power_document, power_report
    from resnet_cli.analysis.frames import load_study

    example = "for example: resnet power --claim gap --sigma 0.3"
    if claim is None:
        raise UsageError("missing option --claim", hint=example)
    check_claims([claim], "--claim")
    if sigma is None and not runs:
        raise UsageError("missing option --sigma, or --runs to measure the spread over seeds", hint=example)
    if sigma is not None and runs:
        raise UsageError("--runs and --sigma cannot be combined", hint="omit one of them")
    if sigma == 0:
        raise UsageError("--sigma must be above 0 (got 0)", hint="use the standard deviation of an earlier study")
    output = Output(json=json, quiet=quiet)
    if sigma is not None:
        spreads = [Spread(sigma, "given")]
    else:
        spreads = measured_spreads(load_study(runs or [], with_metrics=True), claim, warn=output.warn)
    document = power_document(claim, spreads, [n] if n else SEEDS, alpha=alpha_per_look(looks))
    output.result(document, ReportView(power_report(document)))
