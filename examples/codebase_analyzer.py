"""An agent that reports which versions of languages and dependencies a project uses.

    python examples/codebase_analyzer.py PROJECT_DIR              # Markdown on standard output
    python examples/codebase_analyzer.py PROJECT_DIR --json
    python examples/codebase_analyzer.py PROJECT_DIR --out DIR    # software-versions.md and .json in DIR

Run ``pyjama dashboard`` in another terminal to watch it work. Everything that the dashboard shows comes from the
``@tool`` decorators and the ``agent_session`` below. If a manifest cannot be read, the dashboard shows a failed call,
the report lists a problem, and the run continues.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from software_manifests import Finding, ManifestError, is_manifest, parse_imports, parse_manifest

from pyjama_instrument import agent_session, tool

__all__ = ["Analyzer", "Report", "analyze", "is_wanted", "main", "walk"]

STAGES = ["discover", "read", "analyze", "report"]
SKIPPED = frozenset(
    (
        ".git", ".hg", ".svn", ".tox", ".nox", ".venv", "venv", "env", "node_modules", "bower_components", "vendor",
        "target", "build", "dist", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".eggs", ".gradle",
        ".idea", "site-packages",
    )
)  # fmt: skip
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_FILES = 50_000
READERS = 8

SUFFIXES = {
    ".py": "Python", ".pyi": "Python", ".js": "JavaScript", ".mjs": "JavaScript", ".jsx": "JavaScript",
    ".ts": "TypeScript", ".tsx": "TypeScript", ".go": "Go", ".rs": "Rust", ".java": "Java", ".kt": "Kotlin",
    ".rb": "Ruby", ".php": "PHP", ".c": "C", ".h": "C", ".cc": "C++", ".cpp": "C++", ".hpp": "C++", ".cs": "C#",
    ".clj": "Clojure", ".cljs": "Clojure", ".ex": "Elixir", ".sh": "Shell", ".html": "HTML", ".css": "CSS",
}  # fmt: skip


@dataclass
class Report:
    """The findings of one project."""

    project: str
    files: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    conflicts: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary."""
        return {
            "project": self.project,
            "files": self.files,
            "sources": dict(self.sources.most_common()),
            "findings": [finding.to_dict() for finding in self.findings],
            "conflicts": self.conflicts,
            "problems": self.problems,
        }


def walk(
    root: Path, on_error: Callable[[OSError], None] | None = None, on_folder: Callable[[], None] = lambda: None
) -> Iterator[str]:
    """Yield the relative paths of the regular files in ``root``, in order.

    The walk does not follow links, so it always ends. It leaves out virtual environments, caches and version control.
    """
    for folder, folders, names in os.walk(root, onerror=on_error):
        folders[:] = sorted(name for name in folders if not _is_skipped(folder, name))
        on_folder()
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(root).as_posix()


def _is_skipped(folder: str, name: str) -> bool:
    return name in SKIPPED or name.endswith(".egg-info") or os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))


def is_wanted(path: str, *, imports: bool) -> bool:
    """Whether the agent reads the file: each manifest and, with ``imports``, each Python source."""
    return is_manifest(path) or (imports and path.endswith(".py"))


class Analyzer:
    """The agent's tools. ``pause`` lengthens each call by so many seconds, so that you can watch."""

    def __init__(self, root: Path, *, pause: float = 0.0) -> None:
        self.root = root
        self.pause = pause
        self.problems: list[str] = []

    @tool("list_files")
    def list_files(self) -> Iterator[str]:
        """Yield the relative paths of the project's regular files."""
        for count, path in enumerate(walk(self.root, self._note_unreadable, self._wait)):
            if count == MAX_FILES:
                self.problems.append(f"more than {MAX_FILES} files: the rest was skipped")
                return
            yield path

    @tool("read_file")
    async def read_file(self, path: str) -> str:
        """Return the text of one file.

        Raises:
            ManifestError: the file is too large or is not UTF-8 text.
            OSError: the file cannot be read.
        """
        await asyncio.sleep(self.pause)
        data = await asyncio.to_thread(self._read_bounded, path)
        if len(data) > MAX_FILE_BYTES:
            raise ManifestError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ManifestError(f"{path}: not UTF-8 text") from error

    @tool("detect_versions")
    def detect_versions(self, path: str, text: str) -> list[Finding]:
        """Return the versions that one file contains.

        Raises:
            ManifestError: the file is malformed.
        """
        self._wait()
        return parse_manifest(path, text) if is_manifest(path) else parse_imports(text, path)

    @tool("find_conflicts")
    def find_conflicts(self, findings: Iterable[Finding]) -> dict[str, list[str]]:
        """Return the names for which files want different versions, each with its versions and their sources."""
        self._wait()
        wanted: dict[str, dict[str, set[str]]] = {}
        for each in findings:
            if each.version:
                versions = wanted.setdefault(f"{each.ecosystem}: {each.name}", {})
                versions.setdefault(each.version, set()).add(each.source)
        return {
            name: [f"{version} ({', '.join(sorted(sources))})" for version, sources in sorted(versions.items())]
            for name, versions in sorted(wanted.items())
            if len(versions) > 1 and len(set.union(*versions.values())) > 1
        }

    @tool("write_file")
    def write_file(self, path: Path, text: str) -> int:
        """Write one report file, create its directory if needed, and return the number of bytes.

        Raises:
            OSError: the file cannot be written.
        """
        self._wait()
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.write_bytes(text.encode("utf-8", "backslashreplace"))

    def _wait(self) -> None:
        if self.pause:
            time.sleep(self.pause)

    def _note_unreadable(self, error: OSError) -> None:
        self.problems.append(f"{error.filename}: {error.strerror}")

    def _read_bounded(self, path: str) -> bytes:
        with open(self.root / path, "rb") as file:
            return file.read(MAX_FILE_BYTES + 1)


