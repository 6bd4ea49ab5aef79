# RTN's range option: the searched range has less weight error than the groups' extent, everywhere; kl names what it can't do.
. tests/e2e/lib.sh
for range in minmax mse percentile; do
  quick recipes/rtn.yaml "$scratch/$range" --set evaluate=null \
    --set "rules=[{targets: [linear], scheme: {type: int, bits: 3, group_size: 64, symmetric: true}, solver: {rtn: {range: $range, percentile: 98}}}]"
done
"$PYTHON" - "$scratch" <<'END' || fail "weight errors"
import json, sys
error = {r: {l["name"]: l["weight_error"] for l in json.load(open(f"{sys.argv[1]}/{r}/report.json"))["linears"]}
         for r in ("minmax", "mse", "percentile")}
assert len(error["mse"]) == 42
for name, plain in error["minmax"].items():
    assert error["mse"][name] < 0.95 * plain, (name, error["mse"][name], plain)
    assert error["mse"][name] <= error["percentile"][name], name
assert error["percentile"] != error["minmax"]
total = {r: sum(e.values()) / len(e) for r, e in error.items()}
print("mean relative weight error:", total)
END
refuses 2 "range kl needs groups of at least 512 weights" \
  "$QUANTIZE" --recipe recipes/rtn.yaml --output "$scratch/kl" --device cpu --quiet --set evaluate=null \
  --set "rules=[{targets: [linear], scheme: {type: int, bits: 4, group_size: 64, symmetric: true}, solver: {rtn: {range: kl}}}]"
refuses 2 "maximum" "$QUANTIZE" --recipe recipes/rtn.yaml --output "$scratch/bad" --device cpu --quiet \
  --set "rules=[{targets: [linear], scheme: {type: int, bits: 4, group_size: 64, symmetric: true}, solver: {rtn: {range: maximum}}}]"
