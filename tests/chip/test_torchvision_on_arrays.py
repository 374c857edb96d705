"""Networks of others, as torchvision has them, whole: on ideal hardware they are the digital ones."""

import pytest
import torch
import torchvision.models
from fused import drawn
from torch import nn

from cimlib import Hardware, fabricate, program
from cimlib.chip import crossbars
from cimlib.devices import Gaussian
from cimlib.networks import unfused

#: By name: the side of the smallest image that it takes, and its layers.
NETWORKS = {
    "alexnet": (63, 8),
    "convnext_tiny": (32, 59),
    "densenet121": (32, 121),
    "efficientnet_b0": (32, 82),
    "googlenet": (32, 58),
    "mnasnet0_5": (32, 53),
    "mobilenet_v3_small": (32, 54),
    "regnet_y_400mf": (32, 86),
    "resnet18": (32, 21),
    "resnext50_32x4d": (32, 54),
    "shufflenet_v2_x0_5": (32, 57),
    "squeezenet1_1": (32, 26),
    "swin_t": (32, 53),
    "swin_v2_t": (32, 77),
    "vit_b_16": (32, 74),
}
OPTIONS = {"googlenet": {"aux_logits": False, "init_weights": False}, "vit_b_16": {"image_size": 32}}


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_on_ideal_hardware_it_is_the_digital_network_bit_for_bit_and_on_another_it_is_not(name):
    torch.manual_seed(0)
    side, layers = NETWORKS[name]
    plain = getattr(torchvision.models, name)(weights=None, num_classes=3, **OPTIONS.get(name, {})).eval()
    if name == "vit_b_16":  # whose head begins at zero
        nn.init.normal_(plain.heads.head.weight)
    digital, x = unfused(plain), drawn(1, 3, side, side, dtype=torch.float32)
    expected = digital(x)
    torch.testing.assert_close(expected, plain(x), rtol=1e-4, atol=1e-5)
    chip = fabricate(program(digital, Hardware()), 0)
    assert len(crossbars(chip)) == layers
    assert torch.equal(chip(x), expected)
    last = crossbars(chip)[-1].name
    assert not torch.equal(
        fabricate(program(digital, Hardware(Gaussian(0.1)), layers=[last]), 0)(x), expected
    )
