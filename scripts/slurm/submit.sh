#!/usr/bin/env bash
# Submits a labelling in shards and the merge that follows if every shard succeeds; prints the two job numbers.
#
#   DATA=… DECODER=… LE=… OUT=… scripts/slurm/submit.sh [sbatch flags, such as --array=1-64 --partition=gpu]
#
# What label-array.sbatch reads from the environment goes with the jobs. An array from 1 has a shard for every task; for
# a part of one, such as --array=3,7 to label what failed again, SHARDS says how many shards the whole has.
set -euo pipefail
for flag in "$@"; do
  if [[ $flag =~ ^--array=1-([0-9]+)(%[0-9]+)?$ ]]; then
    SHARDS=${SHARDS:-${BASH_REMATCH[1]}}
  elif [[ $flag =~ ^(--array|-a) && -z ${SHARDS:-} ]]; then
    echo "$flag does not tell how many shards there are; set SHARDS to their number" >&2
    exit 2
  fi
done
[ -z "${SHARDS:-}" ] || export SHARDS
here=$(dirname "$0")
array=$(sbatch --parsable --export=ALL "$@" "$here/label-array.sbatch")
merge=$(sbatch --parsable --export=ALL --dependency="afterok:$array" --kill-on-invalid-dep=yes "$here/label-merge.sbatch")
echo "$array $merge"
