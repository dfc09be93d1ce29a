"""Find the versions of languages and dependencies in the files that declare them.

These functions turn text into findings. They use no disk, no network and no interpreter, so you can safely read an
untrusted project. A file that cannot be parsed raises :class:`ManifestError`. The agent that uses these functions is
``codebase_analyzer.py``, in the same directory.
"""

from __future__ import annotations

import ast
import configparser
import fnmatch
import json
import re
import sys
import tomllib
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

__all__ = ["Finding", "ManifestError", "is_manifest", "parse_imports", "parse_manifest"]


class ManifestError(ValueError):
    """The file has the name of a manifest but cannot be parsed as one."""


@dataclass(frozen=True, order=True, slots=True)
class Finding:
    """One version in a file. ``version`` is the text in the file; it is empty if any version will do."""

    ecosystem: str
    kind: str
    name: str
    version: str
    source: str = ""

    def to_dict(self) -> dict[str, str]:
        """JSON-ready dictionary."""
        return asdict(self)


Parser = Callable[[str], Iterable[Finding]]


def language(ecosystem: str, version: object) -> Finding:
    """The version of a language itself."""
    return Finding(ecosystem, "language", ecosystem, str(version).strip())


def dependency(ecosystem: str, name: object, version: object = "") -> Finding:
    """A package that the project needs."""
    return Finding(ecosystem, "dependency", str(name).strip(), str(version).strip())


