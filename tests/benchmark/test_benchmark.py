"""What the benchmark counts and how it sums up; and the command, once, on a very narrow net."""

import json
import sys

import numpy as np
import PIL.Image
import pytest
from absl import flags

from configs import vgg_a
from deepconv.benchmark import report, session, timing
from deepconv.commands import benchmark as command
from deepconv.exceptions import UserError
from experiments import bench_torch


def test_the_spread_of_rounds():
    assert timing.spread([5.0, 1.0, 2.0, 4.0, 3.0]) == (3.0, 2.0, 4.0, 1.0, 5.0)
    assert timing.spread([1.0, 2.0]) == (1.5, 1.25, 1.75, 1.0, 2.0)
    assert timing.spread([7.0]) == (7.0,) * 5
    with pytest.raises(ValueError, match="no round"):
        timing.spread([])


def test_ratios_are_taken_within_a_round():
    assert timing.ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    # The slower of the two may be another in each round.
    assert timing.shares_of_the_slower([4.0, 5.0], [3.0, 1.0], [2.0, 5.0]) == [0.75, 1.0]


def test_contenders_take_turns_after_a_warm_up():
    turns = []

    def contender(name, seconds):
        def run(steps):
            turns.append((name, steps))
            return seconds

        return run

    contenders = {"a": contender("a", 1.0), "b": contender("b", 2.0)}
    found = timing.alternate(contenders, rounds=2, steps=7)
    assert found == {"a": [1.0, 1.0], "b": [2.0, 2.0]}
    warm = [("a", timing.WARM_UP), ("b", timing.WARM_UP)]
    assert turns == [*warm, ("a", 7), ("b", 7), ("b", 7), ("a", 7)]


def result(lines, **changes):
    return {
        "network": "vgg_a",
        "crop": 32,
        "classes": 3,
        "batch": 8,
        "dtype": "float32",
        "devices": "1 x cpu",
        "cores": 2,
        "rounds": 2,
        "steps": 4,
        "matrix_side": 2048,
        "peak_flops_per_second": 5e9,
        "lines": lines,
        "memory_is_of_the_device": False,
        "pipeline_share": None,
        **changes,
    }


def test_the_table():
    seconds = {
        "train": [0.5, 0.5],
        "train, torch eager": [1.0, 2.0],
        "train, torch compile": [3, 1],
    }
    lines = [
        report.line(
            "train",
            batch=8,
            seconds=seconds["train"],
            flops=10**9,
            peak=5e9,
            memory=3_000_000,
            compile_seconds=2.25,
        ),
        report.line(
            "train, torch eager",
            batch=8,
            seconds=seconds["train, torch eager"],
            flops=10**9,
            peak=5e9,
            ours=seconds["train"],
        ),
    ]
    ours, theirs = lines
    assert (ours["images_per_second"], ours["flops_per_second"]) == (16.0, 2e9)
    assert ours["share_of_peak"] == pytest.approx(0.4)
    assert theirs["ours_is_times_as_fast"]["median"] == 3.0
    text = report.text(result(lines, pipeline_share=timing.spread([0.9, 1.0])._asdict()))
    rows = [line.split() for line in text.splitlines()]
    assert [
        "train",
        "16.0",
        "500.0",
        "500.0",
        "to",
        "500.0",
        "2.0",
        "40.0",
        "3.0",
        "2.2",
        "-",
    ] in rows
    assert "pipeline: 95.0 %" in text


def test_the_comparison():
    seconds = {
        "train": [0.5, 0.5],
        "train, torch eager": [1.0, 2.0],
        "train, torch compile": [3, 1],
    }
    lines = [
        report.line(name, batch=8, seconds=values, ours=seconds["train"] if "," in name else ())
        for name, values in seconds.items()
    ]
    fastest = bench_torch.fastest(lines)
    assert fastest == {"train": "train, torch eager"}
    text = bench_torch.text(
        result(
            lines,
            fastest_of_torch=fastest,
            not_measured={"train, torch compile": "no C++ compiler"},
        )
    )
    assert (
        "train: ours is 3.00 (2.50 to 3.50) times as fast as PyTorch's fastest mode (torch eager)"
        in text
    )
    assert "not measured: train, torch compile: no C++ compiler" in text


def test_what_is_not_measured_has_no_column():
    text = report.text(result([report.line("input", batch=8, seconds=[0.5])]))
    assert text.splitlines()[2].split() == ["images/s", "ms", "per", "step", "quartiles"]


