"""A network for several labels: trained, evaluated, exported, and used, on pictures of colors."""

import csv
import json

import numpy as np
import PIL.Image
import pytest

from configs import quickstart
from deepconv.commands import command_line, evaluate, predict
from deepconv.data import decode
from deepconv.evaluation import class_means
from deepconv.exceptions import UserError
from deepconv.inference import rows
from deepconv.inference.model import open_model
from deepconv.localization import find
from deepconv.run import log
from deepconv.training import loop
from deepconv.weights import exporting

pytestmark = pytest.mark.slow  # they train

CLASSES = ("blue", "green", "red")


def of(command, *arguments):
    command.main(*command_line.parse(command, list(map(str, arguments))))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Return a folder of pictures, each class a channel that is bright where it is present."""
    folder = tmp_path_factory.mktemp("colors")
    rng = np.random.default_rng(0)
    for split, count in (("train", 160), ("val", 40)):
        (folder / split).mkdir()
        with (folder / split / "labels.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["file", *CLASSES])
            for number in range(count):
                present = rng.integers(0, 2, 3)
                color = np.where(present, rng.integers(170, 250, 3), rng.integers(5, 80, 3))[::-1]
                noise = rng.integers(-5, 6, (40, 48, 3))
                pixels = np.clip(color + noise, 0, 255).astype(np.uint8)
                PIL.Image.fromarray(pixels).save(folder / split / f"{number}.png")
                known = np.where(rng.uniform(size=3) < 0.05, -1, present)
                table.writerow([f"{number}.png", *known])
    return folder


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    config = quickstart.get_config()
    config.model.update(crop=32, width=1 / 16, dropout=0.0)
    config.dataset.update(name=f"folder:{pictures}", multilabel=True)
    config.input.scale, config.evaluation.scale = (36, 40), 36
    config.augment.pca_std = 0.0
    config.optimizer.learning_rate = 0.002
    config.train.update(batch_size=16, epochs=10.0)
    config.evaluation.batch_size = 16
    folder = tmp_path_factory.mktemp("runs") / "colors"
    loop.train(config, folder)
    return folder


def test_it_learns(run):
    result = json.loads((run / "result.json").read_text())
    assert result["last"].keys() == {"step", "epoch", "images", "loss", "ranking_error"}
    assert result["classes"] == 3
    evaluations = [row for row in log.read_metrics(run / "metrics.jsonl") if row["kind"] == "eval"]
    assert result["last"]["loss"] < evaluations[0]["loss"] < 3 * np.log(2) * 1.1


def test_it_is_evaluated_by_average_precision(run, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(rows, "MOST_BUCKETS", 1)
    file = tmp_path / "result.json"
    of(evaluate, f"--weights={run}", f"--out={tmp_path}", f"--json={file}")
    printed = capsys.readouterr().out
    assert "mean average precision" in printed
    result = json.loads(file.read_text())
    assert result["images"] == 40
    with (pictures / "val" / "labels.csv").open() as table:
        rows_of = [*csv.reader(table)][1:]
    present = {name: list(map(int, values)) for name, *values in rows_of}
    stored = np.load(result["posteriors"])
    labels = np.array([present[name.split("/")[-1]] for name in stored["image_ids"]])
    expected = class_means.mean_average_precision(stored["log_posteriors"], labels, "all-point")
    assert result["mean"] == pytest.approx(expected.mean)
    assert [row["name"] for row in result["classes"]] == [
        CLASSES[number] for number in np.argsort(expected.of_class, kind="stable")
    ]
    with pytest.raises(UserError, match="pass its run"):
        of(evaluate, f"--ensemble={result['posteriors']}", f"--out={tmp_path}")


def test_its_file_predicts_each_class_by_itself(run, pictures, tmp_path):
    file = tmp_path / "colors.safetensors"
    exporting.to_deepconv(open_model(run), file)
    picture = pictures / "val" / "0.png"
    of(predict, f"--weights={file}", "--protocol=center", f"--json={tmp_path / 'x.json'}", picture)
    (found,) = json.loads((tmp_path / "x.json").read_text())
    model = open_model(run)
    pixels, _ = decode.load_crop(
        picture.read_bytes(), lambda height, width: decode.whole(height, width, 36)
    )
    top, left = (np.array(pixels.shape[:2]) - 32) // 2
    images = pixels[None, top : top + 32, left : left + 32].astype(np.float32)
    images -= model.central_mean
    scores = np.asarray(model.network.apply({"params": model.params}, images)[0, 0, 0], np.float64)
    expected = dict(zip(CLASSES, 1 / (1 + np.exp(-scores)), strict=True))
    assert {row["label"]: row["posterior"] for row in found["best"]} == pytest.approx(
        expected, rel=1e-4
    )


def test_it_is_not_mixed_with_networks_for_one_label(run, narrow_run, tmp_path):
    with pytest.raises(UserError, match="with one label and with several"):
        of(evaluate, f"--weights={run}", f"--ensemble={narrow_run}", f"--out={tmp_path}")
    with pytest.raises(UserError, match="several labels a picture"):
        find.require_classifier(open_model(run), [])