def _table(value: object) -> Mapping[str, Any]:
    """Return the value if it is a table, otherwise an empty table, because manifests are often malformed."""
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _json_object(text: str) -> Mapping[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ManifestError("the JSON is not an object")
    return document


# --- Python ----------------------------------------------------------------------------------------------

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(@\s*\S+|[^;#]*)")


def _python_requirement(line: object) -> Iterator[Finding]:
    match = _REQUIREMENT.match(line) if isinstance(line, str) else None
    if match:
        yield dependency("python", match[1], match[2].strip().strip("()"))


def _python_requirements(lines: object) -> Iterator[Finding]:
    for line in _list(lines):
        yield from _python_requirement(line)


def _poetry(dependencies: object) -> Iterator[Finding]:
    for name, wanted in _table(dependencies).items():
        version = _table(wanted).get("version", "") if not isinstance(wanted, str) else wanted
        yield language("python", version) if name == "python" else dependency("python", name, version)


def _pyproject(text: str) -> Iterator[Finding]:
    document = tomllib.loads(text)
    project = _table(document.get("project"))
    if "requires-python" in project:
        yield language("python", project["requires-python"])
    yield from _python_requirements(project.get("dependencies"))
    yield from _python_requirements(_table(document.get("build-system")).get("requires"))
    for groups in (project.get("optional-dependencies"), document.get("dependency-groups")):
        for group in _table(groups).values():
            yield from _python_requirements(group)
    poetry = _table(_table(document.get("tool")).get("poetry"))
    yield from _poetry(poetry.get("dependencies"))
    for group in _table(poetry.get("group")).values():
        yield from _poetry(_table(group).get("dependencies"))


def _requirements_txt(text: str) -> Iterator[Finding]:
    for line in text.replace("\\\n", " ").splitlines():
        wanted = re.sub(r"(^|\s)#.*|\s--?[a-z].*", "", line).strip()
        if wanted and not wanted.startswith("-") and "://" not in wanted.partition("@")[0]:
            yield from _python_requirement(wanted)


def _setup_cfg(text: str) -> Iterator[Finding]:
    config = configparser.ConfigParser(interpolation=None)
    config.read_string(text)
    if config.has_option("options", "python_requires"):
        yield language("python", config["options"]["python_requires"])
    blocks = [config.get("options", "install_requires", fallback="")]
    if config.has_section("options.extras_require"):
        blocks += config["options.extras_require"].values()
    for block in blocks:
        for line in block.splitlines():
            yield from _python_requirement(line)


def parse_imports(text: str, source: str) -> list[Finding]:
    """Return the packages outside the standard library that a Python source imports by absolute name.

    Raises:
        ManifestError: the source is not valid Python.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ManifestError(f"{source}: not valid Python: {error}") from error
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.partition(".")[0])
    return [Finding("python", "import", name, "", source) for name in sorted(names - sys.stdlib_module_names)]


# --- JavaScript and PHP -----------------------------------------------------------------------------------


def _package_json(text: str) -> Iterator[Finding]:
    document = _json_object(text)
    for engines in (document.get("engines"), document.get("volta")):
        for engine, version in _table(engines).items():
            yield language("node", version) if engine == "node" else dependency("node", engine, version)
    name, _, version = str(document.get("packageManager", "")).partition("@")
    if name:
        yield dependency("node", name, version)
    for section in ("dependencies", "devDependencies", "peerDependencies", "optionalDependencies"):
        for package, wanted in _table(document.get(section)).items():
            yield dependency("node", package, wanted)


def _package_lock(text: str) -> Iterator[Finding]:
    document = _json_object(text)
    for path, entry in _table(document.get("packages")).items():
        _, separator, name = path.rpartition("node_modules/")
        if separator:
            yield dependency("node", name, _table(entry).get("version", ""))
    if "packages" not in document:
        for name, entry in _table(document.get("dependencies")).items():
            yield dependency("node", name, _table(entry).get("version", ""))


def _composer_json(text: str) -> Iterator[Finding]:
    document = _json_object(text)
    for section in ("require", "require-dev"):
        for name, version in _table(document.get(section)).items():
            yield language("php", version) if name == "php" else dependency("php", name, version)


# --- Go, Rust, Ruby -----------------------------------------------------------------------------------------


def _go_mod(text: str) -> Iterator[Finding]:
    inside = ""
    for raw in text.splitlines():
        words = raw.partition("//")[0].split()
        if not words:
            continue
        if words[0] == ")":
            inside = ""
        elif len(words) == 2 and words[1] == "(":
            inside = words[0]
        elif words[0] == "go" and not inside and len(words) == 2:
            yield language("go", words[1])
        elif inside == "require" and len(words) == 2:
            yield dependency("go", words[0], words[1])
        elif words[0] == "require" and len(words) == 3:
            yield dependency("go", words[1], words[2])


def _cargo_dependencies(table: object) -> Iterator[Finding]:
    for section in ("dependencies", "dev-dependencies", "build-dependencies"):
        for name, wanted in _table(_table(table).get(section)).items():
            yield dependency("rust", name, wanted if isinstance(wanted, str) else _table(wanted).get("version", ""))


def _cargo_toml(text: str) -> Iterator[Finding]:
    document = tomllib.loads(text)
    rust_version = _table(document.get("package")).get("rust-version")
    if isinstance(rust_version, str):
        yield language("rust", rust_version)
    yield from _cargo_dependencies(document)
    yield from _cargo_dependencies(document.get("workspace"))
    for target in _table(document.get("target")).values():
        yield from _cargo_dependencies(target)


def _rust_toolchain(text: str) -> Iterator[Finding]:
    if "[" not in text:
        yield from _version_file("rust")(text)
        return
    channel = _table(tomllib.loads(text).get("toolchain")).get("channel")
    if channel:
        yield language("rust", channel)


_GEM = re.compile(r"""^\s*(gem|ruby)\s*\(?\s*["']([^"']+)["']((?:\s*,\s*["'][^"']+["'])*)""", re.MULTILINE)


def _gemfile(text: str) -> Iterator[Finding]:
    for word, name, versions in _GEM.findall(text):
        version = ", ".join(re.findall(r"""["']([^"']+)["']""", versions))
        yield language("ruby", name) if word == "ruby" else dependency("ruby", name, version)


# --- Java ---------------------------------------------------------------------------------------------------


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuse a document type before its entities are read, because they can expand a small file to gigabytes."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ManifestError("a DOCTYPE is refused")


def _pom_xml(text: str) -> Iterator[Finding]:
    root = ElementTree.fromstring(text, ElementTree.XMLParser(target=_NoDoctype()))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    properties = {element.tag: (element.text or "").strip() for element in root.iterfind("properties/*")}
    for name in ("java.version", "maven.compiler.release", "maven.compiler.source", "maven.compiler.target"):
        if name in properties:
            yield language("java", _maven_value(properties[name], properties))
            break
    for element in root.iter():
        if element.tag in ("parent", "dependency", "plugin") and element.find("artifactId") is not None:
            group, artifact, version = (
                _maven_value(element.findtext(tag) or "", properties) for tag in ("groupId", "artifactId", "version")
            )
            yield dependency("java", f"{group}:{artifact}" if group else artifact, version)


def _maven_value(value: str, properties: Mapping[str, str]) -> str:
    """Replace each ``${property}`` once. A property that is defined elsewhere stays unchanged."""
    return re.sub(r"\$\{([^}]+)\}", lambda match: properties.get(match[1], match[0]), value.strip())


_GRADLE_DEPENDENCY = re.compile(
    r"""^\s*[A-Za-z]\w*\s*\(?\s*["']([\w.-]+:[\w.-]+):([\w.+\-\[\](),${}]+)["']""", re.MULTILINE
)
_GRADLE_PLUGIN = re.compile(r"""\bid\s*\(?\s*["']([\w.-]+)["']\s*\)?\s+version\s+["']([^"']+)["']""")
_GRADLE_JAVA = re.compile(
    r"""(?:JavaLanguageVersion\.of\(|(?:source|target)Compatibility\s*=\s*(?:JavaVersion\.VERSION_)?["']?)([\d_.]+)"""
)


def _gradle(text: str) -> Iterator[Finding]:
    for version in _GRADLE_JAVA.findall(text):
        yield language("java", version.replace("_", "."))
    for pattern in (_GRADLE_DEPENDENCY, _GRADLE_PLUGIN):
        for name, version in pattern.findall(text):
            yield dependency("java", name, version)


# --- Containers, tool managers, continuous integration ------------------------------------------------------

_FROM = re.compile(r"FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE)
_ARG = re.compile(r"ARG\s+(\w+)=(\S+)", re.IGNORECASE)


def _dockerfile(text: str) -> Iterator[Finding]:
    arguments: dict[str, str] = {}
    stages = {"scratch"}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if match := _ARG.match(line.strip()):
            arguments[match[1]] = match[2].strip("\"'")
        elif match := _FROM.match(line.strip()):
            image = re.sub(r"\$\{?(\w+)(?::?-([^}]*))?\}?", lambda m: arguments.get(m[1], m[2] or m[0]), match[1])
            if image.lower() not in stages:
                name, version = _image(image)
                yield Finding("docker", "base-image", name, version)
            stages.add((match[2] or "").lower())


def _image(image: str) -> tuple[str, str]:
    """Split ``host:port/name:tag@digest`` into name and version. The digest is the version if there is no tag."""
    named, _, digest = image.partition("@")
    folder, slash, last = named.rpartition("/")
    name, _, tag = last.partition(":")
    return folder + slash + name, tag or digest


def _version_file(ecosystem: str, prefix: str = "") -> Parser:
    """Return a parser for files such as ``.python-version``: one version per line, comments allowed."""

    def parse(text: str) -> Iterator[Finding]:
        for line in text.splitlines():
            version = line.partition("#")[0].strip().removeprefix(prefix)
            if version:
                yield language(ecosystem, version)

    return parse


_ASDF_NAMES = {"nodejs": "node", "golang": "go"}
_LANGUAGES = frozenset({"python", "node", "go", "rust", "ruby", "java", "php"})


def _tool_versions(text: str) -> Iterator[Finding]:
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        for version in words[1:]:
            name = _ASDF_NAMES.get(words[0], words[0])
            yield language(name, version) if name in _LANGUAGES else dependency("tools", name, version)


_SETUP = re.compile(
    r"^[ \t]*(?:-[ \t]+)?[\"']?(python|node|go|java|ruby|php)-version[\"']?:[ \t]*(.*(?:\n[ \t]*-[ \t]+[^:\n]*$)*)",
    re.MULTILINE,
)
_USES = re.compile(r"^[ \t]*(?:-[ \t]+)?uses:[ \t]*[\"']?([\w./-]+)@([\w./-]+)", re.MULTILINE)


def _workflow(text: str) -> Iterator[Finding]:
    for name, value in _SETUP.findall(text):
        literal = re.sub(r"\$\{\{.*?\}\}|#.*", "", value)
        for version in re.split(r"[\s,\[\]\"'|]+|(?:^|\s)-\s", literal):
            if version and version != "-":
                yield language(name, version)
    for action, version in _USES.findall(text):
        yield dependency("github-actions", action, version)


# --- Which parser reads which file ---------------------------------------------------------------------------

_PARSERS: tuple[tuple[str, Parser], ...] = (
    ("pyproject.toml", _pyproject),
    ("requirements*.txt", _requirements_txt),
    ("requirements/*.txt", _requirements_txt),
    ("setup.cfg", _setup_cfg),
    ("runtime.txt", _version_file("python", prefix="python-")),
    (".python-version", _version_file("python")),
    ("package.json", _package_json),
    ("package-lock.json", _package_lock),
    (".nvmrc", _version_file("node", prefix="v")),
    (".node-version", _version_file("node", prefix="v")),
    ("composer.json", _composer_json),
    ("go.mod", _go_mod),
    ("Cargo.toml", _cargo_toml),
    ("rust-toolchain", _rust_toolchain),
    ("rust-toolchain.toml", _rust_toolchain),
    ("Gemfile", _gemfile),
    (".ruby-version", _version_file("ruby", prefix="ruby-")),
    ("pom.xml", _pom_xml),
    ("build.gradle", _gradle),
    ("build.gradle.kts", _gradle),
    (".java-version", _version_file("java")),
    ("Dockerfile", _dockerfile),
    ("Dockerfile.*", _dockerfile),
    ("*.Dockerfile", _dockerfile),
    ("Containerfile", _dockerfile),
    (".tool-versions", _tool_versions),
    (".github/workflows/*.yml", _workflow),
    (".github/workflows/*.yaml", _workflow),
)


def _parser_for(path: str) -> Parser | None:
    parts = PurePosixPath(path).parts
    for pattern, parser in _PARSERS:
        tail = "/".join(parts[-1 - pattern.count("/") :])
        if fnmatch.fnmatchcase(tail, pattern):
            return parser
    return None


def is_manifest(path: str) -> bool:
    """Whether :func:`parse_manifest` can read a file with this relative, slash-separated path."""
    return _parser_for(path) is not None


def parse_manifest(path: str, text: str) -> list[Finding]:
    """Return the findings of the manifest at ``path`` (relative, slash-separated) with the content ``text``.

    Raises:
        ManifestError: no parser knows the file, or its content is malformed. The message names the path.
    """
    parser = _parser_for(path)
    if parser is None:
        raise ManifestError(f"{path}: not a manifest")
    try:
        found = list(parser(text))
    except (ValueError, SyntaxError, configparser.Error, RecursionError) as error:
        raise ManifestError(f"{path}: {error}") from error
    return sorted({Finding(each.ecosystem, each.kind, each.name, each.version, path) for each in found})
