#!/usr/bin/env bash
# Train on several devices of one machine. The arguments are those of MindSpore's SPADE; more options of train.py may
# follow them. DEVICE_NUM processes are started (default: one for each GPU; without GPUs 2). When one of them dies, the
# run goes on from its last checkpoint, up to RESTARTS times (default 3); not after a mistake or a signal to this script.
set -euo pipefail
here=$(dirname "$0")
if [ $# -lt 3 ]; then
    bash "$here/run_train.sh" 2>&1 | sed 's/run_train/run_distribute_train/; s/^usage:/usage: [DEVICE_NUM=N] [RESTARTS=N]/' >&2
    exit 1
fi
vgg=$1 root=$2 epoch=$3
shift 3
output=output before=
for word in "$@"; do  # as in run_train.sh
    case "$before $word" in "--output "*) output=$word ;; *" --output="*) output=${word#--output=} ;; esac
    before=$word
done
LAUNCHER="python -m paddle.distributed.launch"
gpus=$(python -c 'import paddle; print(paddle.device.cuda.device_count())' 2>/dev/null | tail -n 1)
if [ "$gpus" = 0 ]; then
    LAUNCHER+=" --nproc_per_node ${DEVICE_NUM:-2}"
elif [ -n "${DEVICE_NUM:-}" ]; then
    LAUNCHER+=" --devices $(seq -s, 0 $((DEVICE_NUM - 1)))"
fi
export LAUNCHER

latest() { stat -c %i "$output/model/latest" 2>/dev/null || true; }
first=$(latest) stopped=
trap 'stopped=1; kill -TERM "$run" 2>/dev/null' TERM INT
for left in $(seq "${RESTARTS:-3}" -1 0); do
    status=0
    bash "$here/run_train.sh" "$vgg" "$root" "$epoch" "$@" &
    run=$!
    wait "$run" || status=$?
    while kill -0 "$run" 2>/dev/null; do wait "$run" || status=$?; done  # a signal ends a wait early
    # 75: another process was lost; above 128: killed
    if [ -n "$stopped" ] || { [ $status != 75 ] && [ $status -le 130 ]; } || [ "$left" = 0 ]; then exit $status; fi
    if [ "$(latest)" != "$first" ]; then epoch=last; fi
    echo "a process died (status $status): going on from the last checkpoint, $left restarts left" >&2
done
