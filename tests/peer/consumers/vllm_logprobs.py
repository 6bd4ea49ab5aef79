"""Artefacts in vLLM's CPU build, which computes packed weights in FP16.

    vllm_logprobs.py LOGITS_PROGRAM REFERENCE_FOLDER CASE...    (loads:FOLDER, rounds:FOLDER, rotates:FOLDER, agrees:FOLDER, same:OTHER:FOLDER, cache:FOLDER,
                                                                refuses:TEXT:FOLDER)

Folders that load give prompt log-probabilities like Lathe's own forward pass: mean |difference| <= 5e-3 nats, which is what FP16
costs (the floating-point model in FP16 differs by 2e-3), and a tenth at most of the distance to the floating-point model's.
Folders that round activations, too, have their own bound: vLLM rounds what it computed in FP16, and each token by max|x| / 127 where
Lathe and compressed-tensors take max|x| / 127.5, so its rounding errors are others of the same size. They are no further apart than two
such, and even out over the tokens (a wrong scale would be seen in both).
Rotated inputs are rotated by a kernel of CUDA's (hadacore), in whose place stands a product with the matrix; all else is vLLM's: what its
transform_config is taken for, which linears it rotates, in which blocks, what it loads.
Where vLLM has a kernel in FP32 that rounds activations as Lathe does (FP8 per token), it is asked for that: then half of the tokens agree
closely, and the rest are those that a last bit turns (in FP16, which moves every input by 2^-11, none would, and they differ by 0.06 nats).
Formats that vLLM computes in FP16 only are held to another artefact of the same run (same), whose numbers are the same in FP32.
Those with a KV cache in FP8 make vLLM keep its cache so, by the stored scales, which are compared number by number. Its CPU kernel
cuts numbers off where E4M3's nearest is meant, which cut_off() sees, so that its errors are twice as large and one-sided (in a cache
of FP16 the same folder's log-probabilities differ by 2e-3): those have a wide bound.
The others must be refused by vLLM, in loading or in the first forward pass, in words that hold TEXT: a version that says something else
may read them. Prints one JSON line each.
"""

import json
import os
import pathlib
import sys

for key, value in {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}.items():
    os.environ.setdefault(key, value)

import torch  # noqa: E402
import vllm._custom_ops  # noqa: E402
from compressed_tensors.transform.utils.hadamard import deterministic_hadamard_matrix  # noqa: E402
from our_logits import our_logits  # noqa: E402
from safetensors import safe_open  # noqa: E402
from vllm import LLM, SamplingParams  # noqa: E402

TOLERANCE = 5e-3
ROUNDED = 0.1  # and 1.5 times the distance to the floating-point model: sqrt(2) where all of that is errors of activations
EVEN = 1e-2  # of means over all tokens
CLOSE, SHARE = 1e-3, 0.3  # of those in FP32
SAME = 1e-5
ROWS, CTX = 3, 48


def open_model(folder, dtype="float16"):
    return LLM(str(folder), enforce_eager=True, max_model_len=CTX + 8, dtype=dtype, seed=0)


def their_logprobs(model, ids):
    prompts = [{"prompt_token_ids": row.tolist()} for row in ids]
    results = model.generate(prompts, SamplingParams(max_tokens=1, prompt_logprobs=0, temperature=0))
    return torch.tensor([[place[token].logprob for token, place in zip(row.prompt_token_ids[1:], row.prompt_logprobs[1:])]
                         for row in results])


def our_logprobs(program, folder, ids):
    logits = torch.from_numpy(our_logits(program, folder, ids.tolist()))
    return logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]


def name_of(folder):
    return "/".join(pathlib.Path(folder).parts[-2:])


def check_loads(program, folder, ids, original, rounds):
    theirs, ours = their_logprobs(open_model(folder), ids), our_logprobs(program, folder, ids)
    difference = float((theirs - ours).abs().mean())
    moved = float((theirs - original).abs().mean())
    shift = float((theirs - ours).mean().abs())
    print(json.dumps({"folder": name_of(folder), "mean_difference": difference, "distance_to_reference": moved, "shift": shift}), flush=True)
    tolerance = ROUNDED if rounds else TOLERANCE
    assert not rounds or shift <= EVEN, f"{folder}: log-probabilities are shifted by {shift}"
    assert torch.isfinite(theirs).all() and difference <= tolerance, f"{folder}: log-probabilities differ by {difference}"
    assert moved > difference * (1 / 1.5 if rounds else 10), f"{folder}: as near to the floating-point model as to the artefact"


def hadacore(x, inplace=True):
    """vllm._custom_ops.hadacore_transform."""
    return (x @ deterministic_hadamard_matrix(x.shape[-1], x.dtype)) / x.shape[-1] ** 0.5


def check_rotates(program, folder, ids, original):
    calls = []
    vllm._custom_ops.hadacore_transform = lambda x, inplace=True: calls.append(x.shape[-1]) or hadacore(x, inplace)
    check_loads(program, folder, ids, original, rounds=False)
    block = json.loads((pathlib.Path(folder) / "config.json").read_text())["quantization_config"]["transform_config"]["config_groups"]["hadamard"]["head_dim"]
    assert calls and set(calls) == {block}, f"{folder}: rotated in blocks of {set(calls)}"


