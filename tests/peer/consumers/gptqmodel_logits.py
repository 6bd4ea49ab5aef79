"""GPTQ and AWQ artefacts in their real consumers: GPTQModel, and transformers through it, on the CPU, in FP32.

    gptqmodel_logits.py LOGITS_PROGRAM REFERENCE_FOLDER CONSUMER:FOLDER...      (CONSUMER: gptqmodel or transformers)

Of each folder: loading reports nothing missing or unexpected, the packed linears are those that the folder holds, and the logits
equal those of Lathe's own forward pass (max |difference| / max |logit| <= 1e-4, AWQ 1e-3) and differ from the floating-point model's.
Prints one JSON line each.
"""

import json
import os
import pathlib
import sys

os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # it wants two, and a small machine has fewer

import torch  # noqa: E402
import transformers  # noqa: E402
from gptqmodel import BACKEND, GPTQModel  # noqa: E402
from our_logits import our_logits  # noqa: E402
from safetensors import safe_open  # noqa: E402

TOLERANCE = 1e-4
TOLERANCE_AWQ = 1e-3  # AwqTorchLinear dequantises to FP16 whatever it computes in: products of 11 bits


def packed_linears(folder):
    names = set()
    for file in pathlib.Path(folder).glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            names |= {name.removesuffix(".qweight") for name in tensors.keys() if name.endswith(".qweight")}
    return names


def load(consumer, folder):
    method = json.loads((pathlib.Path(folder) / "config.json").read_text()).get("quantization_config", {})
    if consumer == "gptqmodel":
        backend = BACKEND.GPTQ_TORCH if method["quant_method"] == "gptq" else BACKEND.AWQ_TORCH
        return GPTQModel.load(str(folder), backend=backend, device="cpu", dtype=torch.float16).model
    options = {}
    if method:  # its plain kernel: the others are compiled first, which takes minutes, or don't compute in FP32
        gptq = method["quant_method"] == "gptq"
        kind, backend = (transformers.GPTQConfig, "torch") if gptq else (transformers.AwqConfig, "torch_awq")
        options["quantization_config"] = kind(bits=method["bits"], backend=backend)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float16, device_map="cpu", output_loading_info=True, **options)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info.get(key), f"{folder}: {key}: {info[key]}"
    return model


def logits_of(model, ids):
    with torch.no_grad():
        return torch.nn.Module.float(model).eval()(input_ids=ids).logits  # transformers refuses model.float()


def check(consumer, folder, program, ids, original):
    model = load(consumer, folder)
    quantised = {name for name, module in model.named_modules() if hasattr(module, "qweight")}
    assert quantised == packed_linears(folder), f"{folder}: loaded otherwise: {sorted(quantised ^ packed_linears(folder))}"
    kernels = sorted({type(module).__name__ for module in model.modules() if hasattr(module, "qweight")})
    theirs = logits_of(model, ids)
    scale = theirs.abs().max()
    difference = float((torch.from_numpy(our_logits(program, folder, ids.tolist())) - theirs).abs().max() / scale)
    moved = float((theirs - original).abs().max() / scale)
    tolerance = TOLERANCE_AWQ if any("Awq" in kernel for kernel in kernels) else TOLERANCE
    print(json.dumps({"consumer": consumer, "folder": "/".join(pathlib.Path(folder).parts[-2:]), "quantised": len(quantised), "kernels": kernels,
                      "relative_difference": difference, "distance_to_reference": moved}), flush=True)
    assert torch.isfinite(theirs).all() and difference <= tolerance, f"{consumer}, {folder}: logits differ by {difference}"
    assert moved > 10 * tolerance, "the artefact computes what the reference does: nothing was quantised"


def main(program, reference, *cases):
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = load("transformers", reference)
    ids = torch.randint(model.config.vocab_size, (3, 48), generator=torch.Generator().manual_seed(5))
    original = logits_of(model, ids)
    for case in cases:
        consumer, folder = case.split(":", 1)
        check(consumer, folder, program, ids, original)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
