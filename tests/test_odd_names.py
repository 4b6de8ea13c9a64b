"""Names that break programs go through every command, and are shown by one rule."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest

from configs import quickstart
from deepconv import drawing, parallel
from deepconv.data.sources import pictures
from deepconv.inference import activations, model, predict, rows, scoring
from deepconv.inference.evaluate import Request, evaluate
from deepconv.training import loop
from deepconv.visualize import figures, saliency, sheets
from deepconv.visualize.figures import Pictures

ODD = [b"caf\xe9", b"$\\frac$ $", b"new\nline\ttab \x1b[31m", "日本 😀".encode(), b"x" * 250]
SHOWN = [r"caf\xe9", r"$\frac$ $", r"new\nline\ttab \x1b[31m", "日本 😀", "x" * 250]
# In arrays and JSON a line break is one.
KEPT = [*SHOWN[:2], "new\nline\ttab \x1b[31m", *SHOWN[3:]]


def lay(folder, names, size=(40, 44)):
    """Write a picture of each name, which gets the ending .png."""
    rng = np.random.default_rng(0)
    for name in names:
        path = folder / os.fsdecode(name + b".png")
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                PIL.Image.fromarray(pixels).save(file, "PNG")
        except OSError:
            pytest.skip("the file system refuses such names")


@pytest.fixture
def odd(tmp_path):
    """Return a folder of pictures with odd names."""
    lay(tmp_path / "odd", ODD)
    return tmp_path / "odd"


@pytest.fixture
def ascii_main():
    """Return a function that runs a command whose output takes ASCII alone."""

    def run(*arguments):
        process = subprocess.run(
            [sys.executable, "-m", "deepconv", *map(str, arguments)],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
            capture_output=True,
            timeout=200,
            check=False,
        )
        return process.returncode, process.stdout.decode("ascii"), process.stderr.decode("ascii")

    return run


@pytest.mark.slow
def test_predict(odd, narrow_file, tmp_path, ascii_main):
    (odd / os.fsdecode(b"broken\xe9\n.png")).write_bytes(b"")
    outputs = (f"--json={tmp_path}/x.json", f"--sheet={tmp_path}/x.png")
    status, out, says = ascii_main("predict", f"--weights={narrow_file}", *outputs, odd)
    assert status == 2
    font, complaint = says.splitlines()
    assert complaint.startswith(rf"deepconv: {odd}/broken\xe9\n.png cannot be read as a picture")
    assert "the font lacks" in font
    rows = out.splitlines()
    assert len(rows) == 2 + len(ODD)
    for name in SHOWN[:3]:
        assert sum(row.startswith(f"{odd}/{name}.png ") for row in rows) == 1
    listed = json.loads((tmp_path / "x.json").read_text())
    assert {each["picture"] for each in listed} == {f"{odd}/{name}.png" for name in KEPT}
    assert PIL.Image.open(tmp_path / "x.png").size == (960, 660)


@pytest.mark.slow
def test_features_and_saliency(odd, narrow_file, tmp_path, ascii_main):
    out = tmp_path / "x.npz"
    status, _, says = ascii_main(
        "features", f"--weights={narrow_file}", "--layer=relu1_1", f"--out={out}", odd
    )
    assert (status, says) == (0, "")
    assert set(np.load(out)["image_ids"].tolist()) == {f"{odd}/{name}.png" for name in KEPT}
    seen = tmp_path / os.fsdecode(b"caf\xe9.png")
    status, out, says = ascii_main(
        "saliency", f"--weights={narrow_file}", f"--out={seen}", "--scale=40", odd
    )
    assert (status, out, says) == (0, f"{tmp_path}/caf\\xe9.png\n", "")
    assert PIL.Image.open(seen).size[0] == 900


def literal(figure):
    return {
        text.get_text(): text.get_parse_math()
        for text in figure.findobj(lambda artist: hasattr(artist, "get_parse_math"))
    }


@pytest.fixture(scope="module")
def net(narrow_file):
    odd = tuple(os.fsdecode(name) for name in ODD)
    everywhere = parallel.replicated(parallel.data_mesh(jax.devices()[:1]))
    return model.open_model(narrow_file, everywhere)._replace(
        class_names=odd, name="$\\frac$ $\nrun"
    )


def drawn(net, odd):
    """Return every figure that shows names."""
    source = pictures.open_pictures([odd])
    says = np.full((len(source), 5), 0.2)
    predictions = predict.best(says, source.file_names, net.class_names)
    crops = activations.of_central_crops(net, source, ["fc8"])
    seen = Pictures(crops.images, np.arange(5), crops.outputs["fc8"].reshape(5, -1))
    return {
        "sheet": sheets.contact_sheet(source, says, predictions, net.class_names),
        "labels": figures.labels(net, seen),
        "neighbors": figures.neighbors(net, seen, seen),
        "saliency": saliency.draw(net, [crops.images[0]] * 5, range(5)),
        "kernels": figures.kernels(net),
    }


# What other tests' damaged checkpoints have left may be collected while this one runs.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("error")
def test_figures_draw_names_literally_and_in_one_short_line(net, odd, tmp_path, caplog):
    for kind, figure in drawn(net, odd).items():
        drawing.save(figure, tmp_path / f"{kind}.png")
        assert (tmp_path / f"{kind}.png").read_bytes().startswith(b"\x89PNG")
        texts = literal(figure)
        names = [text for text in texts if "frac" in text]
        assert names, kind
        assert not any(texts[name] for name in names), kind
        assert all(len(text) < 70 and "\n" not in text for text in texts), kind
        if kind != "kernels":
            assert any(r"caf\xe9" in text for text in texts), kind


def test_characters_that_the_font_lacks_are_one_line_and_other_warnings_remain(tmp_path, caplog):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.text(0.1, 0.5, "日本 😀", **drawing.LITERAL)
    with warnings.catch_warnings(record=True) as caught, caplog.at_level("INFO"):
        warnings.simplefilter("always")
        drawing.save(figure, tmp_path / "x.png")
    assert not caught
    (record,) = caplog.records
    assert "x.png: the font lacks " in record.getMessage()

    class Warns(Figure):
        def savefig(self, *arguments, **options):
            warnings.warn("of another kind", stacklevel=1)
            super().savefig(*arguments, **options)

    with pytest.warns(UserWarning, match="of another kind"):
        drawing.save(Warns(), tmp_path / "y.png")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Return a folder of classes with odd names, of pictures with odd names, one of them broken."""
    folder = tmp_path_factory.mktemp("set")
    for part in (b"train", b"val"):
        lay(folder, [part + b"/" + name[:200] + b"/more/" + name for name in ODD])
    lay(folder, [b"train/" + name[:200] + b"/2" for name in ODD])
    (folder / "train" / os.fsdecode(ODD[0]) / os.fsdecode(b"broken\xe9.png")).write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    """Return the folder of a run on it."""
    config = quickstart.get_config()
    config.update_from_flattened_dict(
        {
            "model.crop": 32,
            "model.width": 1 / 32,
            "input.scale": (36, 40),
            "evaluation.scale": 36,
            "train.batch_size": 8,
            "train.epochs": 3.0,
            "input.max_unreadable": 0.5,
            "evaluation.batch_size": 8,
            "dataset.name": f"folder:{dataset}",
            "dataset.data_dir": str(tmp_path_factory.mktemp("data")),
        }
    )
    folder = tmp_path_factory.mktemp("runs") / "odd"
    loop.train(config, folder)
    return folder


