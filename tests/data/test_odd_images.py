"""Every file of the odd corpus is read as RGB or refused, in little memory."""

import json
import subprocess
import sys
import zipfile

import PIL
import pytest

from tests.faults.processes import PATIENCE_SECONDS

# Readable, where Pillow trips over an empty JFIF segment that libjpeg-turbo passes over.
READ_WITHOUT_PILLOW = {"jpeg_unreadable_by_pil/jfif-bogus-empty-jfif-segment.jpg"}

# A file that blows up takes far more.
BYTES = 2**30

# Reads all files in a process of its own, whose memory is its own too; one JSON line per file.
PROGRAM = """
import json, pathlib, resource, sys, warnings
import numpy as np
from deepconv.data import decode

warnings.simplefilter("ignore")
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def choose(height, width):
    sizes.append((height, width))
    tall, wide = decode.rescaled_size(height, width, 256)
    return decode.Crop(tall, wide, (tall - 224) // 2, (wide - 224) // 2, 224, 224)


for name in json.load(sys.stdin):
    data, sizes, report = pathlib.Path(name).read_bytes(), [], {"file": name}
    try:
        pixels, crop = decode.load_crop(data, choose)
        report["shape"], report["kind"] = pixels.shape, str(pixels.dtype)
    except decode.UnreadableImageError as error:
        report["unreadable"] = str(error)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
    report["peak"] = peak * (1 if sys.platform == "darwin" else 1024)
    report["sizes"] = sizes
    try:
        whole = decode.decode(data)
        report["mode"], report["size"] = whole.mode, whole.size
        if "shape" in report:
            slow = decode.resample(whole, crop)
            report["difference"] = float(np.abs(pixels.astype(int) - slow).mean())
    except decode.UnreadableImageError:
        pass
    print(json.dumps(report), flush=True)
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, shared_data):
    """Return the folder of the files and their descriptions."""
    file = shared_data("odd_images.zip")
    folder = tmp_path_factory.mktemp("odd")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    return folder, json.loads((folder / "manifest.json").read_text())["files"]


@pytest.fixture(scope="module")
def reports(corpus):
    folder, files = corpus
    names = [file["file"] for file in files]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(names),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    # Any other exception than the one that is meant would have ended the program.
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.slow
def test_no_file_is_left_out(corpus, reports):
    assert [report["file"] for report in reports] == [file["file"] for file in corpus[1]]
    assert len(reports) == 298


@pytest.mark.slow
def test_every_file_is_read_as_rgb_or_refused_with_a_reason(reports):
    for report in reports:
        if "shape" in report:
            assert report["shape"] == [224, 224, 3], report
            assert report["kind"] == "uint8", report
        else:
            assert report["unreadable"], report
            assert "\n" not in report["unreadable"], report


@pytest.mark.slow
def test_no_file_takes_much_memory(reports):
    for report in reports:
        assert report["peak"] < BYTES, report


@pytest.mark.slow
def test_what_pillow_reads_is_read_and_nothing_else(reports):
    for report in reports:
        expected = "size" in report or report["file"] in READ_WITHOUT_PILLOW
        assert ("shape" in report) == expected, report


@pytest.mark.slow
def test_crops_are_those_of_pillow(reports):
    compared = [report for report in reports if "difference" in report]
    assert len(compared) > 150
    for report in compared:
        assert report["mode"] == "RGB", report
        assert report["difference"] < 1, report


@pytest.mark.slow
@pytest.mark.skipif(PIL.__version__ != "13.0.0", reason="the manifest is what Pillow 13.0.0 does")
def test_pillow_agrees_with_the_manifest(corpus, reports):
    for file, report in zip(corpus[1], reports, strict=True):
        assert ("size" in report) == file["pil_decodes"], file


@pytest.mark.slow
def test_sizes_are_those_of_the_manifest(corpus, reports):
    for file, report in zip(corpus[1], reports, strict=True):
        if "shape" in report and file["pil_decodes"]:
            width, height = file["pil"]["size"]
            assert report["sizes"] == [[height, width]], file
