"""SpQR artefacts in their real consumer: spqr_quant's QuantizedLinear, filled as its loader fills it, on the CPU.

    spqr_logits.py LOGITS_PROGRAM DEQUANTIZE_PROGRAM REFERENCE_FOLDER FOLDER...

Its kernel needs a GPU; its placeholder, its load_state_dict and its dequantiser don't (tests/tools/spqr_host.py builds that part).
Of each folder:
  - transformers' SpQRConfig takes config.json, and its rule about modules_to_not_convert names the linears that are packed;
  - placeholders of the shapes in config.json take the stored tensors (strictly), and no other tensor is left over;
  - what the library dequantises, columns put back by in_perm, equals Lathe's weights within what FP16 costs: the library rounds scales,
    zeros and values to it, so a value of s (q - z) is off by a few 2^-11 of |s| (q + |z|);
  - a model of the library's weights has the logits of Lathe's own forward pass (max |difference| / max |logit| <= 2e-3), and others than
    the reference's.
  - the code of its model card puts the same linears into a model.
transformers' own loader is broken in two places, which is checked, so that a version that loads is seen here. Prints one JSON line each.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from card import load_by_card
from folder import stored_tensors
from our_logits import our_logits
from transformers.quantizers.quantizer_spqr import replace_with_spqr_linear
from transformers.quantizers.quantizers_utils import should_convert_module

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from spqr_host import host_part  # noqa: E402

LOGITS = 2e-3
PARTS = ("dense_weights", "row_offsets", "col_vals", "in_perm")


def open_model(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def packed_linears(folder, model, library):
    """name -> QuantizedLinear with the folder's tensors; and what else the folder holds."""
    raw = json.loads((pathlib.Path(folder) / "config.json").read_text())["quantization_config"]
    assert raw.pop("quant_method") == "spqr", raw
    config, tensors, linears = transformers.SpQRConfig(**raw), stored_tensors(folder), {}
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear) or not should_convert_module(name, config.modules_to_not_convert):
            continue
        shapes = {f"{part}_shape": config.shapes[f"{name}.{part}.shape"] for part in PARTS}
        linear = library.QuantizedLinear.create_placehodler(module.out_features, module.in_features, config.bits, config.beta1,
                                                            config.beta2, **shapes)
        linear.load_state_dict({part: tensors.pop(f"{name}.{part}") for part in PARTS})
        linears[name] = linear
    left = [name for name in tensors if name.endswith(PARTS)]
    assert linears and not left, f"{folder}: {left[:4]} belong to no linear that the library would load"
    return linears, tensors, config


def columns(linear):
    """Which input stands at each place."""
    pairs = linear.in_perm.data.numpy().view("uint16")
    return torch.from_numpy(pairs.astype("int64"))


def their_weight(linear):
    weight = torch.empty(linear.m, linear.n)
    weight[:, columns(linear)] = linear.dequantize().float()
    return weight


def check_weight(name, theirs, ours):
    """Returns the largest difference by the largest weight of its row, in units of FP16's 2^-11."""
    row = ours.abs().amax(1, keepdim=True)
    apart = float(((theirs - ours).abs() / row).max() * 2**11)
    assert torch.isfinite(theirs).all() and apart <= 8, f"{name}: weights differ by {apart:.1f} x 2^-11 of the row's largest"
    return apart


def our_weights(program, folder):
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([program, str(folder), f"{scratch}/dense"], check=True)
        return stored_tensors(f"{scratch}/dense")


def check_card(folder, library, linears, others):
    """What the card's code loads is what was loaded here; its forward pass needs a GPU."""
    model = load_by_card(folder)
    found = {name: module for name, module in model.named_modules() if isinstance(module, library.QuantizedLinear)}
    assert found.keys() == linears.keys(), f"{folder}: the card's code loads {len(found)} linears of {len(linears)}"
    for name, linear in linears.items():
        assert torch.equal(their_weight(found[name]), their_weight(linear)), f"{name}: the card's code loads another weight"
    for name, tensor in others.items():
        assert torch.equal(model.get_parameter(name).data, tensor.half()), f"{name}: not what the card's code loads"


def check_loader_is_broken(reference, library, config):
    """The card of an artefact says so; a version that loads is to be tested as it is."""
    for alias, error in ((None, AttributeError), (library.QuantizedLinear.create_placehodler, KeyError)):
        if alias is not None:
            library.QuantizedLinear.create_placeholder = staticmethod(alias)
        try:
            replace_with_spqr_linear(open_model(reference), config.modules_to_not_convert, config)
        except error as found:
            print(json.dumps({"transformers": type(found).__name__, "says": str(found)[:120]}), flush=True)
            continue
        raise AssertionError(f"transformers' loader no longer raises {error.__name__}: load artefacts with it here")


def main(program, dequantize, reference, *folders):
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    library, original = host_part(), open_model(reference)
    ids = torch.randint(original.config.vocab_size, (3, 48), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        before = original(input_ids=ids).logits
        for folder in folders:
            model = open_model(reference)
            linears, others, config = packed_linears(folder, model, library)
            check_card(folder, library, linears, others)
            ours, apart = our_weights(dequantize, folder), 0.0
            for name, linear in linears.items():
                weight = their_weight(linear)
                apart = max(apart, check_weight(name, weight, ours[f"{name}.weight"]))
                model.get_parameter(f"{name}.weight").data.copy_(weight)
            for name, tensor in others.items():
                model.get_parameter(name).data.copy_(tensor)
            theirs = model(input_ids=ids).logits
            scale = theirs.abs().max()
            difference = float((torch.from_numpy(our_logits(program, folder, ids.tolist())) - theirs).abs().max() / scale)
            moved = float((theirs - before).abs().max() / scale)
            print(json.dumps({"folder": pathlib.Path(folder).name, "quantised": len(linears), "weights_apart": apart,
                              "relative_difference": difference, "distance_to_reference": moved}), flush=True)
            assert torch.isfinite(theirs).all() and difference <= LOGITS, f"{folder}: logits differ by {difference}"
            assert moved > 10 * LOGITS, "the artefact computes what the reference does: nothing was quantised"
    check_loader_is_broken(reference, library, config)


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
