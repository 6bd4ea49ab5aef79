"""Runs the benchmark on models that take seconds, and checks that what it reports is whole. No figure is judged."""
import json
import pathlib
import subprocess
import sys
import tempfile

PARTS = ["seconds", "part", "cpu_part", "flops_share", "goal", "met", "finish_seconds"]


def check_model(model: dict):
    assert model["products"]["gflops_per_s"] > 0 and len(model["products"]["by_linear"]) == 7, model["products"]
    assert all(row["gflops_per_s"] > 0 for row in model["products"]["by_linear"].values()), model["products"]
    assert 0 < model["forward"]["ratio"] < 2 and model["forward"]["goal"] == 0.7, model["forward"]
    products, forward = model["products"], model["forward"]
    if products["libtorch"] is None:
        assert "libtorch" in products["by"] and forward["libtorch_ratio"] == forward["ratio"], products
    else:
        assert "OpenBLAS" in products["by"] and len(products["libtorch"]["by_linear"]) == 7, products
        assert all(rate > 0 for rate in products["libtorch"]["by_linear"].values()) and 0 < forward["libtorch_ratio"], forward
    assert forward["met"] == (forward["libtorch_ratio"] >= 0.7), forward
    assert 0 < model["attention"]["part"] < 1, model["attention"]
    names = [row["name"] for row in model["statistics"]]
    assert len(names) == len(set(names)) and {"gram", "mean_square", "min_max", "distribution"} <= set(names), names
    for row in model["statistics"]:
        assert all(key in row for key in PARTS) and row["seconds"] > 0 and row["part"] > 0, row
        assert (row["goal"] is None) == (row["met"] is None), row
    gram = next(row for row in model["statistics"] if row["name"] == "gram")
    assert 0.2 < gram["flops_share"] < 0.8 and abs(gram["goal"] - gram["flops_share"] - 0.1) < 1e-12, gram
    assert model["peak_bytes"] > 0
    return names


def main() -> int:
    bench = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "bench.json"
        command = [bench, "--quick", "--model", "smollm2", "--model", "block4096", "--model", "8b", "--json", str(path),
                   "--note", "commit=abc"]
        table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results = json.loads(path.read_text())
    assert results["device"] == "cpu" and results["notes"] == {"commit": "abc"} and results["threads"] > 0, results
    assert [model["model"] for model in results["models"]] == ["smollm2", "block4096"], results["models"]
    for model in results["models"]:
        for name in check_model(model):
            assert f"  {name} " in table, (name, table)
    (run,) = results["runs"]
    assert run["model"] == "smollm2" and run["run_seconds"] > run["solve_seconds"] > 0 and run["ratio"] > 0.5, run
    (whole,) = results["passes"]
    assert whole["model"] == "8b" and whole["forward_gram_seconds"] > 0 and whole["ratio_to_bound"] > 0, whole
    (engine,) = results["engine"]
    assert engine["blocks"] == 2 and abs(sum(engine["bound_seconds"]) - sum(whole["bound_seconds"])) < 1e-12, engine
    (row,) = engine["placements"]
    assert row["hidden_states"] == "device" and row["run_seconds"] > row["streaming_seconds"] > 0, row
    assert row["goal"] == 2 and abs(row["ratio_to_bound"] * sum(engine["bound_seconds"]) / row["run_seconds"] - 1) < 1e-9, row
    compared = {row["statistic"] for row in results["agreement"]}
    assert compared == set(name for name in check_model(results["models"][0])) | {"forward"}, compared
    assert {(row["statistic"], row["dtype"]) for row in results["agreement"]} >= {
        ("gram", "F32, wide"), ("cross_gram", "F32, wide"), ("gram", "F16"), ("distribution", "F16")}, results["agreement"]
    assert all(row["met"] for row in results["agreement"]), results["agreement"]
    refused = subprocess.run([bench, "--model", "13b"], capture_output=True, text=True)
    assert refused.returncode == 2 and "expected one of" in refused.stderr, refused
    return 0


if __name__ == "__main__":
    sys.exit(main())
