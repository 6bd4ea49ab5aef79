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
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

import numpy as np
import torch
import transformers
from make_checkpoint import make_checkpoint

TOLERANCE = 1e-4
LENGTH = 48  # tokens a row of the random cases
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
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


def without(*keys):
    return lambda config: {key: value for key, value in config.items() if key not in keys}


# name, family, config keys, edit of config.json
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
    ("llama, bfloat16 weights", "llama", {}, "bfloat16"),
    ("llama, float32 weights", "llama", {}, "float32"),
]


def our_logits(program, folder, ids, scratch):
    (scratch / "ids.json").write_text(json.dumps(ids.tolist()))
    (scratch / "out.f32").unlink(missing_ok=True)
    result = subprocess.run([program, folder, scratch / "ids.json", scratch / "out.f32"], capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(result.stderr.strip() or f"exit code {result.returncode}")
    return torch.from_numpy(np.fromfile(scratch / "out.f32", dtype=np.float32)).view(*ids.shape, -1)


def their_logits(folder, ids):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
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
        difference = relative_difference(our_logits(program, folder, ids, scratch), theirs)
    seen = difference > 100 * TOLERANCE
    print(f"{'ok  ' if seen else 'FAIL'}  {difference:.2e}  control: a window of 12 is not one of 11", flush=True)
    return seen


def relative_difference(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())


def compare(program, name, folder, length, scratch):
    """Prints the case's line; True where it passes."""
    vocab = json.loads((Path(folder) / "config.json").read_text())["vocab_size"]
    ids = torch.randint(0, vocab, (2, length), generator=torch.Generator().manual_seed(1))
    try:
        ours, theirs = our_logits(program, folder, ids, scratch), their_logits(folder, ids)
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
        dtype = edit if isinstance(edit, str) else "float16"
        make_checkpoint(folder, family, overrides, dtype=dtype)
        if callable(edit):
            path = Path(folder) / "config.json"
            path.write_text(json.dumps(edit(json.loads(path.read_text()))))
        return compare(program, name, folder, LENGTH, scratch)


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
                results.append(compare(arguments.program, folder.name, folder, 256, Path(scratch)))
    print(f"{sum(results)} of {len(results)} cases agree within {TOLERANCE:g}")
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
