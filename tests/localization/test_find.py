"""The wing from end to end: a run, its evaluation by both protocols, pictures, and wrong input."""

import functools
import json
import shutil

import jax
import numpy as np
import PIL.Image
import pytest

from deepconv import boxes as geometry
from deepconv import parallel
from deepconv.commands import command_line, localize, predict
from deepconv.commands import evaluate as evaluate_command
from deepconv.data import decode
from deepconv.data.sources import datasets
from deepconv.exceptions import UserError
from deepconv.inference import buckets, rows
from deepconv.inference.model import open_model
from deepconv.inference.rows import Memory
from deepconv.localization import find, merging
from deepconv.localization.evaluate import Request, evaluate
from deepconv.run import log
from deepconv.visualize import saliency
from deepconv.weights import exporting

pytestmark = pytest.mark.slow  # they share two runs that are trained

SCALES = (48, 64)


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    monkeypatch.setattr(rows, "MOST_BUCKETS", 2)


@pytest.fixture
def subset(shapes_root):
    """Return the settings of some images of the embedded data set."""
    return {"eval_split": "validation[:24]", "data_dir": str(shapes_root)}


def of(command, *arguments):
    command.main(*command_line.parse(command, list(map(str, arguments))))


def test_the_center_has_the_error_that_training_reported(boxes_run, tmp_path):
    result = evaluate([boxes_run], None, Request("center"), out=tmp_path).about
    trained = log.read_metrics(boxes_run / "metrics.jsonl")[-1]
    assert trained["kind"] == "eval"
    assert result["images"] == trained["images"] == 600
    # An overlap within 1e-5 of one half may fall on either side, in another program.
    assert result["localization_error"] == pytest.approx(trained["localization_error"], abs=1 / 600)
    assert result["mean_iou"] == pytest.approx(trained["iou"], abs=1e-4)


def test_guesses_are_those_of_each_image_and_window_alone(boxes_run, narrow_run, subset, tmp_path):
    result = evaluate(
        [boxes_run], narrow_run, Request("dense", SCALES), dataset=subset, out=tmp_path
    )
    net, classifier = open_model(boxes_run), open_model(narrow_run)
    split = datasets.open_split(
        "shapes", subset["eval_split"], data_dir=subset["data_dir"], boxes=True
    )
    for record in range(0, 24, 5):
        windows, classes = [], result.guesses.classes[record]
        for scale in SCALES:
            pixels, _ = decode.load_crop(
                split.source[record]["image"], functools.partial(decode.whole, shorter=scale)
            )
            height, width = pixels.shape[:2]
            apply = [
                model.network.apply(
                    {"params": model.params},
                    pixels[None].astype(np.float32) - model.colors.mean_rgb,
                )[0]
                for model in (net, classifier)
            ]
            codes = np.asarray(apply[0], np.float64).reshape(*apply[0].shape[:2], -1, 4)
            posteriors = np.asarray(jax.nn.softmax(apply[1]), np.float64)
            for row in range(codes.shape[0]):
                for column in range(codes.shape[1]):
                    found = geometry.decode(codes[row, column, classes]) * 32
                    found = (found + [32 * column, 32 * row] * 2) / ([width, height] * 2)
                    windows.append((found, posteriors[row, column, classes]))
        for guess in range(5):
            merged, sums = merging.merge_boxes(
                np.array([box[guess] for box, _ in windows]),
                np.array([scores[guess] for _, scores in windows]),
                threshold=find.MERGE,
            )
            best = np.clip(merged[sums.argmax()], 0, 1)
            np.testing.assert_allclose(result.guesses.boxes[record, guess], best, atol=1e-4)
            assert result.guesses.scores[record, guess] == pytest.approx(sums.max(), rel=1e-3)


def test_an_evaluation_that_was_stopped_goes_on(
    boxes_run, narrow_run, subset, tmp_path, monkeypatch
):
    request = Request("dense", SCALES[:1])
    whole = evaluate([boxes_run], narrow_run, request, dataset=subset, out=tmp_path / "whole")
    write, calls = rows._write, []

    def stop_later(into, computed):
        if computed is not None and computed[1].ndim == 4:  # boxes, not posteriors
            calls.append(computed)
            if len(calls) > 1:
                raise KeyboardInterrupt
        return write(into, computed)

    with monkeypatch.context() as patch:
        patch.setattr(rows, "_write", stop_later)
        with pytest.raises(KeyboardInterrupt):
            evaluate([boxes_run], narrow_run, request, dataset=subset, out=tmp_path / "part")
    calls.clear()
    monkeypatch.setattr(rows, "_write", lambda *given: calls.append(given[1]) or write(*given))
    again = evaluate([boxes_run], narrow_run, request, dataset=subset, out=tmp_path / "part")
    computed = sum(int((one[0] >= 0).sum()) for one in calls if one is not None)
    assert 0 < computed < 24
    for one, other in zip(whole.guesses, again.guesses, strict=True):
        np.testing.assert_array_equal(one, other)
    calls.clear()
    evaluate([boxes_run], narrow_run, request, dataset=subset, out=tmp_path / "part")
    assert not [one for one in calls if one is not None]  # all is on disk


