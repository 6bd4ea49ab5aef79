"""FP8 checkpoints (quant_method fp8) as transformers decodes them: the same weights, and so the same logits.

    fp8_input.py FP8_FOLDER PLAIN_FOLDER LOGITS_PROGRAM

PLAIN_FOLDER: what tests/tools/dequantize.cc made of the first, by Lathe's reader. Each weight must be, bit for bit, what transformers'
Fp8Dequantize makes of the stored tensors (which FineGrainedFP8Config(dequantize=True) runs while it loads); the logits of transformers' model
with these weights must be those of Lathe's forward pass (max |difference| / max |logit| <= 1e-4). Prints one JSON line. Exit code 77
where transformers isn't installed or is too old.
"""

import json
import pathlib
import sys

try:
    import torch
    import transformers
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

from our_logits import our_logits
from safetensors.torch import load_file

TOLERANCE = 1e-4


def decoded(folder):
    stored = load_file(pathlib.Path(folder) / "model.safetensors")
    decoder, weights = Fp8Dequantize(None), {}
    for name, tensor in stored.items():
        if name.endswith(("_scale_inv", "_scale")):
            continue
        if tensor.dtype == torch.float8_e4m3fn:
            module = name.removesuffix("weight")
            scales = stored.get(module + "weight_scale_inv", stored.get(module + "weight_scale"))
            tensor = decoder._dequantize_one(tensor, scales, torch.float32)
        weights[name] = tensor.float()
    return weights


def main(folder, plain, program):
    theirs, ours = decoded(folder), load_file(pathlib.Path(plain) / "model.safetensors")
    assert theirs.keys() == ours.keys(), sorted(theirs.keys() ^ ours.keys())
    for name, tensor in theirs.items():
        assert torch.equal(tensor, ours[name]), f"{name}: other values"
    config = transformers.AutoConfig.from_pretrained(plain)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    missing = model.load_state_dict(theirs, strict=False)
    assert not missing.unexpected_keys and set(missing.missing_keys) <= {"lm_head.weight"}, missing
    model.tie_weights()
    rows = torch.randint(config.vocab_size, (3, 48), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = model.eval()(rows).logits
    found = torch.from_numpy(our_logits(program, plain, rows.tolist()))
    difference = float((found - expected).abs().max() / expected.abs().max())
    print(json.dumps({"weights": len(theirs), "difference": difference}))
    assert difference <= TOLERANCE, difference


main(*sys.argv[1:])
