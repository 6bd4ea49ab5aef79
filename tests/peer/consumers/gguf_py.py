"""A GGUF file in gguf-py, and its weights in transformers, on the CPU, in FP32.

    gguf_py.py REFERENCE_FOLDER GGUF_FILE LOGITS_PROGRAM

gguf-py reads every key and dequantises every tensor; its own map of names says which parameter of the reference's architecture each
is. With the rows of q and k of llama and mistral put back and 1 taken from Gemma's norms, transformers' model computes the logits of
Lathe's forward pass on the file (max |difference| / max |logit| <= 1e-4). Prints one JSON line.
"""

import json
import pathlib
import sys

import gguf
import numpy
import torch
import transformers
from our_logits import our_logits

TOLERANCE = 1e-4


def read_all(file):
    """The file's architecture, and its tensors as FP32 by name; how many of each type."""
    reader = gguf.GGUFReader(file)
    for field in reader.fields.values():
        field.contents()
    types, tensors = {}, {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert numpy.isfinite(values).all(), tensor.name
        tensors[tensor.name] = torch.from_numpy(numpy.array(values, dtype=numpy.float32))
        types[tensor.tensor_type.name] = types.get(tensor.tensor_type.name, 0) + 1
    return reader.fields["general.architecture"].contents(), tensors, types


def fill(model, architecture, tensors):
    """Gives every parameter its tensor."""
    arch = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    config = model.config
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    used = {"rope_freqs.weight"}

    def take(stored):
        used.add(stored)
        return tensors[stored]

    for name, parameter in model.named_parameters():
        block = f"blk.{name.split('.')[2]}." if ".layers." in name else ""
        if name.endswith("experts.gate_up_proj"):  # transformers 5 has all experts of a block in one, gate's rows first
            value = torch.cat([take(block + "ffn_gate_exps.weight"), take(block + "ffn_up_exps.weight")], dim=1)
        elif name.endswith("experts.down_proj"):
            value = take(block + "ffn_down_exps.weight")
        else:
            value = take(names.get_name(name, try_suffixes=(".weight", ".bias"))).reshape(parameter.shape)
        assert value.shape == parameter.shape, f"{name}: {value.shape} in the file, {parameter.shape} expected"
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        if architecture == "llama" and heads:
            value = value.reshape(heads, value.shape[0] // heads // 2, 2, *value.shape[1:]).swapaxes(1, 2).reshape(value.shape)
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            value = value - 1
        parameter.data.copy_(value)
    assert not tensors.keys() - used, f"tensors that nothing reads: {tensors.keys() - used}"


def main(reference, file, program):
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    architecture, tensors, types = read_all(file)
    path = pathlib.Path(file)
    model = transformers.AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        fill(model, architecture, tensors)
    vocabulary = json.loads((pathlib.Path(reference) / "config.json").read_text())["vocab_size"]
    ids = torch.randint(vocabulary, (3, 48), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        theirs = model.eval()(input_ids=ids).logits
    difference = float((torch.from_numpy(our_logits(program, file, ids.tolist())) - theirs).abs().max() / theirs.abs().max())
    moved = float((torch.from_numpy(our_logits(program, reference, ids.tolist())) - theirs).abs().max() / theirs.abs().max())
    print(json.dumps({"file": path.name, "types": types, "relative_difference": difference, "distance_to_reference": moved}))
    assert torch.isfinite(theirs).all() and difference <= TOLERANCE, f"logits differ by {difference}"


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
