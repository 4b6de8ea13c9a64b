"""The command from end to end, and what a user can get wrong."""

import errno
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from deepconv.evaluation.ensemble import ScoredImages, combine
from deepconv.exceptions import UserError
from deepconv.inference import evaluate as evaluation
from deepconv.inference import rows, scoring
from deepconv.inference.evaluate import Request, describe, evaluate
from deepconv.run import log


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    monkeypatch.setattr(rows, "MOST_BUCKETS", 1)


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
    scored = scoring.load(path)
    own = np.take_along_axis(scored.posteriors, scored.labels[:, None], axis=1)
    return np.sum(np.sum(np.abs(scored.posteriors / own - 1) < 1e-5, axis=1) > 1)


def test_the_central_crop_has_the_errors_that_training_reported(run):
    result = evaluate([run], Request("center"))
    trained = log.read_metrics(run / "metrics.jsonl")[-1]
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
    result = evaluate([run], Request("multi_crop_and_dense", (32, 40)))
    folder = folder_of(run)
    parts = [
        scoring.load(folder / f"{view}_q{scale}.npz").posteriors
        for view in ("multi_crop", "dense")
        for scale in (32, 40)
    ]
    found = scoring.load(folder / "multi_crop_and_dense_q32-40.npz")
    np.testing.assert_allclose(found.posteriors, np.mean(parts, axis=0), rtol=1e-5)
    assert len(found.origin["mean_of"]) == 4
    assert result["title"] == "narrow, multi_crop_and_dense_q32-40, shapes, validation"


def test_posteriors_are_fused_without_the_nets(run, tmp_path):
    evaluate([run], Request("dense", (32,)))
    evaluate([run], Request("dense", (32,), "posteriors"))
    parts = [folder_of(run) / name for name in ("dense_q32.npz", "dense_posteriors_q32.npz")]
    means = [scoring.load(part).posteriors for part in parts]
    assert np.abs(means[0] - means[1]).max() > 0
    result = evaluate([], Request(), posteriors=parts, out=tmp_path)
    assert result["members"] == ["narrow_dense_q32", "narrow_dense_posteriors_q32"]
    found = scoring.load(tmp_path / "narrow_dense_q32_with_narrow_dense_posteriors_q32.npz")
    np.testing.assert_allclose(found.posteriors, np.mean(means, axis=0), rtol=1e-5)


def test_the_name_of_a_large_ensemble_stays_short(run, tmp_path):
    evaluate([run], Request("center"))
    paths = [tmp_path / f"a_net_of_a_large_ensemble_{number}.npz" for number in range(7)]
    for path in paths:
        shutil.copy(folder_of(run) / "center_q36.npz", path)
    result = evaluate([], Request(), posteriors=paths)
    assert len(result["members"]) == 7
    assert "_with_6_others_" in result["posteriors"]


def test_an_ensemble_of_a_run_and_posteriors_lies_beside_the_runs_own(run, tmp_path):
    evaluate([run], Request("center"))
    path = shutil.copy(folder_of(run) / "center_q36.npz", tmp_path / "other.npz")
    result = evaluate([run], Request("center"), posteriors=[Path(path)])
    assert result["members"] == ["narrow", "narrow_other"]
    assert (folder_of(run) / "center_q36_with_narrow_other.npz").exists()


