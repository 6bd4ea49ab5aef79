"""hqq artefacts in their real consumer: the hqq library's HQQLinear in a transformers model, on the CPU, in FP32.

    hqq_logits.py LOGITS_PROGRAM REFERENCE_FOLDER FOLDER...

Of each folder: every linear that is packed there is replaced by an HQQLinear that loads the stored tensors (strictly: by the library's
own load_state_dict), the other tensors are the model's, and the logits equal those of Lathe's own forward pass (max |difference| / max
|logit| <= 1e-4) and differ from the floating-point model's; and the code of its model card gives a model with the same logits within
what its 16 bits cost. Prints one JSON line each.
"""

import json
import os
import pathlib
import sys

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # what the library compiles takes minutes to compile

import torch  # noqa: E402
import transformers  # noqa: E402
from card import load_by_card  # noqa: E402
from folder import stored_tensors  # noqa: E402
from hqq.core.quantize import HQQBackend, HQQLinear  # noqa: E402
from our_logits import our_logits  # noqa: E402

TOLERANCE = 1e-4
HALF = 5e-3


def load(reference, folder):
    """The reference's modules with what the folder holds."""
    model = transformers.AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32).eval()
    tensors = stored_tensors(folder)
    packed = sorted(name.removesuffix(".W_q") for name in tensors if name.endswith(".W_q"))
    for name in packed:
        layer = HQQLinear(None, None, compute_dtype=torch.float32, device="cpu")
        own = {key.removeprefix(name + "."): tensors.pop(key) for key in list(tensors) if key.startswith(name + ".")}
        layer.load_state_dict(own)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
    known = dict(model.named_parameters())
    for name, tensor in tensors.items():
        known[name].data.copy_(tensor)
    return model, packed


def main(program, reference, *folders):
    transformers.logging.disable_progress_bar()
    HQQLinear.set_backend(HQQBackend.PYTORCH)
    original = transformers.AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32).eval()
    ids = torch.randint(original.config.vocab_size, (3, 48), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        before = original(input_ids=ids).logits
        for folder in folders:
            model, packed = load(reference, folder)
            theirs = model(input_ids=ids).logits
            scale = theirs.abs().max()
            difference = float((torch.from_numpy(our_logits(program, folder, ids.tolist())) - theirs).abs().max() / scale)
            moved = float((theirs - before).abs().max() / scale)
            carded = load_by_card(folder)
            apart = float((carded(input_ids=ids).logits.float() - theirs).abs().max() / scale)
            replaced = sum(isinstance(module, HQQLinear) for module in carded.modules())
            print(json.dumps({"folder": pathlib.Path(folder).name, "quantised": len(packed), "relative_difference": difference,
                              "distance_to_reference": moved, "by_its_card": apart}), flush=True)
            assert replaced == len(packed) and apart <= HALF, f"{folder}: the card's code loads {replaced} linears, logits differ by {apart}"
            assert packed and torch.isfinite(theirs).all() and difference <= TOLERANCE, f"{folder}: logits differ by {difference}"
            assert moved > 10 * TOLERANCE, "the artefact computes what the reference does: nothing was quantised"


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
