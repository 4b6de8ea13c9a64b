"""The paper's tables of localization, and ours beside them."""

import json
import shutil
from pathlib import Path

from deepconv.config import recipe
from deepconv.configs import localization
from experiments import vgg_boxes, vgg_tables

PAPER = json.loads((Path(__file__).parents[1] / "paper_tables.json").read_text())["vgg"]


def rows(number):
    return [row for row in vgg_boxes.ROWS if row.table == number]


def test_table_8_is_the_papers():
    names = {"fc6+fc7": "fc6 and fc7", "all": "all"}
    expected = [
        ((names[layers], kind), error)
        for layers, kind, error in PAPER["table8_loc_settings"]["rows"]
    ]
    assert [(row.described, row.paper) for row in rows(8)] == expected


def test_table_9_is_the_papers():
    for row, (train, scales, error, _) in zip(rows(9), PAPER["table9_loc"]["rows"], strict=True):
        assert row.paper == error
        if scales is not None:
            ((run, of_run),) = row.boxes
            assert list(of_run) == scales
            assert run == f"vgg_d_{train}_boxes_per_class"
            assert row.classifier == f"vgg_d_{train}"


def test_the_runs_are_those_of_the_config():
    trained = {
        recipe.stages(localization.get_config(variant))[-1].name
        for variant in ("256", "384", "384,fc", "384,single,fc")
    }
    assert {run for row in vgg_boxes.ROWS for run, _ in row.boxes} == trained


def test_our_errors_are_of_the_runs_that_are_there(boxes_run, narrow_run, tmp_path):
    for name in ("vgg_d_256", "vgg_d_384"):
        shutil.copytree(narrow_run, tmp_path / name)
        shutil.copytree(boxes_run, tmp_path / f"{name}_boxes_per_class")
    lines = vgg_tables.table(8, tmp_path).splitlines()
    assert lines[-1].split()[-3] == "33.1"
    assert lines[-1].endswith("shapes")
    assert lines[-2].split()[-2:] == ["34.3", "-"]
    error, dataset = vgg_boxes.our_error(rows(9)[-1], tmp_path)
    assert 0 < error <= 100
    assert dataset == "shapes"
    # 36 is the S of these runs: of 256 for the one, of 384 for the other.
    kept = {path.name.rpartition("_q")[2] for path in tmp_path.rglob("boxes_dense_*")}
    assert kept == {"36", "33"}
