"""A compressed-tensors artefact in its real consumer: transformers with compressed-tensors, on the CPU, in FP32.

    compressed_tensors_logits.py REFERENCE_FOLDER ARTEFACT_FOLDER LOGITS_PROGRAM [SHARE]

Checks that
  - the library's own QuantizationConfig accepts config.json and names the same linears as the stored tensors do,
  - the library unpacks every linear, and its codes and zero points fill the range that the scheme allows,
  - where the KV cache is quantised, every attention module rounds by the stored scales,
  - loading reports no missing, unexpected or mismatched tensor, and the modules really are quantised,
  - the logits equal those of Lathe's own forward pass (max |difference| / max |logit| <= 1e-4), and differ from the
    reference's, which they come from.
SHARE: of an artefact whose KV cache is rounded to FP8, the share of tokens that must agree so closely. Two FP32 forward passes differ
in the last bit, a value next to a tie then falls to the other side, and the tokens after it see another key.

Prints one JSON line. Exit code 77 where the libraries are not installed.
"""

import importlib.util
import json
import logging
import pathlib
import sys

for library in ("torch", "transformers", "safetensors", "compressed_tensors"):
    if importlib.util.find_spec(library) is None:
        print(f"skipped: {library} is not installed")
        sys.exit(77)

import torch  # noqa: E402
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32  # noqa: E402
from compressed_tensors.quantization import QuantizationConfig  # noqa: E402
from compressed_tensors.utils.match import is_match, match_targets  # noqa: E402
from our_logits import our_logits  # noqa: E402
from safetensors import safe_open  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

TOLERANCE = 1e-4
ROWS, CTX = 3, 48


def stored_tensors(folder):
    """name -> (dtype, shape) of every tensor, from headers."""
    found = {}
    for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():
                view = tensors.get_slice(name)
                assert name not in found, f"{name} is stored twice"
                found[name] = (view.get_dtype(), view.get_shape())
    return found


def parsed_config(folder):
    """The config as the library's pydantic model reads it; it forbids unknown keys inside groups."""
    raw = json.loads((pathlib.Path(folder) / "config.json").read_text())["quantization_config"]
    assert raw["quant_method"] == "compressed-tensors" and raw["format"] == "pack-quantized", raw
    return QuantizationConfig.model_validate(raw)


def scheme_by_module(config, model):
    """Which linear the library quantises, and how, by its own matching."""
    targets = {target: scheme for scheme in config.config_groups.values() for target in scheme.targets}
    schemes = {}
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear) or is_match(name, module, config.ignore or []):
            continue
        matched = match_targets(name, module, targets)
        if matched:
            schemes[name] = targets[matched[0]]
    return schemes


def token_rows(vocabulary):
    generator = torch.Generator().manual_seed(5)
    return torch.randint(vocabulary, (ROWS, CTX), generator=generator)


def load(folder):
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info.get(key), f"{folder}: {key}: {info[key]}"
    return model.eval()


def check_modules(model, schemes, stored):
    """Every linear that the config quantises is quantised in the loaded model and stored packed, and no other."""
    packed = {name.removesuffix(".weight_packed") for name in stored if name.endswith(".weight_packed")}
    assert packed == set(schemes), f"config and tensors disagree about {sorted(packed ^ set(schemes))}"
    assert packed, "nothing is quantised"
    for name, module in model.named_modules():
        scheme = getattr(module, "quantization_scheme", None)
        if f"{name}.k_scale" in stored:
            assert scheme is not None and hasattr(module, "k_scale"), f"{name}: its cache isn't quantised"
            continue
        assert (scheme is not None) == (name in packed), f"{name}: quantization_scheme is {scheme}"
        if scheme is not None:
            assert scheme.weights == schemes[name].weights, name
            assert stored[f"{name}.weight_shape"] == ("I64", [2]), name


def check_unpacked(folder, schemes):
    """The library's unpacking of our bytes: the smallest and the largest code of each width must occur."""
    files = {}  # a linear's tensors may stand in two shards
    for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            files |= {name: file for name in tensors.keys()}

    def read(name):
        with safe_open(files[name], "pt") as tensors:
            return tensors.get_tensor(name)

    seen = {}
    for name in (name for name in files if name.endswith(".weight_packed")):
        module = name.removesuffix(".weight_packed")
        bits = schemes[module].weights.num_bits
        codes = unpack_from_int32(read(name), bits, torch.Size(read(f"{module}.weight_shape").tolist()))
        low, high = seen.get(bits, (0, 0))
        seen[bits] = (min(low, codes.min().item()), max(high, codes.max().item()))
    for bits, (low, high) in seen.items():
        half = 1 << (bits - 1)
        assert low == -half and high == half - 1, f"{bits}-bit codes span only [{low}, {high}]"


def main(reference_folder, artefact_folder, program, share=None):
    logging.disable(logging.WARNING)
    config = parsed_config(artefact_folder)
    with torch.no_grad():
        reference = load(reference_folder)
        model = load(artefact_folder)
        schemes = scheme_by_module(config, reference)
        check_modules(model, schemes, stored_tensors(artefact_folder))
        check_unpacked(artefact_folder, schemes)
        ids = token_rows(reference.config.vocab_size)
        theirs, original = model(input_ids=ids).logits, reference(input_ids=ids).logits
    ours = torch.from_numpy(our_logits(program, artefact_folder, ids.tolist()))
    scale = theirs.abs().max()
    difference = ((ours - theirs).abs().max() / scale).item()
    moved = ((theirs - original).abs().max() / scale).item()
    print(json.dumps({"artefact": str(artefact_folder), "quantised": len(schemes), "relative_difference": difference,
                      "distance_to_reference": moved}))
    if share is not None:
        agreeing = float((((ours - theirs).abs().amax(-1) / scale) <= TOLERANCE).float().mean())
        print(json.dumps({"tokens_that_agree": agreeing}))
        assert agreeing >= float(share) and difference < 0.1 * moved, f"only {agreeing:.0%} of the tokens agree; they differ by {difference}"
        return
    assert torch.isfinite(theirs).all() and difference <= TOLERANCE, f"logits differ by {difference}"
    assert moved > 10 * TOLERANCE, "the artefact computes what the reference does: nothing was quantised"


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:])