def test_what_is_asked_for():
    assert command.things(["train", "forward"]) == ("forward", "train")
    assert command.things(["pipeline"]) == ("train", "input", "pipeline")
    bench_torch.require_compared(["pipeline"])
    with pytest.raises(UserError, match="unknown --what=trian; choose from forward, train, input"):
        command.things(["train", "trian"])
    with pytest.raises(UserError, match="--what is empty"):
        command.things([])
    with pytest.raises(UserError, match="--what has neither"):
        bench_torch.require_compared(["compile"])


def test_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"pip install -e '.\[torch\]'"):
        bench_torch.require_torch()


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        ("--batch=0", "--batch=0: 0 is not a positive integer"),
        ("--rounds=0", "--rounds=0: 0 is not a positive integer"),
    ],
)
def test_bad_flags(flag, complaint):
    values = flags.FlagValues()
    command.define_flags(values)
    with pytest.raises(flags.Error, match=complaint):
        values(["benchmark", flag])


def request_for(**changes):
    config = vgg_a.get_config("256,tiny")
    request = session.Request(config, ("train",), batch=8, classes=3, rounds=1, steps=1)
    return request._replace(**changes)


def test_what_cannot_be_measured(monkeypatch):
    with pytest.raises(UserError, match="train.batch_size=9 is not a positive multiple of the 8"):
        session.measure(request_for(batch=9))
    with pytest.raises(UserError, match="one device, but jax sees 8"):
        bench_torch.require_one(8)

    def prepare(*_, **__):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")

    monkeypatch.setattr(session.programs, "prepare", prepare)
    with pytest.raises(UserError, match="batches of 8 do not fit in memory: use a smaller --batch"):
        session.measure(request_for())


@pytest.mark.slow
def test_other_contenders_take_turns_with_ours():
    config = vgg_a.get_config("256,tiny")
    config.update_from_flattened_dict(
        {
            "model.width": 1 / 32,
            "model.crop": 32,
            "input.scale": (36, 36),
            "evaluation.scale": 36,
        }
    )
    asked = []

    def others(subject, things):
        asked.append((subject.config.train.batch_size, things))
        return {"forward, theirs": timing.Contender(lambda _: 2.0, compile_seconds=3.0, memory=4)}

    found = session.measure(request_for(config=config, what=("forward",), rounds=2), others)
    assert asked == [(8, ["forward"])]
    ours, theirs = found["lines"]
    assert (ours["name"], theirs["name"]) == ("forward", "forward, theirs")
    assert theirs["images_per_second"] == 4.0
    assert (theirs["compile_seconds"], theirs["memory_bytes"]) == (3.0, 4)
    ratio = theirs["ours_is_times_as_fast"]["least"]
    assert ratio == pytest.approx(2.0 / ours["seconds"]["most"])


def test_the_command(tmp_path, run_main):
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("a", "b", "c"):
            (tmp_path / part / name).mkdir(parents=True)
            pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
            PIL.Image.fromarray(pixels).save(tmp_path / part / name / "x.png")
    process = run_main(
        "benchmark",
        "--config=configs/vgg_a.py:256,tiny",
        "--config.model.width=0.03125",
        "--config.model.crop=32",
        "--config.input.scale=(36, 36)",
        "--config.evaluation.scale=36",
        f"--config.dataset.name=folder:{tmp_path}",
        f"--config.dataset.data_dir={tmp_path}",
        "--what=forward,pipeline",
        "--batch=2",
        "--rounds=1",
        "--steps=1",
        f"--json={tmp_path / 'found.json'}",
    )
    assert process.returncode == 0, process.stderr
    assert "vgg_a, 32x32 crops, 3 classes, batches of 2, float32, on 1 x cpu" in process.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    lines = {line["name"]: line for line in found["lines"]}
    assert [*lines] == ["forward", "train", "input", "pipeline"]
    for name in ("forward", "train"):
        line = lines[name]
        flops = found["flops_per_image"][{"train": "training"}.get(name, name)]
        assert line["flops_per_second"] == pytest.approx(flops * line["images_per_second"])
        assert line["share_of_peak"] == pytest.approx(
            line["flops_per_second"] / found["peak_flops_per_second"]
        )
        assert line["compile_seconds"] > 0
    # Parameters, velocity and pixels at least; what the compiler gives back is not counted twice.
    assert lines["train"]["memory_bytes"] > lines["forward"]["memory_bytes"] > 0
    slower = max(lines[name]["seconds"]["median"] for name in ("train", "input"))
    share = slower / lines["pipeline"]["seconds"]["median"]
    assert found["pipeline_share"]["median"] == pytest.approx(share)
