"""The claims' conditions are sound, what is recorded is not run again, the page is the files'."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import cifar10
from deepconv.config.check import check_config
from deepconv.config.identity import fixed_settings
from deepconv.config.schema import create_model
from deepconv.exceptions import DivergenceError, UserError
from deepconv.training import loop
from experiments import (
    alexnet_parts,
    claims,
    depth,
    initialization,
    jitter,
    lrn,
    records,
    relu,
    results,
    towers,
)
from experiments.alexnet_parts import ABLATIONS, BASE
from experiments.claim import Claim
from experiments.claims import CLAIMS
from experiments.comparison import Condition

ROOT = Path(__file__).parents[2]
PAPER = json.loads((ROOT / "tests" / "paper_tables.json").read_text())


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=lambda claim: claim.name)
def test_every_claim_can_be_run_and_compares_what_is_run(claim):
    for width in {claim.width, 1.0}:
        conditions = claim.conditions(width)
        for number, condition in enumerate(conditions):
            check_config(condition.config)
            before = [earlier.label for earlier in conditions[:number]]
            assert condition.source is None or condition.source in before
        labels = [condition.label for condition in conditions]
        assert len({records.path_of(Path(), "", 1, label, 0) for label in labels}) == len(labels)
        for contrast in claim.contrasts:
            assert {contrast.larger, contrast.smaller} <= {*labels}


def test_a_digest_is_of_the_settings_and_of_the_source_but_not_of_the_seed_or_a_place():
    config = cifar10.get_config()
    first, second = Condition("a", config), Condition("b", copy.deepcopy(config), "a")
    before = [records.digest_of(c, (first, second)) for c in (first, second)]
    assert before[0] != before[1]
    second.config.seed = 3
    assert records.digest_of(second, (first, second)) == before[1]
    config.optimizer.momentum = 0.8
    after = [records.digest_of(c, (first, second)) for c in (first, second)]
    assert not {*before} & {*after}
    with config.unlocked():
        config.optimizer.momentum = 0.9  # the default
        del config.optimizer["momentum"]
    assert records.digest_of(first, (first,)) == before[0]
    config.dataset.name = "folder:/here"
    here = records.digest_of(first, (first,))
    config.dataset.name = "folder:/there"
    assert records.digest_of(first, (first,)) == here


@pytest.fixture
def trained(monkeypatch):
    """Let runs end at once; one with the rate 3 diverges."""
    made = []

    def train(config, folder, source=None):
        made.append((folder.name, source and source.name))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "class_names.json").write_text(json.dumps(["a", "b"]))
        (folder / "config.json").write_text(json.dumps({"dataset": {"name": "folder:/mine"}}))
        rows = [
            {"kind": "train", "step": 10, "epoch": 0.5, "top1_error": 0.5},
            {"kind": "train", "step": 40, "epoch": 1.0, "top1_error": 0.3},
            {"kind": "eval", "step": 40, "epoch": 1.0, "top1_error": 0.123456789},
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if config.optimizer.learning_rate == 3:
            raise DivergenceError("the loss is nan at step 50: the run has diverged (more). Try")
        kept = ("best", "parameters", "protocol", "steps", "epochs", "seconds", "devices")
        result = dict.fromkeys(kept, 1) | {"last": {"top1_error": 0.1}, "git_revision": "abc"}
        result["versions"] = {"jax": "1", "platform": "mine"}
        (folder / "result.json").write_text(json.dumps(result))

    monkeypatch.setattr(loop, "train", train)
    return made


def tiny_claim():
    def conditions(width):
        wide, tuned = (ConfigDict(cifar10.get_config().to_dict()) for _ in range(2))
        for config in (wide, tuned):
            config.model.width = width
        diverging = ConfigDict(wide.to_dict())
        diverging.optimizer.learning_rate = 3.0
        return [
            Condition("A", wide),
            Condition("from A", tuned, "A"),
            Condition("too fast", diverging),
            Condition("from too fast", ConfigDict(tuned.to_dict()), "too fast"),
        ]

    return Claim("tiny", "", 0.5, conditions, (), measure=lambda run: {"label": run.label})


def test_what_is_recorded_is_not_run_again(trained, tmp_path):
    out = tmp_path / "results"
    claims.run(tiny_claim(), 0.5, [4], tmp_path / "runs", out)
    assert trained == [
        ("a_seed4", None),
        ("from_a_seed4", "a_seed4"),
        ("too_fast_seed4", None),
        ("too_fast_seed4", None),
        ("from_too_fast_seed4", "too_fast_seed4"),
    ]
    record = json.loads((out / "tiny" / "width_0.5" / "from_a_seed4.json").read_text())
    assert record["command"].endswith("--claims=tiny --width=0.5 --seeds=4")
    assert (record["measured"], record["dataset"]) == ({"label": "from A"}, "folder")
    # 10 updates with 0.5, 30 with 0.3.
    assert record["errors"] == {
        "epoch": [1.0],
        "top1_error": [0.123457],
        "training_error": [0.35],
    }
    assert "platform" not in record["versions"]
    diverged = json.loads((out / "tiny" / "width_0.5" / "too_fast_seed4.json").read_text())
    assert diverged["diverged"] == "the loss is nan at step 50: the run has diverged"
    assert (diverged["last"], diverged["chance"], diverged["errors"]["epoch"]) == (None, 0.5, [1.0])

    trained.clear()
    claims.run(tiny_claim(), 0.5, [4], tmp_path / "runs", out)
    assert trained == []
    # Elsewhere: the records are there, the runs are not; a source is trained again for its net.
    (out / "tiny" / "width_0.5" / "from_a_seed4.json").unlink()
    claims.run(tiny_claim(), 0.5, [4], tmp_path / "elsewhere", out)
    assert trained == [("a_seed4", None), ("from_a_seed4", "a_seed4")]
    found = records.read(out, "tiny", 0.5, tiny_claim().conditions(0.5))
    assert {label: [*runs] for label, runs in found.items()} == {
        "A": [4],
        "from A": [4],
        "too fast": [4],
        "from too fast": [4],
    }


def test_results_of_other_settings_are_refused(trained, tmp_path):
    claims.run(tiny_claim(), 0.5, [0], tmp_path / "runs", tmp_path)
    other = tiny_claim().conditions(0.25)
    with pytest.raises(UserError, match=r"a_seed0\.json is of a condition with other settings"):
        records.read(tmp_path, "tiny", 0.5, other)


def test_the_page_is_what_the_files_say():
    text = (ROOT / "docs" / "results.md").read_text()
    assert results.filled(text, ROOT / "docs" / "results") == text, "run make results"
    figures = results.figures(ROOT / "docs" / "results", ROOT / "docs" / "images")
    for path, drawn in figures.items():
        assert results.digest_of_figure(path) == drawn.digest, "run make results"
        assert f"images/{path.name}" in text


def test_every_file_is_of_a_condition_of_today():
    root = ROOT / "docs" / "results"
    expected = {
        records.path_of(root, claim.name, width, condition.label, seed)
        for claim in CLAIMS.values()
        for width in records.widths(root, claim.name)
        for condition in claim.conditions(width)
        for seed in range(100)
    }
    assert {*root.rglob("*.json")} <= expected


def test_a_page_that_lacks_a_part():
    with pytest.raises(UserError, match="no claim makes, or lacks that of one: summary"):
        results.filled("<!-- made by make results: depth -->\n<!-- end -->", ROOT / "nowhere")


def test_the_ratio_to_weight_decay():
    params = {"conv": {"kernel": np.full((1, 1, 3, 3), 2.0), "bias": np.ones(3)}}
    gradient = {"conv": {"kernel": np.full((1, 1, 3, 3), 1e-30), "bias": np.ones(3)}}
    found = initialization.ratios_to_decay(gradient, params, 5e-4)
    assert found == {"conv": pytest.approx(1e-30 / (5e-4 * 2), rel=1e-12)}


def test_the_nets_of_the_initialization_differ_only_in_their_start():
    by_label = {c.label: c for c in initialization.conditions(1 / 8)}
    gaussian, from_a = by_label["D, Gaussian"], by_label["D, from A"]
    assert (gaussian.source, from_a.source) == (None, "A, Gaussian")
    one, other = (fixed_settings(condition.config) for condition in (gaussian, from_a))
    assert {key for key in one if one[key] != other[key]} == {"init.layers"}


def test_figure_1_has_no_regularization_and_the_best_rates():
    config = relu.config_of("tanh", 0.003, 5.0, 0.25)
    network = create_model(config, 10)
    assert {layer.function for layer in network.layers if hasattr(layer, "function")} == {"tanh"}
    assert config.optimizer.weight_decay == 0
    assert (config.augment.flip, config.augment.pca_std) == (False, 0.0)
    assert config.input.scale == (config.model.crop, config.model.crop)  # one crop fits
    found = records.read(
        ROOT / "docs" / "results", "relu_rates", 0.25, claims.CLAIMS["relu_rates"].conditions(0.25)
    )
    for net, rate in relu.RATE.items():
        ends = {r: found[f"{net}, rate {r:g}"].get(0) for r in relu.RATES}
        if all(ends.values()):  # otherwise they have not been tuned yet
            errors = {r: relu.end_of_training(end) for r, end in ends.items()}
            best = min(errors, key=lambda r: 101.0 if errors[r] is None else errors[r])
            assert rate == best, net


def test_a_tanh_net_that_is_never_there_counts_with_the_length_of_its_run():
    (contrast,) = relu.CLAIM.contrasts
    never = {"measured": {"epochs to 0.25": None}, "epochs": 36.0, "last": {}}
    there = {"measured": {"epochs to 0.25": 4.0}, "epochs": 12.0, "last": {}}
    assert contrast.quantity.of(never) == 36.0
    assert (contrast.against.of(never), contrast.against.of(there)) == (None, 4.0)


def test_the_nets_of_normalization_differ_in_nothing_else():
    plain, equal, papers = (fixed_settings(c.config) for c in lrn.conditions(0.25))
    assert {key for key in plain if plain[key] != equal[key]} == {"model.lrn"}
    assert papers["model.name"] == "cifar10_11pct"


def test_each_ablation_changes_one_thing():
    base = fixed_settings(alexnet_parts.base_config(0.25))
    for ablation in ABLATIONS:
        config = alexnet_parts.changed(alexnet_parts.base_config(0.25), ablation)
        settings = fixed_settings(config)
        changed = {key for key in base if settings[key] != base[key]}
        crops = {"augment.flip", "input.scale", "evaluation.scale"}
        assert changed == ({*ablation.changes} if ablation.crops else crops), ablation.label


def test_the_papers_differences():
    delta = PAPER["alexnet"]["ablations_delta_points"]
    printed = {ablation.label: ablation.top1 for ablation in (BASE, *ABLATIONS)}
    assert printed["half net"] == f"{delta['two_gpu_vs_one_gpu_half'][0]}"
    assert printed["no LRN"] == f"{delta['lrn'][0]}"
    assert printed["2x2 pooling"] == f"{delta['overlapping_pooling'][0]}"
    assert printed["no color jitter"] == f"over {delta['pca_colour_top1_more_than']:g}"
    for name in ("conv2", "conv3", "conv4", "conv5"):
        about = delta["remove_one_middle_conv_top1_about"]
        assert printed[f"without {name}"] == f"about {about:g}"


def test_the_share_of_color_of_kernels():
    gray = np.ones((2, 2, 3, 1))
    red = np.zeros((2, 2, 3, 1))
    red[:, :, 0] = 3.0  # 1/3 of its energy is gray
    halves = np.array([[True, False], [False, True], [True, True]])
    shares = towers.color_shares(np.concatenate([gray, red], axis=3), halves)
    np.testing.assert_allclose(shares, [0, 2 / 3, 24 / (12 + 36)], rtol=1e-12)
    drawn = np.random.default_rng(0).normal(size=(11, 11, 3, 96))
    share = towers.color_shares(drawn, np.ones((1, 96), bool))
    assert share[0] == pytest.approx(2 / 3, abs=0.01)  # its deviation is 0.0025


def test_scales_are_in_the_papers_proportion():
    fixed, jittered = jitter.FIXED[0], jitter.JITTER
    assert (fixed / 384, jittered[0] / 256, jittered[1] / 512) == pytest.approx([56 / 256] * 3)
    by_label = {c.label: c for c in jitter.conditions(1 / 8)}
    one, other = (
        fixed_settings(by_label[label].config)
        for label in ("A, S = 84, continued", "A, S in 56 to 112")
    )
    assert {key for key in one if one[key] != other[key]} == {"input.scale"}


def test_the_nets_of_table_3_differ_in_nothing_else():
    settings = [fixed_settings(condition.config) for condition in depth.conditions(1 / 8)]
    for other in settings[1:]:
        assert {key for key in other if other[key] != settings[0][key]} == {"model.name"}
