"""What ``unfused`` keeps of a network, and what it refuses."""

import copy

import pytest
import torch
from fused import agree, drawn, linears
from torch import nn
from torch.nn.utils import parametrizations, prune
from torchvision.models import VisionTransformer, swin_t
from torchvision.models.swin_transformer import ShiftedWindowAttention

from cimlib.networks import Attention, EncoderLayer, Recurrent, mlp, unfused


class Tagger(nn.Module):
    """Words in, a tag for each out."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 6)
        self.lstm = nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True, dropout=0.2)
        self.tags = nn.Linear(10, 4)

    def forward(self, x):
        self.lstm.flatten_parameters()
        return self.tags(self.lstm(self.words(x))[0])


class Classifier(nn.Module):
    """The mean over a transformer encoder's positions."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.classes = nn.Linear(8, 3)

    def forward(self, x):
        return self.classes(self.encoder(x).mean(1))


def vit(seed=0):
    torch.manual_seed(seed)
    model = VisionTransformer(32, 16, 2, 4, 16, 32, dropout=0.1, attention_dropout=0.1, num_classes=5)
    nn.init.normal_(model.heads.head.weight)  # torchvision has it begin at zero
    return model


def test_an_lstm_tagger_is_the_same_with_gradients_and_dropout():
    agree(Tagger().double(), torch.randint(20, (3, 7)))


@pytest.mark.parametrize("training", [True, False])
def test_a_classifier_and_a_vision_transformer_are_the_same_with_gradients_and_dropout(training):
    agree(Classifier().double().train(training), drawn(3, 5, 8))
    made = agree(vit().double().train(training), drawn(2, 3, 32, 32))
    assert sum(type(module) is Attention for module in made.modules()) == 2


def test_the_model_that_is_given_and_torchs_generator_stay_as_they_are():
    model = nn.ModuleList([Tagger(), Classifier(), nn.GRUCell(2, 3), swin_t(weights=None)])
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    types = [type(module) for module in model.modules()]
    made = unfused(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert [type(module) for module in model.modules()] == types
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with torch.no_grad():
        for p in made.parameters():
            p.zero_()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_other_networks_come_back_as_they_are_and_twice_is_as_good_as_once():
    model = mlp(4, 8, 3, seed=0)
    again = unfused(model)
    assert [type(m) for m in again.modules()] == [type(m) for m in model.modules()] and again is not model
    once = unfused(nn.ModuleList([Tagger(), Classifier()]))
    twice = unfused(once)
    assert [type(m) for m in twice.modules()] == [type(m) for m in once.modules()]
    assert once.state_dict().keys() == twice.state_dict().keys()


def test_all_its_weights_are_in_linear_layers():
    made = unfused(nn.ModuleList([Tagger(), Classifier(), vit(), nn.LSTMCell(3, 4)]))
    inside = {f"{name}.weight" for name in linears(made)}
    matrices = {name for name, p in made.named_parameters() if p.dim() == 2}
    assert matrices - inside == {"0.words.weight"}


def test_modes_dtypes_and_what_needs_a_gradient_are_kept_for_every_part():
    model = Classifier().double()
    frozen = model.encoder.layers[0].self_attn
    frozen.eval().in_proj_weight.requires_grad_(False)
    made = unfused(model)
    attention = made.encoder.layers[0].self_attn
    assert not any(module.training for module in attention.modules())
    assert made.encoder.layers[1].self_attn.training and made.training
    needs = {name for name, p in attention.named_parameters() if not p.requires_grad}
    assert needs == {"query.weight", "key.weight", "value.weight"}
    assert {p.dtype for p in made.parameters()} == {torch.float64}
    made = unfused(nn.LSTM(2, 3, device="meta"))
    assert {p.device.type for p in made.parameters()} == {"meta"}


def test_a_module_in_several_places_and_a_weight_of_two_modules_stay_one():
    lstm, other = nn.LSTM(4, 4), nn.LSTM(4, 4)
    other.weight_hh_l0 = lstm.weight_hh_l0
    made = unfused(nn.ModuleList([lstm, nn.Sequential(lstm), other]))
    assert made[0] is made[1][0] and type(made[0]) is Recurrent
    assert made[2].cells[0].recurrent.weight is made[0].cells[0].recurrent.weight
    tied = nn.MultiheadAttention(4, 2, kdim=3, vdim=3)
    tied.v_proj_weight = tied.k_proj_weight
    made = unfused(tied)
    assert made.value.weight is made.key.weight


def test_who_holds_a_module_outside_the_tree_holds_the_rewritten_one():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 4)
            self.steps = [self.lstm]

    made = unfused(Listed())
    assert made.steps[0] is made.lstm and type(made.lstm) is Recurrent


def test_hooks_on_a_rewritten_module_are_still_called():
    model, called = Classifier().eval(), []
    for name in ("encoder", "encoder.layers.0", "encoder.layers.0.self_attn"):
        module = model.get_submodule(name)
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        module.register_forward_pre_hook(
            lambda *_, name=name: called.append(f"{name} before"), with_kwargs=True
        )
        module.register_full_backward_hook(lambda *_, name=name: called.append(f"{name} backward"))
    model(drawn(1, 3, 8, dtype=torch.float32).requires_grad_()).sum().backward()
    expected, called[:] = list(called), []
    unfused(model)(drawn(1, 3, 8, dtype=torch.float32).requires_grad_()).sum().backward()
    assert called == expected and len(called) == 9


