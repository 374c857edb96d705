"""The same pass by torch's fused modules and by what is made of them: outputs, gradients, dropout."""

import copy

import torch
from torch import nn

from cimlib.networks import Attention, Cell, Recurrent, unfused


def as_torch(module, value=lambda p: p.detach()):
    """``value`` of every parameter of an unfused network, under the names that torch's has."""
    if isinstance(module, Attention):
        parts = [module.query, module.key, module.value]
        packed = module.embed_dim == module.kdim == module.vdim
        names = ["in_proj_weight"] if packed else ["q_proj_weight", "k_proj_weight", "v_proj_weight"]
        weights = [value(part.weight) for part in parts]
        found = dict(zip(names, [torch.cat(weights)] if packed else weights, strict=True))
        if module.query.bias is not None:
            found["in_proj_bias"] = torch.cat([value(part.bias) for part in parts])
        found |= {f"out_proj.{name}": value(p) for name, p in module.out.named_parameters()}
    elif isinstance(module, Recurrent):
        directions = 1 + module.bidirectional
        found = {
            f"{name}_l{n // directions}{'_reverse' if n % directions else ''}": v
            for n, cell in enumerate(module.cells)
            for name, v in as_torch(cell, value).items()
        }
        return found
    elif isinstance(module, Cell):
        layers = {"ih": module.input, "hh": module.recurrent, "hr": module.projection}
        return {
            f"{name}_{which}": value(p)
            for which, layer in layers.items()
            if layer is not None
            for name, p in layer.named_parameters()
        }
    else:
        found = {
            f"{child}.{name}": v
            for child, inner in module.named_children()
            for name, v in as_torch(inner, value).items()
        }
    own = {name.replace("qkv_bias", "qkv.bias"): p for name, p in module._parameters.items()}
    return found | {name: value(p) for name, p in own.items() if p is not None}


def passed(model, inputs, options, seed=1):
    """Outputs of a pass, flat, and the gradients of all floating inputs."""
    inputs = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    torch.manual_seed(seed)
    outputs = flat(model(*inputs, **options))
    generator = torch.Generator().manual_seed(seed)
    cotangents = [torch.randn(y.shape, generator=generator, dtype=y.dtype) for y in outputs]
    torch.autograd.backward(outputs, cotangents)
    return outputs, [x.grad for x in inputs if x.is_floating_point()]


def flat(result):
    if isinstance(result, torch.Tensor):
        return [result]
    return [y for part in result if part is not None for y in flat(part) if y.is_floating_point()]


def agree(plain, *inputs, options=None, rtol=1e-9, atol=1e-11):
    """Both compute the same outputs, gradients of inputs and gradients of parameters, dropout included."""
    options, plain = options or {}, copy.deepcopy(plain)
    made = unfused(plain)
    assert made.training == plain.training
    ours, theirs = as_torch(made), dict(plain.named_parameters())
    assert list(ours.keys() ^ theirs.keys()) == []
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    expected, expected_gradients = passed(plain, inputs, options)
    outputs, gradients = passed(made, inputs, options)
    torch.testing.assert_close(outputs, expected, rtol=rtol, atol=atol)
    torch.testing.assert_close(gradients, expected_gradients, rtol=rtol, atol=atol)
    ours = as_torch(made, lambda p: torch.zeros_like(p) if p.grad is None else p.grad)
    theirs = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in plain.named_parameters()}
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)
    return made


def moved(model, seed=0):
    """Every parameter of ``model`` is another one, biases included, which torch lets begin at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return model


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def linears(model):
    return {name for name, m in model.named_modules() if type(m) is nn.Linear}