def analyze(
    project: Path,
    *,
    out: Path | None = None,
    agent: str = "software-versions",
    imports: bool = False,
    pause: float = 0.0,
) -> Report:
    """Run the agent once over ``project``.

    Args:
        project: an existing directory.
        out: the directory for ``software-versions.md`` and ``software-versions.json``; None writes no files.
        agent: the agent's name on the dashboard.
        imports: also read Python sources and report which packages they import.
        pause: seconds by which to lengthen every tool call.

    Raises:
        OSError: the report cannot be written.
    """
    analyzer = Analyzer(project, pause=pause)
    report = Report(project=project.resolve().name)
    with agent_session(agent, workflow=STAGES, spec={"purpose": "find the versions a project uses"}) as run:
        with run.step("discover"):
            wanted = _discover(analyzer, report, imports=imports)
        with run.step("read"):
            texts = asyncio.run(_read_all(analyzer, wanted))
        with run.step("analyze"):
            _analyze(analyzer, report, texts)
        with run.step("report"):
            report.problems = analyzer.problems
            if out is not None:
                analyzer.write_file(out / "software-versions.md", to_markdown(report))
                analyzer.write_file(out / "software-versions.json", to_json(report))
        run.annotate(files=report.files, findings=len(report.findings), problems=len(report.problems))
    return report


def _discover(analyzer: Analyzer, report: Report, *, imports: bool) -> list[str]:
    wanted = []
    for path in analyzer.list_files():
        report.files += 1
        suffix = os.path.splitext(path)[1].lower()
        if suffix in SUFFIXES:
            report.sources[SUFFIXES[suffix]] += 1
        if is_wanted(path, imports=imports):
            wanted.append(path)
    return wanted


async def _read_all(analyzer: Analyzer, paths: Iterable[str]) -> dict[str, str]:
    """Read several files at a time, and return the text of each readable file."""
    gate = asyncio.Semaphore(READERS)

    async def read(path: str) -> tuple[str, str | None]:
        async with gate:
            try:
                return path, await analyzer.read_file(path)
            except (ManifestError, OSError) as error:
                analyzer.problems.append(str(error))
                return path, None

    results = await asyncio.gather(*map(read, paths))
    return {path: text for path, text in results if text is not None}


def _analyze(analyzer: Analyzer, report: Report, texts: dict[str, str]) -> None:
    for path, text in texts.items():
        try:
            report.findings += analyzer.detect_versions(path, text)
        except ManifestError as error:
            analyzer.problems.append(str(error))
    report.findings.sort()
    report.conflicts = analyzer.find_conflicts(report.findings)


def to_json(report: Report) -> str:
    """The report as JSON text."""
    return json.dumps(report.to_dict(), indent=2) + "\n"


def to_markdown(report: Report) -> str:
    """The report as Markdown text."""
    lines = [f"# Software versions of {_cell(report.project)}", "", f"{report.files} files."]
    if report.sources:
        lines += ["", ", ".join(f"{name} {count}" for name, count in report.sources.most_common()) + "."]
    for kind, title in (
        ("language", "Languages"),
        ("base-image", "Base images"),
        ("dependency", "Dependencies"),
        ("import", "Imported packages"),
    ):
        lines += _section(title, [each for each in report.findings if each.kind == kind])
    if report.conflicts:
        lines += ["", "## Different versions of the same thing", ""]
        lines += [f"- {_cell(name)}: {_cell('; '.join(versions))}" for name, versions in report.conflicts.items()]
    if report.problems:
        lines += ["", "## Problems", "", *(f"- {_cell(problem)}" for problem in report.problems)]
    return "\n".join(lines) + "\n"


def _section(title: str, findings: Sequence[Finding]) -> list[str]:
    if not findings:
        return []
    sources: dict[tuple[str, str, str], list[str]] = {}
    for each in findings:
        sources.setdefault((each.ecosystem, each.name, each.version), []).append(each.source)
    rows = ["", f"## {title}", "", "| ecosystem | name | version | where |", "|---|---|---|---|"]
    for (ecosystem, name, version), where in sources.items():
        shown = ", ".join(where[:3]) + (f" and {len(where) - 3} more" if len(where) > 3 else "")
        rows.append("| " + " | ".join(map(_cell, (ecosystem, name, version or "any", shown))) + " |")
    return rows


def _cell(text: str) -> str:
    """Make text from the project safe for a table cell and for a terminal."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return printable.replace("|", "\\|").replace("<", "&lt;")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = _options(argv)
    if not options.project.is_dir():
        print(f"{options.project}: not a directory", file=sys.stderr)
        return 2
    try:
        report = analyze(
            options.project, out=options.out, agent=options.agent, imports=options.imports, pause=options.pause
        )
    except OSError as error:
        print(f"cannot write the report: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(to_json(report), end="")
    elif options.out is None:
        print(to_markdown(report), end="")
    else:
        print(f"{len(report.findings)} findings, {len(report.problems)} problems: see {options.out}")
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Report the versions of languages and dependencies in a project.")
    parser.add_argument("project", type=Path, metavar="PROJECT_DIR")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write software-versions.md and .json to DIR")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--imports", action="store_true", help="also report the packages that Python sources import")
    parser.add_argument("--agent", default="software-versions", metavar="NAME", help="name on the dashboard")
    parser.add_argument("--pause", type=float, default=0.0, metavar="SECONDS", help="lengthen every tool call")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
