"""The same steps in PyTorch, on the same batch, in every mode that a PyTorch user would try.

device = use_device(threads=2)
made, failures = contenders(subject, params, ("train", "forward"), device)
seconds = made["train, torch eager"].run(10)  # of one step
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import torch
from torch.nn import functional

from deepconv import preprocess
from deepconv.benchmark.programs import Subject
from deepconv.benchmark.timing import Contender, Run
from deepconv.data.color import pca_magnitudes
from deepconv.exceptions import UserError
from deepconv.training import optimizer
from experiments import torch_network


class Mode(NamedTuple):
    """How PyTorch runs.

    Attributes:
      compiled: whether `torch.compile` is used.
      channels_last: the memory format of images, maps and kernels.
    """

    compiled: bool
    channels_last: bool


MODES = {
    "torch eager": Mode(compiled=False, channels_last=False),
    "torch eager, channels last": Mode(compiled=False, channels_last=True),
    "torch compile": Mode(compiled=True, channels_last=False),
    "torch compile, channels last": Mode(compiled=True, channels_last=True),
}


def use_device(threads: int) -> torch.device:
    """Set PyTorch up like jax, and return the same kind of device as jax uses.

    On a GPU, float32 is multiplied in TF32, which is jax's default, and cuDNN searches for its
    fastest algorithms.

    Args:
      threads: number of threads, on a CPU.

    Raises:
      UserError: if PyTorch has no such device.
    """
    torch.set_num_threads(threads)
    platform = jax.default_backend()
    if platform == "cpu":
        return torch.device("cpu")
    if platform != "gpu":
        raise UserError(f"PyTorch is compared on a CPU or a GPU, but jax runs on a {platform}")
    if not torch.cuda.is_available():
        raise UserError(f"jax runs on a GPU, but this PyTorch ({torch.__version__}) has none")
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda")


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def contenders(
    subject: Subject, params: Any, what: Sequence[str], device: torch.device
) -> tuple[dict[str, Contender], dict[str, str]]:
    """Run a first step of each thing in each mode.

    A compiled mode's compile time is its whole first step. On a GPU, the memory is the most that
    PyTorch had allocated in the first step.

    Args:
      subject: what is measured.
      params: our parameters.
      what: any of "train" and "forward".
      device: see `use_device`.

    Returns:
      The contenders that work, by "thing, mode"; and why the others failed, likewise.
    """
    made, failures = {}, {}
    for name, mode in MODES.items():
        peer = None
        for thing in what:
            try:
                peer = peer or Peer(subject, params, mode, device)
                made[f"{thing}, {name}"] = _first_step(peer.run(thing), mode, device)
            # Without a compiler, each backend of torch.compile raises errors of its own.
            except Exception as error:
                if not (mode.compiled or isinstance(error, torch.OutOfMemoryError)):
                    raise
                lines = str(error).strip().splitlines() or [""]
                failures[f"{thing}, {name}"] = f"{type(error).__name__}: {lines[0][:200]}"
    return made, failures


def _first_step(run: Run, mode: Mode, device: torch.device) -> Contender:
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = run(1)
    memory = torch.cuda.max_memory_allocated() if on_gpu else None
    return Contender(run, seconds if mode.compiled else None, memory)


class Peer:
    """A PyTorch network with its optimizer and batch, in one mode."""

    def __init__(self, subject: Subject, params: Any, mode: Mode, device: torch.device) -> None:
        """Make everything without running it.

        Args:
          subject: what is measured.
          params: our parameters.
          mode: how to run.
          device: where to run.
        """
        config, model = subject.config, subject.functions.model
        self.config, self.device = config, device
        self.layout = torch.channels_last if mode.channels_last else torch.contiguous_format
        network = torch_network.create(model.layers, model.crop)
        torch_network.load(network, model.layers, params)
        self.network = network.to(device, memory_format=self.layout)
        self.optimizer = _sgd(network, config, params)
        self.batch = {
            "image": torch.tensor(subject.pixels["image"], device=device),
            "label": torch.tensor(
                subject.pixels["target"]["label"], dtype=torch.int64, device=device
            ),
            "offset": torch.tensor(subject.pixels["offset"], dtype=torch.int64, device=device),
        }
        colors = subject.colors
        mean = preprocess.mean_for(colors, config.input.mean, square=config.evaluation.scale)
        # [3, 1, 1] or, of an image, [3, S, S].
        self.mean = torch.tensor(mean.reshape(1, 1, 3) if mean.ndim == 1 else mean, device=device)
        self.mean = self.mean.permute(2, 0, 1).contiguous()
        magnitudes = pca_magnitudes(colors.eigenvalues, config.augment.pca_magnitude)
        self.components = torch.tensor(
            colors.eigenvectors * magnitudes, dtype=torch.float32, device=device
        )
        self.losses, self.counts = self._losses, self._counts
        if mode.compiled:
            self.losses = torch.compile(self._losses, dynamic=False)
            self.counts = torch.compile(self._counts, dynamic=False)

    def run(self, what: str) -> Run:
        """Return a function that runs training steps ("train") or scores batches ("forward")."""
        step: Callable[[], Any] = {"train": self.train, "forward": self.evaluate}[what]

        def run(steps: int) -> float:
            self.network.train(what == "train")
            wait(self.device)
            start = time.perf_counter()
            for _ in range(steps):
                step()
            wait(self.device)
            return (time.perf_counter() - start) / steps

        return run

    def train(self) -> None:
        """Run one update: gradients of all parts of the batch, then one step of SGD."""
        parts = self.config.train.microbatches
        for part in range(parts):
            share = {key: value.chunk(parts)[part] for key, value in self.batch.items()}
            loss, _ = self.losses(share)
            loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    @torch.inference_mode()
    def evaluate(self) -> Any:
        """Score the batch, and return its summed loss and its top-1 and top-5 errors."""
        return self.counts(self.batch)

    def scores(self, images: torch.Tensor) -> torch.Tensor:
        """Score mean-subtracted images `[N, 3, H, W]` as float32 `[N, C]`."""
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.model.dtype == "bfloat16"
        ):
            return self.network(images.contiguous(memory_format=self.layout)).float()

    def _losses(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.scores(self._augmented(self._centered(batch)))
        count = self.config.train.batch_size
        wrong = (scores.detach().argmax(1) != batch["label"]).sum()
        return functional.cross_entropy(scores, batch["label"], reduction="sum") / count, wrong

    def _counts(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        scores = self.scores(self._centered(batch))
        loss = functional.cross_entropy(scores, batch["label"], reduction="sum")
        rank = (scores > scores.gather(1, batch["label"][:, None])).sum(1)
        return loss, (rank >= 1).sum(), (rank >= 5).sum()

    def _centered(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        images = batch["image"].permute(0, 3, 1, 2).float()
        if self.mean.shape[1] == 1:
            return images - self.mean
        # A view of all crops of the mean image; each example takes its own.
        crops = self.mean.unfold(1, images.shape[2], 1).unfold(2, images.shape[3], 1)
        top, left = batch["offset"].unbind(1)
        return images - crops[:, top, left].transpose(0, 1)

    def _augmented(self, images: torch.Tensor) -> torch.Tensor:
        augment, count = self.config.augment, len(images)
        if augment.flip:
            coin = torch.rand(count, 1, 1, 1, device=self.device) < 0.5
            images = torch.where(coin, images.flip(3), images)
        if augment.pca_std:
            alphas = augment.pca_std * torch.randn(count, 1, 3, device=self.device)
            images = images + (self.components * alphas).sum(2)[:, :, None, None]
        return images


def _sgd(network: torch.nn.Module, config: Any, params: Any) -> torch.optim.Optimizer:
    """Return SGD with momentum and weight decay, with the config's factors by parameter."""
    settings = config.optimizer
    lr_mults, decay_mults = optimizer.multipliers(params, settings.multipliers)
    lr_mults = optimizer.frozen(lr_mults, settings.trained_layers)
    parts = {"weight": "kernel", "bias": "bias"}
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        layer, _, part = name.rpartition(".")
        factors = (lr_mults[layer][parts[part]], decay_mults[layer][parts[part]])
        groups.setdefault(factors, []).append(parameter)
    return torch.optim.SGD(
        [
            {
                "params": parameters,
                "lr": settings.learning_rate * lr_mult,
                "weight_decay": settings.weight_decay * decay_mult,
            }
            for (lr_mult, decay_mult), parameters in groups.items()
        ],
        lr=settings.learning_rate,
        momentum=settings.momentum,
        fused=True,
    )
