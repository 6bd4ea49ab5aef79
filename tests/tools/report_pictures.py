"""The README's pictures of a report: `data/images/frontier.png` and `data/images/sensitivity.png`.

    quantize --recipe recipes/mixed-4.25bpw.yaml --output out/mixed
    report_pictures.py out/mixed/report.html --into data/images

Headless Chromium, 1000 pixels wide, light; each picture is the head of a section of the page, to below its last chart or map.
"""
import argparse
import pathlib
import shutil

PICTURES = {"frontier": ("Budget", "figure"), "sensitivity": ("Sensitivity", ".heat + p")}  # file: section, what it ends with


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=pathlib.Path)
    parser.add_argument("--into", type=pathlib.Path, required=True)
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 900}, color_scheme="light")
        page.goto(args.report.resolve().as_uri())
        page.add_style_tag(content="nav { display: none; }")
        for name, (part, last) in PICTURES.items():
            section = page.locator(f"section:has(h2:text-is('{part}'))")
            box, end = section.bounding_box(), section.locator(last).last.bounding_box()
            clip = {"x": 0, "y": box["y"], "width": 1000, "height": end["y"] + end["height"] + 12 - box["y"]}
            page.screenshot(path=args.into / f"{name}.png", full_page=True, clip=clip)
        browser.close()


if __name__ == "__main__":
    main()
