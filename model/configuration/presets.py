"""Recipes: what each changes in the options' defaults, and nothing else."""

from collections.abc import Mapping
from dataclasses import Field
from typing import Any

from model.configuration.fields import closest
from model.errors import UserError

# Paper, appendix A: 200 epochs, the learning rate falls from the 100th on; the released recipes have no encoder.
_LONG = dict(niter=100, niter_decay=100, use_vae=False)

# For trainings of minutes or hours on a CPU, without VGG's weights. From the released gain of 0.02 gamma and beta start
# so close to 0 that hundreds of steps show two colours; gain 1 is Glorot's. Of 256 style components most stay noise, in
# which G does not find the few that matter within thousands of steps.
_SHORT = dict(
    no_vgg_loss=True,
    batchSize=2,
    lr=1e-3,
    no_TTUR=True,
    beta1=0.0,  # as with TTUR, whose end would change the betas
    beta2=0.9,
    init_variance=1.0,
    z_dim=16,
)

# Id 0 is ADE20K's unknown class and stays channel 0, as the released weights expect; hence 151 channels.
_ADE20K = dict(
    dataset_mode="ade20k",
    dataroot="dataset/ADEChallengeData2016",
    label_nc=150,
    contain_dontcare_label=True,
    no_instance=True,
    **_LONG,
)

PRESETS: dict[str, dict[str, Any]] = {
    "coco_stuff": {},
    "ade20k": _ADE20K,
    # MindSpore's recipe: 8 processes with 8 pictures each, its Adam's beta2; the rates are TTUR's, said outright.
    "ade20k_mindspore": dict(_ADE20K, batchSize=8, G_lr=1e-4, D_lr=4e-4, beta2=0.999),
    "cityscapes": dict(
        dataset_mode="cityscapes",
        dataroot="dataset/cityscapes",
        label_nc=35,
        contain_dontcare_label=False,
        no_instance=False,
        preprocess_mode="fixed",
        load_size=512,
        crop_size=512,
        aspect_ratio=2.0,
        num_upsampling_layers="more",
        **_LONG,
    ),
    "facades": dict(
        dataset_mode="facades",
        dataroot="dataset/facades",
        label_nc=13,
        contain_dontcare_label=False,
        no_instance=True,
        **_LONG,
    ),
    # 367 photos of 480x360, small, so that a laptop's CPU trains it.
    "camvid": dict(
        dataset_mode="camvid",
        dataroot="dataset/CamVid",
        label_nc=11,
        contain_dontcare_label=True,
        no_instance=True,
        preprocess_mode="fixed",
        load_size=128,
        crop_size=128,
        aspect_ratio=4 / 3,
        ngf=24,
        ndf=32,
        lambda_kld=0.001,  # G can tell the sequence, and its light, from the map: at 0.01 it stops using the style
        ema=0.999,
        reuse_fake=True,
        niter=27,
        niter_decay=28,
        **_SHORT,
    ),
    "custom": dict(dataset_mode="custom", dataroot="", label_nc=13, contain_dontcare_label=False),
    # Small and short enough that two CPU cores show recognisable scenes in about five minutes.
    "sample": dict(
        dataset_mode="sample",
        dataroot="dataset/sample",
        crop_size=128,
        load_size=143,
        ngf=16,
        ndf=16,
        lambda_kld=0.02,
        niter=1,
        niter_decay=2,
        print_freq=10,
        display_freq=20,
        save_latest_freq=60,
        **_SHORT,
    ),
}


def layered(fields: Mapping[str, Field], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given over those of their recipe.

    Args:
        fields: those of `OPT`, by name.
        given: values by name; `preset`, else `dataset_mode`, names the recipe.

    Raises:
        UserError: an unknown option or preset.
    """
    for key in given:
        if key not in fields:
            raise UserError(f"unknown option {key}{closest(key, fields)}")
    # As in the released code, naming the data set's layout alone brings its recipe.
    named = next((name for name in ("preset", "dataset_mode") if given.get(name)), None)
    preset = given[named] if named else fields["preset"].default
    if preset not in PRESETS:
        raise UserError(
            f"{named} {preset!r} is unknown: expected one of {', '.join(PRESETS)}{closest(str(preset), PRESETS)}"
        )
    declared = {"contain_dontcare_label": True} if given.get("unknown_ids") else {}  # whatever the preset says
    values = {**PRESETS[preset], **declared, **given, "preset": preset}
    if values.get("no_TTUR"):  # the released command line's defaults without TTUR
        values = {"beta1": 0.5, "beta2": 0.999, **values}
    return values
