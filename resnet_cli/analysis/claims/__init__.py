"""Verdicts on the claims of the two documents."""

from resnet_cli.analysis.claims.document import (
    CLAIM_COLUMNS,
    check_claims,
    claims_document,
    claims_report,
    explanation,
    judge_claims,
)

__all__ = ["CLAIM_COLUMNS", "check_claims", "claims_document", "claims_report", "explanation", "judge_claims"]
