"""Against the library peft, where it is installed: its DoRA and its VeRA give what ours give."""

import pytest
import torch
from torch import nn

from cimlib import Hardware, fabricate, program
from cimlib.chip import DoRA, Projections, VeRA, attach, crossbars

peft = pytest.importorskip("peft", reason="peft is optional: pip install peft")
pytestmark = pytest.mark.filterwarnings("default")  # those of another library are not ours


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5))


def moved(stage):
    with torch.no_grad():
        for value in stage.parameters():
            value.add_(0.3 * torch.randn_like(value))
    return stage


def test_dora_of_a_convolution_and_a_linear_layer():
    theirs, x = network(), torch.randn(4, 3, 8, 8)
    ours = attach(fabricate(program(network(), Hardware()), 0), lambda layer: DoRA(layer, 2))
    config = peft.LoraConfig(r=2, lora_alpha=2, use_dora=True, target_modules=["0", "3"])
    theirs = peft.get_peft_model(theirs, config).eval()
    torch.testing.assert_close(theirs(x), network()(x))
    for layer, name in zip(crossbars(ours), ("0", "3"), strict=True):
        stage, wrapped = moved(layer.digital), theirs.base_model.model.get_submodule(name)
        with torch.no_grad():
            wrapped.lora_A["default"].weight.copy_(stage.down)
            up, magnitude = wrapped.lora_B["default"].weight, wrapped.lora_magnitude_vector["default"].weight
            up.copy_(stage.up.reshape_as(up))
            magnitude.copy_(stage.magnitude.reshape_as(magnitude))
    torch.testing.assert_close(ours(x), theirs(x))


def test_vera_of_linear_layers_with_shared_projections():
    def linear():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 9))

    x, shared = torch.randn(4, 12), Projections(12, 9, 3)
    ours = attach(fabricate(program(linear(), Hardware()), 0), lambda layer: VeRA(layer, shared))
    theirs = peft.get_peft_model(linear(), peft.VeraConfig(r=3, target_modules=["0", "2"])).eval()
    for layer, name in zip(crossbars(ours), ("0", "2"), strict=True):
        stage, wrapped = moved(layer.digital), theirs.base_model.model.get_submodule(name)
        down, up = shared.down_and_up
        with torch.no_grad():
            wrapped.vera_A["default"].copy_(down)
            wrapped.vera_B["default"].copy_(up)
            wrapped.vera_lambda_d["default"].copy_(stage.d)
            wrapped.vera_lambda_b["default"].copy_(stage.b)
    torch.testing.assert_close(ours(x), theirs(x))
