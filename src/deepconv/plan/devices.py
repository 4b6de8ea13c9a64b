"""Kinds of devices, with their manufacturers' figures."""

from typing import NamedTuple

from deepconv.exceptions import UserError

FLOAT32, TF32, BFLOAT16 = "float32", "tf32", "bfloat16"

# The share of the peak that training is assumed to reach if no measured speed is given. By the same
# arithmetic, the papers' own times correspond to 29 to 35 percent of the peak (AlexNet: 90 epochs
# in 5 to 6 days on two GTX 580) and 24 to 36 percent (VGG-D: 2 to 3 weeks per net on four Titan
# Blacks); tensor cores may be less well utilized.
ASSUMED_SHARE = 0.3

# The share of a GPU's memory that jax preallocates unless XLA_PYTHON_CLIENT_MEM_FRACTION is set
# (docs.jax.dev, "GPU memory allocation").
GPU_SHARE = 0.75


class Device(NamedTuple):
    """One device, as published.

    Attributes:
      peaks: dense FLOP/s in float32, tf32 and bfloat16, where the hardware supports them.
      memory: in bytes.
      usable: the share of the memory that jax uses.
      link: bytes per second to the other devices, in one direction.
    """

    peaks: dict[str, float]
    memory: float
    usable: float
    link: float


KINDS = {
    # NVIDIA H100 datasheet, SXM5 (989 and 1,979 TFLOPS there are with sparsity, twice the dense
    # rate); 80 GB; NVLink 900 GB/s in both directions together.
    "h100": Device({FLOAT32: 67e12, TF32: 494.5e12, BFLOAT16: 989.5e12}, 80e9, GPU_SHARE, 450e9),
    # NVIDIA H200 datasheet, SXM: the H100's arithmetic and links; 141 GB.
    "h200": Device({FLOAT32: 67e12, TF32: 494.5e12, BFLOAT16: 989.5e12}, 141e9, GPU_SHARE, 450e9),
    # NVIDIA A100 80GB datasheet, SXM4: dense; NVLink 600 GB/s in both directions together.
    "a100": Device({FLOAT32: 19.5e12, TF32: 156e12, BFLOAT16: 312e12}, 80e9, GPU_SHARE, 300e9),
    # NVIDIA V100 datasheet, SXM2, 32 GB; its tensor cores support only float16; NVLink 300 GB/s in
    # both directions together.
    "v100": Device({FLOAT32: 15.7e12}, 32e9, GPU_SHARE, 150e9),
    # VGG's: GeForce GTX Titan Black, 2,880 cores at 889 MHz; 6 GB; PCIe 3.0 x16.
    "titan_black": Device({FLOAT32: 5.12e12}, 6e9, GPU_SHARE, 15.75e9),
    # AlexNet's: GeForce GTX 580, 512 cores at 1,544 MHz; 3 GB; PCIe 2.0 x16.
    "gtx_580": Device({FLOAT32: 1.58e12}, 3e9, GPU_SHARE, 8e9),
    # Not a manufacturer's figures: one x86-64 core with two 8-wide FMA units (AVX2) at 3 GHz, 4 GB
    # of memory per core, and copies within the machine's memory.
    "cpu": Device({FLOAT32: 96e9}, 4e9, 1.0, 10e9),
}


def device(kind: str) -> Device:
    """Return the figures of a kind of device.

    Raises:
      UserError: if the kind is unknown; the message lists the known ones.
    """
    if kind not in KINDS:
        raise UserError(f"unknown --device_kind={kind}; one of {', '.join(KINDS)}")
    return KINDS[kind]


def arithmetic(peaks: dict[str, float], dtype: str) -> str:
    """Return the precision in which a network of this dtype is computed, by jax's defaults.

    jax multiplies float32 in TF32 if the device supports it; dtypes that the device does not
    support are computed in float32.
    """
    wanted = TF32 if dtype == FLOAT32 else dtype
    return wanted if wanted in peaks else FLOAT32
