"""Use a network for another data set: a linear SVM on its descriptors of whole images.

    deepconv transfer --weights=vgg16.safetensors --dataset=caltech101:/data --scales=256,384,512
    deepconv transfer --weights=RUN --dataset=voc:/data/VOC2007 --scales=256,512 --combine=average
    deepconv transfer --weights=RUN,OTHER --dataset=folder:/data/flowers --save=svm.safetensors

Nothing of the network is trained. Activations of its penultimate layer (--layer) are averaged over
the whole image and its mirror image; those of several scales are stacked or averaged, those of two
networks stacked (VGG appendix B). Caltech's splits are drawn, 30 or 60 images of each class; other
data sets have their own. VOC, and folders with labels.csv, have several labels a picture. Of
VOC's action task, persons are classified: the descriptor of the picture is stacked with that of the
person's box.

Prints the result beside the paper's, the worst classes, confusions and pictures. --save keeps the
SVM of the first split, for deepconv predict --svm. Descriptors are kept and used again.
"""

from collections.abc import Sequence

from absl import flags

from deepconv import atomic, drawing
from deepconv.commands import command_line
from deepconv.exceptions import UserError
from deepconv.run import hub
from deepconv.transfer import svm_file
from deepconv.transfer.evaluate import Request, Result, evaluate
from deepconv.transfer.task import is_actions
from deepconv.visualize import sheets
from deepconv.visualize.sheets import Scored, score_sheet

REQUIRED = ("weights", "dataset")
INTERRUPTED = "interrupted; run the same command to describe the remaining images"
# Pictures of the sheet.
_WORST_DRAWN = 12


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    flags.DEFINE_list(
        "weights",
        None,
        "The folders of runs, or weights files; the descriptors of several are stacked.",
        flag_values=values,
    )
    command_line.define_checkpoint(values)
    flags.DEFINE_string(
        "dataset",
        None,
        "caltech101:/path, caltech256:/path, voc:/path, voc_action:/path, folder:/path, or a "
        "prepared data set.",
        flag_values=values,
    )
    command_line.define_scales(values)
    flags.DEFINE_enum(
        "combine",
        "stack",
        ["stack", "average"],
        "What becomes of several scales.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "layer",
        "",
        "The layer, such as relu7; by default the last before the classifier.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "splits",
        None,
        "How many splits are drawn, for Caltech's data sets; by default 3.",
        1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "seed",
        0,
        "Of the splits, and of the images held out to choose C.",
        0,
        2**32 - 1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "train_split",
        None,
        "The split to train on; by default train, or VOC's trainval.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "split",
        None,
        "The split to test with; by default validation, or VOC's test.",
        flag_values=values,
    )
    command_line.define_data_dir(values)
    command_line.define_out_folder(values)
    command_line.define_json(values, "the result")
    flags.DEFINE_string(
        "save",
        None,
        "Write the SVM of the first split to this .safetensors file.",
        flag_values=values,
    )
    command_line.define_threads(values)


def main(options: flags.FlagValues, _: Sequence[str]) -> None:
    """Describe the images, fit and test, then print the result and where it is."""
    json_file = command_line.output_file(options, "json", ".json")
    save = command_line.output_file(options, "save", ".safetensors")
    if save and is_actions(options.dataset):
        raise UserError(
            "--save is for deepconv predict, which has no boxes of persons, so SVMs of "
            "actions cannot be saved"
        )
    result = evaluate(
        [hub.located(name).absolute() for name in options.weights],
        Request(
            options.dataset,
            command_line.whole_numbers(options, "scales"),
            options.combine,
            options.layer,
            options.splits,
            options.seed,
            options.checkpoint,
            options.data_dir,
            options.train_split,
            options.split,
        ),
        out=command_line.output_folder(options, "out"),
        threads=options.threads,
    )
    if json_file:
        atomic.write_json(json_file, result.about)
    if save:
        svm_file.save(save, result.classifier)
    sheet = result.file.with_suffix(".png")
    drawing.save(score_sheet(_worst(result)), sheet)
    print(f"{result.text}\n\nworst:   {sheet}\nresults: {result.file}")
    if save:
        print(f"svm:     {save.absolute()}")


def _worst(result: Result) -> list[Scored]:
    records = {name: record for record, name in enumerate(result.test.survey.image_ids)}
    return [
        Scored(
            row["image"],
            sheets.picture(result.test.source, records[row["image"]]),
            [(name, score) for name, score in row["best"]],
            row["true"],
        )
        for row in result.about["worst"][:_WORST_DRAWN]
    ]