def check_agrees(program, folder, ids, original):
    theirs, ours = their_logprobs(open_model(folder, "float32"), ids), our_logprobs(program, folder, ids)
    difference = (theirs - ours).abs()
    agreeing, moved = float((difference <= CLOSE).float().mean()), float((theirs - original).abs().mean())
    print(json.dumps({"folder": name_of(folder), "tokens_that_agree": agreeing, "mean_difference": float(difference.mean()),
                      "distance_to_reference": moved}), flush=True)
    assert torch.isfinite(theirs).all() and agreeing >= SHARE, f"{folder}: only {agreeing:.0%} of the tokens agree"
    assert float(difference.mean()) <= 0.5 * moved, f"{folder}: log-probabilities differ by {float(difference.mean())}"


def check_same(folder, other, ids, original):
    theirs, others = their_logprobs(open_model(folder), ids), their_logprobs(open_model(other), ids)
    difference, moved = float((theirs - others).abs().max()), float((theirs - original).abs().mean())
    print(json.dumps({"folder": name_of(folder), "largest_difference_to": name_of(other), "is": difference,
                      "distance_to_reference": moved}), flush=True)
    assert torch.isfinite(theirs).all() and difference <= SAME, f"{folder}: log-probabilities differ by {difference} from {other}'s"
    assert moved > 10 * SAME, f"{folder}: as near to the floating-point model as to the artefact"


def cut_off():
    """Does the CPU's cache take the E4M3 number below each magnitude (not the nearest)?"""
    values = torch.randn(16, 2, 64, generator=torch.Generator().manual_seed(1))
    stored = torch.zeros(1, 2, 32, 64, dtype=torch.uint8)
    vllm._custom_ops.cpu_attn_reshape_and_cache(values, values, stored.clone(), stored, torch.arange(16), "vec", 1.0, 1.0, "fp8")
    nearest = values.to(torch.float8_e4m3fn)
    below = nearest.view(torch.uint8) - (nearest.float().abs() > values.abs()).to(torch.uint8)

    def counts(codes):  # places in the cache are the kernel's own
        return codes.flatten()[codes.flatten() != 0].long().bincount(minlength=256)

    return torch.equal(counts(stored), counts(below)) and not torch.equal(counts(stored), counts(nearest.view(torch.uint8)))


def check_cache(program, folder, ids, original):
    assert cut_off(), "vLLM's cache in FP8 no longer cuts numbers off: give it the bound of FP8 activations"
    model = open_model(folder)
    stored = {}
    for file in pathlib.Path(folder).glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            stored |= {name: float(tensors.get_tensor(name)) for name in tensors.keys() if name.endswith((".k_scale", ".v_scale"))}
    found = {}
    for name, module in model.llm_engine.model_executor.driver_worker.worker.model_runner.model.named_modules():
        if hasattr(module, "_k_scale"):
            assert module.kv_cache_dtype.startswith("fp8"), f"{name}: its cache is {module.kv_cache_dtype}"
            attention = name.removesuffix(".attn")
            found |= {f"{attention}.k_scale": float(module._k_scale), f"{attention}.v_scale": float(module._v_scale)}
    assert stored and found == stored, f"{folder}: scales of the cache: {found}, not {stored}"
    theirs, ours = their_logprobs(model, ids), our_logprobs(program, folder, ids)
    difference, moved = float((theirs - ours).abs().mean()), float((theirs - original).abs().mean())
    print(json.dumps({"folder": name_of(folder), "scales": len(found), "mean_difference": difference, "distance_to_reference": moved}), flush=True)
    assert torch.isfinite(theirs).all() and difference <= 0.75 * moved, f"{folder}: log-probabilities differ by {difference}"


def check_refuses(folder, text, ids):
    try:
        their_logprobs(open_model(folder), ids)
    except (ValueError, NotImplementedError, KeyError, RuntimeError, AttributeError) as error:  # pydantic's is a ValueError
        print(json.dumps({"folder": name_of(folder), "refused": str(error)[:200]}), flush=True)
        assert text in str(error), f"{folder}: '{text}' is not in: {error}"
        return
    raise AssertionError(f"vLLM loads {folder}: compare its log-probabilities here")


def main(program, reference, *cases):
    vocabulary = json.loads((pathlib.Path(reference) / "config.json").read_text())["vocab_size"]
    ids = torch.randint(vocabulary, (ROWS, CTX), generator=torch.Generator().manual_seed(5))
    original = our_logprobs(program, reference, ids)
    for case in cases:
        how, *words, folder = case.split(":")
        if how in ("loads", "rounds"):
            check_loads(program, folder, ids, original, how == "rounds")
        elif how == "rotates":
            check_rotates(program, folder, ids, original)
        elif how == "agrees":
            check_agrees(program, folder, ids, original)
        elif how == "cache":
            check_cache(program, folder, ids, original)
        elif how == "same":
            check_same(folder, *words, ids, original)
        else:
            check_refuses(folder, *words, ids)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
