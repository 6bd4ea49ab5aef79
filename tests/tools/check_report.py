"""Looks at a run's report.json and report.html, or at the sensitivity.html of measurements, as their readers do.

    check_report.py FOLDER [--screenshots DIR]

report.json: as lib/report/report.schema.json says. report.html in headless Chromium, 1280 and 390 pixels wide, light and
dark: every part that the figures call for is there, charts are drawn, nothing is wider than the window, text stands out,
nothing is loaded and nothing complains; tables sort and filter, charts follow the measure and the theme.
Exit code 77 where there is no Chromium (after report.json was looked at).
"""
import argparse
import json
import pathlib
import shutil
import sys

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parents[2]


def written(report):
    """sensitivity.html is of no artefact."""
    return report["totals"]["bytes_before"] > 0


PARTS = {  # a heading, and whether a report has it
    "Warnings and checks": lambda r: bool(r["warnings"] or (r["verification"] or {"failed": []})["failed"]),
    "Budget": lambda r: bool(r.get("budget")),
    "Sensitivity": lambda r: bool(r.get("sensitivity")),
    "What was lost": lambda r: bool(r["linears"]),
    "Weights and scales": lambda r: any(row["histogram"] or row["scales"] for row in r["linears"]),
    "Inputs": lambda r: bool(r["activations"] or r.get("input_histograms")) or any(row["input_limit"] for row in r["linears"]),
    "KV cache": lambda r: bool(r["kv_cache"]),
    "Experts": lambda r: bool(r["experts"]),
    "Events and folds": lambda r: bool(r["folds"]) or any(row["events"] for row in r["linears"]),
    "Time and memory": lambda r: True,
    "How to load it": lambda r: written(r),
    "Recipe": lambda r: True,
    "Every linear": lambda r: written(r),
}
# Charts that show one colour alone are not drawn. Contrast is WCAG's, of text that stands on the page itself.
LOOK = """() => {
  const shade = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = shade(getComputedStyle(document.body).backgroundColor);
  const contrast = (node) => {
    const own = shade(getComputedStyle(node).color);
    return (Math.max(own, back) + 0.05) / (Math.min(own, back) + 0.05);
  };
  const drawn = (canvas) => new Set(new Uint32Array(
    canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size > 2;
  return {
    width: document.documentElement.scrollWidth,
    parts: [...document.querySelectorAll('h2')].map((node) => node.textContent),
    title: document.title, heading: document.querySelector('h1').textContent,
    charts: [...document.querySelectorAll('canvas')].map((canvas) => [canvas.getAttribute('aria-label'), drawn(canvas)]),
    faint: [...document.querySelectorAll('main p, main td, main a, main li, figcaption, h2, .faint')]
      .filter((node) => contrast(node) < 4.5).map((node) => node.textContent.slice(0, 60)),
    text: document.body.innerText,
    clipped: [...document.querySelectorAll('.heat i, .heat b')].filter((node) => {
      const text = document.createRange();  // (scrollWidth knows half of what a centred text is too wide by)
      text.selectNodeContents(node);
      return node.matches('i') ? text.getBoundingClientRect().width > node.clientWidth - 2 : node.scrollWidth > node.clientWidth;
    }).map((node) => node.textContent),
    touching: [...document.querySelectorAll('.heat')].flatMap((map) => {
      const boxes = [...map.querySelectorAll('b')].filter((node) => node.textContent).map((node) => [node.textContent, node.getBoundingClientRect()]);
      return boxes.filter(([, a], i) => boxes.some(([, b], j) => j > i && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom))
        .map(([text]) => text);
    }),
    scrolled: [...document.querySelectorAll('section')].flatMap((part) => [...part.querySelectorAll('.wide')]
      .filter((node) => node.scrollWidth > node.clientWidth + 1).map(() => part.querySelector('h2').textContent)),
    marked: [...document.querySelectorAll('td.marked')].map((node) => node.cellIndex),
    cells: [...document.querySelectorAll('section')].map((part) => [part.querySelector('h2').textContent, part.querySelectorAll('.heat i').length]),
  };
}"""


