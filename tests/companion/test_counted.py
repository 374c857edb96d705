"""What is counted beside the papers' networks is what their shapes say."""

import pytest

from companion import experiments

#: Convolutions of ResNet-50 (out, in, side of the kernel, how many) by He et al., Table 1.
FIFTY = [(64, 3, 7, 1), (64, 64, 1, 1), (64, 256, 1, 2), (64, 64, 3, 3), (256, 64, 1, 4)]
for width, blocks in ((128, 4), (256, 6), (512, 3)):
    FIFTY += [
        (width, 2 * width, 1, 1),
        (width, 4 * width, 1, blocks - 1),
        (width, width, 3, blocks),
        (4 * width, width, 1, blocks),
        (4 * width, 2 * width, 1, 1),
    ]


def counted(**given):
    return {name: value for name, (value,) in experiments.run("counted", given).items()}


@pytest.mark.parametrize("rank", [1, 7])
def test_dora_of_resnet_50_stores_a_rank_of_each_layer_and_a_magnitude_of_each_column(rank):
    found = counted(scale="paper", side=32, stage="dora", rank=rank)
    layers = [*FIFTY, (1000, 2048, 1, 1)]
    stored = sum(n * (rank * (fan_in * k * k + out) + out) for out, fan_in, k, n in layers)
    normalised = 2 * sum(n * out for out, _, _, n in FIFTY)
    weights = sum(n * out * fan_in * k * k for out, fan_in, k, n in layers) + normalised + 1000
    assert (found["stored"], found["parameters"], found["statistics"]) == (stored, weights, normalised)
    assert found["fraction"] == pytest.approx(100 * stored / weights, abs=1e-4)
    assert found["kilobytes"] == 4 * stored / 1000


def test_vera_stores_a_number_a_column_and_one_a_rank_and_its_operations_grow_with_the_rank():
    one, two = (counted(scale="desk", rank=rank) for rank in (1, 2))
    outputs = 16 * 7 + 32 * 6 + 64 * 6 + 10
    assert (one["stored"], two["stored"]) == (outputs + 20, outputs + 40)
    layers = [(16, 3, 1024)] + [(16, 16, 1024)] * 6 + [(32, 16, 256)] + [(32, 32, 256)] * 5
    layers += [(64, 32, 64)] + [(64, 64, 64)] * 5
    array = 9 * sum(out * fan_in * places for out, fan_in, places in layers) + 64 * 10
    more = sum((fan_in + out + 1) * places for out, fan_in, places in [*layers, (10, 64, 1)])
    assert one["operations"] == array
    assert two["overhead"] - one["overhead"] == pytest.approx(100 * more / array, abs=2e-4)
