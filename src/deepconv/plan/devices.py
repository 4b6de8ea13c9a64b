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


class Chip(NamedTuple):
    """What XLA's compiler has to know of a GPU.

    Attributes:
      name: as the driver reports it.
      capability: compute capability.
      cores: number of streaming multiprocessors.
      clock: boost clock in GHz.
      cache: second-level cache in bytes.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    clock: float
    cache: int


class Device(NamedTuple):
    """One device, as published.

    Attributes:
      peaks: dense FLOP/s in float32, tf32 and bfloat16, where the hardware supports them.
      memory: in bytes.
      usable: the share of the memory that jax uses.
      link: bytes per second to the other devices, in one direction.
      host_cores: processors (virtual ones, in a cloud) per device of a typical host.
      bandwidth: bytes per second to and from its own memory.
      chip: for the compiler; None if it does not compile for this kind.
    """

    peaks: dict[str, float]
    memory: float
    usable: float
    link: float
    host_cores: int
    bandwidth: float
    chip: Chip | None = None


_MB = 2**20
_H = Chip("NVIDIA H100 80GB HBM3", (9, 0), 132, 1.98, 50 * _MB)

KINDS = {
    # NVIDIA H100 datasheet, SXM5 (989 and 1,979 TFLOPS there are with sparsity, twice the dense
    # rate); 80 GB; NVLink 900 GB/s in both directions together. Host: AWS p5, 192
    # processors for 8.
    "h100": Device(
        {FLOAT32: 67e12, TF32: 494.5e12, BFLOAT16: 989.5e12},
        80e9, GPU_SHARE, 450e9, 24, 3.35e12, _H,
    ),
    # NVIDIA H200 datasheet, SXM: the H100's arithmetic and links; 141 GB. AWS p5en.
    "h200": Device(
        {FLOAT32: 67e12, TF32: 494.5e12, BFLOAT16: 989.5e12},
        141e9, GPU_SHARE, 450e9, 24, 4.8e12, _H._replace(name="NVIDIA H200"),
    ),
    # NVIDIA A100 80GB datasheet, SXM4: dense; NVLink 600 GB/s in both directions together. AWS
    # p4de, 96 processors for 8.
    "a100": Device(
        {FLOAT32: 19.5e12, TF32: 156e12, BFLOAT16: 312e12},
        80e9, GPU_SHARE, 300e9, 12, 2.039e12,
        Chip("NVIDIA A100-SXM4-80GB", (8, 0), 108, 1.41, 40 * _MB),
    ),
    # NVIDIA HGX B200 datasheet, per GPU (half of what it states with sparsity); 180 GB; NVLink 1.8
    # TB/s in both directions together. AWS p6-b200, 192 processors for 8.
    "b200": Device(
        {FLOAT32: 75e12, TF32: 1.125e15, BFLOAT16: 2.25e15},
        180e9, GPU_SHARE, 900e9, 24, 7.7e12,
        Chip("NVIDIA B200", (10, 0), 148, 1.965, 126 * _MB),
    ),
    # NVIDIA L40S datasheet (dense); PCIe 4.0 x16. AWS g6e, 48 processors for 4.
    "l40s": Device(
        {FLOAT32: 91.6e12, TF32: 183e12, BFLOAT16: 362e12},
        48e9, GPU_SHARE, 31.5e9, 12, 864e9, Chip("NVIDIA L40S", (8, 9), 142, 2.52, 96 * _MB),
    ),
    # NVIDIA L4 datasheet (half of what it states with sparsity); PCIe 4.0 x16. AWS g6, 48 for 4.
    "l4": Device(
        {FLOAT32: 30.3e12, TF32: 60e12, BFLOAT16: 121e12},
        24e9, GPU_SHARE, 31.5e9, 12, 300e9, Chip("NVIDIA L4", (8, 9), 58, 2.04, 48 * _MB),
    ),
    # NVIDIA Ada architecture whitepaper, appendix A (dense, float32 sums); PCIe 4.0 x16.
    "rtx4090": Device(
        {FLOAT32: 82.6e12, TF32: 82.6e12, BFLOAT16: 165.2e12},
        24e9, GPU_SHARE, 31.5e9, 16, 1.008e12,
        Chip("NVIDIA GeForce RTX 4090", (8, 9), 128, 2.52, 72 * _MB),
    ),
    # NVIDIA GA102 whitepaper, appendix A (dense, float32 sums); PCIe 4.0 x16.
    "rtx3090": Device(
        {FLOAT32: 35.6e12, TF32: 35.6e12, BFLOAT16: 71e12},
        24e9, GPU_SHARE, 31.5e9, 16, 936e9,
        Chip("NVIDIA GeForce RTX 3090", (8, 6), 82, 1.695, 6 * _MB),
    ),
    # NVIDIA T4 datasheet; its tensor cores support only float16 and integers; PCIe 3.0 x16. AWS
    # g4dn, 96 processors for 8.
    "t4": Device(
        {FLOAT32: 8.1e12}, 16e9, GPU_SHARE, 15.75e9, 12, 320e9,
        Chip("Tesla T4", (7, 5), 40, 1.59, 4 * _MB),
    ),
    # NVIDIA V100 datasheet, SXM2, 32 GB; its tensor cores support only float16; NVLink 300 GB/s in
    # both directions together. AWS p3dn, 96 processors for 8.
    "v100": Device({FLOAT32: 15.7e12}, 32e9, GPU_SHARE, 150e9, 12, 900e9),
    # VGG's: GeForce GTX Titan Black, 2,880 cores at 889 MHz; 6 GB; PCIe 3.0 x16.
    "titan_black": Device({FLOAT32: 5.12e12}, 6e9, GPU_SHARE, 15.75e9, 4, 336e9),
    # AlexNet's: GeForce GTX 580, 512 cores at 1,544 MHz; 3 GB; PCIe 2.0 x16.
    "gtx_580": Device({FLOAT32: 1.58e12}, 3e9, GPU_SHARE, 8e9, 4, 192.4e9),
    # Not a manufacturer's figures: one x86-64 core with two 8-wide FMA units (AVX2) at 3 GHz, 4 GB
    # of memory per core, and copies within the machine's memory.
    "cpu": Device({FLOAT32: 96e9}, 4e9, 1.0, 10e9, 1, 10e9),
}  # fmt: skip


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


# By compute capability (CUDA C++ Programming Guide, "Compute Capabilities"): resident threads and
# bytes of shared memory per multiprocessor, and arithmetic units for float32.
_MULTIPROCESSORS = {
    (7, 5): (1024, 65_536, 64),
    (8, 0): (2048, 167_936, 64),
    (8, 6): (1536, 102_400, 128),
    (8, 9): (1536, 102_400, 128),
    (9, 0): (2048, 233_472, 128),
    (10, 0): (2048, 233_472, 128),
}
# Of cuDNN, which decides what XLA may fuse into a convolution.
_CUDNN = (9, 10)


def target_config(kind: str) -> str:
    """Return the description of a kind of GPU for XLA's compiler, a `GpuTargetConfigProto` as text.

    Raises:
      UserError: if XLA does not compile for it.
    """
    known = device(kind)
    chip = known.chip
    if chip is None:
        compiled = ", ".join(name for name, each in KINDS.items() if each.chip)
        raise UserError(f"--compile does not know --device_kind={kind}; one of {compiled}")
    major, minor = chip.capability
    threads, shared, units = _MULTIPROCESSORS[chip.capability]
    # A block can have what a multiprocessor has, except for 1 kB from Ampere on.
    largest = shared - 1024 if major >= 8 else shared
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared}
  shared_memory_per_block_optin: {largest}
  threads_per_core_limit: {threads}
  core_count: {chip.cores}
  fpus_per_core: {units}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {known.bandwidth:.0f}
  l2_cache_size: {chip.cache}
  clock_rate_ghz: {chip.clock}
  device_memory_size: {known.memory:.0f}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: {_CUDNN[0]} minor: {_CUDNN[1]} }}
device_description_str: "{chip.name}"
"""
