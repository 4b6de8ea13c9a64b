"""The ablations are the paper's, each a sound config, and the differences are to the base."""

import json
from pathlib import Path

import pytest

from deepconv.config.check import check_config
from deepconv.config.identity import fixed_settings
from deepconv.exceptions import UserError
from experiments import alexnet_ablations
from experiments.alexnet_ablations import ABLATIONS, BASE, config_of

PAPER = json.loads((Path(__file__).parents[1] / "paper_tables.json").read_text())["alexnet"]


@pytest.mark.parametrize("ablation", [BASE, *ABLATIONS], ids=lambda ablation: ablation.label)
def test_every_net_is_sound_in_full_and_tiny(ablation):
    for variant in ("", "tiny", "caffe,tiny"):
        check_config(config_of(ablation, variant))


def test_each_changes_one_thing_of_the_base():
    base = fixed_settings(config_of(BASE, "tiny"))
    for ablation in ABLATIONS:
        settings = fixed_settings(config_of(ablation, "tiny"))
        changed = {key for key in base if settings[key] != base[key]}
        assert changed == set(ablation.changes), ablation.label


def test_the_papers_differences():
    delta = PAPER["ablations_delta_points"]
    printed = {ablation.label: (ablation.top1, ablation.top5) for ablation in ABLATIONS}
    assert printed["half net"] == tuple(map(str, delta["two_gpu_vs_one_gpu_half"]))
    assert printed["no LRN"] == tuple(map(str, delta["lrn"]))
    assert printed["2x2 pooling"] == tuple(map(str, delta["overlapping_pooling"]))
    assert printed["no color jitter"] == (f"over {delta['pca_colour_top1_more_than']:g}", None)
    for name in ("conv3", "conv4", "conv5"):
        about = delta["remove_one_middle_conv_top1_about"]
        assert printed[f"without {name}"] == (f"about {about:g}", None)


def test_differences_are_of_the_means_over_the_seeds(tmp_path):
    def run(label, seed, top1):
        folder = tmp_path / f"{label}_{seed}"
        folder.mkdir()
        result = {"parameters": 7, "last": {"top1_error": top1, "top5_error": top1 / 10}}
        (folder / "result.json").write_text(json.dumps(result))
        return folder

    folders = {
        ablation.label: [run(number, 0, 0.4 + number / 100), run(number, 1, 0.6 + number / 100)]
        for number, ablation in enumerate((BASE, *ABLATIONS))
    }
    first, half, *_ = alexnet_ablations.rows(folders)
    assert first == ("AlexNet", 7, pytest.approx(50.0), "40.0 60.0", None, None, None, None)
    assert half[:4] == ("half net", 7, pytest.approx(51.0), "41.0 61.0")
    assert half[4:] == (pytest.approx(1.0), pytest.approx(0.1), "1.7", "1.2")


def test_a_recipe_of_stages_is_no_ablation():
    with pytest.raises(UserError, match="--variant=pretrained is a recipe of stages"):
        config_of(BASE, "pretrained")
