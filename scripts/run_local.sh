#!/usr/bin/env bash
# N processes of one program on this machine, as they would run on N hosts:
#   scripts/run_local.sh 2 train_gan --config=configs/digits.py --workdir=runs/digits
# Output of process 0 goes to the terminal, that of the others to log files that are named if one
# fails. Ctrl-C ends all. PORT and PYTHON can be set in the environment.
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
count=$1 program=$2
shift 2
python=${PYTHON:-.venv/bin/python}
port=${PORT:-$("$python" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')}
logs=$(mktemp -d "${TMPDIR:-/tmp}/run_local.XXXXXX")
processes=()
trap 'kill "${processes[@]}" 2>/dev/null || true' INT TERM
for ((index = count - 1; index >= 0; index--)); do
  command=("$python" -m "launch.$program" "$@"
    "--coordinator=127.0.0.1:$port" "--num_processes=$count" "--process_id=$index")
  if ((index > 0)); then
    "${command[@]}" >"$logs/$index.log" 2>&1 &
  else
    "${command[@]}" &
  fi
  processes+=($!)
done
status=0
for process in "${processes[@]}"; do
  wait "$process" || status=$?
done
if ((status)); then
  echo "run_local: a process ended with $status; logs of processes 1 to $((count - 1)): $logs" >&2
else
  rm -r "$logs"
fi
exit "$status"
