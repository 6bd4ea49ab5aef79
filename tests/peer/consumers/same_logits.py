"""An artefact of any family in its real consumer: transformers with compressed-tensors, on the CPU, in FP32.

    same_logits.py REFERENCE_FOLDER ARTEFACT_FOLDER LOGITS_PROGRAM

Loading must report no missing, unexpected or mismatched tensor, and the logits must equal those of Lathe's own forward
pass (max |difference| / max |logit| <= 1e-4), and differ from the reference's. What sees images must be as it was. Prints one JSON line.

Experts are stacked and dequantised by transformers while it loads, in the type of their scales (F16), whatever type the
model was asked for: their products with the scales are rounded to 11 bits, which makes the bound 2e-3 there.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

# compressed_tensors.py beside this file has the name of the library: its folder must not be searched first.
sys.path[:] = [path for path in sys.path if pathlib.Path(path or ".").resolve() != pathlib.Path(__file__).resolve().parent]

import torch  # noqa: E402
import transformers  # noqa: E402

TOLERANCE = 1e-4
TOLERANCE_OF_EXPERTS = 2e-3


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
    for parameter in model.parameters():  # router and experts keep the type that they were stored in
        if parameter.dtype == torch.float16:
            parameter.data = parameter.data.float()
    return model.eval()


def our_logits(program, folder, ids):
    with tempfile.TemporaryDirectory() as scratch:
        rows, out = pathlib.Path(scratch) / "ids.json", pathlib.Path(scratch) / "logits.f32"
        rows.write_text(json.dumps(ids.tolist()))
        subprocess.run([program, str(folder), str(rows), str(out)], check=True)
        return torch.frombuffer(bytearray(out.read_bytes()), dtype=torch.float32).view(*ids.shape, -1)


def main(reference_folder, artefact_folder, program):
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
    difference = float((our_logits(program, artefact_folder, ids) - theirs).abs().max() / scale)
    moved = float((theirs - original).abs().max() / scale)
    print(json.dumps({"family": reference.config.model_type, "relative_difference": difference, "distance_to_reference": moved}))
    tolerance = TOLERANCE_OF_EXPERTS if any("experts" in name for name, _ in model.named_parameters()) else TOLERANCE
    assert difference <= tolerance, f"logits differ by {difference}"
    assert moved > 10 * tolerance, "the artefact computes what the reference does: nothing was quantised"


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
