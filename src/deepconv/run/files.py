"""The names of the files in a run's folder.

run = RunFolder(Path("runs/vgg_d_256"))
result = json.loads(run.result.read_text())
"""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run's folder; each attribute but `path` is a file or a folder in it, existing or not.

    Attributes:
      path: the folder itself.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The run's complete config."""
        return self.path / "config.json"

    @property
    def network(self) -> Path:
        """The network's layers; a run of an earlier version has none."""
        return self.path / "network.json"

    @property
    def class_names(self) -> Path:
        """The names of the labels, in order."""
        return self.path / "class_names.json"

    @property
    def dataset(self) -> Path:
        """The identity of the data set that the run is trained on."""
        return self.path / "dataset.json"

    @property
    def colors(self) -> Path:
        """The mean and the principal components of the pixels."""
        return self.path / "colors.npz"

    @property
    def metrics(self) -> Path:
        """The log, a row of JSON on each line; it exists once training has begun."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's logs."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """The folder of the newest checkpoints, by step."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """The folder of the parameters with the lowest validation error, by step."""
        return self.path / "best"

    @property
    def result(self) -> Path:
        """The result; it exists once the run is complete."""
        return self.path / "result.json"

    @property
    def curves(self) -> Path:
        """The figure of the run's curves."""
        return self.path / "curves.png"

    @property
    def lock(self) -> Path:
        """The file that a process locks while it writes to the folder."""
        return self.path / "lock"
