#!/usr/bin/env bash
# Generate the validation pictures with a checkpoint. The arguments are those of MindSpore's SPADE; more options of
# val.py may follow them, for example --metrics fid.
set -euo pipefail
if [ $# -lt 4 ]; then
    cat >&2 <<'USAGE'
usage: bash scripts/run_eval.sh DEVICE_ID EPOCH CHECKPOINT DATA_ROOT [OPTIONS OF val.py ...]
  DEVICE_ID    number of the GPU, or "cpu"
  EPOCH        epoch of the checkpoint, "latest" or "best"
  CHECKPOINT   folder of checkpoints, such as output/model; with EPOCH latest also a generator's .pdparams file
  DATA_ROOT    folder of the data set
example: bash scripts/run_eval.sh 0 200 output/model dataset/ADEChallengeData2016 --metrics fid
USAGE
    exit 1
fi
device=$1 epoch=$2 checkpoint=$3 root=$4
shift 4
[ "$device" = cpu ] || device=gpu:$device
exec python "$(dirname "$0")/../val.py" --device "$device" --which_epoch "$epoch" --checkpoint "$checkpoint" --dataroot "$root" "$@"
