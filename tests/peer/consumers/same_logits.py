"""An artefact of any family in its real consumer: transformers with compressed-tensors, on the CPU, in FP32.

    same_logits.py REFERENCE_FOLDER ARTEFACT_FOLDER LOGITS_PROGRAM [SHARE]

Loading must report no missing, unexpected or mismatched tensor, and the logits must equal those of Lathe's own forward
pass (max |difference| / max |logit| <= 1e-4), and differ from the reference's. What sees images must be as it was. Prints one JSON line.

Experts are stacked and dequantised by transformers while it loads, in the type of their scales (F16), whatever type the
model was asked for: their products with the scales are rounded to 11 bits, which makes the bound 2e-3 there.

FP4 weights are decoded by compressed-tensors to BF16, whatever type the model was asked for, which would round NVFP4's products of
scales to 8 bits and with them turn every activation's code: here its decoder runs in FP32.

SHARE: of an artefact whose activations are rounded dynamically, the share of tokens that must agree. Two FP32 forward passes
differ in the last bit, a value next to a tie then falls to the other side, and all that follows is rounded differently. (Ties
are no accident: under a symmetric grid a token's largest magnitude stands at 127.5 steps, and -127.5 is one.) Tokens without such
a value agree as closely as without rounding; under another step or zero point none would.
"""

import functools
import json
import pathlib
import sys

import torch
import transformers
from our_logits import our_logits

TOLERANCE = 1e-4
TOLERANCE_OF_EXPERTS = 2e-3


def in_blocks(folder):
    """NVFP4, MXFP4 or MXFP8."""
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    return any(name in config.get("quantization_config", {}).get("format", "") for name in ("nvfp4", "mxfp4", "mxfp8"))


def decode_in_fp32(model):
    from compressed_tensors.compressors.nvfp4 import base
    base.unpack_fp4_from_uint8 = functools.partial(base.unpack_fp4_from_uint8, dtype=torch.float32)
    model.hf_quantizer.compressor.decompress_model(model)
    for parameter in model.parameters():
        parameter.data = parameter.data.float()


def load(folder):
    # eager: transformers' fused attention leaves out the soft cap on scores.
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info.get(key), f"{folder}: {key}: {info[key]}"
    scale = getattr(model.get_input_embeddings(), "embed_scale", None)
    if scale is not None:  # Gemma: rounded to the checkpoint's type
        config = json.loads((pathlib.Path(folder) / "config.json").read_text())
        scale.copy_(scale.to(getattr(torch, config["dtype"])))
    if in_blocks(folder):
        decode_in_fp32(model)
    for parameter in model.parameters():  # router and experts keep the type that they were stored in
        if parameter.dtype == torch.float16:
            parameter.data = parameter.data.float()
    return model.eval()


def check_share(ours, theirs, original, share):
    scale = theirs.abs().max()
    difference = (ours - theirs).abs().amax(-1) / scale
    agreeing = float((difference <= TOLERANCE).float().mean())
    # What differs is part of the rounding error, which separates both from the original.
    apart = float(((ours - theirs).square().mean() / (theirs - original).square().mean()).sqrt())
    print(json.dumps({"tokens_that_agree": agreeing, "rms_of_the_rest_against_the_rounding": apart}))
    assert agreeing >= share, f"only {agreeing:.0%} of the tokens agree"
    assert apart < 0.75, f"logits are {apart:.2f} times as far apart as both from the original"


def main(reference_folder, artefact_folder, program, share=None):
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with torch.no_grad():
        reference, model = load(reference_folder), load(artefact_folder)
        ids = torch.randint(reference.config.get_text_config().vocab_size, (3, 48), generator=torch.Generator().manual_seed(5))
        theirs, original = (m(input_ids=ids, use_cache=False).logits for m in (model, reference))
    for name, parameter in reference.named_parameters():
        if "vision_tower" in name or "multi_modal_projector" in name:
            assert torch.equal(model.get_parameter(name), parameter), f"{name} has changed"
    scale = theirs.abs().max()
    ours = torch.from_numpy(our_logits(program, artefact_folder, ids.tolist()))
    if share is not None:
        return check_share(ours, theirs, original, float(share))
    difference = float((ours - theirs).abs().max() / scale)
    moved = float((theirs - original).abs().max() / scale)
    print(json.dumps({"family": reference.config.model_type, "relative_difference": difference, "distance_to_reference": moved}))
    tolerance = TOLERANCE_OF_EXPERTS if any("experts" in name for name, _ in model.named_parameters()) else TOLERANCE
    assert difference <= tolerance, f"logits differ by {difference}"
    assert moved > 10 * tolerance, "the artefact computes what the reference does: nothing was quantised"


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:])
