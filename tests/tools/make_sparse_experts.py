"""A checkpoint of Qwen3-235B's shape in headers alone: a mixture of 128 experts a block, its weights a hole in the file.

    make_sparse_experts.py OUT --blocks 94 --tokenizer data/models/lathe-tiny

For plans and advice, which read headers. The vocabulary is the tokenizer's, so that data can be read with it.
"""
import argparse
import json
import shutil
from pathlib import Path

CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_act": "silu", "torch_dtype": "bfloat16",
    "hidden_size": 4096, "intermediate_size": 12288, "moe_intermediate_size": 1536, "num_attention_heads": 64,
    "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 4096, "num_experts": 128, "num_experts_per_tok": 8,
    "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [], "rms_norm_eps": 1e-6, "rope_theta": 1e6,
    "max_position_embeddings": 40960, "tie_word_embeddings": False,
}


def tensors(blocks):
    hidden, head = CONFIG["hidden_size"], CONFIG["head_dim"]
    queries, keys = CONFIG["num_attention_heads"] * head, CONFIG["num_key_value_heads"] * head
    wide, experts = CONFIG["moe_intermediate_size"], CONFIG["num_experts"]
    yield "model.embed_tokens.weight", (CONFIG["vocab_size"], hidden)
    yield "lm_head.weight", (CONFIG["vocab_size"], hidden)
    yield "model.norm.weight", (hidden,)
    for block in range(blocks):
        prefix = f"model.layers.{block}."
        for name, shape in {"self_attn.q_proj": (queries, hidden), "self_attn.k_proj": (keys, hidden), "self_attn.v_proj": (keys, hidden),
                            "self_attn.o_proj": (hidden, queries), "self_attn.q_norm": (head,), "self_attn.k_norm": (head,),
                            "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,), "mlp.gate": (experts, hidden)}.items():
            yield f"{prefix}{name}.weight", shape
        for expert in range(experts):
            for name, shape in {"gate_proj": (wide, hidden), "up_proj": (wide, hidden), "down_proj": (hidden, wide)}.items():
                yield f"{prefix}mlp.experts.{expert}.{name}.weight", shape


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--blocks", type=int, required=True)
    parser.add_argument("--tokenizer", type=Path, metavar="FOLDER", required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    header, end = {}, 0
    for name, shape in tensors(arguments.blocks):
        begin, end = end, end + 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(arguments.out / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    (arguments.out / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": arguments.blocks}, indent=1))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(arguments.tokenizer / name, arguments.out / name)
    print(f"{arguments.out.name}: {arguments.blocks} blocks, {end / 1e9:.1f} GB of weights, none on disk")


if __name__ == "__main__":
    main()
