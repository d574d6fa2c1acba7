"""Small models of every architecture of transformers that can be built so, and how ours are compared with theirs."""

import copy
import functools
import math
import re
import sys

import torch

from winit_fast import adapters

LAYERS = re.compile(
    r"(^|_)(num_)?(hidden_|encoder_|decoder_|text_|vision_|dense_)?(layers?|blocks|stages?_layers|n_layers?)$|n_layer$|"
    r"num_.*layers$|.*_layers$|.*_depth$|num_.*blocks$|num_loops"
)
SIZES = re.compile(r"size|dim|width|channels|d_|embd|embed|hidden|rank|features|filters|planes|inner")
EXACT = re.compile(
    r"image_size|patch_size|kernel_size|window_size|tubelet|crop|input_size|token|_id$|group_size|chunk|stride|scale|"
    r"block_size|pool|temporal|in_channels|num_channels|type_vocab|frame|d_conv|conv_size|downsample|sample|fft|hop"
)


def shrunk(config, factor, vocabulary=160):
    """A copy with few layers, its sizes divided by a factor."""
    config = copy.deepcopy(config)
    seen = set()

    def visit(part):
        if id(part) in seen:
            return
        seen.add(id(part))
        for name, value in list(vars(part).items()):
            if hasattr(value, "to_dict") and hasattr(value, "model_type"):
                visit(value)
                continue
            new = _smaller(name, value, factor, vocabulary)
            if new is not value:
                try:
                    setattr(part, name, new)
                except Exception:
                    continue
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "start_token_id"):
            value = getattr(part, name, None)
            if isinstance(value, int) and value >= vocabulary:
                setattr(part, name, 1)
        layers = getattr(part, "num_hidden_layers", None)
        for name in ("layer_types", "mlp_layer_types", "layers_block_type", "mlp_only_layers"):
            kinds = getattr(part, name, None)
            if isinstance(kinds, list | tuple) and isinstance(layers, int) and len(kinds) > layers:
                wanted = list(dict.fromkeys(kinds))[:layers]
                setattr(part, name, (wanted + list(kinds))[: max(layers, len(wanted))])

    visit(config)
    return config


