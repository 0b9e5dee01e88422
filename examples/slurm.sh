#!/bin/sh
# Train a study on a SLURM cluster: a job array that trains the runs, then one job that writes the report.
#
#     examples/slurm.sh STUDY [OPTION...]
#
# STUDY is the folder of the study; the options are those of resnet reproduce:
#
#     examples/slurm.sh study --recipe overnight --seeds 0-4
#     SBATCH_GRES=gpu:1 examples/slurm.sh study --recipe report2025 --seeds 0-4 --device cuda
#     RUNS_PER_TASK=20 examples/slurm.sh study --recipe demo --seeds 0-2499
#
# Start it on a login node where `resnet` is on the PATH, in a folder that all nodes share, after `resnet data fetch`.
# SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_TIMELIMIT and the other variables of sbatch override the #SBATCH lines below.
# A run that is preempted or reaches its time limit saves a checkpoint and is queued again. Once all jobs have ended,
# `examples/slurm.sh STUDY` submits the runs that are still missing.
set -eu

study=${1:?usage: examples/slurm.sh STUDY [OPTION...]}
shift
export RUNS_PER_TASK="${RUNS_PER_TASK:-1}" # trained one after another
mkdir -p "$study/slurm"
batch=$(mktemp -d "$study/slurm/XXXXXX") # commands and logs of this submission
if [ -e "$study/study.toml" ]; then set -- "$study" "$@"; else set -- --out "$study" "$@"; fi
resnet reproduce "$@" --print-commands >"$batch/commands"
# SLURM's default limit for an array is 1,000 tasks
split -a 3 -l "$((1000 * RUNS_PER_TASK))" "$batch/commands" "$batch/part-"

submit_array() { # FILE with one command per line
  tasks=$((($(wc -l <"$1") + RUNS_PER_TASK - 1) / RUNS_PER_TASK))
  RESNET_COMMANDS=$1 sbatch --parsable --array="1-$tasks" --output="$batch/%A_%a.log" <<'TASK'
#!/bin/sh
#SBATCH --job-name=resnet
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR1@120
# Without "B:" the signal goes to the processes that srun started, as SIGTERM does at a preemption. resnet then saves a
# checkpoint and exits with 75; before its first training step, where there is nothing to save, the signal ends it.
export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"
step() { srun --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" "$@"; }
status=0
last=$((SLURM_ARRAY_TASK_ID * RUNS_PER_TASK))
for line in $(seq "$((last - RUNS_PER_TASK + 1))" "$last"); do
  eval "set -- $(sed -n "${line}p" "$RESNET_COMMANDS")"
  [ $# -gt 0 ] || break # the last task may have fewer runs
  run=$(printf '%s\n' "$@" | sed -n '/^--out$/{n;p;}')
  # the probe: training error with re-estimated batch-norm statistics, for the verdicts
  step "$@" && step resnet probe bn "$run" --quiet && continue
  status=$?
  case $status in
    75 | 138 | 143) # stopped by a signal: 138 = 128 + SIGUSR1, 143 = 128 + SIGTERM
      scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
      break ;;
  esac
done
exit "$status"
TASK
}

jobs=
for part in "$batch"/part-*; do
  [ -e "$part" ] || continue # every run is complete
  job=$(submit_array "$part")
  jobs=$jobs:${job%%;*} # sbatch prints JOB or JOB;CLUSTER
done

unset SBATCH_GRES # the report needs no GPU
RESNET_STUDY=$study sbatch ${jobs:+--dependency="afterany$jobs"} --output="$batch/report.log" <<'REPORT'
#!/bin/sh
#SBATCH --job-name=resnet-report
#SBATCH --time=01:00:00
resnet compare "$RESNET_STUDY/runs"
resnet compare "$RESNET_STUDY/runs" --claims
resnet report "$RESNET_STUDY/runs" --out "$RESNET_STUDY/report.html"
REPORT