def test_a_network_from_two_files_is_its_run(boxes_run, narrow_run, subset, tmp_path):
    file = tmp_path / "boxes.safetensors"
    exporting.to_deepconv(open_model(boxes_run), file)
    request = Request("center")
    runs = evaluate([boxes_run], None, request, dataset=subset, out=tmp_path / "run").about
    files = evaluate(
        [file], None, request, dataset={"name": "shapes", **subset}, out=tmp_path / "file"
    ).about
    assert files["localization_error"] == runs["localization_error"]
    assert files["mean_iou"] == runs["mean_iou"]


def test_the_command_evaluates_and_draws_the_worst(
    boxes_run, narrow_run, shapes_root, tmp_path, capsys
):
    of(
        evaluate_command,
        f"--weights={boxes_run}",
        f"--classifier={narrow_run}",
        "--split=validation[:24]",
        f"--data_dir={shapes_root}",
        f"--out={tmp_path}",
        f"--json={tmp_path / 'result.json'}",
    )
    printed = capsys.readouterr().out
    assert "top-5 localization error" in printed
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["images"] == 24
    assert result["top5_error"] <= result["top5_localization_error"] <= 1
    sheets = [*tmp_path.rglob("localization_dense_q36.png")]
    assert PIL.Image.open(sheets[0]).width > 100


def test_pictures(boxes_run, narrow_run, photos, tmp_path, capsys):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much more")
    with pytest.raises(SystemExit) as ended:
        of(
            localize,
            f"--boxes={boxes_run}",
            f"--classifier={narrow_run}",
            "--scales=36,48",
            "--guesses=3",
            f"--json={tmp_path / 'boxes.json'}",
            f"--out={tmp_path / 'boxes.png'}",
            photos,
        )
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert "broken.jpg" in shown.err
    found = json.loads((tmp_path / "boxes.json").read_text())
    assert [(row["width"], row["height"]) for row in found] == [(70, 50), (40, 64), (37, 37)]
    for row in found:
        assert len(row["boxes"]) == 3
        assert row["picture"] in shown.out
        for box in row["boxes"]:
            assert 0 <= box["xmin"] <= box["xmax"] <= row["width"]
            assert 0 <= box["ymin"] <= box["ymax"] <= row["height"]
    assert PIL.Image.open(tmp_path / "boxes.png").width > 100


def test_a_picture_is_found_in_as_among_others(boxes_run, narrow_run, shapes_root):
    net, classifier = (
        open_model(run, parallel.replicated(parallel.data_mesh()))
        for run in (boxes_run, narrow_run)
    )
    source = datasets.open_split("shapes", "validation[:9]", data_dir=str(shapes_root)).source
    classes = np.arange(27).reshape(9, 3) % 12
    look = functools.partial(
        find.find,
        [(net, 64)],
        classifier,
        into=lambda _, __, ___, shape: Memory(shape),
        threads=2,
    )
    every = look(classes, source, buckets.survey(source, 2))
    for record in (0, 8):
        one = [source[record]]
        alone = look(classes[record : record + 1], one, buckets.survey(one, 2))
        np.testing.assert_allclose(alone.boxes[0], every.boxes[record], atol=1e-4)
        np.testing.assert_allclose(alone.scores[0], every.scores[record], rtol=1e-3)


def renamed(run, folder):
    """Return a copy of a run whose classes have other names."""
    shutil.copytree(run, folder)
    names = json.loads((folder / "class_names.json").read_text())
    (folder / "class_names.json").write_text(json.dumps([f"{name}s" for name in names]))
    return folder


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--weights={boxes}"], "needs --classifier"),
        (["--weights={boxes}", "--classifier={boxes}"], "predicts boxes, not classes"),
        (["--weights={boxes}", "--classifier={other}"], "different classes"),
        (["--weights={boxes}", "--protocol=ten_crop"], "is not for boxes; center and dense are"),
        (["--weights={boxes}", "--protocol=center", "--classifier={net}"], "has no effect"),
        (["--weights={boxes}", "--protocol=center", "--scales=36,48"], "one scale"),
        (["--weights={boxes}", "--ensemble={net}", "--protocol=center"], "predicts classes, not"),
        (["--weights={net}", "--classifier={net}"], "--classifier is for networks that predict"),
        (["--weights={boxes}", "--protocol=center", "--scales=20"], "no crop fits"),
    ],
)
def test_wrong_evaluations(boxes_run, narrow_run, tmp_path, flags, message):
    other = renamed(narrow_run, tmp_path / "other")
    given = [flag.format(boxes=boxes_run, net=narrow_run, other=other) for flag in flags]
    with pytest.raises(UserError, match=message) as error:
        of(evaluate_command, *given, f"--out={tmp_path / 'out'}")
    assert "\n" not in str(error.value)


def test_what_needs_classes_refuses_boxes(boxes_run, photos, tmp_path):
    with pytest.raises(UserError, match="predicts boxes, not classes"):
        of(predict, f"--weights={boxes_run}", photos)
    model = open_model(boxes_run)
    with pytest.raises(UserError, match="predicts boxes, not classes"):
        saliency.viewer(model)
    with pytest.raises(UserError, match="predicts boxes, not classes"):
        exporting.to_torchvision(model, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="predicts boxes, not classes"):
        exporting.to_stablehlo(model, tmp_path / "x.stablehlo", view="crop")
