#!/usr/bin/env python3
"""Makes a small random checkpoint of any supported family and shape, through transformers.

    make_checkpoint.py OUT --family llama|mistral|qwen2|qwen3 [--config JSON] [--dtype float16] [--seed 0]
                       [--shards-of BYTES] [--tokenizer FOLDER]

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

FAMILIES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
SMALL = dict(vocab_size=320, hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, head_dim=16, max_position_embeddings=128, tie_word_embeddings=False,
             bos_token_id=1, eos_token_id=2)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json")


def fill(model, generator):
    """Draws every parameter; the head's spread makes the logits' standard deviation about 3."""
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            value = 1 + 0.3 * noise
        elif name.endswith(".bias"):
            value = 0.2 * noise
        elif "embed_tokens" in name:
            value = noise * (3 / parameter.shape[1] ** 0.5 if model.config.tie_word_embeddings else 1.0)
        elif "lm_head" in name:
            value = noise * (3 / parameter.shape[1] ** 0.5)
        else:
            value = noise / parameter.shape[1] ** 0.5
        parameter.data.copy_(value)


def make_checkpoint(out, family, overrides=None, dtype="float16", seed=0, shards_of=None, tokenizer=None):
    """Writes the folder `out` and returns the model, in `dtype`."""
    model_class = getattr(transformers, FAMILIES[family])
    config = model_class.config_class(**{**SMALL, **(overrides or {})})
    with torch.no_grad():
        model = model_class(config)
        fill(model, torch.Generator().manual_seed(seed))
    model = model.to(getattr(torch, dtype)).eval()
    model.save_pretrained(out, max_shard_size=shards_of or "50GB")
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
    arguments = parser.parse_args()
    make_checkpoint(arguments.out, arguments.family, arguments.config, arguments.dtype, arguments.seed,
                    arguments.shards_of, arguments.tokenizer)


if __name__ == "__main__":
    sys.exit(main())
