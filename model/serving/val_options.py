"""`ValOPT`: every option of `val.py`."""

from dataclasses import dataclass

from model.configuration.fields import Checked, options_of
from model.configuration.texts import parse_metrics
from model.errors import UserError

_data, _style, _output, _metrics = map(options_of, ("data", "style", "output", "metrics"))


@dataclass(frozen=True)
class ValOPT(Checked):
    """Options of a validation run; those of the networks and the data come from the checkpoint.

    Raises:
        UserError: a value of the wrong type or out of its range, or values that contradict each other.
    """

    checkpoint: str = _data(
        "output/model",
        "folder of checkpoints, one checkpoint in it, a generator's .pdparams file, or an exported model",
    )
    which_epoch: str = _data("latest", "checkpoint of the folder: latest, best, or an epoch's number")
    use_ema: bool = _data(True, "take the averaged weights of G when the checkpoint has them")
    phase: str = _data("val", "split of the data set", choices=("val", "train", "test"))
    dataroot: str = _data("", "folder of the data set; default: the checkpoint's")
    label_dir: str = _data("", "folder of label maps to paint, in place of the data set's; default: the checkpoint's")
    image_dir: str = _data("", "folder of the photos that go with label_dir, if there are any")
    instance_dir: str = _data("", "folder of the instance maps that go with label_dir, if there are any")
    how_many: int | None = _data(None, "first so many pictures only; null = all", low=1)
    spread: int | None = _data(None, "so many pictures, evenly spread over the split; null = all", low=1)
    batchSize: int = _data(1, "pictures per step", low=1)
    nThreads: int = _data(2, "worker processes of the loader; 0 loads in the main process", low=0)
    device: str = _data("auto", "auto (a GPU when there is one), cpu, gpu or gpu:N")
    style: str = _style(
        "auto",
        "style of the pictures, with a checkpoint that has an encoder: each photo's own "
        "(photo), style_image's (image), noise from the seed (random), the mean of all (mean); auto is "
        "image when style_image is given, else photo, else random",
        choices=("auto", "photo", "image", "random", "mean"),
    )
    style_image: str = _style("", "photo whose style all pictures get")
    style_image2: str = _style("", "photo whose style an interpolation ends with")
    style_steps: int = _style(
        0,
        "pictures per label map on the way from style_image to style_image2, or "
        "between two draws of noise without them; 0 = no interpolation",
        low=0,
    )
    seed: int = _style(0, "seed of the noise", low=0, high=2**32 - 1)
    results_dir: str = _output("output_val", "folder to write to, pictures under pics/")
    panels: bool = _output(False, "write label | generated | photo side by side as well")
    video: str = _output(
        "",
        "file of a film too, .mp4: the pictures in order, all in one style unless style says photo; with style_steps "
        "the ways from style to style",
    )
    fps: int = _output(8, "pictures of the film a second", low=1, high=120)
    format: str = _output(
        "auto",
        "of the pictures: jpg (quality 95), png (exact), or png when scores are computed, else jpg (auto)",
        choices=("auto", "jpg", "png"),
    )
    metrics: str = _metrics("", "scores to compute, with commas between: fid, seg, kid, pr (precision and recall)")
    seg_model: str = _metrics(
        "",
        "network for seg in place of DeepLabV2: .onnx, a Paddle inference model, or FILE.py:NAME (docs/evaluation.md)",
    )
    other: str = _metrics(
        "", "another checkpoint or exported model, or a folder of another implementation's pictures, scored beside"
    )
    other_name: str = _metrics("other", "what tables and sheets call it")
    sheets: int = _metrics(8, "comparison sheets of N pictures, evenly spread, with seg; 0 = none", low=0)

    def _check_together(self) -> None:
        self._exclude("dataroot", "label_dir", "give one of them")
        self._exclude("how_many", "spread", "the first so many, or evenly spread ones")
        if self.metric_names:  # which checks the names
            self._exclude("metrics", "style_steps", "scores need one picture for each photo")
        if self.video and not self.video.lower().endswith(".mp4"):
            raise UserError(f"video {self.video!r} is no .mp4 file: films are written as VP9 in MP4")
        if self.other and not self.metric_names:
            raise UserError(f"other {self.other} is compared by scores: give --metrics, such as fid,seg, too")
        if self.other_name in ("generated", "photos", "") or set(self.other_name) & set("/\\|"):
            raise UserError(f"other_name {self.other_name!r}: expected a word other than generated and photos")
        if self.seg_model and "seg" not in self.metric_names:
            raise UserError(f"seg_model {self.seg_model} computes segmentation scores: give --metrics seg or fid,seg")
        if self.which_epoch not in ("latest", "best") and not self.which_epoch.isdigit():
            raise UserError(f"which_epoch {self.which_epoch!r} is unknown: expected latest, best, or an epoch's number")
        if self.style == "image" and not self.style_image:
            raise UserError("style image needs style_image, the photo to take the style from")
        if self.style not in ("auto", "image"):
            self._exclude("style", "style_image", "give one of them")
        if self.style_image2 and not (self.style_image and self.style_steps):
            raise UserError("style_image2 ends an interpolation: give style_image and style_steps too")
        if self.style_steps == 1:
            raise UserError("style_steps 1 shows no change: give at least 2, or 0 for no interpolation")
        if self.style_steps and self.style_image and not self.style_image2:
            raise UserError(f"style_steps {self.style_steps} goes from one style to another: give style_image2 too")
        if self.style in ("photo", "mean"):
            way_out = "interpolate between two images or, with style random, two draws of noise"
            self._exclude("style", "style_steps", way_out)

    def _exclude(self, one: str, other: str, way_out: str) -> None:
        values = getattr(self, one), getattr(self, other)
        if all(values):
            raise UserError(f"{one} {values[0]} and {other} {values[1]} exclude each other: {way_out}")

    @property
    def suffix(self) -> str:
        """Ending of the pictures' files: JPEG changes pictures, which FID notices."""
        return ("png" if self.metric_names else "jpg") if self.format == "auto" else self.format

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The scores asked for, each once, in order."""
        return parse_metrics(self.metrics)
