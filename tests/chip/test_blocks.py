"""Large layers are read in blocks: the same draws, bit for bit, in little memory."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cimlib import Hardware, fabricate, presets, program
from cimlib.arrays import BitSliced, DoubleArray, SignedArray, SingleArray
from cimlib.chip.blocks import read_in_blocks
from cimlib.circuits import Converters, OpAmp
from cimlib.devices import (
    PCM,
    Clusters,
    Device,
    Gaussian,
    Levels,
    Lognormal,
    RelativeDrift,
    StuckAt,
    WanReRAM,
    seeded,
)
from cimlib.devices.draws import Stream, sample

DEVICES = {
    "ideal": Device(),
    "gaussian": Gaussian(0.1),
    "lognormal, stuck": Device(Lognormal(0.1), StuckAt(on=0.02, off=0.09)),
    "pcm": PCM(t=3600.0),
    "relative": RelativeDrift(0.1),
    "levels": Levels((10.0, 40.0, 100.0), (1.0, 2.0, 3.0)),
}
ARRAYS = [
    DoubleArray(),
    DoubleArray(mapping="two-sided", w_max=0.1),
    DoubleArray(g_min=0.0, inactive="disconnected"),
    DoubleArray(zero_state=True),
    DoubleArray(scale="column"),
    SingleArray(),
    SingleArray(reference="constant-term"),
    BitSliced(),
    BitSliced(g_min=10.0, inactive="programmed", weight_bits=4),
    SignedArray(bits=4),
]


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(["normal", "uniform"]),
    pieces=st.lists(st.integers(0, 70), min_size=1, max_size=12),
    rest=st.integers(0, 40),
)
def test_a_stream_gives_what_is_drawn_at_once(kind, pieces, rest):
    size = sum(pieces) + rest
    whole = sample((kind, (size,)), seeded("stream"), torch.empty(0))
    stream = Stream((kind, (size,)), seeded("stream"))
    taken = [stream.take((piece,)) for piece in (*pieces, rest)]
    assert torch.equal(torch.cat(taken), whole)
    with pytest.raises(ValueError, match="shape"):
        stream.take((1,))


@settings(max_examples=25, deadline=None)
@given(
    device=st.sampled_from(sorted(DEVICES)),
    array=st.sampled_from(ARRAYS),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    block=st.integers(1, 400),
    seed=st.integers(0, 9),
)
def test_a_layer_read_in_blocks_has_the_errors_of_one_read_at_once(device, array, sizes, block, seed):
    torch.manual_seed(seed)
    layer = nn.Linear(*sizes)
    if device == "levels" and array.g_min == 0:
        array = DoubleArray()
    chip = fabricate(program(layer, Hardware(DEVICES[device], array)), seed)
    with torch.no_grad():
        weight, g, _ = read_in_blocks(chip, large=1, block=block)
        expected, whole, _ = chip.read()
    assert torch.equal(g.scale, whole.scale)
    torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-6)
    if device in ("ideal", "gaussian", "relative", "levels"):  # no exponentials
        assert torch.equal(weight, expected)


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(4, 6, 3, groups=2), nn.Conv1d(5, 7, 2)]
)
def test_convolutions_too(layer):
    chip = fabricate(program(layer, Hardware(PCM(t=10.0))), 3)
    with torch.no_grad():
        weight, g, _ = read_in_blocks(chip, large=1, block=20)
        torch.testing.assert_close(weight, chip.read()[0], rtol=1e-5, atol=1e-6)
    assert g.cells.numel() == 0  # it was read in blocks


@pytest.mark.parametrize(
    "hardware",
    [
        Hardware(Clusters(on=0.1)),
        Hardware(Gaussian(0.1), circuit=OpAmp(gain=1e3)),
        Hardware(Gaussian(0.1), SingleArray(reference_device="cell")),
        Hardware(WanReRAM(t=1.0), DoubleArray(1.0, 40.0), Converters(8, 8)),
        presets("nft-rram"),
    ],
    ids=["clusters", "amplifiers", "reference", "converters", "preset"],
)
def test_what_needs_the_whole_array_gets_it_and_the_rest_is_the_same(hardware):
    chip = fabricate(program(nn.Linear(20, 20, bias=False), hardware), 3)
    with torch.no_grad():
        found, whole = read_in_blocks(chip, large=1, block=20), chip.read()
    torch.testing.assert_close(found[0], whole[0], rtol=1e-5, atol=1e-6)
    assert found[2].keys() == whole[2].keys()
    if hardware.circuit.reads_cells and not isinstance(hardware.circuit, OpAmp):
        assert torch.equal(found[1].cells, whole[1].cells)


MEMORY = """
import resource, torch
from torch import nn
from cimlib import Hardware, evaluate, program
from cimlib.devices import PCM
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
layer = nn.Linear(8192, 2048, bias=False)
evaluate(program(nn.Linear(8, 4), Hardware(PCM(t=10))), torch.rand(2, 8), torch.zeros(2).long(), chips=[0])
before = peak()
evaluate(program(layer, Hardware(PCM(t=10))), torch.rand(4, 8192), torch.zeros(4).long(), chips=[0, 1])
print((peak() - before) / (layer.weight.numel() * 4))
"""


def test_peak_memory_of_a_chip_is_at_most_six_times_its_widest_layer():
    """Its copy on hardware is one of them, what the cells are off by two, the weights they amount to one."""
    run = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert float(run.stdout) < 6