CLASSES = tuple(sorted([name[:200] for name in KEPT]))
BROKEN = r"caf\xe9/broken\xe9.png"


@pytest.mark.slow
def test_training(run):
    assert tuple(sorted(json.loads((run / "class_names.json").read_text()))) == CLASSES
    lines = (run / "metrics.jsonl").read_bytes().decode("ascii").splitlines()
    assert BROKEN in [json.loads(line).get("file") for line in lines]
    result = json.loads((run / "result.json").read_text())
    assert result["unreadable_training_images"] == [BROKEN]


@pytest.mark.slow
def test_evaluation(run, monkeypatch):
    monkeypatch.setattr(rows, "MOST_BUCKETS", 1)
    result = evaluate([run], Request("center"))
    expected = {f"{name[:200]}/more/{name}.png" for name in KEPT}
    file = Path(result["posteriors"])
    sheet = scoring.load(file)
    assert set(sheet.image_ids) == expected
    assert tuple(sorted(sheet.class_names)) == CLASSES
    assert {row["image"] for row in result["worst"]} == expected
    text = file.with_suffix(".txt").read_text(encoding="utf-8")
    assert r"new\nline\ttab \x1b[31m/more/" in text
    # The same again is read from the disk.
    assert evaluate([run], Request("center"))["top1_error"] == result["top1_error"]


def test_a_path_of_any_length_and_any_bytes(narrow_file, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "MOST_BUCKETS", 1)
    folder = tmp_path / os.fsdecode(b"caf\xe9") / ("ü" * 100) / "val"
    lay(folder, [f"{letter}/{number}".encode() for letter in "abcde" for number in range(2)])
    folder.rename(folder.parent / "train")
    lay(folder, [f"{letter}/{number}".encode() for letter in "abcde" for number in range(2)])
    name = f"folder:{folder.parent}"
    result = evaluate(
        [narrow_file], Request("center"), dataset={"name": name}, out=tmp_path / "out"
    )
    assert result["images"] == 10
    text = Path(result["posteriors"]).with_suffix(".txt").read_text(encoding="utf-8")
    assert r"caf\xe9" in text.splitlines()[0]
