#!/bin/bash
# Trains on several machines with Slurm, one process per machine, which uses all its GPUs:
#   sbatch docs/scale/slurm.sh sargan --preset paper --data.path dataset --run runs/sargan
# The same command continues the run, also on another number of machines. Two minutes before the time
# limit Slurm sends USR1, at which the training saves its state and ends.
#SBATCH --job-name=tfface
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@120
set -euo pipefail

port=$((20000 + SLURM_JOB_ID % 10000)) # Two jobs may share a machine.
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
export WORKERS
WORKERS=$(printf "\"%s:$port\"," $hosts)
WORKERS=${WORKERS%,}

srun bash -c '
    export TF_CONFIG="{\"cluster\": {\"worker\": [$WORKERS]}, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
    exec python -m tfface.train "$@"' worker "$@"
