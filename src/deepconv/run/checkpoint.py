"""Checkpoints: all of orbax, nowhere else.

    with Checkpoints(workdir / "checkpoints", keep=2) as checkpoints:
        found = checkpoints.restore(template)     # (state, meta) or None
        checkpoints.save(step, state, meta)       # returns at once, writes in the background

Orbax makes a checkpoint appear whole or not at all, but would restore altered bytes without a
word; so every leaf's CRC-32 lies beside the arrays and is compared.
"""

import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from deepconv import parallel
from deepconv.exceptions import UserError
from deepconv.run.checksums import checksums

_LOG = logging.getLogger(__name__)


class Checkpoints:
    """The numbered checkpoints of one run, the newest few of which are kept."""

    def __init__(self, directory: Path, *, keep: int) -> None:
        """Open a folder of checkpoints, which is made if it is missing.

        Args:
          directory: the folder.
          keep: how many of the newest to keep.
        """
        self._directory = directory.absolute()
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.LatestN(keep),
                cleanup_tmp_directories=True,
                step_format_fixed_length=8,
                # Two folders' saves of one step would meet at each other's barriers.
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    barrier_sync_key_prefix=directory.name
                ),
            ),
        )

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Save a pytree of arrays and a dict of JSON values; a step already saved is left as it is.

        The arrays are copied before this returns and written in the background: an error in
        writing is raised by the next call of any method.

        Raises:
          UserError: if this or the save before could not be written.
        """
        if step in self._manager.all_steps():
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            meta=ocp.args.JsonSave({**meta, "crc32": checksums(state)}),
        )
        try:
            self._manager.save(step, args=items)
        except Exception as error:
            raise self._cannot_write(error) from error

    def restore(self, template: Any) -> tuple[Any, dict[str, Any]] | None:
        """Restore the newest checkpoint that is whole.

        One that is damaged is named in the log and set aside under `damaged/`, and the one before
        it is taken.

        Args:
          template: the pytree wanted, of arrays or of `jax.ShapeDtypeStruct` with shardings.

        Returns:
          The pytree and the dict saved with it, or None where nothing has been saved.

        Raises:
          UserError: if there are checkpoints, and none is whole.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            found, damage = None, None
            try:
                found = self._restore(step, template)
            except Exception as error:  # orbax and tensorstore raise anything on damaged files
                if parallel.tells_of_a_lost_process(error):
                    raise
                reason = str(error).strip().splitlines() or [""]
                damage = f"{type(error).__name__}: {reason[0][:200]}"
            # All processes have to go on from the same one.
            damages = [other for other in parallel.gather(damage) if other]
            if not damages:
                return found
            _LOG.warning(
                "checkpoint %d in %s is damaged (%s)%s",
                step,
                self._directory,
                damages[0],
                "; trying the one before it" if step != steps[-1] else "",
            )
        if steps:
            raise UserError(
                f"no checkpoint in {self._directory} can be read; move it away to start afresh"
            )
        return None

    def newest(self) -> int | None:
        """Return the newest step that is whole on disk, without waiting for one being written."""
        steps = [int(path.name) for path in self._directory.iterdir() if path.name.isdecimal()]
        return max(steps, default=None)

    def set_aside_after(self, step: int) -> None:
        """Move the checkpoints newer than `step`, which turned out damaged, to `damaged/`."""
        newer = [other for other in self._manager.all_steps() if other > step]
        if newer:
            parallel.on_first(lambda: self._set_aside(newer))
            self._manager.reload()

    def _set_aside(self, steps: Sequence[int]) -> None:
        for name in (f"{step:08d}" for step in steps):
            target = self._directory.with_name("damaged") / name
            target.parent.mkdir(exist_ok=True)
            if target.exists():  # of an earlier time; one is enough to look at
                shutil.rmtree(self._directory / name)
            else:
                (self._directory / name).rename(target)

    def wait(self) -> None:
        """Return when everything saved is on disk.

        Raises:
          UserError: if it could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._cannot_write(error) from error

    def close(self) -> None:
        """Wait, and free the threads."""
        try:
            self.wait()
        finally:
            self._manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
            return
        if jax.process_count() > 1:
            return  # the others may have gone, and a save is the work of all
        try:
            self.close()
        except Exception as second:  # the first error is the one to report
            _LOG.warning("%s", second)

    def _restore(self, step: int, template: Any) -> tuple[Any, dict[str, Any]]:
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(shapes), meta=ocp.args.JsonRestore()
        )
        restored = self._manager.restore(step, args=items)
        expected = restored.meta.pop("crc32")
        found = checksums(restored.state)
        wrong = [name for name in expected if found.get(name) != expected[name]]
        if wrong or found.keys() != expected.keys():
            raise ValueError(f"the checksum of {(wrong or ['a leaf'])[0]} is wrong")
        return restored.state, restored.meta

    def _cannot_write(self, error: Exception) -> UserError:
        if parallel.tells_of_a_lost_process(error):
            raise error
        steps = self._manager.all_steps()
        kept = f"checkpoint {max(steps)} is safe" if steps else "there is none yet"
        text = str(error) or type(error).__name__
        # Tensorstore wraps the system's reason in several layers of file names.
        system = re.search(r": ([^:]*) \[os_error_code", text)
        reason = system.group(1) if system else text.splitlines()[0][:300]
        return UserError(f"cannot save a checkpoint in {self._directory}: {reason}; {kept}")
