"""fetch.py FOLDER FILE SHA256: a distribution's file from the package index that pip is configured with, where it isn't there already.

`pip download` would do, but for source distributions it runs their build to learn what they depend on, and these ask for CUDA then.
"""
import hashlib
import html
import os
import pathlib
import re
import ssl
import subprocess
import sys
import urllib.parse
import urllib.request


def configured(key):
    """pip's setting of that name, from the environment or its files; empty where there is none."""
    shown = subprocess.run([sys.executable, "-m", "pip", "config", "get", f"global.{key}"], capture_output=True, text=True)
    return os.environ.get("PIP_" + key.upper().replace("-", "_")) or shown.stdout.strip()


def index():
    from pip._internal.models.index import PyPI  # pip's own default
    return (configured("index-url") or PyPI.simple_url).rstrip("/")


def opened(url):
    return urllib.request.urlopen(url, timeout=180, context=ssl.create_default_context(cafile=configured("cert") or None))


def address(name):
    project = re.sub(r"[-_.]+", "-", re.match(r"(.+?)-\d", name)[1]).lower()
    page = f"{index()}/{project}/"
    with opened(page) as response:
        links = re.findall(r'href="([^"]+)"', response.read().decode())
    for link in map(html.unescape, links):
        if urllib.parse.unquote(urllib.parse.urlparse(link).path).endswith("/" + name):
            return urllib.parse.urljoin(page, link)
    sys.exit(f"fetch.py: the package index has no {name}")


def main():
    folder, name, wanted = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    target, part = folder / name, folder / (name + ".part")
    if target.exists():
        return
    print(f"fetching {name}", file=sys.stderr)
    digest = hashlib.sha256()
    with opened(address(name)) as source, open(part, "wb") as file:
        while block := source.read(1 << 20):
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != wanted:
        sys.exit(f"fetch.py: {name}: expected SHA-256 {wanted}, found {digest.hexdigest()}")
    part.rename(target)


if __name__ == "__main__":
    main()
