"""The paper's tables, and ours beside them."""

import json
import shutil
from pathlib import Path

import pytest

from deepconv.inference import rows as engine
from experiments import vgg_tables
from experiments.vgg_tables import ROWS

PAPER = json.loads((Path(__file__).parents[1] / "paper_tables.json").read_text())["vgg"]
STAGES = {"256": 256, "384": 384, "jitter": [256, 512], "fc": [256, 512]}


def described(run, scales):
    """Return a run as the paper's tables name it: network, S, Q."""
    network = run.removeprefix("vgg_").removesuffix("_fc").rpartition("_")[0]
    return network.upper().replace("_", "-"), STAGES[run.split("_")[-1]], list(scales)


def rows(number):
    return [row for row in ROWS if row.table == number]


def test_table_3_is_the_papers():
    found = [
        [net, train, test[0], row.top1, row.top5]
        for row in rows(3)
        for net, train, test in [described(*row.stages[0])]
    ]
    assert found == PAPER["table3_single_scale"]["rows"]


def test_table_4_is_the_papers():
    found = [[*described(*row.stages[0]), row.top1, row.top5] for row in rows(4)]
    assert found == PAPER["table4_multi_scale"]["rows"]


def test_table_5_is_the_papers():
    table = PAPER["table5_eval_methods"]
    found = []
    for row in rows(5):
        net, train, test = described(*row.stages[0])
        assert (train, test) == (table["train_S"], table["test_Qs"])
        method = row.protocol.replace("_and_", " & ").replace("_", "-")
        found.append([net, method, row.top1, row.top5])
    assert found == table["rows"]


def test_table_6_is_the_papers():
    for row, expected in zip(rows(6), PAPER["table6_fusion"]["rows"], strict=True):
        _, members, method, top1, top5, _ = expected
        assert [list(described(*stage)) for stage in row.stages] == members
        assert row.protocol.replace("_and_", " & ").replace("_", "-") == method
        assert (row.top1, row.top5) == (top1, top5)


@pytest.fixture
def runs(narrow_run, tmp_path, monkeypatch):
    """Return a work directory with two jittered runs."""
    monkeypatch.setattr(engine, "MOST_BUCKETS", 1)
    for name in ("vgg_d_jitter", "vgg_e_jitter"):
        shutil.copytree(narrow_run, tmp_path / name)
    return tmp_path


def test_our_errors_are_of_the_runs_that_are_there_at_scales_in_proportion(runs):
    fused = next(row for row in rows(6) if row.stages == vgg_tables._POST_SUBMISSION)
    top1, top5, dataset = vgg_tables.our_errors(fused, runs)
    assert 0 < top5 <= top1 <= 100
    assert dataset == "shapes"
    results = {path.name for path in runs.glob("*/evaluation/*/*.json")}
    assert results == {
        "dense_q36-54-72.json"
    }  # 36 is the smallest S of these runs, 256 the paper's
    assert len([*(runs / "fusion").glob("*.json")]) == 1
    assert vgg_tables.our_errors(rows(3)[0], runs) == (None, None, "")


def test_a_row_without_a_run_has_dashes(tmp_path):
    lines = vgg_tables.table(6, tmp_path).splitlines()
    assert lines[0] == "VGG, Table 6: fusion of networks; errors in percent"
    assert lines[-1].startswith("D [256;512] + E [256;512]  256,384,512")
    assert lines[-1].split()[-4:] == ["23.7", "6.8", "-", "-"]
    assert (tmp_path / "table_6.txt").read_text().splitlines() == lines
    last = json.loads((tmp_path / "table_6.json").read_text())[-1]
    assert (last["paper top-1"], last["our top-1"]) == (23.7, None)
