#!/usr/bin/env bash
# Submits a labelling in shards and the merge that follows if every shard succeeds; prints the two job numbers.
#
#   DATA=… DECODER=… LE=… OUT=… scripts/slurm/submit.sh [sbatch flags, such as --array=1-64 --partition=gpu]
#
# What label-array.sbatch reads from the environment goes with the jobs.
set -euo pipefail
here=$(dirname "$0")
array=$(sbatch --parsable --export=ALL "$@" "$here/label-array.sbatch")
merge=$(sbatch --parsable --export=ALL --dependency="afterok:$array" --kill-on-invalid-dep=yes "$here/label-merge.sbatch")
echo "$array $merge"
