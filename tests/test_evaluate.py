"""The command from end to end, and what a user can get wrong."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepconv import reporting, scoring
from deepconv.evaluate import Plan, combine, describe, evaluate
from deepconv.scoring import Sheet
from deepconv.user_error import UserError


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    monkeypatch.setattr(scoring, "MOST_CANVASES", 1)


@pytest.fixture(scope="module")
def run(narrow_run, tmp_path_factory):
    """Return a copy of the run, whose evaluations are the module's own."""
    folder = tmp_path_factory.mktemp("evaluated") / "narrow"
    shutil.copytree(narrow_run, folder)
    return folder


def folder_of(run):
    return run / "evaluation" / "shapes_validation"


def undecided_images(path):
    """Return of how many images another program, of other roundings, may rank the label elsewhere.

    Scores are off by some roundings of 2^-24 in each of 11 layers; 1e-5 is fifteen in each.
    """
    sheet = Sheet.load(path)
    own = np.take_along_axis(sheet.posteriors, sheet.labels[:, None], axis=1)
    return np.sum(np.sum(np.abs(sheet.posteriors / own - 1) < 1e-5, axis=1) > 1)


def test_the_central_crop_has_the_errors_that_training_reported(run):
    result = evaluate([run], Plan("center"))
    trained = reporting.read_metrics(run / "metrics.jsonl")[-1]
    assert trained["kind"] == "eval"
    assert result["images"] == 600
    undecided = undecided_images(folder_of(run) / "center_q36.npz")
    assert undecided <= 6
    for error in ("top1_error", "top5_error"):
        assert abs(result[error] - trained[error]) * 600 <= undecided + 1e-3
    assert result["posteriors"] == str(folder_of(run) / "center_q36.npz")
    assert json.loads((folder_of(run) / "center_q36.json").read_text())["images"] == 600
    assert (folder_of(run) / "center_q36.txt").read_text() == describe(result) + "\n"


def test_a_protocol_of_two_views_and_two_scales_is_the_mean_of_four(run):
    result = evaluate([run], Plan("multi_crop_and_dense", (32, 40)))
    folder = folder_of(run)
    parts = [
        Sheet.load(folder / f"{view}_q{scale}.npz").posteriors
        for view in ("multi_crop", "dense")
        for scale in (32, 40)
    ]
    found = Sheet.load(folder / "multi_crop_and_dense_q32-40.npz")
    np.testing.assert_allclose(found.posteriors, np.mean(parts, axis=0), rtol=1e-6)
    assert len(found.origin["mean_of"]) == 4
    assert result["title"] == "narrow, multi_crop_and_dense_q32-40, shapes, validation"


def test_posteriors_are_fused_without_the_nets(run, tmp_path):
    evaluate([run], Plan("dense", (32,)))
    evaluate([run], Plan("dense", (32,), "posteriors"))
    parts = [folder_of(run) / name for name in ("dense_q32.npz", "dense_posteriors_q32.npz")]
    means = [Sheet.load(part).posteriors for part in parts]
    assert np.abs(means[0] - means[1]).max() > 0
    result = evaluate([], Plan(), posteriors=parts, out=tmp_path)
    assert result["members"] == ["narrow_dense_q32", "narrow_dense_posteriors_q32"]
    found = Sheet.load(tmp_path / "narrow_dense_q32_with_narrow_dense_posteriors_q32.npz")
    np.testing.assert_allclose(found.posteriors, np.mean(means, axis=0), rtol=1e-6)


def test_the_name_of_a_large_ensemble_stays_short(run, tmp_path):
    evaluate([run], Plan("center"))
    paths = [tmp_path / f"a_net_of_a_large_ensemble_{number}.npz" for number in range(7)]
    for path in paths:
        shutil.copy(folder_of(run) / "center_q36.npz", path)
    result = evaluate([], Plan(), posteriors=paths)
    assert len(result["members"]) == 7
    assert "_with_6_others_" in result["posteriors"]


def test_an_ensemble_of_a_run_and_posteriors_lies_beside_the_runs_own(run, tmp_path):
    evaluate([run], Plan("center"))
    path = shutil.copy(folder_of(run) / "center_q36.npz", tmp_path / "other.npz")
    result = evaluate([run], Plan("center"), posteriors=[Path(path)])
    assert result["members"] == ["narrow", "narrow_other"]
    assert (folder_of(run) / "center_q36_with_narrow_other.npz").exists()


def test_the_best_parameters_have_files_of_their_own(run):
    result = evaluate([run], Plan("center", checkpoint="best"))
    assert result["posteriors"].endswith("center_q36_best.npz")


SHEET = Sheet(
    np.full((2, 2), 0.5, np.float32), np.arange(2), ("a", "b"), ("x", "y"), {"run": "one"}
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("x", "z")}, "other has other classes than one"),
        ({"image_ids": ("a", "c")}, "other was given other images than one"),
        ({"labels": np.array([1, 1])}, "other was given other images than one"),
    ],
)
def test_members_of_other_classes_or_images_are_refused(changes, message):
    other = SHEET._replace(origin={"run": "other"}, **changes)
    with pytest.raises(UserError, match=message):
        combine([SHEET, other])


def test_images_of_other_classes_are_refused(run, tmp_path):
    for name in ("cat", "dog"):
        for split in ("train", "val"):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "1.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"other classes apart \(12: .*\(2: cat, dog\)"):
        evaluate([run], Plan(), dataset={"name": f"folder:{tmp_path}"})


def test_an_empty_split_is_refused(run):
    with pytest.raises(UserError, match=r"has no image in the split .validation\[:0\]"):
        evaluate([run], Plan(), dataset={"eval_split": "validation[:0]"})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "nothing to evaluate"),
        (["--workdir={run}", "--scales=31"], "Q=31 is too small"),
        (["--workdir={run}", "--scales=big"], "--scales=big are not whole numbers"),
        (["--workdir={run}", "--protocol=sparse"], "protocol"),
        (["--workdir={run}/best"], "holds no run"),
    ],
)
def test_what_is_wrong_is_one_line(run, flags, message):
    process = subprocess.run(
        [sys.executable, "-m", "deepconv.evaluate", *(flag.format(run=run) for flag in flags)],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert line.startswith("deepconv: ")
    assert message in line


def test_the_command_prints_errors_and_where_the_results_lie(run):
    process = subprocess.run(
        [sys.executable, "-m", "deepconv.evaluate", f"--workdir={run}", "--protocol=center"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "narrow, center_q36, shapes, validation: 600 images" in process.stdout
    assert "top-1 error" in process.stdout
    assert process.stdout.splitlines()[-1].endswith("center_q36.json")