def require(holds, text):
    if not holds:
        sys.exit(f"FAIL: {text}")


def embedded_report(file):
    text = file.read_text().split('<script type="application/json" id="report">', 1)[1].split("</script>", 1)[0]
    return require_schema(json.loads(text)["report"])


def check_json(folder):
    return require_schema(json.loads((folder / "report.json").read_text()))


def require_schema(report):
    schema = json.loads((ROOT / "lib/report/report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    errors = sorted(jsonschema.Draft202012Validator(schema).iter_errors(report), key=lambda e: list(map(str, e.path)))
    require(not errors, f"report.json: {len(errors)} places are not as the schema says, first "
            + (f"{errors[0].json_path}: {errors[0].message[:300]}" if errors else ""))
    return report


def check_page(page, report, width, where):
    found = page.evaluate(LOOK)
    expected = [title for title, has in PARTS.items() if has(report)]
    require(found["parts"] == expected, f"{where}: parts {found['parts']}, expected {expected}")
    require(found["width"] <= width, f"{where}: the page is {found['width']} pixels wide")
    blank = [label for label, drawn in found["charts"] if not drawn]
    require(found["charts"] and not blank, f"{where}: not drawn: {blank}")
    require(not found["faint"], f"{where}: text that hardly stands out: {found['faint'][:5]}")
    name = pathlib.PurePosixPath(report["model"]["path"]).name
    title = f"{name}: quantisation report" if written(report) else f"{name}: sensitivity"
    require(found["heading"] == title == found["title"], f"{where}: heading {found['heading']!r}")
    require(not found["clipped"], f"{where}: figures or labels of a heat map are clipped: {found['clipped'][:5]}")
    require(not found["touching"], f"{where}: labels of a heat map overlap: {found['touching'][:5]}")
    budget = report.get("budget")
    if budget:  # a laptop shows all of what each group may take, and what was chosen is marked
        require(width < 1000 or "Budget" not in found["scrolled"] or len(budget["candidates"]) > 6, f"{where}: a table of the budget is wider than the page")
        chosen = [budget["candidates"].index(group["candidate"]) + 3 for group in budget["groups"][:12]]
        require(found["marked"] == chosen, f"{where}: marked as chosen: columns {found['marked']}, expected {chosen}")
    for odd in ("undefined", "NaN", "[object", "Infinity"):
        require(odd not in found["text"], f"{where}: shows {odd!r}")
    again = "quantize --recipe" if written(report) else "quantize sensitivity --recipe"
    require(f"{again} takes it" in found["text"], f"{where}: doesn't say that {again!r} takes the recipe")
    if not written(report):  # measured on data, within a plan of the memory
        require(report["calibration"]["rows"] > 0 and report["memory"]["planned"]["ram"] > 0, f"{where}: {report['calibration']}, {report['memory']}")
        require("planned at most" in found["text"] and "samples of" in found["text"], f"{where}: shows neither the plan nor the samples")
    require(" 1 threads" not in found["text"], f"{where}: 1 threads")
    cells = dict(found["cells"])
    for part, rows in ("What was lost", report["linears"]), ("Sensitivity", groups_of_blocks(report)):
        expected = len({row["role"] for row in rows}) * len({row["block"] for row in rows})
        require(cells.get(part, 0) == expected, f"{where}: {part}: {cells.get(part)} cells in the heat map, expected {expected}")


def groups_of_blocks(report):
    return [group for group in (report.get("sensitivity") or {"groups": []})["groups"] if group["block"] is not None]


def check_sensitivity(page, report):
    """The chart and the heat map follow candidate and loss, and a cell holds its group's loss."""
    section = report.get("sensitivity")
    if not section:
        return
    part = page.locator("section:has(h2:text-is('Sensitivity'))")
    loss, candidate = part.locator("label:has-text('Loss') select"), part.locator("label:has-text('Candidate') select")
    chart, cell = part.locator("canvas").first, part.locator(".heat i")
    first = groups_of_blocks(report)[0]
    at_first = [group for group in groups_of_blocks(report) if (group["block"], group["role"]) == (first["block"], first["role"])]
    several = any(len(group["losses"]) > 1 for group in section["groups"])
    require(candidate.count() == several, "a choice of the candidate where there is one, or none where there are several")
    for c in range(len(section["candidates"]) if several else 1):
        if several:
            candidate.select_option(str(c))
        for key in "kl", "fisher", "output_error", "weight_error":
            if all(row[key] is None for group in section["groups"] for row in group["losses"]):
                continue
            before = chart.evaluate("(canvas) => canvas.toDataURL()"), cell.first.get_attribute("title")
            loss.select_option(key)
            shown = [row[key] for group in at_first for row in group["losses"] if (row["candidate"] == c or not several) and row[key] is not None]
            title = cell.first.get_attribute("title")
            require(title.startswith(f"block {first['block']}, {first['role']}: "), f"a cell's title: {title!r}")
            figure = title.split(": ")[-1]
            require(abs(float(figure) / sum(shown) - 1) < 0.01 if shown else figure == "–", f"{key} of {first['name']}: {title!r}, expected {shown}")
            if c > 0 or key != section["loss"]:
                require((chart.evaluate("(canvas) => canvas.toDataURL()"), title) != before, f"chart and heat map don't follow {key}")
    alone = any("linears" in row for group in section["groups"] for row in group["losses"])
    require(("every linear alone" in part.inner_text().lower()) == alone, "linears by themselves")
    require(("rank correlation" in part.inner_text().lower()) == (section["rank_correlation"]["pairs"]["all"] > 1), "rank correlations")


def check_controls(page, report):
    """The table of every linear sorts and filters; charts follow the measure and the theme."""
    rows = page.locator("section:has(h2:text-is('Every linear')) table").first.locator("tbody tr")
    head = page.locator("section:has(h2:text-is('Every linear')) thead button:text-is('weight error')").first
    head.click()
    worst = max(report["linears"], key=lambda row: row["weight_error"] or 0)
    require(rows.first.locator("td").first.inner_text() == worst["name"], "the table doesn't sort by its column's head")
    if len(report["linears"]) > 20:
        page.locator("section:has(h2:text-is('Every linear')) input").first.fill(worst["name"])
        require(rows.count() == 1, "the filter leaves more than the linear whose name it is")
    chart = page.locator("section:has(h2:text-is('What was lost')) canvas").first
    before = chart.evaluate("(canvas) => canvas.toDataURL()")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("(old) => document.querySelector('canvas[aria-label^=Mean]').toDataURL() !== old", arg=before, timeout=5000)
    inputs = report.get("input_histograms") or []
    if len(inputs) > 1:
        # Of another input: another picture, and its own figures.
        part = page.locator("section:has(h2:text-is('Inputs'))")
        drawing, about = part.locator("canvas").last, part.locator("p.faint").last
        before, row = drawing.evaluate("(canvas) => canvas.toDataURL()"), min(inputs, key=lambda row: row["limit"])
        part.locator("label:has-text('Block') select").select_option(str(row["block"]))
        names = [other["input"] for other in inputs if other["block"] == row["block"]]
        part.locator("label:has-text('Input') select").select_option(str(names.index(row["input"])))
        require(drawing.evaluate("(canvas) => canvas.toDataURL()") != before, "the histogram doesn't follow the input")
        require(f"{sum(row['counts']):,} values" in about.inner_text(), f"an input's figures: {about.inner_text()!r}")
        require(("no static grid" in about.inner_text()) == (row["clip"] is None), f"an input's clip: {about.inner_text()!r}")
    check_weights(page, report)
    measure = page.locator("label:has-text('Measure') select")
    if measure.count():
        heat = page.locator("section:has(h2:text-is('What was lost')) .heat i").first
        before, cell = chart.evaluate("(canvas) => canvas.toDataURL()"), heat.get_attribute("title")
        measure.select_option("weight_error")
        require(chart.evaluate("(canvas) => canvas.toDataURL()") != before, "charts don't follow the measure")
        require(heat.get_attribute("title") != cell, "the heat map doesn't follow the measure")


# Of the weights' histogram: which share of the column at a weight has the colour of the line that marks a grid's reach there.
MARKED = """(weight) => {
  const {canvas, drawn} = charts.find(({canvas}) => canvas.getAttribute('aria-label').startsWith('A sample of the linear'));
  const {left, right, top, bottom} = drawn.chartArea, ratio = drawn.currentDevicePixelRatio;
  const x = Math.round((left + (weight + 1) / 2 * (right - left)) * ratio);
  const wanted = colour('s3').match(/[0-9a-f]{2}/g).map((text) => parseInt(text, 16));
  const height = Math.floor((bottom - top) * ratio), strip = new OffscreenCanvas(5, height).getContext('2d', {willReadFrequently: true});
  strip.drawImage(canvas, x - 2, top * ratio, 5, height, 0, 0, 5, height);
  const data = strip.getImageData(0, 0, 5, height).data;
  let rows = 0;
  for (let y = 0; y < height; ++y)
    rows += [0, 1, 2, 3, 4].some((i) => wanted.every((value, c) => Math.abs(data[4 * (5 * y + i) + c] - value) < 24));
  return rows / height;
}"""


def check_weights(page, report):
    """A linear's histogram has a dashed line where the median group's grid ends, on both sides, and says how far others reach."""
    rows = [row for row in report["linears"] if row["histogram"]]
    if not rows:
        return
    part = page.locator("section:has(h2:text-is('Weights and scales'))")
    inside = [row for row in rows if row["histogram"]["clip"] and row["histogram"]["clip"]["median"] <= row["histogram"]["limit"]]
    chosen = min(inside or rows, key=lambda row: (row["histogram"]["clip"] or {"median": 0})["median"] / row["histogram"]["limit"])
    block, linear = part.locator("select").nth(0), part.locator("select").nth(1)  # (a linear's name may hold "block", too)
    block.select_option(str(chosen["block"]))
    names = [row["name"] for row in rows if row["block"] == chosen["block"]]
    linear.select_option(str(names.index(chosen["name"])))
    clip, about = chosen["histogram"]["clip"], part.locator("p.faint").first.inner_text()
    require(("grid reaches ±" in about) == (clip is not None), f"a linear's clip: {about!r}")
    for side in (-1, 1) if inside else ():
        place = side * clip["median"] / chosen["histogram"]["limit"]
        require(page.evaluate(MARKED, place) > 0.4, f"{chosen['name']}: no line where its grids end")
    require(page.evaluate(MARKED, 0.07) < 0.2, f"{chosen['name']}: a line where no grid ends")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--screenshots", type=pathlib.Path, help="keep one of each size and theme in this folder")
    args = parser.parse_args()
    name = "sensitivity.html" if (args.folder / "sensitivity.html").exists() else "report.html"
    report = embedded_report(args.folder / name) if name == "sensitivity.html" else check_json(args.folder)
    browser_path = shutil.which("chromium")
    if browser_path is None:
        print(f"SKIP: {name} was not looked at: no chromium on this machine (requirements-debian.txt)")
        return 77
    from playwright.sync_api import sync_playwright

    address = (args.folder / name).resolve().as_uri()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for width, theme in ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")):
            where, complaints = f"{width} pixels, {theme}", []
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
            page.on("console", lambda message: complaints.append(f"console: {message.text}"))
            page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
            page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
            page.on("request", lambda request: request.url == address or complaints.append(f"loads {request.url[:100]}"))
            page.goto(address)
            check_page(page, report, width, where)
            if args.screenshots:
                args.screenshots.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=args.screenshots / f"report-{width}-{theme}.png", full_page=True)
            if (width, theme) == (1280, "light"):
                if written(report):
                    check_controls(page, report)
                check_sensitivity(page, report)
            require(not complaints, f"{where}: {complaints[:3]}")
            page.close()
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
