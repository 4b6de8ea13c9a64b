"""Saving, restoring, and what happens to damaged checkpoints."""

import errno
import logging
import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from deepconv import parallel
from deepconv.exceptions import UserError
from deepconv.run.checkpoint import Checkpoints
from deepconv.run.checksums import checksums
from deepconv.run.parameters import SavedParameters
from deepconv.training import plateau
from deepconv.training.state import TrainState


def make_state(step, devices=1):
    mesh = parallel.data_mesh(jax.devices()[:devices])
    rng = np.random.default_rng(step)
    params = {"conv1_1": {"kernel": rng.normal(size=(64, 64)).astype(np.float32)}}
    velocity = jax.tree.map(lambda w: 0.5 * w, params)
    state = TrainState(jnp.int32(step), params, velocity, plateau.initial())
    return parallel.replicate(state, mesh)


def assert_equal(state, other):
    assert jax.tree.structure(state) == jax.tree.structure(other)
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), state, other
    )


def save(folder, *steps):
    with Checkpoints(folder, keep=3) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_state(step), {"step": step})


def data_files(folder, step):
    return sorted((folder / f"{step:08d}" / "state").rglob("d/*"), key=lambda p: p.stat().st_size)


def test_nothing_saved_is_none(tmp_path):
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        assert checkpoints.restore(make_state(0)) is None


@pytest.mark.parametrize("devices", [1, 4, 8])
def test_round_trip_is_bit_identical_on_any_number_of_devices(tmp_path, devices):
    state = make_state(7, devices=4)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(7, state, {"progress": {"best": None, "seconds": 1.5}})
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        restored, meta = checkpoints.restore(make_state(0, devices))
    assert_equal(restored, state)
    assert meta == {"progress": {"best": None, "seconds": 1.5}}
    assert len(restored.params["conv1_1"]["kernel"].sharding.device_set) == devices


def test_the_newest_few_are_kept(tmp_path):
    save(tmp_path, 1, 2, 3, 4, 5)
    kept = sorted(p.name for p in tmp_path.iterdir() if p.is_dir())
    assert kept == ["00000003", "00000004", "00000005"]


def test_saving_a_step_again_changes_nothing(tmp_path):
    save(tmp_path, 4)
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        checkpoints.save(4, make_state(99), {"step": 99})
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        restored, meta = checkpoints.restore(make_state(0))
    assert meta == {"step": 4}
    assert_equal(restored, make_state(4))


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: path.unlink(),
    ],
    ids=["bit flipped", "truncated", "deleted"],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(tmp_path, damage, caplog):
    folder = tmp_path / "run"
    save(folder, 1, 2)
    damage(data_files(folder, 2)[-1])
    with caplog.at_level(logging.WARNING), Checkpoints(folder, keep=3) as checkpoints:
        restored, meta = checkpoints.restore(make_state(0))
        checkpoints.set_aside_after(1)
        checkpoints.save(2, make_state(2), {"step": 2})
    assert meta == {"step": 1}
    assert_equal(restored, make_state(1))
    assert "checkpoint 2" in caplog.text
    assert "damaged" in caplog.text
    # Under another name, as tensorstore remembers within a process what it read of a path.
    with Checkpoints(folder.rename(tmp_path / "later"), keep=3) as checkpoints:
        assert_equal(checkpoints.restore(make_state(0))[0], make_state(2))


def test_a_step_whose_checkpoint_is_damaged_a_second_time_can_be_saved_again(tmp_path):
    folder = tmp_path / "run"
    (tmp_path / "damaged" / "00000002").mkdir(parents=True)
    save(folder, 1, 2)
    with Checkpoints(folder, keep=3) as checkpoints:
        checkpoints.set_aside_after(1)
        checkpoints.save(2, make_state(5), {"step": 5})
    with Checkpoints(folder.rename(tmp_path / "later"), keep=3) as checkpoints:
        assert_equal(checkpoints.restore(make_state(0))[0], make_state(5))