def test_a_plain_checkpoint_is_refused_by_the_rewritten_model_and_loaded_before():
    checkpoint = Tagger().state_dict()
    with pytest.raises(RuntimeError, match=r"lstm.cells.0.input.weight"):
        unfused(Tagger()).load_state_dict(checkpoint)
    plain = Tagger().eval()
    plain.load_state_dict(checkpoint)
    made = unfused(plain)
    words = torch.randint(20, (2, 5))
    torch.testing.assert_close(made(words), plain(words))
    copied = unfused(Tagger()).eval()
    copied.load_state_dict(made.state_dict())
    assert torch.equal(copied(words), made(words))


SUBCLASSES = {
    "attention": (nn.MultiheadAttention, (4, 2)),
    "lstm": (nn.LSTM, (3, 4)),
    "gru": (nn.GRU, (3, 4)),
    "rnn": (nn.RNN, (3, 4)),
    "recurrent": (nn.RNNBase, ("LSTM", 3, 4)),
    "lstm cell": (nn.LSTMCell, (3, 4)),
    "gru cell": (nn.GRUCell, (3, 4)),
    "rnn cell": (nn.RNNCell, (3, 4)),
    "layer": (nn.TransformerEncoderLayer, (4, 2, 8)),
    "window": (ShiftedWindowAttention, (4, [2, 2], [1, 1], 2)),
    "ours": (Attention, (nn.MultiheadAttention(4, 2),)),
}


@pytest.mark.parametrize("name", sorted(SUBCLASSES))
def test_a_subclass_is_refused_by_name(name):
    base, arguments = SUBCLASSES[name]
    own = type("Own", (base,), {})(*arguments)
    if name == "ours":  # calls its layers, whatever it does
        assert type(unfused(own)) is type(own)
        return
    with pytest.raises(TypeError, match=r"'1' is a Own.*rewrite it with nn.Linear"):
        unfused(nn.Sequential(nn.Linear(2, 2), own))


def test_subclasses_of_what_is_not_rewritten_stay_and_their_parts_are_rewritten():
    class Own(nn.TransformerDecoderLayer):
        pass

    made = unfused(Own(4, 2, 8))
    assert type(made) is Own and type(made.self_attn) is Attention


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_scripted_module_is_refused_by_name():
    with pytest.raises(TypeError, match=r"'0' is a scripted module"):
        unfused(nn.Sequential(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))))


COMPUTED = {
    "0 pruned": lambda m: prune.random_unstructured(m[0], "in_proj_weight", 0.5),
    "0.out_proj pruned": lambda m: prune.random_unstructured(m[0].out_proj, "weight", 0.5),
    "1 pruned": lambda m: prune.random_unstructured(m[1], "weight_hh_l0", 0.5),
    "2 pruned": lambda m: prune.random_unstructured(m[2], "weight_ih", 0.5),
    "3.qkv pruned": lambda m: prune.random_unstructured(m[3].qkv, "weight", 0.5),
    "0 parametrised": lambda m: parametrizations.weight_norm(m[0], "in_proj_weight"),
    "0.out_proj parametrised": lambda m: parametrizations.weight_norm(m[0].out_proj),
    "1 parametrised": lambda m: parametrizations.weight_norm(m[1], "weight_hh_l0"),
    "2 parametrised": lambda m: parametrizations.weight_norm(m[2], "weight_ih"),
    "3.proj parametrised": lambda m: parametrizations.weight_norm(m[3].proj),
    "3 parametrised": lambda m: parametrizations.weight_norm(m[3], "relative_position_bias_table"),
}


def one_of_each():
    window = ShiftedWindowAttention(4, [2, 2], [1, 1], 2)
    return nn.Sequential(nn.MultiheadAttention(4, 2), nn.LSTM(3, 4), nn.GRUCell(3, 4), window)


@pytest.mark.parametrize("what", sorted(COMPUTED))
def test_weights_that_are_pruned_or_parametrised_are_refused_by_name(what):
    model = one_of_each()
    unfused(model)
    COMPUTED[what](model)
    with pytest.raises(ValueError, match=rf"parameters of '{what.split()[0]}' = .*remove_parametrizations"):
        unfused(model)


def test_a_packed_weight_of_two_modules_is_refused_by_name():
    model = nn.ModuleList([nn.MultiheadAttention(4, 2), nn.MultiheadAttention(4, 2)])
    model[1].in_proj_weight = model[0].in_proj_weight
    with pytest.raises(ValueError, match=r"0.in_proj_weight = 'that of another module too'"):
        unfused(model)


def test_a_method_put_on_the_object_is_refused_by_name():
    model = Classifier()
    layer = model.encoder.layers[1]
    layer._ff_block = lambda x: x
    with pytest.raises(ValueError, match=r"methods of 'encoder.layers.1' = \['_ff_block'\]"):
        unfused(model)


def test_hooks_that_could_not_stay_are_refused_by_name():
    model = one_of_each()
    model[3].qkv.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"hooks of '3.qkv' = \['_forward_hooks'\].*never calls"):
        unfused(model)
    model = one_of_each()
    model[1].register_load_state_dict_pre_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"hooks of '1' = \['_load_state_dict_pre_hooks'\].*keys change"):
        unfused(model)


def test_a_layer_that_torch_reads_and_never_calls_has_to_be_a_plain_linear():
    class Own(nn.Linear):
        pass

    model = one_of_each()
    model[3].proj = Own(4, 4)
    with pytest.raises(TypeError, match=r"'3.proj' is a Own, not a plain Linear"):
        unfused(model)


def test_a_layer_with_another_attention_in_it_still_calls_its_layers():
    class Own(nn.Module):
        batch_first = True

        def forward(self, x, *_, **__):
            return x, None

    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    layer.self_attn = Own()
    made = unfused(layer.eval())
    assert type(made) is EncoderLayer
    x = drawn(2, 3, 4, dtype=torch.float32)
    with torch.no_grad():
        before = made(x)
        made.linear1.weight.mul_(3.0)
        assert not torch.allclose(made(x), before)
