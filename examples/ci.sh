#!/bin/sh
# Fail a build if skip connections no longer remove the degradation.
#
#     examples/ci.sh [FOLDER]
#
# Trains the demo study in FOLDER (default: study) with three seeds, or resumes it, and writes FOLDER/report.html, which
# CI should keep. Then checks three statements about the results, and requires two claims to be supported. Exits with
# code 3 if one of them does not hold.
set -eu

folder=${1:-study}

resnet reproduce --recipe demo --seeds 0-2 --probes bn,capacity --out "$folder" --quiet
resnet compare "$folder/runs" \
  --assert "plain-56.train_clean_error_pct > plain-20.train_clean_error_pct + 10" \
  --assert "resnet-56.train_clean_error_pct < plain-56.train_clean_error_pct" \
  --assert "resnet-56.test_accuracy_pct > plain-56.test_accuracy_pct"
resnet compare "$folder/runs" --require capacity --require highway
