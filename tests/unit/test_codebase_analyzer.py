"""The example agent: what it finds in a project, and that no project can make it fall over."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument.reader import get_dashboard_data
from tests.conftest import RunPython

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ANALYZER = EXAMPLES / "codebase_analyzer.py"
THREE_TERMINALS = EXAMPLES / "three_terminals.sh"

MANIFESTS: list[tuple[str, str, set[tuple[str, str, str]]]] = [
    (
        "pyproject.toml",
        """
        [build-system]
        requires = ["hatchling>=1.25"]
        [project]
        requires-python = ">=3.11"
        dependencies = ["pydantic[email]>=2,<3 ; python_version > '3'", "six"]
        [project.optional-dependencies]
        web = ["starlette~=1.0"]
        [dependency-groups]
        dev = [{ include-group = "web" }, "pytest"]
        """,
        {
            ("language", "python", ">=3.11"),
            ("dependency", "hatchling", ">=1.25"),
            ("dependency", "pydantic", ">=2,<3"),
            ("dependency", "six", ""),
            ("dependency", "starlette", "~=1.0"),
            ("dependency", "pytest", ""),
        },
    ),
    (
        "pyproject.toml",
        """
        [tool.poetry.dependencies]
        python = "^3.12"
        flask = { version = "^3.0", extras = ["async"] }
        [tool.poetry.group.test.dependencies]
        pytest = "*"
        """,
        {("language", "python", "^3.12"), ("dependency", "flask", "^3.0"), ("dependency", "pytest", "*")},
    ),
    (
        "requirements-dev.txt",
        """
        # a comment
        -r base.txt
        requests[socks] >= 2.31, < 3  # with a comment
        flask==3.0.3 --hash=sha256:abc
        tool @ file:///srv/tool.whl
        git+https://example.org/x.git
        """,
        {
            ("dependency", "requests", ">= 2.31, < 3"),
            ("dependency", "flask", "==3.0.3"),
            ("dependency", "tool", "@ file:///srv/tool.whl"),
        },
    ),
    ("requirements/base.txt", "attrs", {("dependency", "attrs", "")}),
    (
        "setup.cfg",
        "[options]\npython_requires = >=3.8\ninstall_requires =\n  attrs>=20\n[options.extras_require]\nx = six\n",
        {("language", "python", ">=3.8"), ("dependency", "attrs", ">=20"), ("dependency", "six", "")},
    ),
    (".python-version", "3.12.4\n", {("language", "python", "3.12.4")}),
    ("runtime.txt", "python-3.11.9", {("language", "python", "3.11.9")}),
    (
        "package.json",
        '{"engines": {"node": ">=20", "npm": "10"}, "packageManager": "pnpm@9.1.0",'
        ' "dependencies": {"react": "^18"}, "devDependencies": {"vite": "5"}}',
        {
            ("language", "node", ">=20"),
            ("dependency", "npm", "10"),
            ("dependency", "pnpm", "9.1.0"),
            ("dependency", "react", "^18"),
            ("dependency", "vite", "5"),
        },
    ),
    (
        "package-lock.json",
        '{"packages": {"": {"version": "1"}, "node_modules/@a/b": {"version": "1.2.3"},'
        ' "node_modules/a/node_modules/c": {"version": "3"}}}',
        {("dependency", "@a/b", "1.2.3"), ("dependency", "c", "3")},
    ),
    ("package-lock.json", '{"dependencies": {"old": {"version": "1.0"}}}', {("dependency", "old", "1.0")}),
    (".nvmrc", "v20.11\n", {("language", "node", "20.11")}),
    (
        "composer.json",
        '{"require": {"php": ">=8.2", "a/b": "^1"}}',
        {("language", "php", ">=8.2"), ("dependency", "a/b", "^1")},
    ),
    (
        "go.mod",
        "module x\ngo 1.22\nrequire a.b/c v1.2.3\nrequire (\n\td.e/f v2.0.0 // indirect\n)\nexclude (\n\tq v0\n)\n",
        {("language", "go", "1.22"), ("dependency", "a.b/c", "v1.2.3"), ("dependency", "d.e/f", "v2.0.0")},
    ),
    (
        "Cargo.toml",
        '[package]\nrust-version = "1.75"\n[dependencies]\nserde = { version = "1", features = ["derive"] }\n'
        'log = "0.4"\n'
        '[target."cfg(unix)".dependencies]\nlibc = "0.2"\n',
        {
            ("language", "rust", "1.75"),
            ("dependency", "serde", "1"),
            ("dependency", "log", "0.4"),
            ("dependency", "libc", "0.2"),
        },
    ),
    ("rust-toolchain.toml", '[toolchain]\nchannel = "1.78"\n', {("language", "rust", "1.78")}),
    (
        "Gemfile",
        "ruby '3.3.0'\ngem 'rails', '~> 7.1', '>= 7.1.2'\ngem \"puma\"\n",
        {("language", "ruby", "3.3.0"), ("dependency", "rails", "~> 7.1, >= 7.1.2"), ("dependency", "puma", "")},
    ),
    (
        "pom.xml",
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><properties><java.version>21</java.version><v>5.1</v>'
        "</properties><dependencies><dependency><groupId>g</groupId><artifactId>a</artifactId><version>${v}</version>"
        "</dependency></dependencies></project>",
        {("language", "java", "21"), ("dependency", "g:a", "5.1")},
    ),
    (
        "build.gradle.kts",
        'plugins {\n id("org.example") version "1.9"\n}\ndependencies {\n implementation("a.b:c-d:1.0")\n}\n'
        "java { toolchain { languageVersion.set(JavaLanguageVersion.of(17)) } }\n",
        {("language", "java", "17"), ("dependency", "a.b:c-d", "1.0"), ("dependency", "org.example", "1.9")},
    ),
    (
        "Dockerfile",
        "ARG V=3.12\nFROM --platform=linux/amd64 python:${V}-slim AS base\nFROM base\n"
        "FROM localhost:5000/team/app:7@sha256:aa\n"
        "FROM node:${N:-20}\nFROM scratch\n",
        {
            ("base-image", "python", "3.12-slim"),
            ("base-image", "localhost:5000/team/app", "7"),
            ("base-image", "node", "20"),
        },
    ),
    (
        ".tool-versions",
        "nodejs 20.1 # why\npython 3.12.1 3.11.9\nterraform 1.7\n",
        {
            ("language", "node", "20.1"),
            ("language", "python", "3.12.1"),
            ("language", "python", "3.11.9"),
            ("dependency", "terraform", "1.7"),
        },
    ),
    (
        ".github/workflows/ci.yml",
        "      matrix:\n        python-version: ['3.11', \"3.12\"] # both\n"
        "        node-version:\n          - 18\n          - 20\n"
        "    steps:\n      - uses: actions/checkout@v4\n"
        "        with:\n          python-version: ${{ matrix.python-version }}\n",
        {
            ("language", "python", "3.11"),
            ("language", "python", "3.12"),
            ("language", "node", "18"),
            ("language", "node", "20"),
            ("dependency", "actions/checkout", "v4"),
        },
    ),
]

MALFORMED = {
    "pyproject.toml": "[project",
    "Cargo.toml": "= 1",
    "package.json": "[1, 2]",
    "package-lock.json": "[" * 100_000,
    "composer.json": "",
    "setup.cfg": "no section",
    "pom.xml": "<project>",
}

BILLION_LAUGHS = """<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<project><dependencies>&b;</dependencies></project>"""


@pytest.fixture
def manifests(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("software_manifests")


@pytest.fixture
def analyzer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(EXAMPLES)
    yield importlib.import_module("codebase_analyzer")
    for name in ("codebase_analyzer", "software_manifests"):
        sys.modules.pop(name, None)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    for path, text in {
        "pyproject.toml": '[project]\nrequires-python = ">=3.11"\ndependencies = ["pydantic>=2"]\n',
        "requirements.txt": "pydantic==2.7\n",
        "Dockerfile": "FROM python:3.12\n",
        "web/package.json": '{"dependencies": {"react": "^18"}}',
        "src/app.py": "import os, pydantic\nfrom . import sibling\nfrom starlette.routing import Route\n",
        "node_modules/react/package.json": '{"dependencies": {"hidden": "1"}}',
        "my-env/pyvenv.cfg": "",
        "my-env/pyproject.toml": '[project]\ndependencies = ["hidden"]\n',
        ".git/config": "",
    }.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def found(manifests: Any, path: str, text: str) -> set[tuple[str, str, str]]:
    return {(each.kind, each.name, each.version) for each in manifests.parse_manifest(path, text)}


@pytest.mark.parametrize(
    ("path", "text", "expected"), MANIFESTS, ids=[f"{path}-{n}" for n, (path, *_) in enumerate(MANIFESTS)]
)
def test_a_manifest_yields_every_version_it_states(
    manifests: Any, path: str, text: str, expected: set[tuple[str, str, str]]
) -> None:
    assert found(manifests, path, text) == expected


@pytest.mark.parametrize("path", MALFORMED)
def test_a_malformed_manifest_is_a_manifest_error_that_names_the_file(manifests: Any, path: str) -> None:
    with pytest.raises(manifests.ManifestError, match=f"sub/{path}"):
        manifests.parse_manifest(f"sub/{path}", MALFORMED[path])


@pytest.mark.parametrize("path", ["pyproject.toml", "Cargo.toml"])
def test_a_toml_manifest_with_values_of_unexpected_types_is_read_as_far_as_it_makes_sense(
    manifests: Any, path: str
) -> None:
    text = 'project = 3\ntool = []\ndependencies = "x"\npackage = [1]\ndependency-groups = { a = "b" }\n'
    assert found(manifests, path, text) == set()


def test_a_json_manifest_with_values_of_unexpected_types_is_read_as_far_as_it_makes_sense(manifests: Any) -> None:
    assert found(manifests, "package.json", '{"engines": [], "dependencies": "x", "volta": null}') == set()


def test_entities_of_an_xml_manifest_are_refused_and_not_expanded(manifests: Any) -> None:
    with pytest.raises(manifests.ManifestError, match="DOCTYPE"):
        manifests.parse_manifest("pom.xml", BILLION_LAUGHS)


def test_imports_are_those_of_packages_outside_the_standard_library(manifests: Any) -> None:
    source = "import os, pydantic.types\nfrom . import near\nfrom starlette.routing import Route\n"
    assert [each.name for each in manifests.parse_imports(source, "a.py")] == ["pydantic", "starlette"]


def test_a_source_that_is_not_python_is_a_manifest_error(manifests: Any) -> None:
    with pytest.raises(manifests.ManifestError, match="not valid Python"):
        manifests.parse_imports("def (", "a.py")


def test_the_walk_leaves_out_dependencies_environments_and_version_control(analyzer: Any, project: Path) -> None:
    assert list(analyzer.walk(project)) == [
        "Dockerfile",
        "pyproject.toml",
        "requirements.txt",
        "src/app.py",
        "web/package.json",
    ]


def test_the_walk_is_not_trapped_by_a_loop_of_links(analyzer: Any, project: Path) -> None:
    (project / "src" / "again").symlink_to(project, target_is_directory=True)
    (project / "src" / "self").symlink_to("self")
    assert len(list(analyzer.walk(project))) == 5


def test_the_walk_never_opens_what_is_not_a_regular_file(analyzer: Any, project: Path) -> None:
    os.mkfifo(project / "package.json")
    assert "package.json" not in list(analyzer.walk(project))


def test_the_same_dependency_in_two_versions_is_a_conflict(analyzer: Any, project: Path) -> None:
    conflicts = analyzer.analyze(project).conflicts
    assert conflicts == {"python: pydantic": ["==2.7 (requirements.txt)", ">=2 (pyproject.toml)"]}


def test_a_malformed_manifest_is_a_problem_in_the_report_and_a_failed_tool_call(analyzer: Any, project: Path) -> None:
    (project / "Cargo.toml").write_text("[package")
    report = analyzer.analyze(project)
    data = get_dashboard_data()
    assert [problem.partition(":")[0] for problem in report.problems] == ["Cargo.toml"]
    assert data.metrics.tools["detect_versions"].error == 1
    assert data.agents["software-versions"].status == "completed"


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b" " * (4 * 1024 * 1024 + 1)], ids=["binary", "huge"])
def test_a_file_that_cannot_be_read_as_text_is_a_problem_in_the_report(
    analyzer: Any, project: Path, data: bytes
) -> None:
    (project / "web" / "package.json").write_bytes(data)
    report = analyzer.analyze(project)
    assert [problem.partition(":")[0] for problem in report.problems] == ["web/package.json"]


def test_a_run_declares_its_stages_and_goes_through_them_in_order(analyzer: Any, project: Path) -> None:
    analyzer.analyze(project)
    agent = get_dashboard_data().agents["software-versions"]
    assert agent.workflow is not None
    assert agent.workflow.steps == ["discover", "read", "analyze", "report"]
    assert [(step.step_id, step.status) for step in agent.steps] == [(name, "ok") for name in agent.workflow.steps]


def test_a_report_that_cannot_be_written_fails_the_run_in_the_tool(
    analyzer: Any, project: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(FileExistsError):
        analyzer.analyze(project, out=tmp_path / "taken")
    data = get_dashboard_data()
    assert data.agents["software-versions"].status == "failed"
    assert data.metrics.tools["write_file"].error == 1


def test_names_out_of_the_project_cannot_break_the_markdown_table_or_reach_a_terminal_raw(analyzer: Any) -> None:
    finding = analyzer.Finding("python", "dependency", "a|b\x1b[2J", "1\n2", "x")
    text = analyzer.to_markdown(analyzer.Report("p", findings=[finding]))
    assert "| python | a\\|b [2J | 1 2 | x |" in text


def test_the_script_prints_markdown(run_python: RunPython, project: Path) -> None:
    out = run_python(ANALYZER, str(project)).stdout
    assert out.startswith("# Software versions of shop\n")
    assert "| docker | python | 3.12 | Dockerfile |" in out


def test_the_script_prints_json_when_asked(run_python: RunPython, project: Path) -> None:
    report = json.loads(run_python(ANALYZER, str(project), "--json", "--imports").stdout)
    assert report["files"] == 5
    assert {each["name"] for each in report["findings"] if each["kind"] == "import"} == {"pydantic", "starlette"}


def test_the_script_writes_both_reports_to_the_directory_it_is_given(
    run_python: RunPython, project: Path, tmp_path: Path
) -> None:
    run_python(ANALYZER, str(project), "--out", str(tmp_path / "new" / "reports"))
    written = tmp_path / "new" / "reports"
    assert (written / "software-versions.md").read_text().startswith("# Software versions")
    assert json.loads((written / "software-versions.json").read_text())["project"] == "shop"


def test_the_script_refuses_what_is_not_a_directory(run_python: RunPython, tmp_path: Path) -> None:
    done = run_python(ANALYZER, str(tmp_path / "nowhere"), returncode=2)
    assert "not a directory" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("example", ["functional_api.py", "threads_and_processes.py"])
def test_the_other_examples_run_without_a_warning(run_python: RunPython, example: str) -> None:
    assert run_python(EXAMPLES / example).stderr == ""


def test_the_three_terminals_script_explains_itself() -> None:
    done = subprocess.run([THREE_TERMINALS], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert all(f"three_terminals.sh {part}" in done.stderr for part in ("dashboard", "agent", "watch"))


def test_the_three_terminals_script_runs_the_agent(project: Path) -> None:
    env = {**os.environ, "PYTHON": sys.executable, "PAUSE": "0", "PYTHONPATH": str(EXAMPLES.parent)}
    command = [THREE_TERMINALS, "agent", project]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# Software versions of shop")
