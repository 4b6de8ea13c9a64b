"""The planner: against arithmetic by hand, the papers' times, and the compiled training step."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from configs import alexnet, vgg_a, vgg_d
from deepconv import models, parallel
from deepconv.config import recipe
from deepconv.config.schema import default
from deepconv.data.color import IMAGENET
from deepconv.data.sources import shapes
from deepconv.exceptions import UserError
from deepconv.plan import devices, memory, network, report, stages, traffic
from deepconv.plan.program import parse
from deepconv.plan.times import Machine
from deepconv.training.build import build

# Whole networks: nothing is run, and without LLVM's optimization a step compiles in seconds at any
# width. What XLA's own passes decide, the collectives and the buffers, stays as it is.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
ESTIMATE_WITHIN = 1.5


def machine(kind="h100", count=8, **changes):
    known = devices.device(kind)
    peak = known.peaks[devices.arithmetic(known.peaks, "float32")]
    return Machine(
        kind=kind,
        devices=count,
        rate=devices.ASSUMED_SHARE * peak,
        rate_is="assumed",
        measured=False,
        memory=known.memory,
        usable=known.usable,
        link=known.link,
        decoded=500.0,
        cores=10_000,
        cores_are="given",
    )._replace(**changes)


def planned(config, on):
    stages.check_stages(config, on.devices)
    none = dict.fromkeys(stages.Sizes._fields)
    return [
        stages.plan_stage(stage, stages.sizes(stage.config, config.dataset.name, none), on)
        for stage in recipe.stages(config)
    ]


def single(module, variant="", **settings):
    config = module.get_config(variant)
    config.recipe = default().recipe
    config.update_from_flattened_dict(settings)
    return config


def compiled_step(config, count, num_classes):
    make_mesh = parallel.tower_mesh if config.train.model_devices == 2 else parallel.data_mesh
    mesh = make_mesh(jax.devices()[:count])
    side = config.evaluation.scale
    colors = IMAGENET._replace(mean_image=np.zeros((side, side, 3), np.float32))
    functions = build(config, colors, num_classes=num_classes, images=1000, mesh=mesh)
    state = parallel.described(jax.eval_shape(functions.initial_state), functions.placement)
    n, crop = config.train.batch_size, config.model.crop
    batch = {
        "image": jax.ShapeDtypeStruct((n, crop, crop, 3), jnp.uint8),
        "target": {"label": jax.ShapeDtypeStruct((n,), jnp.int32)},
        "mask": jax.ShapeDtypeStruct((n,), bool),
        "offset": jax.ShapeDtypeStruct((n, 2), jnp.int32),
        "position": jax.ShapeDtypeStruct((n,), jnp.uint32),
    }
    batch = parallel.described(batch, NamedSharding(mesh, P(parallel.DATA_AXIS)))
    return functions.train_step.lower(state, batch).compile(compiler_options=QUICK)


CASES = {
    "VGG-D on eight devices": (single(vgg_d), {}),
    "AlexNet's towers on four pairs, in microbatches": (
        single(alexnet, **{"train.model_devices": 2, "train.microbatches": 2}),
        {"kind": "a100"},
    ),
}


@pytest.fixture(scope="module", params=CASES)
def plan_and_step(request):
    config, on = CASES[request.param]
    (plan,) = planned(config, machine(**on))
    return plan, compiled_step(config, 8, 1000)


@pytest.mark.slow
def test_collectives_are_those_of_the_compiled_step(plan_and_step):
    plan, step = plan_and_step
    expected = {}
    for each in (*plan.gradients, *plan.gathers):
        # In the text the loop over microbatches is there once.
        key = each.kind, each.devices
        expected[key] = expected.get(key, 0) + each.bytes
    found = {}
    for each in parse(step.as_text()).collectives:
        key = each.kind, each.devices
        found[key] = found.get(key, 0) + each.bytes
    assert found == expected


@pytest.mark.slow
def test_memory_is_that_of_the_compiled_step(plan_and_step):
    plan, step = plan_and_step
    measured = step.memory_analysis()
    assert measured.argument_size_in_bytes == plan.memory.arguments
    ratio = plan.memory.temporaries / measured.temp_size_in_bytes
    assert 1 / ESTIMATE_WITHIN < ratio < ESTIMATE_WITHIN


def test_vgg_d_by_hand():
    (plan,) = planned(single(vgg_d), machine())
    parameters, macs, first = 138_357_544, 15_470_264_320, 27 * 64 * 224**2
    assert plan.net.parameters == parameters
    assert plan.flops == 256 * 2 * (3 * macs - first)
    assert plan.epoch_flops == pytest.approx(1_281_167 * 2 * (3 * macs - first))
    assert (plan.examples, plan.steps, plan.images) == (32, 370_338, 370_338 * 256)
    assert traffic.payload(plan.gradients) == 4 * parameters + 12
    assert traffic.sent(plan.gradients) == 2 * 7 / 8 * (4 * parameters + 12)
    assert plan.gathers == []
    assert plan.memory.batch == 32 * (3 * 224**2 + 9)
    seconds = plan.flops / 8 / (0.3 * 494.5e12)
    assert plan.step.computing == pytest.approx(seconds)
    assert plan.step.seconds == pytest.approx(seconds + 7 / 4 * (4 * parameters + 12) / 450e9)


def test_two_towers_have_what_one_device_has():
    net = models.create("alexnet")
    whole, half = network.local(net, 1), network.local(net, 2)
    assert whole.shared == whole.parameters == 60_965_224
    assert half.shared == 4097 * 1000
    assert 2 * half.parameters - half.shared == whole.parameters
    fc8 = 2 * 4096 * 1000  # both compute it
    assert 2 * network.flops(half).forward - fc8 == network.flops(whole).forward == 2 * 724_406_816


def test_the_papers_own_times():
    # AlexNet, section 5: five to six days on two GTX 580, a tower on each.
    (plan,) = planned(single(alexnet, **{"train.model_devices": 2}), machine("gtx_580", 2))
    assert 5 <= plan.hours / 24 <= 6.1
    assert plan.memory.total < 3e9
    # VGG, section 3.3: two to three weeks a net on four Titan Blacks.
    (plan,) = planned(single(vgg_d), machine("titan_black", 4))
    assert 14 <= plan.hours / 24 <= 21


def test_a_measured_speed_is_that_of_the_plan_on_one_device():
    (plan,) = planned(single(vgg_a), machine(count=1, rate=100.0 * vgg_a_flops()))
    assert plan.batch / plan.step.seconds == pytest.approx(100.0)
    assert plan.gradients == []


def vgg_a_flops():
    return network.flops(network.local(models.create("vgg_a"), 1)).training


def test_all_stages_of_a_recipe_are_planned():
    plans = planned(vgg_d.get_config(), machine())
    assert [plan.name for plan in plans] == [
        "vgg_a_256",
        "vgg_d_256",
        "vgg_d_384",
        "vgg_d_jitter",
    ]
    text = report.text(plans, machine())
    assert f"{sum(plan.images for plan in plans):,}" in text
    assert max(map(len, text.splitlines())) <= 100
    first, second = planned(alexnet.get_config("pretrained"), machine())
    assert first.images == math.ceil(90 * 15_000_000 / 128) * 128
    assert second.net.parameters < first.net.parameters  # 22,000 classes, then 1000


def test_what_bounds_a_step():
    (slow_link,) = planned(single(vgg_d), machine(link=1e9))
    assert slow_link.step.bound == "all-reduce"
    (few_cores,) = planned(single(vgg_d), machine(cores=4))
    assert few_cores.step.bound == "decoding"
    assert few_cores.step.seconds == 256 / (4 * 500.0)


def test_microbatches_where_memory_is_short():
    (plan,) = planned(single(vgg_d), machine(memory=5e9))
    assert plan.fitting == 4
    assert "It does NOT fit; train.microbatches=4 would fit." in report.text(
        [plan], machine(memory=5e9)
    )
    (fitted,) = planned(single(vgg_d, **{"train.microbatches": 4}), machine(memory=5e9))
    assert fitted.memory.total <= 0.75 * 5e9
    assert memory.fitting_microbatches(plan.net, examples=32, mean_image=False, limit=1e9) is None


@pytest.mark.parametrize(
    ("settings", "count", "words"),
    [
        ({}, 0, "--devices=0 must be positive"),
        ({}, 7, "train.batch_size=256 is not a positive multiple of the 7 devices"),
        ({"train.microbatches": 64}, 8, "8 devices times 64 microbatches"),
    ],
)
def test_devices_that_cannot_be(settings, count, words):
    config = vgg_d.get_config()
    config.update_from_flattened_dict(settings)
    with pytest.raises(UserError, match=words):
        stages.check_stages(config, count)


def test_other_mistakes():
    towers = single(alexnet, **{"train.model_devices": 2})
    with pytest.raises(UserError, match="needs an even number of devices, not 3"):
        stages.check_stages(towers, 3)
    with pytest.raises(UserError, match="unknown --device_kind=gpu; one of h100, h200"):
        devices.device("gpu")
    towers.dataset.name = "folder:/pictures"
    none = dict.fromkeys(stages.Sizes._fields)
    with pytest.raises(UserError, match="give --train_images=N, --eval_images=N, --classes=N"):
        stages.sizes(towers, "folder:/pictures", none)


def test_the_embedded_data_set_has_the_size_it_is_planned_with():
    sizes = stages.DATASETS["shapes"]
    assert sizes == (*shapes.SPLITS.values(), len(shapes.CLASSES))


def test_decoding_is_a_bound_from_the_start(run_main):
    process = run_main("plan", "--config=configs/alexnet.py", "--devices=1", "--device_kind=h200")
    assert process.returncode == 0
    assert "Bound by decoding." in process.stdout
    assert "in parallel, on 24 cores, ASSUMED: 24 per device" in process.stdout


def test_the_command(run_main, tmp_path):
    file = tmp_path / "plan.json"
    process = run_main(
        "plan",
        "--config=configs/vgg_d.py:256",
        "--devices=8",
        "--device_kind=h200",
        "--images_per_second=1000",
        "--link_gbps=100",
        f"--json={file}",
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("A plan, not a measurement: 8 x h200\n")
    assert "from the measured 1,000 images/s of vgg_d" in process.stdout
    result = json.loads(file.read_text())
    assert result["machine"]["link"] == 12.5e9
    assert result["stages"][1]["step"]["computing"] == pytest.approx(32 / 1000)


def test_a_mistake_is_one_line(run_main):
    process = run_main("plan", "--config=configs/vgg_d.py", "--devices=8", "--device_kind=abacus")
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("deepconv: unknown --device_kind=abacus; one of h100")
    assert process.stderr.count("\n") == 1
