"""Is one artefact nearer to the reference than another, or is that chance of the text?

    paired.py out/quality/side-by-side/lathe-hqq out/quality/side-by-side/hqq-asym

Prints the difference of their mean KL divergences (first minus second) over the rows of evaluation text that side_by_side.py
scored (score.json, of the same rows), its standard error over rows, and in how many rows the first is the lower one. A
difference of less than two standard errors is within noise.
"""
import argparse
import json
import math
import pathlib


def score_of(folder: pathlib.Path) -> dict:
    """side_by_side.py scores hqq's and SpQR's artefacts dequantised, in a folder within."""
    places = [folder, *folder.glob("dequantised/*")]
    found = [place / "score.json" for place in places if (place / "score.json").is_file()]
    if not found:
        raise SystemExit(f"paired: {folder} has no score.json: score it with side_by_side.py")
    return json.loads(found[0].read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Paired difference of two artefacts' KL divergences")
    parser.add_argument("folders", type=pathlib.Path, nargs=2)
    folders = parser.parse_args().folders
    kept = [score_of(folder) for folder in folders]
    if kept[0]["settings"] != kept[1]["settings"]:
        raise SystemExit(f"paired: {folders[0]} and {folders[1]} were scored on other rows: {kept[0]['settings']}, {kept[1]['settings']}")
    first, second = (entry["score"]["kl_rows"] for entry in kept)
    gaps = [a - b for a, b in zip(first, second)]
    mean = sum(gaps) / len(gaps)
    error = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1) / len(gaps))
    lower = sum(gap < 0 for gap in gaps)
    print(f"{folders[0].name} - {folders[1].name}: {mean:+.5f} +- {error:.5f} ({mean / error:+.1f} standard errors), "
          f"lower in {lower} of {len(gaps)} rows")


if __name__ == "__main__":
    main()
