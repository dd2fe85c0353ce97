"""What can be wrong with a data set: every fault, what it is, and the way out."""

from collections.abc import Sequence
from typing import NamedTuple

from model.data.agreement import ENCODINGS_DIFFER, TURN_THE_PHOTO
from model.data.pictures import MAP_SUFFIXES, PHOTO_SUFFIXES

# Share of pixels unlike all four neighbours, and number of ids: real COCO-Stuff maps have at most 0.3 % and 20, the
# same maps after smoothing or JPEG mostly 1 to 10 % and 100 to 250.
SPECKLED, SPECKLED_WITH_MANY, MANY_IDS = 0.02, 0.004, 48

MUCH_UNKNOWN = 0.5  # share of unlabelled pixels

# What stops or ruins a run: by code, what it is, and in a second line why it matters and what to do.
_STOPPING = {
    "layout": "the folder is not what the data set's reader expects",
    "no_labels": "there are no label maps\n"
    "Name the folder with --dataroot (custom: --label_dir); tools/prepare_dataset.py makes it from the archives.",
    "no_photos": "there are no photos\nTraining learns from photos: put them where the message says.",
    "no_instances": "there are no instance maps\nMake them (docs/data.md), or train without: --no_instance.",
    "label_without_photo": "label maps have no photo of the same name\n"
    "Files are paired by name: add the photos; to train without these maps, put them into another folder.",
    "photo_without_label": "photos have no label map of the same name\n"
    "Files are paired by name: add the label maps; to train without these photos, put them into another folder.",
    "label_without_instance": "label maps have no instance map of the same name\n"
    "Every picture needs one, also those without things: make the missing ones, or train with --no_instance.",
    "instance_without_label": "instance maps have no label map of the same name\n"
    "Add the label maps, or put the instance maps into another folder.",
    "unreadable": "files cannot be read as pictures\n"
    "They are damaged, cut off, empty, far too large or gone: take them from the archive again.",
    "photo_depth": "photos have more than 8 bits a channel, or are in CIELab\n"
    "Save them as RGB or grey with 8 bits a channel.",
    "jpeg_maps": "maps are JPEG files\n"
    "JPEG changes values, so that ids along edges are wrong: make the maps anew, as PNG. Renaming does not help.",
    "colour_maps": "label maps hold colours in place of class ids\n"
    "Name the palette's file with --palette, or take the data set's id maps.",
    "foreign_colours": "label maps hold colours that the palette file does not have\n"
    "Add them to the palette; if they are mixtures along edges, the maps were scaled or saved with smoothing.",
    "map_format": "maps are encoded in a way that does not tell the ids\n"
    "Save the ids as 8-bit or 16-bit grey PNG; docs/data.md has a table of what is read.",
    "encodings_differ": "label maps are encoded in ways that contradict each other\n"
    "Optimisers of PNG encode each file in its own way, so that a sample means another class there: "
    f"{ENCODINGS_DIFFER}.",
    "photo_size": "photos and label maps differ in size\n"
    "Both must have the same pixels: scale the maps to the photos' size, without smoothing (nearest neighbour).",
    "turned_size": "photos lie on their side, where their label maps are drawn upright\n"
    f"An EXIF orientation is not applied to training photos: {TURN_THE_PHOTO}.",
    "instance_size": "instance maps and label maps differ in size\n"
    "Both must have the same pixels: make the instance maps from these label maps.",
    "foreign_ids": "label maps hold ids that are no class\n"
    "If they are classes of a data set of your own, set --label_nc to the highest id plus 1; if they mean "
    "unlabelled, name them with --unknown_ids; official data sets hold no others, so take their maps again.",
    "undeclared_unknown": "label maps hold 255, and no unlabelled class is declared\n"
    "If 255 means unlabelled, train with --contain_dontcare_label true.",
    "train_ids": "the label maps hold Cityscapes trainIds (0..18 and 255), where labelIds (0..33) belong\n"
    "Take the files *_gtFine_labelIds.png as they come in gtFine_trainvaltest.zip, not *_labelTrainIds.png.",
    "shifted_ade20k": "the label maps are ADE20K's with all ids lowered by 1 (255 is unlabelled, 0 is wall)\n"
    "Take the maps of ADEChallengeData2016.zip as they are: 0 is 'other', 1 is wall. With shifted ids every class "
    "would get another's name.",
    "shifted_coco": "the label maps seem to hold COCO-Stuff's official ids (182 is wood), not the PNG files' "
    "(ids minus 1)\n"
    "Take the maps of stuffthingmaps_trainval2017.zip as they are: 0 is person, 181 is wood, 255 is unlabelled. If "
    "you wrote 182 for unlabelled yourself, say so with --unknown_ids 182.",
    "pixelmaps": "the label maps are COCO's stuff_*_pixelmaps, which put all things into one class (183)\n"
    "Take those of stuffthingmaps_trainval2017.zip.",
    "byte_instances": "instance maps have 8 bits, where Cityscapes' have 16 (24001 is the second person)\n"
    "Ids were cut off, so that neighbours share one: take *_gtFine_instanceIds.png from gtFine_trainvaltest.zip as "
    "they are; many image programs save 16-bit files with 8 bits.",
    "alien_instances": "instance maps do not belong to their label maps "
    "(Cityscapes: instance id / 1000 is the label's id)\n"
    "Take label and instance maps of the same picture and the same release.",
    "speckled": "label maps are full of single pixels, as after JPEG or scaling with smoothing\n"
    "Make them anew from the originals; to scale a map, take nearest neighbour.",
    "one_class": "all label maps together hold a single id\n"
    "The maps may be empty, or scaled to 0..1 when they were saved: save the ids as whole numbers.",
    "too_small": "pictures are smaller than the crop\n"
    "They would be padded with black and class 0: use --preprocess_mode resize_and_crop or a smaller --crop_size.",
    "wrong_size": "pictures have another size than the generator's\n"
    "Use a --preprocess_mode that gives one size, such as resize_and_crop or fixed, or another --crop_size.",
    "too_few": "there are fewer pictures than one batch holds\nLower --batchSize.",
    "leaked": "the same photos are in train and val\n"
    "Validation would measure memory: let each split have pictures of its own.",
    "leaked_to_test": "photos of the test split are in train or val too\n"
    "A test would measure memory: let each split have pictures of its own.",
}