def test_when_all_are_damaged_it_says_so_and_does_not_start_afresh(tmp_path):
    save(tmp_path, 1, 2)
    for step in (1, 2):
        flip_a_bit(data_files(tmp_path, step)[-1])
    with (
        pytest.raises(UserError, match="no checkpoint"),
        Checkpoints(tmp_path, keep=3) as checkpoints,
    ):
        checkpoints.restore(make_state(0))


def test_the_newest_that_is_whole_is_known_while_another_is_written(tmp_path):
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        assert checkpoints.newest() is None
    save(tmp_path, 1, 12)
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        (tmp_path / "00000020.orbax-checkpoint-tmp-1").mkdir()
        assert checkpoints.newest() == 12


def test_a_half_written_checkpoint_is_not_there(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "00000002.orbax-checkpoint-tmp").mkdir()
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        assert checkpoints.restore(make_state(0))[1] == {"step": 1}


def test_a_failed_save_says_what_is_safe(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.raises(UserError, match="No space left on device; checkpoint 1 is safe"),
        Checkpoints(tmp_path, keep=3) as checkpoints,
    ):
        monkeypatch.setattr(ocp.CheckpointManager, "save", full)
        checkpoints.save(2, make_state(2), {})


def test_checksums_see_one_bit():
    state = make_state(3)
    kernel = np.array(state.params["conv1_1"]["kernel"])
    kernel.view(np.uint32)[5, 5] ^= 1
    changed = state._replace(params={"conv1_1": {"kernel": kernel}})
    before, after = checksums(state), checksums(changed)
    assert [name for name in before if before[name] != after[name]] == ["params/conv1_1/kernel"]


@pytest.fixture
def best(tmp_path):
    """Return a run whose best parameters were saved from four devices."""
    state = make_state(3, devices=4)
    params = {**state.params, "fc8": {"bias": state.params["conv1_1"]["kernel"][0]}}
    with Checkpoints(tmp_path / "best", keep=1) as checkpoints:
        checkpoints.save(3, {"params": params}, {"evaluation": {}})
    return tmp_path, params


@pytest.mark.parametrize("devices", [1, 8])
def test_single_layers_are_read_onto_any_number_of_devices(best, devices):
    run, params = best
    saved = SavedParameters(run)
    assert saved.shapes == {"conv1_1": {"kernel": (64, 64)}, "fc8": {"bias": (64,)}}
    mesh = parallel.data_mesh(jax.devices()[:devices])
    found = saved.read(["fc8"], parallel.replicated(mesh))
    assert_equal(found, {"fc8": params["fc8"]})
    assert len(found["fc8"]["bias"].sharding.device_set) == devices


def test_saved_parameters_that_are_damaged_are_refused(best):
    run, _ = best
    flip_a_bit(data_files(run / "best", 3)[-1])
    saved = SavedParameters(run)
    with pytest.raises(UserError, match="damaged"):
        saved.read(list(saved.shapes), parallel.replicated(parallel.data_mesh()))


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path} has no checkpoint"):
        SavedParameters(tmp_path)
    (tmp_path / "best" / "00000003.orbax-checkpoint-tmp").mkdir(parents=True)
    with pytest.raises(UserError, match="no complete checkpoint"):
        SavedParameters(tmp_path)


_WATCHED = {"pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen"}
_seen = []
sys.addaudithook(lambda event, _: _seen.append(event) if event in _WATCHED else None)


def test_reading_a_checkpoint_unpickles_and_starts_nothing(best):
    run, _ = best
    save(run / "checkpoints", 1)
    _seen.clear()
    pickle.loads(pickle.dumps(make_state))
    assert _seen == ["pickle.find_class"]  # so the hook is at work
    _seen.clear()
    with Checkpoints(run / "checkpoints", keep=3) as checkpoints:
        checkpoints.restore(make_state(0))
    saved = SavedParameters(run)
    saved.read(list(saved.shapes), parallel.replicated(parallel.data_mesh()))
    assert _seen == []