def test_with_a_folder_for_the_results_nothing_is_written_elsewhere(run, tmp_path):
    copy, other = tmp_path / "a" / "narrow", tmp_path / "b" / "narrow"
    for folder in (copy, other):
        shutil.copytree(run, folder, ignore=shutil.ignore_patterns("evaluation"))
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / "out" / "new"
    result = evaluate([copy, other], Request("center"), out=out)
    assert sorted(path for path in tmp_path.rglob("*") if tmp_path / "out" not in path.parents) == [
        *sorted([*before, tmp_path / "out"])
    ]
    assert result["posteriors"] == str(out / "center_q36_with_narrow.npz")
    # What is kept of each run is taken up again.
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/evaluation/*/center_q36.npz")}
    assert len(kept) == 2
    assert evaluate([copy], Request("center"), out=out)["top1_error"] == result["top1_error"]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.parametrize("given", ["folder", "posteriors"])
def test_a_folder_that_cannot_be_written_is_named_and_what_to_do(run, tmp_path, monkeypatch, given):
    evaluate([run], Request("center"))
    path = shutil.copy(folder_of(run) / "center_q36.npz", tmp_path / "one.npz")
    original = tempfile.TemporaryFile

    def read_only(*arguments, dir=None, **options):
        if dir in (folder_of(run), tmp_path):
            raise OSError(errno.EROFS, "Read-only file system")
        return original(*arguments, dir=dir, **options)

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    with pytest.raises(
        UserError, match=r"cannot write to .* \(Read-only file system\); --out=FOLDER"
    ):
        if given == "folder":
            evaluate([run], Request("center"))
        else:
            evaluate([], Request(), posteriors=[Path(path)])


def test_the_best_parameters_have_files_of_their_own(run):
    result = evaluate([run], Request("center", checkpoint="best"))
    assert result["posteriors"].endswith("center_q36_best.npz")


SCORED = ScoredImages(
    np.full((2, 2), np.log(0.5), np.float32), np.arange(2), ("a", "b"), ("x", "y"), {"run": "one"}
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("x", "z")}, "other has different classes than one"),
        ({"image_ids": ("a", "c")}, "other scored different images than one"),
        ({"labels": np.array([1, 1])}, "other scored different images than one"),
    ],
)
def test_members_of_other_classes_or_images_are_refused(changes, message):
    other = SCORED._replace(origin={"run": "other"}, **changes)
    with pytest.raises(UserError, match=message):
        combine([SCORED, other])


def test_images_of_other_classes_are_refused(run, tmp_path):
    for name in ("cat", "dog"):
        for split in ("train", "val"):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "1.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"different classes \(12: .*\(2: cat, dog\)"):
        evaluate([run], Request(), dataset={"name": f"folder:{tmp_path}"})


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (-1, "-1 means an unknown class: choose a split with labels"),
        (12, "fix the data set"),
    ],
)
def test_a_label_that_no_class_has_ends_the_evaluation_before_it_begins(
    run, monkeypatch, label, message
):
    survey = evaluation._survey

    def wrong(*arguments, **settings):
        found = survey(*arguments, **settings)
        labels = np.where(np.arange(len(found.labels)) == 7, label, found.labels)
        return found._replace(labels=labels)

    monkeypatch.setattr(evaluation, "_survey", wrong)
    monkeypatch.setattr(scoring, "score", None)
    expected = (
        rf"^shapes, validation: validation_00007\.jpg has label {label}, but the 12 classes "
        rf"are numbered 0 to 11; {message}"
    )
    with pytest.raises(UserError, match=expected):
        evaluate([run], Request("center"))


@pytest.mark.parametrize("label", [-1, 2])
def test_saved_posteriors_with_a_label_that_no_class_has_are_refused(tmp_path, label):
    scoring.save(SCORED._replace(labels=np.array([0, label])), tmp_path / "bad.npz")
    with pytest.raises(UserError, match=rf"bad\.npz: b has label {label}, but the 2 classes"):
        evaluate([], Request(), posteriors=[tmp_path / "bad.npz"])


def test_a_loss_that_is_not_known_is_null(tmp_path):
    """Of posteriors that float32 has made 0; their own file keeps its name and content."""
    arrays = {
        "posteriors": np.array([[1, 0], [1, 0]], np.float32),
        "labels": np.arange(2),
        "image_ids": np.array(["a", "b"]),
        "class_names": np.array(["x", "y"]),
        "origin": np.array("{}"),
    }
    np.savez(tmp_path / "old.npz", **arrays)
    result = evaluate([], Request(), posteriors=[tmp_path / "old.npz"], out=tmp_path / "out")
    assert (result["top1_error"], result["loss"]) == (0.5, float("inf"))
    assert json.loads((tmp_path / "out" / "old.json").read_text())["loss"] is None


def test_an_empty_split_is_refused(run):
    with pytest.raises(UserError, match=r"has no images in the split .validation\[:0\]"):
        evaluate([run], Request(), dataset={"eval_split": "validation[:0]"})


def test_without_its_data_set_a_weights_file_gets_the_flags_of_evaluate(narrow_file, tmp_path):
    with pytest.raises(
        UserError, match=r"imagenet2012 not found: .*--dataset=folder:/path"
    ) as error:
        evaluate([narrow_file], Request("center"), dataset={"data_dir": str(tmp_path)})
    assert "--config" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "nothing to evaluate"),
        (["--weights={run}", "--scales=31"], "Q=31 is too small"),
        (["--weights={run}", "--scales=big"], "--scales=big must be whole numbers"),
        (["--weights={run}", "--protocol=sparse"], "protocol"),
        (["--weights={run}/best"], "is not a run's folder"),
        (
            ["--weights={run}", "--protocol=center", "--out={run}/config.json"],
            "must be a folder, not a file",
        ),
    ],
)
def test_what_is_wrong_is_one_line(run, flags, message):
    process = subprocess.run(
        [sys.executable, "-m", "deepconv", "evaluate", *(flag.format(run=run) for flag in flags)],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert line.startswith("deepconv: ")
    assert message in line


@pytest.mark.slow
def test_the_command_prints_errors_and_where_the_results_lie(run):
    json_file = run.parent / "result.json"
    arguments = [f"--weights={run}", "--protocol=center", f"--json={json_file}"]
    process = subprocess.run(
        [sys.executable, "-m", "deepconv", "evaluate", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "narrow, center_q36, shapes, validation: 600 images" in process.stdout
    assert "top-1 error" in process.stdout
    last = process.stdout.splitlines()[-1]
    assert last.endswith("center_q36.json")
    assert json_file.read_text() == Path(last.removeprefix("results: ")).read_text()
