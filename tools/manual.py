"""Add to the manual (mkdocs.yml) what is outside of docs/: pages, pictures and examples, which stay in their folders.

Pages link to them as files of the repository, ``../bench/speed.svg``, so that the links hold where the sources are
read, too. Here they become files of the site, and the links follow.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "STREAM.md": "stream.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "bench/README.md": "bench.md",
}
COPIED = ("bench/*.svg", "examples/*.svg", "examples/*.py", "LICENSE")
LINK = re.compile(r"(\]\()([^)#\s]+\.?[^)#\s]*)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files from other folders."""
    copied = {
        str(path.relative_to(ROOT)): f"files/{path.relative_to(ROOT)}" for each in COPIED for path in ROOT.glob(each)
    }
    for source, target in {**PAGES, **copied}.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository into links to files of the site."""
    own = {target: source for source, target in PAGES.items()}
    here = posixpath.dirname(own.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def rewrite(link: re.Match[str]) -> str:
        if "://" in link[2] or link[2].startswith("mailto:"):
            return link[0]
        path = posixpath.normpath(posixpath.join(here, link[2]))
        if path.startswith("docs/"):
            target = path.removeprefix("docs/")
        else:
            target = {**PAGES, "README.md": "index.md"}.get(path) or f"files/{path}"
        if files.get_file_from_path(target) is None:
            raise PluginError(f"{page.file.src_uri} links to {link[2]}, which is not a file of the manual")
        return f"{link[1]}{posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or '.')}{link[3]}"

    # Not in code, where [i](x) is no link.
    pieces = re.split(r"(^```.*?^```|`[^`\n]*`)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(piece if piece.startswith("`") else LINK.sub(rewrite, piece) for piece in pieces)
