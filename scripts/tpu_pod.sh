#!/usr/bin/env bash
# One process on every host of a Cloud TPU pod slice:
#   TPU=my-v5e-16 ZONE=us-west4-a scripts/tpu_pod.sh train_gan --config=… --workdir=/mnt/shared/runs/x
# The code lies in ~/vrn of every host, installed with jax[tpu]; --workdir is on a file system they
# share (NFS or Filestore). JAX finds coordinator and ids in the TPU's metadata.
set -euo pipefail
: "${TPU:?name of the TPU}" "${ZONE:?its zone}"
program=$1
shift
printf -v flags '%q ' "$@"
gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all \
  --command="cd ~/vrn && .venv/bin/python -m launch.$program $flags --distributed=auto"
