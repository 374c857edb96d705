"""Every remedy on every kind of layer: the same network in another number of dimensions has the same chip."""

import pytest
import torch
from torch import nn

from cimlib import Hardware
from cimlib.arrays import DoubleArray
from cimlib.devices import PCM, Device, Lognormal, StuckAt
from cimlib.methods import IRS, OVF, NoiseAveraging, Retraining, snapshot_heads
from cimlib.remedies import (
    Adjusted,
    BatchNormStatistics,
    CalibratedStages,
    Chip,
    CommonChange,
    Compensation,
    DeviceUpdates,
    FaultMapping,
    Freezing,
    Kind,
    NoiseTraining,
    Retrained,
    RetrainedForLater,
    Samples,
    Stages,
    StagesTrainedAhead,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*a bound, no remedy")

FRESH = Hardware(Device(Lognormal(0.2), StuckAt(on=0.02, off=0.1)), DoubleArray(w_max=1.0))
AGED = Hardware(Device(PCM(), StuckAt(on=0.02, off=0.05)), DoubleArray(0.0, 25.0, w_max=1.0))
REMEDIES = {
    "noise, feedback": NoiseTraining(1, 0.01, objective=OVF(beta=0.1)),
    "noise, feedback of the first pass": NoiseTraining(1, 0.01, objective=OVF(beta=0.1, bn="first")),
    "noise, averaged": NoiseTraining(1, 0.01, objective=NoiseAveraging(2, bn="first")),
    "rows": FaultMapping(),
    "rows, fisher": FaultMapping(weighting="fisher", images=50),
    "rows, gradient": FaultMapping(weighting="gradient", images=50, power=1.0),
    "joint": FaultMapping("joint"),
    "adjusted": Adjusted(3, 0.01, weighting="fisher"),
    "retrained": Retrained(1, 0.01, objective=Retraining(0.01)),
    "freezing": Freezing(20, 0.01),
    "pulses": DeviceUpdates(2, batch_size=20),
    "compensation": Compensation(),
    "compensation by columns": Compensation("column"),
    "compensation by images": Compensation("column", images=20),
    "statistics": BatchNormStatistics(40),
    "lora": CalibratedStages(Stages("lora"), 10, 3, 0.1),
    "dora": CalibratedStages(Stages("dora"), 10, 3, 0.1, "end to end"),
    "vera": CalibratedStages(Stages("vera"), 10, 3, 0.1),
    "vera, own projections": CalibratedStages(Stages("vera", shared=False), 10, 3, 0.1, inputs="teacher"),
    "ahead": StagesTrainedAhead(Stages("vera", 4), 40, 1, 0.1, 2),
    "common": CommonChange(2),
    "for later": RetrainedForLater(1, 0.01),
}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
GENERATOR = torch.Generator().manual_seed(1)
X = torch.randn(60, 6, generator=GENERATOR)
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()


def chip_of(remedy):
    """Pulses know no phase-change cells, and noise is that of one spread."""
    calm = remedy.steps[-1] in ("train", "pulse")
    return Chip(Kind(FRESH if calm else AGED), 3, "" if calm else "1 year")


def treated(remedy, network, x):
    """Outputs for ``x`` on the chip after the remedy."""
    return remedy.apply(network, chip_of(remedy), Samples(x, Y, batch=20)).eval()(x).detach()


def pointwise(kind):
    """A perceptron, or one whose first layers are convolutions of a ``kind`` that see one position."""
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(5, 3)]
    for k in (0, 2) if kind else ():
        plain = layers[k]
        layers[k] = kind(plain.in_features, plain.out_features, 1)
        turned = isinstance(layers[k], tuple(TRANSPOSED.values()))
        with torch.no_grad():
            weight = plain.weight.T if turned else plain.weight
            layers[k].weight.copy_(weight.reshape(layers[k].weight.shape))
            layers[k].bias.copy_(plain.bias)
    return nn.Sequential(*layers)


def convolutional(dims):
    """Convolutions along a line that lies in as many dimensions, with BatchNorm and pooling."""
    torch.manual_seed(0)
    ahead = (1,) * (dims - 1)
    first = CONVOLUTIONS[dims](2, 4, (*ahead, 3), padding=(*[0] * (dims - 1), 1), bias=False)
    second = CONVOLUTIONS[dims](4, 4, (*ahead, 3), stride=(*ahead, 2))
    torch.manual_seed(1)
    for layer in (first, second):
        with torch.no_grad():
            values = torch.randn(layer.weight.numel()) / 3
            layer.weight.copy_(values.reshape(layer.weight.shape))
            if layer.bias is not None:
                layer.bias.copy_(torch.randn(4) / 3)
    last = nn.Linear(8, 3)
    pool = POOLS[dims]((*ahead, 2) if dims > 1 else 2)
    model = nn.Sequential(first, NORMS[dims](4), nn.ReLU(), pool, second, nn.ReLU(), nn.Flatten(), last)
    return model, line(dims)


def line(dims):
    x = torch.randn(60, 2, 10, generator=torch.Generator().manual_seed(2))
    return x.reshape(60, 2, *[1] * (dims - 1), 10)


@pytest.mark.parametrize(
    "kind", [*CONVOLUTIONS.values(), *TRANSPOSED.values()], ids=lambda kind: kind.__name__
)
@pytest.mark.parametrize("name", [name for name in REMEDIES if name != "statistics"])
def test_on_one_position_a_convolution_is_treated_as_the_linear_layer_that_it_is(name, kind):
    remedy, dims = REMEDIES[name], len(kind(1, 1, 1).kernel_size)
    x = X.reshape(60, 6, *[1] * dims)
    without_transposed = (Freezing, Compensation, CalibratedStages, StagesTrainedAhead, CommonChange)
    if kind in TRANSPOSED.values() and isinstance(remedy, without_transposed):
        with pytest.raises(ValueError, match=f"for layer '0', a {kind.__name__}.*Linear and Conv1d … Conv3d"):
            treated(remedy, pointwise(kind), x)
        return
    expected = treated(remedy, pointwise(None), X)
    untreated = chip_of(remedy).holds(pointwise(None)).eval()(X)
    assert not torch.allclose(expected, untreated, atol=1e-2)
    close = 2e-3 if remedy.ahead else 1e-5  # Adam makes steps of what rounding leaves of a gradient
    torch.testing.assert_close(treated(remedy, pointwise(kind), x), expected, rtol=1e-4, atol=close)


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("name", REMEDIES)
def test_a_line_is_treated_alike_in_one_two_and_three_dimensions(name, dims):
    expected = treated(REMEDIES[name], *convolutional(2))
    torch.testing.assert_close(treated(REMEDIES[name], *convolutional(dims)), expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("dims", [1, 3])
def test_snapshots_of_lines_are_alike_in_one_two_and_three_dimensions(dims):
    def trained(dims):
        model, x = convolutional(dims)
        heads = snapshot_heads({"2": (4, 1)}, 3, hidden=8, dims=dims)
        return treated(NoiseTraining(1, 0.01, objective=IRS(heads, beta=0.1, hardware=FRESH)), model, x)

    torch.testing.assert_close(trained(dims), trained(2), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_head_takes_in_as_many_positions_as_its_side_has_in_all_dimensions(dims):
    head = snapshot_heads({"0": (4, 2)}, 3, hidden=8, dims=dims)["0"]
    assert head(torch.ones(5, 4, *[6] * dims)).shape == (5, 3)
    assert head[2].in_features == 4 * 2**dims
