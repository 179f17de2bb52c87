#!/usr/bin/env bash
# Beside one_node.sh: submits a labelling with the ready job files, waits for the merge, and ends with its success.
#   label_and_merge.sh SUBMIT_SCRIPT [sbatch flags]
set -euo pipefail
read -r array merge <<<"$("$@")"
for _ in $(seq 300); do
  [ -n "$(squeue -h -j "$array,$merge" 2>/dev/null)" ] || break
  sleep 0.3
done
state=$(scontrol show job "$merge" | grep -o 'JobState=[A-Z]*')
echo "array $array, merge $merge: $state"
[ "$state" = JobState=COMPLETED ] || { tail -n 20 slurm-*.out >&2; exit 1; }
