"""The training loop: from the first step, or from where a run was interrupted, to the end."""

import contextlib
import dataclasses
import itertools
import json
import logging
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from deepconv import atomic, parallel
from deepconv.config.identity import config_digest
from deepconv.config.schema import drop_steps, num_steps
from deepconv.data import color, pipeline
from deepconv.data.labels import check_labels
from deepconv.data.pipeline import NumpyBatch, Source
from deepconv.data.sources.datasets import Dataset
from deepconv.evaluation import protocols
from deepconv.exceptions import DivergenceError, Interrupted, Preempted, UserError
from deepconv.run import curves, log, provenance
from deepconv.run.checkpoint import Checkpoints
from deepconv.run.files import RunFolder
from deepconv.run.workdir import claim, require_space
from deepconv.training import health, plateau, start, stream
from deepconv.training.build import Functions, build, task_of
from deepconv.training.losses import CLASSIFICATION, Task
from deepconv.training.stage import Opened, open_all
from deepconv.training.state import TrainState
from deepconv.training.step import Metrics

_LOG = logging.getLogger(__name__)

# The curves are drawn during the run at most this often, in seconds.
_CURVES_SECONDS = 60.0
# How many images a layer's activations are measured on.
_HEALTH_IMAGES = 32


_NO_FAULT = "no layer's activations have vanished or exploded"


@dataclasses.dataclass
class Progress:
    """What a run keeps besides its state, in JSON; saved with every checkpoint.

    Attributes:
      best: the evaluation with the lowest error, and its step.
      last: the newest evaluation, and its step.
      seconds: time spent on the run so far, including before it was interrupted.
      unreadable: numbers of the training records that could not be read so far.
    """

    best: dict[str, Any] | None = None
    last: dict[str, Any] | None = None
    seconds: float = 0.0
    unreadable: list[int] = dataclasses.field(default_factory=list)


def train(
    config: ConfigDict,
    folder: Path,
    stage_before: Path | None = None,
    *,
    task: Task | None = None,
    debug_nans: bool = False,
) -> dict[str, Any]:
    """Train a network; resume an interrupted run, or return the result of a complete one.

    Args:
      config: see `config.schema.default`.
      folder: the run's folder, where everything is written.
      stage_before: the folder of the stage before it in a recipe; see `start`.
      task: the loss and the metrics; by default the config's own.
      debug_nans: whether to check the loss after every step, at the cost of a copy of the
        parameters, and name the layer that made it NaN or infinite.

    Returns:
      The content of the folder's `result.json`.

    Raises:
      UserError: if the user has to fix something first; what was saved is safe.
      Preempted: after SIGTERM, when everything is saved.
      Interrupted: after SIGINT, likewise.
    """
    (opened,) = open_all([(config, stage_before, folder)])
    return train_stage(opened, folder, task=task, debug_nans=debug_nans)


def train_stage(
    stage: Opened, folder: Path, *, task: Task | None = None, debug_nans: bool = False
) -> dict[str, Any]:
    """Train a stage that has been opened; see `train`."""
    config, source, mesh, dataset = stage
    task = task or task_of(config)
    run_folder = RunFolder(folder)
    with contextlib.ExitStack() as claimed:
        parallel.on_first(lambda: claimed.enter_context(claim(folder, config, dataset.identity)))
        if result := parallel.on_first(lambda: _complete(run_folder)):
            return result
        colors = parallel.first_then_all(lambda: start.colors_of(config, dataset, folder, source))
        # With these, the run's folder is all that inference/model.py needs to use the network.
        if parallel.is_first():
            color.save(colors, run_folder.colors)
        functions = build(
            config,
            colors,
            num_classes=len(dataset.class_names),
            images=len(dataset.train),
            mesh=mesh,
            task=task,
        )
        shapes = jax.eval_shape(functions.initial_state)
        parallel.on_first(lambda: require_space(folder, shapes, keep=config.checkpoint.keep))
        with (
            Checkpoints(run_folder.checkpoints, keep=config.checkpoint.keep) as checkpoints,
            Checkpoints(run_folder.best, keep=1) as best,
        ):
            run = _Run(
                config=config,
                folder=run_folder,
                mesh=mesh,
                dataset=dataset,
                functions=functions,
                task=task,
                checkpoints=checkpoints,
                best=best,
                source=source,
                debug_nans=debug_nans,
            )
            return run.to_the_end()


