"""An artefact with rotated inputs under compressed-tensors' own transforms, on the CPU, in FP32.

    rotation.py REFERENCE_FOLDER ARTEFACT_FOLDER LOGITS_PROGRAM [SHARE]

Checks that
  - the library's TransformConfig accepts what config.json says, and dumps the same again,
  - each matrix beside a linear is the library's deterministic_hadamard_matrix,
  - the library's transforms, applied to the unquantised model, leave its logits as they were, and make of its weights what the
    artefact's are nearest to,
  - transformers loads the artefact and reads past transform_config (a version that applies it: drop the warning of
    formats/targets/compressed_tensors.cc and the verdict of formats/consumers/consumers.cc),
  - with the online half of the config applied by the library, the logits equal those of Lathe's own forward pass.
SHARE: as in same_logits.py. Prints one JSON line.
"""

import json
import pathlib
import sys

import torch
import transformers
from compressed_tensors.transform import TransformConfig, apply_transform_config
from compressed_tensors.transform.utils.hadamard import deterministic_hadamard_matrix
from our_logits import our_logits
from safetensors import safe_open
from same_logits import TOLERANCE, check_share, decode_in_fp32, in_blocks

SUFFIX = ".hadamard_input.weight"


def load(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    for key in ("missing_keys", "mismatched_keys", "error_msgs"):
        assert not info.get(key), f"{folder}: {key}: {info[key]}"
    if in_blocks(folder):
        decode_in_fp32(model)
    elif getattr(model, "hf_quantizer", None) is not None:
        model.hf_quantizer.compressor.decompress_model(model)
    return model.eval(), set(info["unexpected_keys"])


def stored_matrices(folder):
    found = {}
    for file in pathlib.Path(folder).glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            found |= {name: tensors.get_tensor(name) for name in tensors.keys() if name.endswith(SUFFIX)}
    return found


def config_of(folder):
    raw = json.loads((pathlib.Path(folder) / "config.json").read_text())["quantization_config"]["transform_config"]
    config = TransformConfig.model_validate(raw)
    assert json.loads(config.model_dump_json()) == raw, f"the library dumps {config.model_dump_json()}, not {raw}"
    return config


def online(config):
    config = config.model_copy(deep=True)
    for scheme in config.config_groups.values():
        scheme.apply = [args for args in scheme.apply if args.is_online()]
    return config


def check_weights(rotated, original, model, linears):
    """Of all linears: the artefact's weight is the rotated one's rounding."""
    for name in linears:
        stored, weight = model.get_submodule(name).weight, rotated.get_submodule(name).weight
        near, far = (float((stored - w).norm() / w.norm()) for w in (weight, original[name]))
        assert near < 0.3 < far, f"{name}: {near} from the library's rotated weight, {far} from the original"


def main(reference_folder, artefact_folder, program, share=None):
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    config, matrices = config_of(artefact_folder), stored_matrices(artefact_folder)
    block = config.config_groups["hadamard"].head_dim
    expected = deterministic_hadamard_matrix(block, torch.float32)
    linears = {name.removesuffix(SUFFIX) for name in matrices}
    assert linears and all(torch.equal(matrix.float(), expected) for matrix in matrices.values()), "other matrices"
    with torch.no_grad():
        reference, _ = load(reference_folder)
        ids = torch.randint(reference.config.vocab_size, (3, 48), generator=torch.Generator().manual_seed(5))
        logits = lambda model: model(input_ids=ids, use_cache=False).logits  # noqa: E731
        original = logits(reference)
        weights = {name: reference.get_submodule(name).weight.clone() for name in linears}
        scale = original.abs().max()
        apply_transform_config(reference, config)
        kept = float((logits(reference) - original).abs().max() / scale)
        assert kept <= TOLERANCE, f"the library's transforms move the model's logits by {kept}"
        model, unexpected = load(artefact_folder)
        assert unexpected == set(matrices), f"unexpected: {unexpected ^ set(matrices)}"
        check_weights(reference, weights, model, linears)
        without = logits(model)
        apply_transform_config(model, online(config))
        theirs = logits(model)
    ours = torch.from_numpy(our_logits(program, artefact_folder, ids.tolist()))
    difference, moved, forgotten = (float((a - b).abs().max() / scale) for a, b in ((ours, theirs), (theirs, original), (without, theirs)))
    print(json.dumps({"block": block, "linears": len(linears), "relative_difference": difference, "distance_to_reference": moved,
                      "without_rotation": forgotten, "unquantised": kept}))
    assert forgotten > 2 * moved, "transformers rotates by itself"
    if share is not None:
        return check_share(ours, theirs, original, float(share))
    assert difference <= TOLERANCE, f"logits differ by {difference}"
    assert moved > 10 * TOLERANCE, "the artefact computes what the reference does: nothing was quantised"


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:])
