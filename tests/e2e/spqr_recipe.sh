# The shipped SpQR recipe: a small artefact in spqr_quant's layout that is read back and scored, its outliers' share and cost
# counted to the byte; the density that was asked for; what can't be stored is refused before anything is computed.
. tests/e2e/lib.sh
quick recipes/spqr.yaml "$scratch/out"
report=$scratch/out/report.json
holds "$report" "len(r['linears']) == 42 and all(0 < l['output_error'] < 0.05 for l in r['linears'])"
holds "$report" "r['evaluation']['kl_mean'] < 0.5"
holds "$report" "r['totals']['outliers'] / r['totals']['quantized_weights'] > 0.0015"
holds "$report" "0.03 < 8 * r['totals']['outlier_bytes'] / r['totals']['quantized_weights'] / 3.625 < 0.05"
grep -q '^| outliers | ' "$scratch/out/report.md" || fail "report.md doesn't show the outliers"
"$PYTHON" - "$scratch/out" <<'END'
import json, pathlib, sys
import safetensors
folder = pathlib.Path(sys.argv[1])
report, config = json.load(open(folder / "report.json")), json.load(open(folder / "config.json"))["quantization_config"]
where = json.load(open(folder / "model.safetensors.index.json"))["weight_map"]
files = {name: safetensors.safe_open(folder / name, "pt") for name in set(where.values())}
shape = {name: files[file].get_slice(name).get_shape() for name, file in where.items()}
assert config["quant_method"] == "spqr" and (config["bits"], config["beta1"], config["beta2"]) == (3, 16, 16)
assert all(shape[name.removesuffix(".shape")] == [length] for name, length in config["shapes"].items())
assert "lm_head" in config["modules_to_not_convert"]
kept = sum(shape[n][0] for n in where if n.endswith(".col_vals"))
offsets = sum(shape[n][0] for n in where if n.endswith(".row_offsets"))
assert kept == report["totals"]["outliers"] > 0
assert 4 * (kept + offsets) == report["totals"]["outlier_bytes"]
data = sum((folder / f).stat().st_size - 8 - int.from_bytes(open(folder / f, "rb").read(8), "little") for f in files)
assert data == report["totals"]["bytes_after"], (data, report["totals"]["bytes_after"])
for linear in report["linears"]:  # 3-bit codes, 6 bits and a share of 64 a group, 16 bits a column, outliers
    out, width = shape[linear["name"] + ".row_offsets"][0] - 1, 2 * shape[linear["name"] + ".in_perm"][0]
    bits = 3 + 6 / 16 + 64 / 256 + (32 * (shape[linear["name"] + ".col_vals"][0] + out + 1) + 16 * width) / (out * width)
    assert abs(bits - linear["bits_per_weight"]) < 1e-9, linear
END
"$QUANTIZE" inspect "$scratch/out" >"$scratch/inspect"
grep -q 'scheme: int3 asym g16, scales int3 r16: 42 linears' "$scratch/inspect" || fail "inspect: $(tail -5 "$scratch/inspect")"
"$QUANTIZE" list >"$scratch/list"
(($(grep -c '^  spqr ' "$scratch/list") == 2)) || fail "list doesn't name spqr as a solver and as a format"

quick recipes/spqr.yaml "$scratch/more" --set 'rules[0].solver.spqr={select: density, density: 0.02}'
holds "$scratch/more/report.json" "abs(r['totals']['outliers'] / r['totals']['quantized_weights'] - 0.02) < 0.005"
"$PYTHON" -c "import sys; sys.exit(not $(value "$scratch/more/report.json" "r['evaluation']['kl_mean']") < $(value "$report" "r['evaluation']['kl_mean']"))" \
  || fail "more outliers don't lower the KL"

refuses 2 'spqr_quant reads int3 asym g16, scales int3 r16 only' quick recipes/spqr.yaml "$scratch/no" --set 'rules[0].scheme.bits=4'
refuses 2 "can't be stored: use output format spqr" quick recipes/spqr.yaml "$scratch/no" --set 'output.formats=[compressed-tensors]'
refuses 2 'leave out `scale_bits`' quick recipes/spqr.yaml "$scratch/no" --set 'rules[0].solver={rtn: {}}'
refuses 2 'give the scheme `scale_bits`' quick recipes/gptq.yaml "$scratch/no" --set 'rules[0].solver={spqr: {}}'
