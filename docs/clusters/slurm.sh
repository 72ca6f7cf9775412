#!/usr/bin/env bash
# A sweep as one SLURM job: Ray's head on the first node, a worker on every other, all of them train. docs/cluster.md.
#
#   sbatch --nodes=4 docs/clusters/slurm.sh sweeps/ablation.yaml --runs /shared/runs
#
# Run it from the root of the repository, on storage that all nodes share, in an environment where vididi is installed.
#SBATCH --job-name=vididi
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --cpus-per-task=48
#SBATCH --gpus-per-node=4
#SBATCH --mem=180G
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

: "${1:?usage: sbatch docs/clusters/slurm.sh SWEEP.yaml [options of run_sweep.py]}"
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address=$(srun --nodes=1 --ntasks=1 -w "${nodes[0]}" hostname -I | awk '{print $1}'):$((20000 + SLURM_JOB_ID % 10000))

export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" # srun does not take it from sbatch
# One token for this job's nodes; without it another user of these machines could run code in the cluster.
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_TOKEN_PATH="$PWD/.ray-token-$SLURM_JOB_ID"
export VIDIDI_CACHE="${VIDIDI_CACHE:-$PWD/.cache}" # prepared data, for all nodes
(umask 077 && python -c 'import secrets; print(secrets.token_hex(32))' >"$RAY_AUTH_TOKEN_PATH")
trap 'kill $(jobs -p) 2>&- || true; wait; rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT

# USR1 comes two minutes before the time is up (--signal): the sweep writes its checkpoints, and the job is put into the queue again.
# TERM (scancel --batch) ends the sweep alike, and the job with it. A signal before the sweep has begun keeps it from beginning.
sweep='' stopped='' again=''
stop() {
    stopped=1
    if [[ -n $sweep ]]; then kill -TERM "$sweep" 2>&- || true; fi
}
trap 'again=1; stop' USR1
trap stop TERM

# --block: Ray on a node lives as long as its srun, and SLURM ends it with the job. No `ray stop`, which would end every Ray
# of this user on the node. A third of the memory for the object store, as it lies in /dev/shm, which counts as the job's memory.
node=(--num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --object-store-memory=$((SLURM_MEM_PER_NODE * 1024 * 1024 / 3)) --block)
srun --nodes=1 --ntasks=1 -w "${nodes[0]}" ray start --head --node-ip-address="${address%:*}" --port="${address#*:}" \
    --dashboard-host=127.0.0.1 --temp-dir="/tmp/ray-$SLURM_JOB_ID" "${node[@]}" &
if ((${#nodes[@]} > 1)); then
    until (echo >"/dev/tcp/${address%:*}/${address#*:}") 2>&-; do sleep 1; done
    srun --nodes=$((${#nodes[@]} - 1)) --ntasks=$((${#nodes[@]} - 1)) --exclude="${nodes[0]}" ray start --address="$address" "${node[@]}" &
fi

timeout 300 python - "$address" "${#nodes[@]}" <<'WAIT'
import sys, time, ray

ray.init(sys.argv[1], log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    time.sleep(1)
WAIT

status=143
if [[ -z $stopped ]]; then
    python run_sweep.py "$@" --address "$address" --grace 90 &
    sweep=$!
    if [[ -n $stopped ]]; then stop; fi
    while kill -0 "$sweep" 2>&-; do wait "$sweep" || true; done # a signal ends a wait, not the sweep
    wait "$sweep" && status=0 || status=$?
fi
if [[ -n $again && $status == 143 ]]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$status"
