"""The way of loading that a model card tells, run as it stands there but for the folder's name and the device."""

import pathlib
import textwrap


def load_by_card(folder, device="cpu"):
    """The model that the first code block under "How to load it" of the folder's README.md makes."""
    lines = (pathlib.Path(folder) / "README.md").read_text().split("## How to load it\n", 1)[1].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("    "))
    last = next((i for i in range(first, len(lines)) if lines[i] and not lines[i].startswith("    ")), len(lines))
    code = textwrap.dedent("\n".join(lines[first:last]))
    assert '"this/folder"' in code and '"cuda"' in code, code
    names = {}
    exec(code.replace('"this/folder"', repr(str(folder))).replace('"cuda"', repr(device)), names)  # noqa: S102
    assert names["tokenizer"]("Once upon a time").input_ids, "no tokenizer"
    return names["model"]
