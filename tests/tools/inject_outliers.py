"""Writes a copy of a Llama-like model with outlier channels that leave its function as it was.

    inject_outliers.py MODEL_FOLDER OUT_FOLDER [--channels 4] [--largest 64] [--seed 0] [--up-exponent 0]

In each block, some channels of what the attention and the MLP read are made 8, 16, ..., `largest` times larger: the norm's
weight is multiplied, the consumers' columns are divided. Factors are powers of two and tensors are stored as F32, so not a bit
of the logits changes. The same channels in every block, as in large language models. --up-exponent N multiplies all of up_proj
by 2^N and divides down_proj by it, which keeps the function, too, but not the weights within every type."""
import argparse
import json
import pathlib
import random
import shutil

import torch
from safetensors.torch import load_file, save_file

CONSUMERS = {
    "input_layernorm": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "post_attention_layernorm": ["mlp.gate_proj", "mlp.up_proj"],
}


def inject(tensors, layers, factors, up):
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        tensors[f"{prefix}mlp.up_proj.weight"] *= up
        tensors[f"{prefix}mlp.down_proj.weight"] /= up
        for norm, consumers in CONSUMERS.items():
            for channel, factor in factors.items():
                tensors[f"{prefix}{norm}.weight"][channel] *= factor
                for consumer in consumers:
                    tensors[f"{prefix}{consumer}.weight"][:, channel] /= factor


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--largest", type=int, default=64)
    parser.add_argument("--up-exponent", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    config = json.loads((args.model / "config.json").read_text())
    tensors = {name: tensor.float() for name, tensor in load_file(args.model / "model.safetensors").items()}
    sizes = [8 << step for step in range(args.largest.bit_length() - 3)]
    channels = random.Random(args.seed).sample(range(config["hidden_size"]), args.channels)
    inject(tensors, config["num_hidden_layers"], {channel: sizes[-1 - i % len(sizes)] for i, channel in enumerate(channels)},
           2.0**args.up_exponent)
    args.out.mkdir(parents=True)
    for file in args.model.iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            shutil.copy(file, args.out)
    config["dtype"] = "float32"
    config.pop("torch_dtype", None)
    (args.out / "config.json").write_text(json.dumps(config, indent=2))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, args.out / "model.safetensors", {"format": "pt"})


if __name__ == "__main__":
    main()