def _complete(folder: RunFolder) -> dict[str, Any] | None:
    if not folder.result.exists():
        return None
    result: dict[str, Any] = json.loads(folder.result.read_text())
    return result


def _lost(saved: int | None, step: int) -> str:
    """Describe what is lost if the process ends after a step, and where the next one resumes."""
    first = (saved or 0) + 1
    lost = f"steps {first} to {step} are lost" if step > first else f"step {step} is lost"
    if step < first:
        lost = "no step is lost"
    if saved is None:
        return f"{lost}; nothing has been saved; run the same command to start over"
    return f"{lost}; run the same command to resume from the checkpoint of step {saved}"


@dataclasses.dataclass(kw_only=True)
class _Run:
    """One run, in this process."""

    config: ConfigDict
    folder: RunFolder
    mesh: Mesh
    dataset: Dataset
    functions: Functions
    task: Task
    checkpoints: Checkpoints
    best: Checkpoints
    source: Path | None
    debug_nans: bool

    def __post_init__(self) -> None:
        self.state, self.progress = self._starting_point()
        self.step = int(self.state.step)
        self.images = len(self.dataset.train)
        self.total_steps = num_steps(self.config, self.images)
        epochs, batch_size = self.config.evaluation.every_epochs, self.config.train.batch_size
        self.eval_steps = max(1, round(epochs * self.images / batch_size))
        self.started = time.monotonic() - self.progress.seconds
        self.unread: set[int] = set()  # records found unreadable since the last report

    def to_the_end(self) -> dict[str, Any]:
        """Train to the last epoch, or until the error has stopped improving for good."""
        with parallel.Preemption(lambda: _lost(self.checkpoints.newest(), self.step)) as preemption:
            self._train(preemption)
            result = self._result()
            if request := preemption.told():  # more stages may follow
                self._stop(request, "this run is complete; run the same command to show its result")
        return result

    def _train(self, preemption: parallel.Preemption) -> None:
        config = self.config
        with log.RunLog(
            self.folder.path,
            step=self.step,
            total_steps=self.total_steps,
            enabled=parallel.is_first(),
        ) as self.log:
            window: list[Metrics] = []
            clock = self.drawn = time.monotonic()
            batches = self._train_batches()
            self.log.compiling()
            while not self._finished():
                batch = next(batches)
                # The step donates the parameters, so only a copy survives it.
                before = jax.tree.map(jnp.copy, self.state.params) if self.debug_nans else None
                self.state, metrics = self.functions.train_step(self.state, batch)
                # The step just dispatched is still running. Waiting for the one before it keeps the
                # devices busy without letting the host run ahead.
                jax.block_until_ready(window[-1:])
                if window:
                    self.log.advance(self.step)
                window.append(metrics)
                self.step += 1
                if self.debug_nans and not math.isfinite(metrics["loss"]):
                    fault = self._fault(before, batch)
                    self._diverged(self.step, float(metrics["loss"]), fault or _NO_FAULT)
                stop = preemption.reached()
                evaluate = self.step % self.eval_steps == 0 or self.step == self.total_steps
                save = evaluate or stop or self.step % config.checkpoint.every_steps == 0
                if save or self.step % config.train.log_steps == 0:
                    loss = self._report(window, clock)
                    window, clock = [], time.monotonic()
                if evaluate:
                    self._evaluate(loss)
                    if time.monotonic() - self.drawn > _CURVES_SECONDS:
                        self._draw_curves()
                if save:
                    self._save()
                    clock = time.monotonic()
                if stop and not self._finished():
                    self.checkpoints.wait()
                    self.best.wait()
                    # A collective call, so all processes leave together: one that left earlier
                    # could bring down the others.
                    request = preemption.told() or signal.SIGTERM
                    self._draw_curves()
                    self._stop(
                        request,
                        f"saved at step {self.step} of {self.total_steps}; run the same command to "
                        "resume",
                    )

    def _stop(self, request: signal.Signals, state: str) -> NoReturn:
        if request == signal.SIGINT:
            raise Interrupted(f"interrupted, {state}")
        raise Preempted(f"stopped by SIGTERM, {state}")

    @property
    def epoch(self) -> float:
        return self.step * int(self.config.train.batch_size) / self.images

    def _starting_point(self) -> tuple[TrainState, Progress]:
        """Restore the newest checkpoint, else start from other parameters, or from random ones."""
        template = parallel.described(
            jax.eval_shape(self.functions.initial_state), self.functions.placement
        )
        found = self.checkpoints.restore(template)
        if found is None:
            state = self.functions.initial_state()
            if self.source is None:
                _LOG.info("starting from random weights (%s)", self.config.model.initializer)
                return state, Progress()
            params = start.from_source(
                state.params,
                self.source,
                self.config.init.layers,
                parallel.replicated(self.mesh),
            )
            placed = jax.device_put(params, self.functions.placement.params)
            return state._replace(params=placed), Progress()
        state, meta = found
        self.checkpoints.set_aside_after(int(state.step))
        _LOG.info("resuming from the checkpoint of step %d", int(state.step))
        return state, Progress(**meta["progress"])

    def _finished(self) -> bool:
        last_drop = plateau.finished(self.state.plateau, max_drops=self.config.plateau.max_drops)
        return self.step >= self.total_steps or bool(last_drop)

    def _train_batches(self) -> Iterator[Any]:
        for batch in stream.train(
            self.config, self.dataset.train, target=self.task.target, first=self.step
        ):
            host = batch["host"]
            self._check_labels(batch, self.dataset.train)
            self.unread |= {int(record) for record in host["record"][~host["readable"]]}
            yield parallel.shard_batch(batch["device"], self.mesh)

    def _eval_batches(self) -> Iterator[Any]:
        for batch in stream.evaluation(
            self.config, self.dataset.evaluation, target=self.task.target
        ):
            host = batch["host"]
            if not host["readable"].all():
                names = _names(self.dataset.evaluation, host["record"][~host["readable"]])
                dataset = self.config.dataset
                raise pipeline.unreadable(
                    f"{', '.join(names)} of {dataset.name}, {dataset.eval_split}"
                )
            self._check_labels(batch, self.dataset.evaluation)
            yield parallel.shard_batch(batch["device"], self.mesh)

    def _check_labels(self, batch: NumpyBatch, source: Source) -> None:
        if "label" in batch["device"]["target"]:
            check_labels(
                batch["device"]["target"]["label"],
                len(self.dataset.class_names),
                dataset=self.config.dataset.name,
                name_of=lambda place: _names(source, batch["host"]["record"][[place]])[0],
            )

    def _note_unreadable(self) -> None:
        """Log and count the records that any process has found unreadable since the last call."""
        found = {record for records in parallel.gather([*self.unread]) for record in records}
        self.unread.clear()
        new = sorted(found - {*self.progress.unreadable})
        if not new:
            return
        source = self.dataset.train
        self.progress.unreadable += new
        for name in _names(source, new):
            self.log.event(self.step, "unreadable_image", file=name)
        limit = self.config.input.max_unreadable
        if len(self.progress.unreadable) > limit * len(source):
            raise UserError(
                f"{len(self.progress.unreadable)} of {len(source)} training images cannot be read, "
                f"more than input.max_unreadable={limit}; {self.folder.metrics} lists them"
            )

    def _report(self, window: list[Metrics], since: float) -> float:
        """Log the means over the steps of a window, and return their mean loss."""
        steps = jax.device_get(window)
        seconds = time.monotonic() - since
        losses = [float(metrics["loss"]) for metrics in steps]
        for step, loss in zip(itertools.count(self.step - len(losses) + 1), losses, strict=False):
            if not math.isfinite(loss):
                self._diverged(step, loss, "--debug_nans finds the layer")
        self._note_unreadable()
        self.log.train(
            self.step,
            epoch=self.epoch,
            **{name: float(np.mean([metrics[name] for metrics in steps])) for name in steps[0]}
            | {"learning_rate": float(steps[-1]["learning_rate"])},
            images_per_second=len(steps) * self.config.train.batch_size / seconds,
        )
        return float(np.mean(losses))

    def _draw_curves(self) -> None:
        if parallel.is_first():
            curves.of_run(self.folder.path)
            self.drawn = time.monotonic()

    def _diverged(self, step: int, loss: float, reason: str) -> NoReturn:
        self._draw_curves()
        raise DivergenceError(
            f"the loss is {loss} at step {step}: the run has diverged ({reason}). The checkpoints "
            f"in {self.folder.path} are from before; try a lower optimizer.learning_rate or "
            "another model.initializer in a new --workdir"
        )

    def _evaluate(self, train_loss: float) -> None:
        """Evaluate, update the schedule, and save the parameters if they are the best so far."""
        result = protocols.center_crop(
            self.functions.eval_step, self.state.params, self._eval_batches()
        )
        self.log.eval(self.step, epoch=self.epoch, **result)
        self.progress.last = {"step": self.step, "epoch": self.epoch, **result}
        error = result[self.task.criterion]
        if self.progress.best is None or error < self.progress.best[self.task.criterion]:
            self.progress.best = self.progress.last
            self._save_best()
        drops = int(self.state.plateau.drops)
        self.state = self.functions.after_evaluation(self.state, error)
        if int(self.state.plateau.drops) > drops:
            self._log_plateau(drops + 1)
        if self.step == self.eval_steps:
            self._warn_if_stuck(train_loss)

    def _log_plateau(self, drops: int) -> None:
        if drops > self.config.plateau.max_drops:
            self.log.event(self.step, "training_ends_at_plateau", epoch=self.epoch)
            return
        rate = self.config.optimizer.learning_rate * self.config.plateau.factor**drops
        self.log.event(self.step, "learning_rate_drop", epoch=self.epoch, learning_rate=rate)

    def _warn_if_stuck(self, train_loss: float) -> None:
        classes = len(self.dataset.class_names)
        if self.task is not CLASSIFICATION or not health.is_stuck(train_loss, classes):
            return
        # Many healthy networks need more than an epoch to begin.
        if reason := self._fault(self.state.params, next(self._eval_batches())):
            self.log.event(
                self.step, "stuck_at_ln_C", loss=train_loss, ln_C=math.log(classes), reason=reason
            )

    def _fault(self, params: Any, batch: Any) -> str | None:
        """Name the first layer whose activations have vanished or exploded on some of a batch."""
        some = jax.tree.map(lambda x: np.asarray(x.addressable_data(0))[:_HEALTH_IMAGES], batch)
        outputs = jax.device_get(self.functions.activations(jax.device_get(params), some))
        ordered = {layer.name: outputs[layer.name] for layer in self.functions.model.layers}
        fault = health.faulty_layer(ordered)
        return fault and f"the activations of {fault[0]} have {fault[1]}"

    def _save_best(self) -> None:
        if jax.process_count() > 1:
            # Two concurrent saves would wait at each other's barriers.
            self.checkpoints.wait()
        self.best.save(self.step, {"params": self.state.params}, {"evaluation": self.progress.best})
        if jax.process_count() > 1:
            self.best.wait()

    def _save(self) -> None:
        self.progress.seconds = time.monotonic() - self.started
        meta = {
            "progress": dataclasses.asdict(self.progress),
            "config": self.config.to_dict(),
            "next_batch": self.step,
        }
        self.checkpoints.save(self.step, self.state, meta)

    def _drops(self) -> int:
        """Return how often the learning rate has dropped, without the plateau that ends a run."""
        if self.config.schedule.name == "plateau":
            return min(int(self.state.plateau.drops), int(self.config.plateau.max_drops))
        return sum(step < self.step for step in drop_steps(self.config, self.images))

    def _result(self) -> dict[str, Any]:
        self.checkpoints.wait()
        self.best.wait()
        parameters = sum(leaf.size for leaf in jax.tree.leaves(self.state.params))
        result = {
            "network": self.config.model.name,
            "parameters": parameters,
            "dataset": self.config.dataset.name,
            "classes": len(self.dataset.class_names),
            "protocol": f"center crop, Q={self.config.evaluation.scale}",
            "last": self.progress.last,
            "best": self.progress.best,
            "steps": self.step,
            "epochs": self.epoch,
            "learning_rate_drops": self._drops(),
            "seconds": self.progress.seconds,
            "seed": self.config.seed,
            "unreadable_training_images": _names(self.dataset.train, self.progress.unreadable),
            "devices": f"{self.mesh.size} x {self.mesh.devices.flat[0].device_kind}",
            "versions": provenance.versions(),
            "git_revision": provenance.git_revision(Path(__file__).parent),
            "config_hash": config_digest(self.config),
        }
        if not parallel.is_first():
            return result
        atomic.write_json(self.folder.result, result)
        self._draw_curves()
        return result


def _names(source: Source, records: Any) -> list[str]:
    return [pipeline.record_name(source[int(record)], int(record)) for record in records]
