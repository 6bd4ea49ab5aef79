#!/usr/bin/env python3
"""Makes a Llama checkpoint of any size that takes little disk: BF16 shards whose files are holes (read as zeros) where no
values were asked for.

    make_sparse_model.py OUT --blocks N [--shape 70b|JSON] [--dense-blocks 1] [--tokenizer FOLDER]

The default shape is Llama 3 70B's. Embedding, head and norms of all blocks have values; so have the linears of the first
--dense-blocks blocks. Linears of the others are zero: blocks that hand their input on. Embedding and head have values in
their first rows alone, as many as the tokenizer has tokens (--rows). Values of a tensor repeat after 2^20 + 7 of them.
The same arguments give the same bytes.
"""
import argparse
import json
import os
import shutil
from pathlib import Path

import numpy

# https://huggingface.co/meta-llama/Meta-Llama-3-70B, config.json
SHAPE_70B = dict(hidden_size=8192, intermediate_size=28672, num_attention_heads=64, num_key_value_heads=8, head_dim=128,
                 vocab_size=128256, max_position_embeddings=8192, rope_theta=500000.0, rms_norm_eps=1e-5)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
PERIOD = (1 << 20) + 7  # prime to the widths: rows differ
BLOCKS_A_SHARD = 4


def bfloat16(values):
    """Upper halves of float32, rounded to nearest."""
    return ((values.astype(numpy.float32).view(numpy.uint32) + 0x8000) >> 16).astype(numpy.uint16)


def tensors_of_block(config, block):
    hidden, inner, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    prefix = f"model.layers.{block}."
    linears = {"self_attn.q_proj": (queries, hidden), "self_attn.k_proj": (keys, hidden), "self_attn.v_proj": (keys, hidden),
               "self_attn.o_proj": (hidden, queries), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
               "mlp.down_proj": (hidden, inner)}
    for name, shape in linears.items():
        yield f"{prefix}{name}.weight", shape
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield f"{prefix}{name}.weight", (hidden,)


class Values:
    """Normal numbers with a seed for each tensor: `count` of them, repeated with a period, as BF16."""

    def __init__(self):
        self.noise = numpy.random.default_rng(0).standard_normal(PERIOD, dtype=numpy.float32)

    def pieces(self, name, shape, count):
        norm = len(shape) == 1
        spread = 0.1 if norm else 1.0 if "embed" in name else shape[-1] ** -0.5
        tile = numpy.roll(bfloat16((1.0 if norm else 0.0) + spread * self.noise), hash_of(name) % PERIOD)
        for start in range(0, count, PERIOD):
            yield tile[:min(PERIOD, count - start)]


def hash_of(name):
    value = 2166136261
    for byte in name.encode():  # FNV-1a
        value = (value ^ byte) * 16777619 % (1 << 32)
    return value


def write_shard(path, tensors, values, counts):
    """tensors: [(name, shape)]; counts: of values from each one's first, where it isn't all of zeros."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors:
        begin, end = end, end + 2 * int(numpy.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors:
            file.seek(8 + len(text) + header[name]["data_offsets"][0])
            for piece in values.pieces(name, shape, counts.get(name, 0)):
                file.write(piece)
        file.truncate(8 + len(text) + end)
    return end


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--blocks", type=int, required=True)
    parser.add_argument("--shape", default="70b", help="70b, or a JSON object of config.json's keys that replace the 70B's")
    parser.add_argument("--dense-blocks", type=int, default=1)
    parser.add_argument("--rows", type=int, default=2048, help="of embedding and head that have values")
    parser.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="copy the tokenizer from this folder")
    arguments = parser.parse_args()
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "torch_dtype": "bfloat16",
              "tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False, "bos_token_id": 1, "eos_token_id": 2,
              **SHAPE_70B, **({} if arguments.shape == "70b" else json.loads(arguments.shape)),
              "num_hidden_layers": arguments.blocks}
    vocabulary, hidden = config["vocab_size"], config["hidden_size"]
    ends = [("model.embed_tokens.weight", (vocabulary, hidden)), ("model.norm.weight", (hidden,)), ("lm_head.weight", (vocabulary, hidden))]
    blocks = [list(tensors_of_block(config, block)) for block in range(arguments.blocks)]
    shards = [ends] + [sum(blocks[first:first + BLOCKS_A_SHARD], []) for first in range(0, arguments.blocks, BLOCKS_A_SHARD)]
    counts = {name: min(arguments.rows, shape[0]) * shape[1] if len(shape) == 2 else shape[0] for name, shape in ends}
    for block, tensors in enumerate(blocks):
        counts.update({name: int(numpy.prod(shape)) for name, shape in tensors if len(shape) == 1 or block < arguments.dense_blocks})

    arguments.out.mkdir(parents=True, exist_ok=True)
    values, total, weight_map = Values(), 0, {}
    for index, tensors in enumerate(shards):
        file = f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors"
        total += write_shard(arguments.out / file, tensors, values, counts)
        weight_map.update({name: file for name, _ in tensors})
    (arguments.out / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=1))
    (arguments.out / "config.json").write_text(json.dumps(config, indent=1))
    for name in TOKENIZER_FILES if arguments.tokenizer else ():
        if (arguments.tokenizer / name).exists():
            shutil.copyfile(arguments.tokenizer / name, arguments.out / name)
    taken = sum(512 * os.stat(path).st_blocks for path in arguments.out.iterdir())
    print(f"{arguments.out.name}: {arguments.blocks} blocks, {total / 1e9:.1f} GB of weights, {taken / 1e9:.2f} GB on disk")


if __name__ == "__main__":
    main()
