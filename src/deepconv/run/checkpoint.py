"""Save and restore the state of a run with Orbax.

    with Checkpoints(workdir / "checkpoints", keep=2) as checkpoints:
        found = checkpoints.restore(template)     # (state, meta) or None
        checkpoints.save(step, state, meta)       # returns at once, writes in the background

Orbax writes a checkpoint completely or not at all, but would silently restore altered bytes, so
every leaf's CRC-32 is stored with the arrays and compared.
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
    """The numbered checkpoints of one run, of which the newest few are kept."""

    def __init__(self, directory: Path, *, keep: int) -> None:
        """Open a folder of checkpoints; create it if necessary.

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
                # Otherwise saves of the same step in two folders would share barriers.
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    barrier_sync_key_prefix=directory.name
                ),
            ),
        )

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Save a pytree of arrays and a dict of JSON values, unless the step is already saved.

        The arrays are copied before this returns and written in the background; an error in
        writing is raised by the next call of any method.

        Raises:
          UserError: if this save or the previous one could not be written.
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
        """Restore the newest undamaged checkpoint.

        Damaged ones are logged.

        Args:
          template: a pytree like the one to restore, of arrays or of `jax.ShapeDtypeStruct`s with
            shardings.

        Returns:
          The pytree and the dict saved with it, or None if nothing has been saved.

        Raises:
          UserError: if there are checkpoints, but all are damaged.
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
            # All processes must resume from the same checkpoint.
            damages = [other for other in parallel.gather(damage) if other]
            if not damages:
                return found
            _LOG.warning(
                "checkpoint %d in %s is damaged (%s)%s",
                step,
                self._directory,
                damages[0],
                "; trying the previous one" if step != steps[-1] else "",
            )
        if steps:
            raise UserError(
                f"no checkpoint in {self._directory} can be read; move it elsewhere to start over"
            )
        return None

    def newest(self) -> int | None:
        """Return the newest step that is completely on disk, without waiting for pending saves."""
        steps = [int(path.name) for path in self._directory.iterdir() if path.name.isdecimal()]
        return max(steps, default=None)

    def set_aside_after(self, step: int) -> None:
        """Move the checkpoints newer than `step`, which are damaged, to `damaged/`."""
        newer = [other for other in self._manager.all_steps() if other > step]
        if newer:
            parallel.on_first(lambda: self._set_aside(newer))
            self._manager.reload()

    def _set_aside(self, steps: Sequence[int]) -> None:
        for name in (f"{step:08d}" for step in steps):
            target = self._directory.with_name("damaged") / name
            target.parent.mkdir(exist_ok=True)
            if target.exists():  # from an earlier restart; one copy is enough to inspect
                shutil.rmtree(self._directory / name)
            else:
                (self._directory / name).rename(target)

    def wait(self) -> None:
        """Wait until everything saved is on disk.

        Raises:
          UserError: if it could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._cannot_write(error) from error

    def close(self) -> None:
        """Wait for pending saves and release the threads."""
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
            return  # other processes may be gone, and a save needs all of them
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
        kept = f"checkpoint {max(steps)} is safe" if steps else "there are no earlier ones"
        text = str(error) or type(error).__name__
        # Tensorstore wraps the system's reason in several layers of file names.
        system = re.search(r": ([^:]*) \[os_error_code", text)
        reason = system.group(1) if system else text.splitlines()[0][:300]
        return UserError(f"cannot save a checkpoint in {self._directory}: {reason}; {kept}")