# What is only a warning.
_WARNINGS = {
    "not_read": "files are not read, for their suffix\n"
    f"Photos are {', '.join(PHOTO_SUFFIXES)}, maps {', '.join(MAP_SUFFIXES)}: save as PNG what belongs to the set.",
    "no_validation": "there is no validation split\n"
    "Training works; previews then show training maps, and val.py needs --phase train.",
    "maps_alone": "the split has label maps and no photos\n"
    "val.py paints the maps; scores, and styles taken from photos, need the photos where the message says.",
    "transparent": "photos have transparent parts, which are laid on white\n"
    "Training learns the white, unless that is meant: fill the parts, or put the pictures into another folder.",
    "all_unknown": "pictures are unlabelled from edge to edge\n"
    "They teach the network nothing about classes, unless that is meant: put them into another folder.",
    "much_unknown": "most pixels are unlabelled\nSee that the maps are complete, and of the right release.",
    "flat_instances": "no instance map has any border\n"
    "They tell the network nothing, and cost a channel: make real ones, or train with --no_instance.",
    "copied_instances": "instance maps are copies of the label maps, in every picture\n"
    "Things that touch cannot be told apart: make real ones (docs/data.md), or train with --no_instance.",
    "twins": "photos come more than once\nHarmless, if they are few; they count double.",
    "one_split": "train and val are the same files\n"
    "Validation would measure memory: put the files into subfolders train and val.",
    "turned": "photos carry an EXIF orientation, which is not applied\n"
    f"Look at the contact sheet; where photo and map do not agree, {TURN_THE_PHOTO}.",
    "new_classes": "classes occur in val and never in train\n"
    "Their channels stay untrained, so that these areas will look arbitrary.",
}

FAULTS = _STOPPING | _WARNINGS


class Finding(NamedTuple):
    """One kind of fault in one split: the code of `FAULTS`, and the files with what is to be said of each of them."""

    code: str
    split: str
    note: str = ""
    files: Sequence[tuple[str, str]] = ()  # (path, what is to be said of it or nothing)
    total: int = 0  # files looked at, of which these are some

    @property
    def stops(self) -> bool:
        """Whether it stops or ruins a run; else it is a warning."""
        return self.code in _STOPPING

    @property
    def text(self) -> str:
        """What it is, in one sentence."""
        what = FAULTS[self.code].partition("\n")[0]
        if not self.files:
            return what
        of = f" of {self.total}" if self.total > len(self.files) else ""
        return f"{what} ({len(self.files)}{of} file{'s' if max(len(self.files), self.total) > 1 else ''})"

    @property
    def way_out(self) -> str:
        """Why it matters and what to do."""
        return FAULTS[self.code].partition("\n")[2]
