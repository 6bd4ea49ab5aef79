#!/usr/bin/env python3
"""FP32 logits of Lathe's forward pass against transformers'.

    parity.py LOGITS_PROGRAM [--model FOLDER]... [--only WORD]

For each family, rope scaling, bias, head and window arrangement a small random checkpoint is made, run by both, and
compared: max |difference| / max |logit| must stay within 1e-4. Also the trained models that are at hand. One line a case;
exit code 1 if any fails. Both sides may run the very same libtorch kernels, so that a difference of exactly zero is
common; a control case, in which only our side's config.json is altered, proves that differences are seen.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "tests" / "tools"), str(ROOT / "tests" / "peer" / "consumers")]

import torch
import transformers
from make_checkpoint import make_checkpoint
from our_logits import our_logits

TOLERANCE = 1e-4
LENGTH = 48  # tokens a row of the random cases
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
LONGROPE = dict(rope_type="longrope", short_factor=[1.0, 1.05, 1.1, 1.2, 1.4, 1.7, 2.0, 2.4],
                long_factor=[1.0, 1.5, 2.5, 4.0, 6.0, 9.0, 12.0, 16.0])
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)


def rope(**parameters):
    return {"rope_parameters": {"rope_theta": 10000.0, **parameters}}


def as_version_4(config):
    """config.json as transformers 4 wrote it: rope_theta, rope_scaling with `type`, torch_dtype."""
    parameters = dict(config.pop("rope_parameters"))
    config["rope_theta"] = parameters.pop("rope_theta")
    kind = parameters.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {"type": kind, **parameters}
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    return config


def as_first_gemma3(config):
    """config.json of the checkpoints on the Hub: what is the class's default is not in text_config."""
    text = without("num_attention_heads", "num_key_value_heads", "head_dim", "query_pre_attn_scalar", "max_position_embeddings",
                   "layer_types", "rope_parameters", "hidden_activation", "rms_norm_eps", "tie_word_embeddings", "dtype")(config["text_config"])
    config = without("tie_word_embeddings", "dtype")(config)
    return {**config, "torch_dtype": "float16", "text_config": {**text, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}}


def without(*keys):
    return lambda config: {key: value for key, value in config.items() if key not in keys}


