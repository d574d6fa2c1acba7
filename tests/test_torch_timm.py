"""adapters.torch on models of timm's: the recipes agree with what timm draws, and accelerate governs constructors."""

import sys

import pytest

from winit_fast import adapters

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.frameworks

MODELS = {
    "vit_tiny_patch16_224": ("vit", {}),
    "deit_tiny_patch16_224": ("vit", {}),
    "vit_small_patch14_reg4_dinov2": ("vit", {"init_values": 1e-5}),
    "resnet18": ("resnet", {}),
    "resnet50": ("resnet", {}),
}


@pytest.fixture(scope="module")
def timm():
    """The package, which imports torchvision, whose operators are compiled for one torch.

    No model here calls them: where they cannot be loaded they are declared, so that the rest of torchvision can be.
    """
    try:
        import torchvision  # noqa: F401
    except ModuleNotFoundError:
        pytest.skip("torchvision is not installed")
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        declared = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            declared.define(f"{operator}() -> Tensor")
        yield pytest.importorskip("timm")
        del declared
        return
    yield pytest.importorskip("timm")


def moments(model):
    """Of each parameter the mean, the mean size and their standard errors.

    Not the standard deviation: of a uniform of -1, once in 2^24 values, timm makes a normal of a hundred
    standard deviations.
    """
    found = {}
    for name, parameter in model.named_parameters():
        sizes, root = parameter.abs(), parameter.numel() ** 0.5
        errors = (parameter.std(unbiased=False) / root, sizes.std(unbiased=False) / root)
        found[name] = torch.stack([parameter.mean(), sizes.mean()]), torch.stack(errors)
    return found


def differ(theirs, ours):
    """Parameters whose moments are six standard errors apart; those of a constant must be equal."""
    return [
        (name, values, ours[name])
        for name, values in theirs.items()
        if ((values[0] - ours[name][0]).abs() > 6 * torch.hypot(values[1], ours[name][1]) + 1e-9).any()
    ]


@pytest.mark.parametrize("name", MODELS)
def test_recipes_agree_with_timm(timm, name):
    recipe, arguments = MODELS[name]
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, **arguments)
    theirs = moments(model)
    adapters.torch.init_module_(model, recipe, seed=7)
    assert differ(theirs, moments(model)) == []


@pytest.mark.parametrize("name", MODELS)
def test_accelerate_governs_the_constructors_of_timm(timm, name):
    def build(seed):
        with adapters.torch.accelerate(seed=seed):
            return timm.create_model(name, pretrained=False, **MODELS[name][1])

    torch.manual_seed(0)
    theirs = moments(timm.create_model(name, pretrained=False, **MODELS[name][1]))
    before = torch.get_rng_state()
    first, again, other = build(1), build(1), build(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert differ(theirs, moments(first)) == []
    assert all(map(torch.equal, first.parameters(), again.parameters()))
    assert not all(map(torch.equal, first.parameters(), other.parameters()))