def _smaller(name, value, factor, vocabulary):
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        if "vocab" in name and "type" not in name:
            return min(value, vocabulary)
        if ("position" in name and "max" in name) or name in (
            "n_positions",
            "max_source_positions",
            "max_target_positions",
            "n_ctx",
        ):
            return min(value, 64)
        if LAYERS.search(name):
            return min(value, 2)
        if "expert" in name and ("num" in name or name.startswith("n_")) and "tok" not in name and "group" not in name:
            return min(value, 8)
        if EXACT.search(name):
            return value
        if SIZES.search(name) and value >= 4 * factor and value % factor == 0:
            return value // factor
    if isinstance(value, list | tuple) and value and all(isinstance(v, int) and not isinstance(v, bool) for v in value):
        if name in ("depths", "layers", "num_layers", "layer_depths"):
            return type(value)(min(v, 1) for v in value)
        if SIZES.search(name) and not EXACT.search(name) and all(v >= 4 * factor and v % factor == 0 for v in value):
            return type(value)(v // factor for v in value)
    return value


# What a configuration needs to be small, or to be at all; names with dots are of configurations inside of it.
SPECIAL = {
    "autoformer": {"prediction_length": 8, "context_length": 16},
    "informer": {"prediction_length": 8, "context_length": 16},
    "time_series_transformer": {"prediction_length": 8, "context_length": 16},
    "aya_vision": {"vision_config.num_attention_heads": 8},
    "dots1": {"n_routed_experts": 8},
    "esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 2},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "hunyuan_vl": {"text_config.head_dim": 16},
    "hunyuan_vl_text": {"head_dim": 16},
    "ministral": {"head_dim": 16},
    "nemotron": {"num_key_value_heads": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "cohere_compass_text": {"layer_types": ["full_attention", "full_attention"]},
    "emu3": {"vocabulary_map": {"<image>": 1}},
    "chameleon": {"vocabulary_map": {"<image>": 1}},
}


def small_config(model_class, config_class, largest=40_000_000):
    """A configuration with which the architecture can be built, of few parameters; the error where there is none."""
    error, best = None, None
    for factor in (16, 8, 4, 2, 1):
        try:
            config = shrunk(config_class(), factor)
            for name, value in SPECIAL.get(config_class.model_type, {}).items():
                *inside, last = name.split(".")
                setattr(functools.reduce(getattr, inside, config), last, value)
            with torch.device("meta"):
                model = model_class(copy.deepcopy(config))
        except Exception as raised:
            error = raised
            continue
        count = sum(parameter.numel() for parameter in model.parameters())
        if count <= largest:
            return config, None
        error = ValueError(f"{count} parameters")
        break
    return best, error


def compared(build, seed=11, recipe=lambda model: "hf"):
    """What differs between theirs and ours: where the model stands, and from the meta device.

    Returns the report and a list of differences, in words.
    """
    torch.manual_seed(1)
    theirs = build()
    buffers = {name: buffer.clone() for name, buffer in theirs.named_buffers()}
    flags = {name: parameter.requires_grad for name, parameter in theirs.named_parameters()}
    report, wrong = differs_after(theirs, recipe(theirs), seed)
    ours = dict(theirs.named_parameters())
    with torch.device("meta"):
        model = build()
    try:
        adapters.torch.materialize_(model, recipe(model), seed=seed)
    except ValueError as error:
        return report, [*wrong, f"meta: {error}"]
    for name, value in model.named_parameters():
        entry = report[name]
        if not is_left(entry) and not same(value, ours[name]):
            wrong.append(f"meta: {name} differs from init_module_'s")
        if value.requires_grad != flags[name]:
            wrong.append(f"meta: {name} has another requires_grad")
    if {name for name, _ in model.named_parameters()} != set(ours):
        wrong.append("meta: other ties")
    for name, buffer in model.named_buffers():
        if not same(buffer, buffers[name]):
            torch.manual_seed(2)
            is_drawn = not same(dict(build().named_buffers())[name], buffers[name])
            if not is_drawn or differs(buffer, buffers[name], False):
                wrong.append(f"meta: buffer {name} differs")
    return report, wrong


def differs_after(model, recipe, seed=11):
    """What `init_module_` makes differ in law from what the constructor made, and the report."""
    values = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    report = adapters.torch.init_module_(model, recipe, seed=seed)
    wrong = [f"buffer {name} was written" for name, buffer in model.named_buffers() if not same(buffer, buffers[name])]
    for entry in report:
        ours, theirs = model.get_parameter(entry.name).detach(), values[entry.name]
        if is_left(entry):
            difference = "" if same(theirs, ours) else "was written"
        else:
            is_exact = not entry.scheme.draws if entry.scheme is not None else "draws" not in entry.note
            difference = differs(ours, theirs, is_exact)
        if difference:
            wrong.append(f"{entry.name} {tuple(theirs.shape)} [{entry.scheme or entry.note}]: {difference}")
    return report, wrong


def is_left(entry):
    return entry.scheme is None and entry.note.startswith("left")


def same(one, other):
    return (
        one.shape == other.shape
        and one.dtype == other.dtype
        and torch.equal(one.nan_to_num(nan=7.25), other.nan_to_num(nan=7.25))
    )


def differs(ours, theirs, is_exact):
    """How two tensors differ in law, or in any bit where they must not; empty where they do not."""
    if not theirs.numel():
        return ""
    if is_exact or (theirs.numel() == 1 and theirs.item() in (0.0, 1.0)):
        if torch.equal(ours, theirs):
            return ""
        return f"{(ours - theirs).abs().max().item():.3g} apart, {ours.flatten()[0]:.6g} and {theirs.flatten()[0]:.6g}"
    ours, theirs = ours.double().flatten(), theirs.double().flatten()
    count = ours.numel()
    if count < 8:
        scale = max(ours.abs().max().item(), 1e-30)
        return "" if theirs.abs().max() < 1e3 * scale and not (theirs == 0).all() else f"{ours} and {theirs}"
    if theirs.std() == 0:
        return f"theirs is the constant {theirs[0].item():.6g}"
    spread = max(ours.std(), theirs.std())
    if abs(ours.mean() - theirs.mean()) > 6 * spread * math.sqrt(2 / count):
        return f"means {ours.mean().item():.4g} and {theirs.mean().item():.4g}"
    # The variance of the log of a sample's standard deviation is (kurtosis - 1) / 4n.
    kurtosis = max((((x - x.mean()) / x.std()) ** 4).mean().item() for x in (ours, theirs))
    if abs(math.log(ours.std() / theirs.std())) > 6 * math.sqrt((max(kurtosis, 3.0) - 1) / 2 / count) + 1 / count:
        return f"standard deviations {ours.std().item():.4g} and {theirs.std().item():.4g}"
    return ""


def import_torchvision():
    """Import torchvision, which timm and transformers need, whose operators are compiled for one torch.

    Where they cannot be loaded they are declared, so that the rest of it can be. False where it is not installed.
    """
    try:
        import torchvision
    except ModuleNotFoundError:
        return False
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        _DECLARED.append(torch.library.Library("torchvision", "DEF"))
        for operator in ("nms", "qnms"):
            _DECLARED[-1].define(f"{operator}() -> Tensor")
        import torchvision  # noqa: F401
    return True


_DECLARED = []  # they are there as long as these


# A dozen that tell much, by name, and what the table of numbers is right for

SMALL = {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
MARIAN = {
    "vocab_size": 300, "d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
TOWERS = {
    "text_config": {**SMALL, "intermediate_size": 96, "projection_dim": 32, "bos_token_id": 0, "eos_token_id": 1},
    "vision_config": {**SMALL, "intermediate_size": 96, "image_size": 32, "patch_size": 8, "projection_dim": 32},
}
CONFIGURATIONS = {
    "LlamaForCausalLM": ("LlamaConfig", {**SMALL, "num_key_value_heads": 2, "intermediate_size": 96}),
    "BertForPreTraining": ("BertConfig", {**SMALL, "intermediate_size": 96}),
    "GPT2LMHeadModel": ("GPT2Config", {"vocab_size": 300, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "Gemma3ForCausalLM": ("Gemma3TextConfig",
                          {**SMALL, "num_key_value_heads": 2, "intermediate_size": 96, "head_dim": 16,
                                  "pad_token_id": 0}),
    "WhisperForConditionalGeneration": (
        "WhisperConfig", {**MARIAN, "num_mel_bins": 20, "max_source_positions": 50, "max_target_positions": 40}),
    "MarianMTModel": ("MarianConfig", MARIAN),
    "ModernBertForMaskedLM": ("ModernBertConfig", {**SMALL, "intermediate_size": 96, "pad_token_id": 0,
            "cls_token_id": 1,
                                                   "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}),
    "T5ForConditionalGeneration": (
        "T5Config", {"vocab_size": 300, "d_model": 64, "d_kv": 16, "d_ff": 96, "num_heads": 4, "num_layers": 2}),
    "MambaForCausalLM": ("MambaConfig", {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2}),
    "Mamba2ForCausalLM": ("Mamba2Config", {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 8,
                                           "head_dim": 16, "n_groups": 1, "state_size": 16}),
    "GptOssForCausalLM": ("GptOssConfig", {**SMALL, "num_key_value_heads": 2, "intermediate_size": 96, "head_dim": 16,
                                           "num_local_experts": 4, "pad_token_id": 0}),
    "Qwen3NextForCausalLM": (
        "Qwen3NextConfig",
        {**SMALL, "num_hidden_layers": 4, "num_key_value_heads": 2, "intermediate_size": 96, "head_dim": 16,
                "num_experts": 4,
         "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "linear_num_key_heads": 2,
         "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16}),
    "CLIPModel": ("CLIPConfig", TOWERS),
    "SiglipModel": ("SiglipConfig", TOWERS),
    "Wav2Vec2ForCTC": ("Wav2Vec2Config", {
        **SMALL, "intermediate_size": 96, "conv_dim": (32, 32), "conv_stride": (5, 2), "conv_kernel": (10, 3)}),
    "xLSTMForCausalLM": ("xLSTMConfig", {**SMALL, "num_heads": 4}),
    "RwkvForCausalLM": ("RwkvConfig", {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2,
            "context_length": 64}),
}  # fmt: skip
SAMPLE = list(CONFIGURATIONS)


def small_models(transformers):
    """What builds each of them."""
    return {
        name: lambda name=name, config=config, arguments=arguments: getattr(transformers, name)(
            getattr(transformers, config)(**copy.deepcopy(arguments))
        )
        for name, (config, arguments) in CONFIGURATIONS.items()
    }


AROUND = {"target_modules": ["q_proj", "v_proj"]}
ADAPTERS = {
    "lora": ("LoraConfig", {"target_modules": ["q_proj", "v_proj", "embed_tokens"]}),
    "lora_gaussian": ("LoraConfig", {**AROUND, "init_lora_weights": "gaussian"}),
    "lora_drawn": ("LoraConfig", {**AROUND, "init_lora_weights": False}),
    "lora_dora": ("LoraConfig", {**AROUND, "use_dora": True}),
    "lora_pissa": ("LoraConfig", {**AROUND, "init_lora_weights": "pissa"}),
    "lora_olora": ("LoraConfig", {**AROUND, "init_lora_weights": "olora"}),
    "adalora": ("AdaLoraConfig", {**AROUND, "total_step": 10}),
    "loha": ("LoHaConfig", AROUND),
    "lokr": ("LoKrConfig", AROUND),
    "ia3": ("IA3Config", {"target_modules": ["q_proj", "down_proj"], "feedforward_modules": ["down_proj"]}),
    "vera": ("VeraConfig", {"target_modules": ["q_proj"]}),
    "oft": ("OFTConfig", AROUND),
    "fourierft": ("FourierFTConfig", {**AROUND, "n_frequency": 20}),
    "hra": ("HRAConfig", AROUND),
    "prompt_tuning": ("PromptTuningConfig", {"task_type": "CAUSAL_LM", "num_virtual_tokens": 4}),
    "prefix_tuning": ("PrefixTuningConfig", {"task_type": "CAUSAL_LM", "num_virtual_tokens": 4}),
    "p_tuning": ("PromptEncoderConfig", {"task_type": "CAUSAL_LM", "num_virtual_tokens": 4}),
}
