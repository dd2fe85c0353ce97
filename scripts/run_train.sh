#!/usr/bin/env bash
# Train on one device. The arguments are those of MindSpore's SPADE; more options of train.py may follow them.
set -euo pipefail
if [ $# -lt 3 ]; then
    cat >&2 <<'USAGE'
usage: bash scripts/run_train.sh VGG_WEIGHTS DATA_ROOT LOAD_EPOCH [OPTIONS OF train.py ...]
  VGG_WEIGHTS  vgg19pretrain.pdparams, or torchvision's vgg19 as .pth or .safetensors; "none" trains without that loss
  DATA_ROOT    folder of the data set; the layout tells ADE20K and Cityscapes, all else is taken for COCO-Stuff
  LOAD_EPOCH   0 starts anew (an earlier run's checkpoints are moved aside); N goes on from the last checkpoint,
               which must be that of epoch N; "last" goes on from the last one, whichever it is
example: bash scripts/run_train.sh vgg/vgg19-dcbb9e9d.pth dataset/ADEChallengeData2016 0 --batchSize 4
USAGE
    exit 1
fi
vgg=$1 root=$2 epoch=$3
shift 3
output=output before=
for word in "$@"; do  # --output among the options, in either way of writing
    case "$before $word" in "--output "*) output=$word ;; *" --output="*) output=${word#--output=} ;; esac
    before=$word
done
preset=coco_stuff
if [ -d "$root/annotations" ] || [ -d "$root/ADEChallengeData2016" ]; then preset=ade20k; fi
if [ -d "$root/gtFine" ]; then preset=cityscapes; fi
options=(--preset "$preset" --dataroot "$root")
if [ "$vgg" = none ]; then options+=(--no_vgg_loss); else options+=(--vgg_path "$vgg"); fi
if [ "$epoch" = 0 ]; then
    options+=(--fresh)
elif [ "$epoch" != last ]; then
    meta=$output/model/latest/meta.json
    [ -f "$meta" ] || { echo "error: $meta does not exist, there is nothing to go on from: give LOAD_EPOCH 0" >&2; exit 2; }
    done_epochs=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["epoch"])' "$meta")
    if [ "$done_epochs" != "$epoch" ]; then
        echo "error: the last checkpoint in $output/model has done $done_epochs epochs: give LOAD_EPOCH $done_epochs" >&2
        exit 2
    fi
fi
# run_distribute_train.sh gives another LAUNCHER, of several words.
# shellcheck disable=SC2086
exec ${LAUNCHER:-python} "$(dirname "$0")/../train.py" "${options[@]}" "$@"
