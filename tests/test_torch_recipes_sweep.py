"""Every architecture of transformers, timm and peft that can be built small: asked, each gets its own law.

Run with ``-m sweep -s``; the last lines say what was verified, and what could not be built here and why.
"""

import copy
import warnings

import pytest

from winit_fast import adapters

torch = pytest.importorskip("torch")
from architectures import (  # noqa: E402
    ADAPTERS,
    compared,
    differs_after,
    import_torchvision,
    small_config,
    small_models,
)

pytestmark = [pytest.mark.frameworks, pytest.mark.sweep]

# The head that holds most of an architecture, first found.
MAPPINGS = (
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_PRETRAINING_MAPPING_NAMES",
    "MODEL_MAPPING_NAMES",
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def transformers(monkeypatch):
    import_torchvision()
    library = pytest.importorskip("transformers", minversion="5")
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    library.logging.set_verbosity_error()
    return library


def first_built(transformers, names, config_name):
    """The first of these classes that can be built small, and its configuration."""
    error = None
    for name in names:
        try:
            model = getattr(transformers, name if isinstance(name, str) else name[0])
            config, error = small_config(model, getattr(transformers, config_name))
            if config is not None:
                model(copy.deepcopy(config))
                return model, config
        except (Exception, SystemExit) as raised:
            error = raised
    raise error


def told(library, verified, unbuilt, wrong):
    print(f"\n{library.__name__} {library.__version__}, torch {torch.__version__}")
    print(f"{len(verified)} verified, of {sum(verified.values())} parameters; {len(unbuilt)} could not be built")
    print("verified:", ", ".join(verified))
    for name, error in unbuilt.items():
        print(f"not built: {name}: {type(error).__name__}: {str(error).strip()[:120]!r}")
    for name, differences in wrong.items():
        print(f"wrong: {name}: {differences[:5]}")


def test_every_architecture_of_transformers_gets_its_own_law(transformers):
    from transformers.models.auto import configuration_auto, modeling_auto

    mappings = [getattr(modeling_auto, name) for name in MAPPINGS]
    verified, unbuilt, wrong, computed = {}, {}, {}, set()
    warnings.simplefilter("ignore")
    for kind, config_name in sorted(configuration_auto.CONFIG_MAPPING_NAMES.items()):
        names = [mapping[kind] for mapping in mappings if kind in mapping]
        if not names:  # a part of another
            continue
        try:
            model, config = first_built(transformers, names, config_name)
        except (Exception, SystemExit) as error:
            unbuilt[kind] = error
            continue
        try:
            report, differences = compared(lambda model=model, config=config: model(copy.deepcopy(config)))
        except Exception as error:
            wrong[kind] = [f"{type(error).__name__}: {error}"]
            continue
        if differences:
            wrong[kind] = differences
        else:
            verified[kind] = len(report)
            computed |= {kind} if any("computed" in entry.note for entry in report) else set()
    told(transformers, verified, unbuilt, wrong)
    print("something is computed in:", ", ".join(sorted(computed)))
    assert not wrong
    assert len(verified) >= 450


def test_every_family_of_timm_gets_its_own_law_when_it_is_built_once_more():
    if not import_torchvision():
        pytest.skip("torchvision is not installed")
    timm = pytest.importorskip("timm")
    verified, unbuilt, wrong = {}, {}, {}
    warnings.simplefilter("ignore")
    families = {}
    for name in timm.list_models():
        families.setdefault(timm.models._registry._model_to_module[name], []).append(name)
    for family, names in sorted(families.items()):
        counts = {}
        for name in sorted(names, key=lambda name: (not name.startswith("test_"), len(name)))[:12]:
            try:
                with torch.device("meta"):
                    counts[name] = sum(parameter.numel() for parameter in timm.create_model(name).parameters())
            except Exception as error:
                unbuilt[family] = error
        if not counts:
            continue
        unbuilt.pop(family, None)
        name = min(counts, key=counts.get)
        if counts[name] > 25_000_000:
            unbuilt[family] = ValueError(f"{name} has {counts[name]} parameters")
            continue

        def build(name=name):
            return timm.create_model(name)

        try:
            report, differences = compared(build, recipe=lambda model: adapters.torch.recipes.own(model, build))
        except Exception as error:
            wrong[name] = [f"{type(error).__name__}: {error}"]
            continue
        if differences:
            wrong[name] = differences
        else:
            verified[name] = len(report)
    told(timm, verified, unbuilt, wrong)
    assert not wrong
    assert len(verified) >= 60


def test_every_adapter_of_peft_keeps_its_own_law_around_a_model_of_transformers(transformers):
    peft = pytest.importorskip("peft")
    verified, unbuilt, wrong, refused = {}, {}, {}, {}
    for name, (config, arguments) in ADAPTERS.items():
        base = small_models(transformers)["LlamaForCausalLM"]()
        try:
            model = peft.get_peft_model(base, getattr(peft, config)(**arguments))
        except Exception as error:
            unbuilt[name] = error
            continue
        try:
            report, differences = differs_after(model, "hf")
        except ValueError as error:
            refused[name] = str(error)
            continue
        if differences:
            wrong[name] = differences
        else:
            verified[name] = len(report)
    told(peft, verified, unbuilt, wrong)
    print("refused:", refused)
    assert not wrong
    assert set(refused) == {"lora_dora", "lora_pissa", "lora_olora"}
