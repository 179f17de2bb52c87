#!/usr/bin/env bash
# Runs a command beside a Slurm cluster of one node, this machine, that lives in a temporary folder and ends with it.
# Needs root and Debian's slurm-wlm; ends with 77 where that is not at hand.
set -euo pipefail
skip() { echo "skipped: $1" >&2; exit 77; }
[ "$(id -u)" = 0 ] || skip "a Slurm cluster of one node is started by root"
for program in munged slurmctld slurmd sbatch; do command -v "$program" >/dev/null || skip "there is no $program"; done

dir=$(mktemp -d)
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$dir"
}
trap finish EXIT

# A munge daemon of its own, with its own key.
mkdir -m 700 "$dir/munge"
head -c 1024 /dev/urandom >"$dir/munge.key"
chmod 600 "$dir/munge.key"
chmod 755 "$dir"
chmod 755 "$dir/munge"
munged --foreground --force --key-file="$dir/munge.key" --socket="$dir/munge/socket" --pid-file="$dir/munge/pid" \
  --seed-file="$dir/munge/seed" --log-file="$dir/munge/log" >"$dir/munged.out" 2>&1 &
pids+=($!)

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
host=$(hostname -s)
mkdir "$dir/state" "$dir/spool"
cat >"$dir/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MailProg=/bin/true
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
# Containers have no cgroups to hand out. Only later versions can be told so; the older plugin does not look.
case $(slurmd -V | grep -oE '[0-9]+\.[0-9]+' | head -n 1) in
  2[0-2].* | 23.02) echo "CgroupPlugin=cgroup/v1" >"$dir/cgroup.conf" ;;
  *) echo "CgroupPlugin=disabled" >"$dir/cgroup.conf" ;;
esac
export SLURM_CONF="$dir/slurm.conf"
slurmctld -D -f "$SLURM_CONF" >"$dir/slurmctld.out" 2>&1 &
pids+=($!)
slurmd -D -f "$SLURM_CONF" >"$dir/slurmd.out" 2>&1 &
pids+=($!)

for _ in $(seq 100); do
  for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || break 2; done
  if sinfo -h -o %T 2>/dev/null | grep -q idle; then
    "$@"
    exit
  fi
  sleep 0.2
done
tail -n 20 "$dir"/*.out >&2
skip "the cluster did not come up"
