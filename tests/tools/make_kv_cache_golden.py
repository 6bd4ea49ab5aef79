#!/usr/bin/env python3
"""make_kv_cache_golden.py KIVI KVQUANT SKVQ: writes tests/golden/kv_cache/{kivi,kvquant,skvq}.json.

Random FP16 keys and values as the references' own plain functions round them (torch on the CPU; no device):
  KIVI     github.com/jy-yuan/KIVI, quant/new_pack.py: quant_and_pack_*, unpack_and_dequant_*; [1, 1, 64, 32] (rows,
           heads, tokens, channels), groups of 32
  KVQUANT  github.com/SqueezeAILab/KVQuant, quant/kvquant/simquant_module_quantizer.py: get_outliers*,
           quant_fn_nuq_recon; [24, 64] (tokens, channels of all heads), with and without Q-Norm
  SKVQ     github.com/cat538/SKVQ, KV_process.py: SKVQuantProcessor.quant_pytorch; [1, 2, 12, 32], ordered channels in
           groups of three sizes, with and without FP8 ranges, at 2 and 1.5 bits
One channel and one token hold large numbers. Numbers stand as the 16 bits of FP16, parameters as FP32. Modules that
the files import for their kernels or for fitting are not needed, and stand-ins."""
import importlib.util
import json
import pathlib
import sys
import types

import torch

OUT = pathlib.Path(__file__).parents[1] / "golden/kv_cache"


def stand_in(name, **members):
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module
    return module


triton = stand_in("triton", jit=lambda function: function)
triton.language = stand_in("triton.language", constexpr=object)
stand_in("skvq_quant")
stand_in("transformers", PreTrainedModel=object, LlamaForCausalLM=object, MistralForCausalLM=object)
stand_in("sklearn").cluster = stand_in("sklearn.cluster", KMeans=None)


def load(checkout, file):
    spec = importlib.util.spec_from_file_location(pathlib.Path(file).stem, pathlib.Path(checkout) / file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bits_of(tensor):
    return tensor.half().contiguous().view(torch.int16).flatten().tolist()


def write(name, golden):
    (OUT / name).write_text(json.dumps(golden) + "\n")


def random_numbers(seed, shape):
    torch.manual_seed(seed)
    numbers = torch.randn(shape).half()
    numbers[..., 3] *= 20
    numbers[..., 5, :] *= 9
    return numbers


def make_kivi(kivi):
    keys, values = (random_numbers(seed, (1, 1, 64, 32)) for seed in (11, 12))
    golden = {"shape": list(keys.shape), "group": 32, "keys": bits_of(keys), "values": bits_of(values), "rounded": {}}
    for bits in (2, 4):
        key_parts = kivi.quant_and_pack_kcache(keys, 32, bits)
        value_parts = kivi.quant_and_pack_vcache(values, 32, bits)
        back = (kivi.unpack_and_dequant_kcache(*key_parts, 32, bits), kivi.unpack_and_dequant_vcache(*value_parts, 32, bits))
        golden["rounded"][str(bits)] = {"keys": bits_of(back[0]), "values": bits_of(back[1])}
    write("kivi.json", golden)


def make_kvquant(kvquant):
    keys, values = (random_numbers(seed, (24, 64)) for seed in (13, 14))
    share = 0.05
    quantiles = torch.quantile(keys.float(), torch.tensor([share / 2, 1 - share / 2]), dim=0).half()
    levels = torch.linspace(-1, 1, 8).sign() * torch.linspace(-1, 1, 8).abs() ** 1.3
    norm = (torch.tensor(1.03), torch.tensor(-0.01))
    golden = {"tokens": 24, "channels": 64, "outliers": share, "keys": bits_of(keys), "values": bits_of(values),
              "lower": quantiles[0].float().tolist(), "upper": quantiles[1].float().tolist(), "levels": levels.tolist(),
              "norm": [x.item() for x in norm], "rounded": {}}
    for q_norm in (False, True):
        common = {"bits": 3, "include_sparse": True, "lut": [levels.tolist()], "norm": q_norm, "normscale": norm[0],
                  "normoffset": norm[1]}
        mask = kvquant.get_outliers(keys.float(), channel=0, outlier_threshold_upper=quantiles[1],
                                    outlier_threshold_lower=quantiles[0])
        back_keys = kvquant.quant_fn_nuq_recon(keys.float(), qchannel=0, outlier_mask=mask, maxval=quantiles[1],
                                               minval=quantiles[0], **common)
        mask = kvquant.get_outliers_dynamic(values.float(), channel=-1, thresh=1 - share)
        back_values = kvquant.quant_fn_nuq_recon(values.float(), qchannel=-1, dynamicquantization=True,
                                                 outlier_mask=mask, **common)
        golden["rounded"]["q_norm" if q_norm else "plain"] = {"keys": bits_of(back_keys), "values": bits_of(back_values)}
    write("kvquant.json", golden)


def make_skvq(skvq):
    numbers = random_numbers(15, (1, 2, 12, 32))
    order, begins, clip = torch.randperm(64), torch.tensor([0, 9, 33, 64]), 0.9
    golden = {"shape": list(numbers.shape), "numbers": bits_of(numbers), "order": order.tolist(),
              "begins": begins.tolist(), "clip": clip, "bits": 2, "rounded": {}, "ternary": {}}
    for name, bits in (("rounded", 2), ("ternary", 1.5)):
        for fp8 in (False, True):
            processor = skvq.SKVQuantProcessor(bits, bits, gsize=32, hidden=64, clipping=[clip], fp8=fp8,
                                               reorder_meta=({"k": order, "v": order}, {"k": begins, "v": begins}))
            processor.layer_idx = 0
            golden[name]["fp8" if fp8 else "fp16"] = bits_of(processor.quant_pytorch("k", numbers)[0])
    write("skvq.json", golden)


make_kivi(load(sys.argv[1], "quant/new_pack.py"))
make_kvquant(load(sys.argv[2], "quant/kvquant/simquant_module_quantizer.py"))
make_skvq(load(sys.argv[3], "KV_process.py"))