# name, family, config keys, and an edit of config.json, or words: a dtype; "stacked": names of transformers 5, all experts
# of a block in one tensor
CASES = [
    ("llama, GQA", "llama", {}, None),
    ("llama, MHA", "llama", {"num_key_value_heads": 4}, None),
    ("llama, MQA", "llama", {"num_key_value_heads": 1}, None),
    ("llama, tied", "llama", {"tie_word_embeddings": True}, None),
    ("llama, biases", "llama", {"attention_bias": True, "mlp_bias": True}, None),
    ("llama, head_dim not hidden / heads", "llama", {"head_dim": 24}, None),
    ("llama, no head_dim, no kv heads in config.json", "llama", {"num_key_value_heads": 4}, without("head_dim", "num_key_value_heads")),
    ("llama, gelu", "llama", {"hidden_act": "gelu"}, None),
    ("llama, gelu_pytorch_tanh", "llama", {"hidden_act": "gelu_pytorch_tanh"}, None),
    ("llama, quick_gelu", "llama", {"hidden_act": "quick_gelu"}, None),
    ("llama, relu2", "llama", {"hidden_act": "relu2"}, None),
    ("llama, theta 500000, eps 1e-3", "llama", {**rope(rope_type="default", rope_theta=500000.0), "rms_norm_eps": 1e-3}, None),
    ("llama, linear rope", "llama", rope(rope_type="linear", factor=2.5), None),
    ("llama, dynamic rope within max_position", "llama", rope(rope_type="dynamic", factor=4.0), None),
    ("llama, dynamic rope beyond max_position", "llama", {**rope(rope_type="dynamic", factor=4.0), "max_position_embeddings": 20}, None),
    ("llama, llama3 rope", "llama", rope(**LLAMA3), None),
    ("llama, yarn rope", "llama", rope(**YARN), None),
    ("llama, yarn rope, betas, not truncated", "llama", rope(**YARN, beta_fast=16.0, beta_slow=2.0, truncate=False), None),
    ("llama, yarn rope, mscale", "llama", rope(**YARN, mscale=0.7, mscale_all_dim=1.3), None),
    ("llama, yarn rope, attention_factor", "llama", rope(**YARN, attention_factor=1.2), None),
    ("llama, yarn rope, original length from max_position", "llama", rope(rope_type="yarn", factor=4.0), None),
    ("llama, spelling of transformers 4", "llama", {}, as_version_4),
    ("llama, linear rope, spelling of transformers 4", "llama", rope(rope_type="linear", factor=2.0, rope_theta=5000.0), as_version_4),
    ("llama, dynamic rope, spelling of transformers 4", "llama", {**rope(rope_type="dynamic", factor=2.0), "max_position_embeddings": 16}, as_version_4),
    ("llama, llama3 rope, spelling of transformers 4", "llama", rope(**LLAMA3), as_version_4),
    ("llama, yarn rope, spelling of transformers 4", "llama", rope(**YARN), as_version_4),
    ("mistral, full attention", "mistral", {"sliding_window": None}, None),
    ("mistral, window 11", "mistral", {"sliding_window": 11}, None),
    ("mistral, window 1", "mistral", {"sliding_window": 1}, None),
    ("mistral, window as long as the rows", "mistral", {"sliding_window": LENGTH}, None),
    ("mistral, window not in config.json", "mistral", {}, without("sliding_window")),
    ("mistral, window 11, spelling of transformers 4", "mistral", {"sliding_window": 11}, as_version_4),
    ("qwen2", "qwen2", {}, None),
    ("qwen2, tied, MHA", "qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 4}, None),
    ("qwen2, window off", "qwen2", {"use_sliding_window": False, "sliding_window": 7}, None),
    ("qwen2, window from layer 1 on", "qwen2", {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}, without("layer_types")),
    ("qwen2, layer_types", "qwen2", {"use_sliding_window": True, "sliding_window": 7,
                                     "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}, None),
    ("qwen2, yarn rope", "qwen2", rope(**YARN), None),
    ("qwen2, spelling of transformers 4", "qwen2", {}, as_version_4),
    ("qwen3", "qwen3", {}, None),
    ("qwen3, tied, head_dim 32", "qwen3", {"tie_word_embeddings": True, "head_dim": 32}, None),
    ("qwen3, biases", "qwen3", {"attention_bias": True}, None),
    ("qwen3, head_dim not in config.json", "qwen3", {"head_dim": 128}, without("head_dim")),
    ("qwen3, window from layer 2 on", "qwen3", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2}, None),
    ("qwen3, yarn rope", "qwen3", rope(**YARN), None),
    ("qwen3, spelling of transformers 4", "qwen3", {}, as_version_4),
    ("gemma2", "gemma2", {}, None),
    ("gemma2, BF16, embeddings' scale rounded", "gemma2", {"hidden_size": 96}, "bfloat16"),
    ("gemma2, no soft caps", "gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}, None),
    ("gemma2, tight soft caps, MHA", "gemma2", {"attn_logit_softcapping": 0.8, "final_logit_softcapping": 2.0, "num_key_value_heads": 4}, None),
    ("gemma2, layer_types, biases", "gemma2", {"attention_bias": True, "layer_types": ["full_attention", "sliding_attention", "full_attention"]}, None),
    ("gemma2, defaults of keys not in config.json", "gemma2", {"query_pre_attn_scalar": 256, "sliding_window": 4096, "head_dim": 256, "tie_word_embeddings": True},
     without("query_pre_attn_scalar", "sliding_window", "layer_types", "attn_logit_softcapping", "final_logit_softcapping",
             "hidden_activation", "tie_word_embeddings", "head_dim", "rope_parameters")),
    ("gemma2, untied, spelling of transformers 4", "gemma2", {"tie_word_embeddings": False}, as_version_4),
    ("gemma3_text", "gemma3_text", {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}, None),
    ("gemma3_text, pattern 3, linear rope of global layers", "gemma3_text",
     {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                          "sliding_attention": {"rope_type": "default", "rope_theta": 500.0}}},
     lambda config: {**without("layer_types", "_sliding_window_pattern")(config), "sliding_window_pattern": 3}),
    ("gemma3_text, spelling of transformers 4", "gemma3_text", {"layer_types": ["sliding_attention", "full_attention", "full_attention"]},
     lambda config: {**without("rope_parameters")(config), "rope_theta": 2e5, "rope_local_base_freq": 700.0,
                     "rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    ("gemma3_text, final soft cap", "gemma3_text", {"final_logit_softcapping": 2.0}, None),
    ("gemma3, names of transformers 4", "gemma3", {}, None),
    ("gemma3, names of transformers 5, tied, BF16", "gemma3", {"tie_word_embeddings": True, "hidden_size": 96}, ("stacked", "bfloat16")),
    ("gemma3, defaults of keys not in config.json", "gemma3",
     {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256, "tie_word_embeddings": True,
      "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                          "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}, as_first_gemma3),
    ("phi3", "phi3", {}, None),
    ("phi3, MHA, partial rotation, window 9", "phi3", {**rope(rope_type="default", partial_rotary_factor=0.5), "num_key_value_heads": 4, "sliding_window": 9}, None),
    ("phi3, longrope within the trained length", "phi3", {**rope(**LONGROPE), "original_max_position_embeddings": LENGTH}, None),
    ("phi3, longrope beyond the trained length", "phi3", {**rope(**LONGROPE), "original_max_position_embeddings": LENGTH - 1}, None),
    ("phi3, longrope, partial, attention_factor", "phi3",
     {**rope(rope_type="longrope", short_factor=[1.0, 1.1, 1.3, 1.6, 1.9, 2.5], long_factor=[1.0, 2.0, 3.0, 5.0, 7.0, 9.0],
             partial_rotary_factor=0.75, attention_factor=1.3), "original_max_position_embeddings": 16}, None),
    ("phi3, longrope, spelling of transformers 4", "phi3", {**rope(**LONGROPE), "original_max_position_embeddings": 16}, as_version_4),
    ("mixtral", "mixtral", {}, None),
    ("mixtral, stacked experts, window 11", "mixtral", {"sliding_window": 11}, "stacked"),
    ("mixtral, one expert a token", "mixtral", {"num_experts_per_tok": 1}, None),
    ("qwen2_moe", "qwen2_moe", {}, None),
    ("qwen2_moe, stacked experts, norm_topk_prob", "qwen2_moe", {"norm_topk_prob": True}, "stacked"),
    ("qwen2_moe, dense layers between", "qwen2_moe", {"decoder_sparse_step": 2, "mlp_only_layers": [0]}, None),
    ("qwen2_moe, no biases, even layers slide", "qwen2_moe", {"qkv_bias": False, "use_sliding_window": True, "sliding_window": 7}, None),
    ("qwen2_moe, windows below max_window_layers", "qwen2_moe", {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}, without("layer_types")),
    ("qwen3_moe", "qwen3_moe", {}, None),
    ("qwen3_moe, stacked experts, norm_topk_prob", "qwen3_moe", {"norm_topk_prob": True}, "stacked"),
    ("qwen3_moe, window, biases, one dense layer", "qwen3_moe", {"use_sliding_window": True, "sliding_window": 5, "attention_bias": True, "mlp_only_layers": [1]}, None),
    ("qwen3_moe, every other layer dense", "qwen3_moe", {"decoder_sparse_step": 2}, None),
    ("qwen3_moe, num_experts in config.json", "qwen3_moe", {}, lambda config: {**without("num_local_experts")(config), "num_experts": 6}),
    ("olmoe", "olmoe", {}, None),
    ("olmoe, stacked experts, norm_topk_prob, clip", "olmoe", {"norm_topk_prob": True, "clip_qkv": 0.7}, "stacked"),
    ("olmoe, every expert", "olmoe", {"num_experts_per_tok": 6}, None),
    ("llama, longrope", "llama", {**rope(**LONGROPE, original_max_position_embeddings=16), "max_position_embeddings": 128}, None),
    ("llama, bfloat16 weights", "llama", {}, "bfloat16"),
    ("llama, float32 weights", "llama", {}, "float32"),
]


def their_logits(folder, ids):
    # eager: transformers' fused attention leaves out the soft cap on scores.
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    scale = getattr(model.get_input_embeddings(), "embed_scale", None)
    if scale is not None:  # Gemma: rounded to the type of the weights, which here are wider than the checkpoint's
        config = json.loads((Path(folder) / "config.json").read_text())
        scale.copy_(scale.to(getattr(torch, config.get("dtype") or config["torch_dtype"])))
    with torch.no_grad():
        return model(ids, use_cache=False).logits


def control_case(program, scratch):
    """True where a window that is one token longer on our side alone is reported as a difference."""
    ids = torch.randint(0, 320, (2, LENGTH), generator=torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        make_checkpoint(folder, "mistral", {"sliding_window": 11})
        theirs = their_logits(folder, ids)
        path = Path(folder) / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "sliding_window": 12}))
        difference = relative_difference(torch.from_numpy(our_logits(program, folder, ids.tolist())), theirs)
    seen = difference > 100 * TOLERANCE
    print(f"{'ok  ' if seen else 'FAIL'}  {difference:.2e}  control: a window of 12 is not one of 11", flush=True)
    return seen


def relative_difference(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())


def compare(program, name, folder, length):
    """Prints the case's line; True where it passes."""
    config = json.loads((Path(folder) / "config.json").read_text())
    vocab = config.get("text_config", config)["vocab_size"]
    ids = torch.randint(0, vocab, (2, length), generator=torch.Generator().manual_seed(1))
    try:
        ours, theirs = torch.from_numpy(our_logits(program, folder, ids.tolist())), their_logits(folder, ids)
        difference = relative_difference(ours, theirs)
        spread = float(theirs.std())
    except Exception as error:  # a case that can't run has failed; the others still count
        print(f"FAIL  {name}: {str(error).splitlines()[0]}")
        return False
    passed = difference <= TOLERANCE and spread > 0.5  # NaN fails; so do logits that tell nothing
    print(f"{'ok  ' if passed else 'FAIL'}  {difference:.2e}  (std {spread:.2f})  {name}", flush=True)
    return passed


def random_case(program, case, scratch):
    name, family, overrides, edit = case
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        words = () if edit is None or callable(edit) else (edit,) if isinstance(edit, str) else edit
        dtype = next((word for word in words if word != "stacked"), "float16")
        make_checkpoint(folder, family, overrides, dtype=dtype, stacked_experts="stacked" in words)
        if callable(edit):
            path = Path(folder) / "config.json"
            path.write_text(json.dumps(edit(json.loads(path.read_text()))))
        return compare(program, name, folder, LENGTH)


def trained_models(extra):
    # SmolLM2 is there once tests/tools/make_smollm2.py has made it (see README).
    for folder in [ROOT / "data/models/lathe-tiny", ROOT / "../shared/models/stories260k", ROOT / "build/models/smollm2-135m",
                   *map(Path, extra)]:
        if (folder / "config.json").exists() and any(folder.glob("*.safetensors")):
            yield folder
        else:
            print(f"skip  {folder.name}: no checkpoint there")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--model", action="append", default=[], help="a further folder to compare")
    parser.add_argument("--only", default="", help="cases whose name holds this word")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        results.append(control_case(arguments.program, Path(scratch)))
        for case in CASES:
            if arguments.only in case[0]:
                results.append(random_case(arguments.program, case, Path(scratch)))
        for folder in trained_models(arguments.model):
            if arguments.only in folder.name:
                results.append(compare(arguments.program, folder.name, folder, 256))
    print(f"{sum(results)} of {len(results)} cases agree within {TOLERANCE:g}")
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
