#!/usr/bin/env python3
"""Makes a small random checkpoint of any supported family and shape, through transformers.

    make_checkpoint.py OUT --family FAMILY [--config JSON] [--dtype float16] [--seed 0] [--shards-of BYTES]
                       [--tokenizer FOLDER] [--stacked-experts] [--idle-expert]

The weights are drawn so that nothing is degenerate: each linear keeps the scale of its input, norm weights spread around
one, biases are not zero, and logits differ by several units. The same arguments give the same bytes.
"""
import argparse
import json
import shutil
import sys
from pathlib import Path

import torch
import transformers

FAMILIES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
            "gemma2": "Gemma2ForCausalLM", "gemma3_text": "Gemma3ForCausalLM", "gemma3": "Gemma3ForConditionalGeneration",
            "phi3": "Phi3ForCausalLM", "mixtral": "MixtralForCausalLM", "qwen2_moe": "Qwen2MoeForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM",
            "olmoe": "OlmoeForCausalLM"}
SMALL = dict(vocab_size=320, hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, head_dim=16, max_position_embeddings=128, tie_word_embeddings=False,
             bos_token_id=1, eos_token_id=2)
EXPERTS = dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=48)
VISION = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)
GEMMA = dict(query_pre_attn_scalar=24, sliding_window=16)
SPECIAL = {"gemma2": GEMMA, "gemma3_text": GEMMA, "gemma3": GEMMA,
           "phi3": dict(pad_token_id=0), "mixtral": dict(num_local_experts=6), "qwen2_moe": dict(EXPERTS, shared_expert_intermediate_size=96),
           "qwen3_moe": EXPERTS, "olmoe": dict(EXPERTS, intermediate_size=48)}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json")


def fill(model, generator):
    """Draws every parameter; the head's spread makes the logits' standard deviation about 3."""
    centre = 0 if model.config.model_type.startswith("gemma") else 1  # Gemma's norms add one
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            value = centre + 0.3 * noise
        elif name.endswith(".bias"):
            value = 0.2 * noise
        elif "embed_tokens" in name:
            value = noise * (3 / parameter.shape[1] ** 0.5 if model.config.tie_word_embeddings else 1.0)
        elif "lm_head" in name:
            value = noise * (3 / parameter.shape[1] ** 0.5)
        else:
            value = noise / parameter.shape[-1] ** 0.5
        parameter.data.copy_(value)


def idle_last_expert(model):
    """Routers that never choose their last expert: its logit is 0, the others' come in pairs of opposite sign."""
    for name, parameter in model.named_parameters():
        if name.endswith("mlp.gate.weight"):
            assert parameter.shape[0] % 2 == 1 and model.config.num_experts_per_tok <= parameter.shape[0] // 2, "pairs and one"
            parameter.data[1:-1:2] = -parameter.data[0:-1:2]
            parameter.data[-1] = 0


def make_config(config_class, keys):
    """Of a model that sees images, too: keys are its language model's."""
    if "text_config" not in config_class.sub_configs:
        return config_class(**keys)
    return config_class(text_config=keys, vision_config=VISION, mm_tokens_per_image=4,
                        tie_word_embeddings=keys["tie_word_embeddings"])


def make_checkpoint(out, family, overrides=None, dtype="float16", seed=0, shards_of=None, tokenizer=None,
                    stacked_experts=False, idle_expert=False):
    """Writes the folder `out` and returns the model, in `dtype`."""
    model_class = getattr(transformers, FAMILIES[family])
    config = make_config(model_class.config_class, {**SMALL, **SPECIAL.get(family, {}), **(overrides or {})})
    with torch.no_grad():
        model = model_class(config)
        fill(model, torch.Generator().manual_seed(seed))
        if idle_expert:
            idle_last_expert(model)
    model = model.to(getattr(torch, dtype)).eval()
    model.save_pretrained(out, max_shard_size=shards_of or "50GB", save_original_format=not stacked_experts)
    if tokenizer:
        copied = [shutil.copy(Path(tokenizer) / name, out) for name in TOKENIZER_FILES if (Path(tokenizer) / name).exists()]
        if not copied:
            raise SystemExit(f"{tokenizer}: holds no tokenizer ({', '.join(TOKENIZER_FILES)})")
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--family", required=True, choices=sorted(FAMILIES))
    parser.add_argument("--config", type=json.loads, default={}, help="JSON object of config keys")
    parser.add_argument("--dtype", default="float16", choices=["float16", "bfloat16", "float32"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shards-of", type=int, metavar="BYTES", help="largest shard")
    parser.add_argument("--tokenizer", metavar="FOLDER", help="copy the tokenizer from this folder")
    parser.add_argument("--stacked-experts", action="store_true", help="the names of transformers 5: one tensor for all experts of a block")
    parser.add_argument("--idle-expert", action="store_true", help="no token reaches the last expert of a block")
    arguments = parser.parse_args()
    make_checkpoint(arguments.out, arguments.family, arguments.config, arguments.dtype, arguments.seed,
                    arguments.shards_of, arguments.tokenizer, arguments.stacked_experts, arguments.idle_expert)


if __name__ == "__main__":
    sys.exit(main())
