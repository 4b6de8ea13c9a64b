"""A network of a user's own: trained, stopped, resumed; then used where its code is not at hand."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from deepconv import models
from deepconv.exceptions import UserError
from deepconv.inference.model import open_model
from deepconv.models.network import network_from_json, network_to_json
from deepconv.run import weights_file
from tests.faults.processes import PATIENCE_SECONDS, environment_of

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow  # nearly all of them train

# A fresh process, which has never heard of the network.
WITHOUT_ITS_CODE = """
import json, sys
from pathlib import Path
from deepconv import models
from deepconv.data.sources import pictures
from deepconv.inference.evaluate import Request, evaluate
from deepconv.inference.model import open_model
from deepconv.inference.predict import best, log_posteriors
from deepconv.weights import exporting

run, out, photos, data_dir = map(Path, sys.argv[1:])
assert "mine" not in models.NETWORKS
model = open_model(run)
exporting.to_deepconv(model, out / "mine.safetensors")
exporting.to_stablehlo(model, out / "mine.stablehlo", view="crop")
source = pictures.open_pictures([photos])
found = {}
for path in (run, out / "mine.safetensors"):
    model = open_model(path)
    dataset = {"name": "shapes", "data_dir": str(data_dir), "eval_split": "validation"}
    result = evaluate([path], Request("center"), dataset=dataset, out=out / path.stem)
    logs = log_posteriors(model, source, Request("dense"), threads=1)
    labels = [each.best for each in best(logs, source.file_names, model.class_names)]
    found[path.name] = [result["top1_error"], result["loss"], labels]
(out / "found.json").write_text(json.dumps(found))
"""


def python(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=environment_of(devices=1),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def run(shapes_root, tmp_path_factory):
    """Return the folder of a run that was stopped after three steps and resumed, six in all."""
    folder = tmp_path_factory.mktemp("own") / "mine"
    stopped = python("-m", "tests.own_network", folder, shapes_root, "stop")
    assert "saved at step 3 of 6" in stopped.stderr
    assert not (folder / "result.json").exists()
    resumed = python("-m", "tests.own_network", folder, shapes_root)
    assert resumed.returncode == 0, resumed.stderr
    return folder


def test_it_is_used_without_its_code(run, shapes_root, photos, tmp_path):
    result = json.loads((run / "result.json").read_text())
    assert (result["network"], result["steps"]) == ("mine", 6)
    process = python("-c", WITHOUT_ITS_CODE, run, tmp_path, photos, shapes_root)
    assert process.returncode == 0, process.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["mine"] == found["mine.safetensors"]
    error, loss, labels = found["mine"]
    assert abs(error - result["last"]["top1_error"]) <= 2 / 600  # images that rounding may decide
    assert loss == pytest.approx(result["last"]["loss"], rel=1e-4)
    assert len(labels) == 3
    model = open_model(tmp_path / "mine.safetensors")
    assert model.network.layers[0].kernel == 5
    assert model.network == open_model(run).network
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    program = jax.export.deserialize((tmp_path / "mine.stablehlo").read_bytes())
    scores = model.network.apply({"params": model.params}, pixels - model.central_mean)
    np.testing.assert_allclose(
        program.call(pixels), jax.nn.softmax(scores[:, 0, 0]), rtol=1e-4, atol=1e-6
    )


def test_a_file_keeps_what_its_run_computed(run, tmp_path):
    from deepconv.weights import exporting

    ours = open_model(run)
    exporting.to_deepconv(ours, tmp_path / "mine.safetensors")
    found = open_model(tmp_path / "mine.safetensors")
    jax.tree.map(np.testing.assert_array_equal, found.params, ours.params)
    for name in ("mean_rgb", "eigenvalues", "eigenvectors"):
        np.testing.assert_array_equal(getattr(found.colors, name), getattr(ours.colors, name))
    assert found.class_names == ours.class_names
    assert found.config.model.to_dict() == ours.config.model.to_dict()
    assert found.config.evaluation.scale == ours.config.evaluation.scale
    _, about = weights_file.read(tmp_path / "mine.safetensors")
    assert about["source"]["run"] == "mine"


def test_a_network_whose_code_has_changed_is_not_resumed(run, shapes_root):
    code = (ROOT / "tests" / "own_network.py").read_text().replace('"conv2", 2 *', '"conv2", 3 *')
    process = python("-c", code, run, shapes_root)
    assert process.returncode == 1
    assert "has changed since the run began: layer conv2 is new or different" in process.stderr


def test_records_are_read_as_they_were_written():
    network = models.create("alexnet", 10, initializer="he", dtype="bfloat16")
    value = json.loads(json.dumps(network_to_json(network)))
    assert network_from_json(value) == network
    for key, wrong, message in (
        ("initializer", "hee", "unknown initializer 'hee'; choose from"),
        ("layers", [{"kind": "Convv"}], "layer 0 has unknown kind 'Convv'"),
    ):
        with pytest.raises(ValueError, match=message):
            network_from_json({**value, key: wrong})
    with pytest.raises(ValueError, match="needs layers, crop, initializer and dtype"):
        network_from_json({})


def test_a_run_whose_records_are_damaged_is_named(run, tmp_path):
    for name in ("config.json", "colors.npz", "class_names.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    (tmp_path / "network.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read: a network needs layers"):
        open_model(tmp_path)
    (tmp_path / "network.json").unlink()
    with pytest.raises(UserError, match="cannot be read: unknown network 'mine'"):
        open_model(tmp_path)
