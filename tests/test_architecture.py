"""Imports run one way, nothing private of a library is used, and CI installs what tests need."""

import ast
import importlib
import inspect
import pkgutil
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

import service
from service.endpoints.protocol import HttpProtocol

ROOT = Path(__file__).parents[1]
Rule = Callable[[ast.Module], Iterator[str]]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_imports(tree: ast.Module) -> Iterator[str]:
    """Imports of an underscore module, or of an underscore name, that is not ours."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if not name.startswith("service.") and any(map(is_private, name.split("."))))


def patches(tree: ast.Module) -> Iterator[str]:
    """Assignments to (and deletions of) attributes of what was imported."""
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    for node in ast.walk(tree):
        target = None
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            target = node.value
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"setattr", "delattr"}:
            target = node.args[0]
        if target is not None and _root(target) in imported:
            yield ast.unparse(node)


def private_overrides(of: type) -> set[str]:
    """Private names that a class of ours defines or uses on itself, and that a library's base class has, too."""
    theirs: set[str] = set()
    for base in of.__mro__:
        if (
            not base.__module__.startswith("service.")
            and base.__module__.partition(".")[0] not in sys.stdlib_module_names
        ):
            theirs |= {name for name in vars(base) if is_private(name)}
            with suppress(OSError):  # some libraries say that a class is defined where it is exported
                theirs |= _private_names(base)
    return theirs and theirs & _private_names(of)


def classes() -> Iterator[type]:
    """Every class of the package."""
    for module in pkgutil.walk_packages(service.__path__, "service."):
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if found.__module__ == module.name:
                yield found


def _private_names(of: type) -> set[str]:
    return set(re.findall(r"(?:\b(?:self|cls)\.|super\(\)\.|\bdef )(_(?!_)\w+)", inspect.getsource(of)))


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def test_imports_run_one_way() -> None:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    report = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert report.returncode == 0, report.stdout + report.stderr


@pytest.mark.parametrize("rule", [private_imports, patches], ids=lambda rule: rule.__name__)
def test_the_code_uses_only_what_libraries_publish(rule: Rule) -> None:
    """Private attributes are ruff's to find (SLF001)."""
    found = {str(path): [*rule(ast.parse(path.read_text("utf-8")))] for path in (ROOT / "service").rglob("*.py")}
    assert {path: offences for path, offences in found.items() if offences} == {}


@pytest.mark.parametrize(
    ("rule", "source", "offence"),
    [
        (private_imports, "from starlette.routing import _DefaultLifespan", "starlette.routing._DefaultLifespan"),
        (patches, "from redis import asyncio as redis\ndel redis.Redis.get", "redis.Redis.get"),
        (patches, "from uvicorn import Server\nsetattr(Server, 'run', None)", "setattr(Server, 'run', None)"),
    ],
)
def test_what_is_private_or_patched_is_noticed(rule: Rule, source: str, offence: str) -> None:
    assert list(rule(ast.parse(source))) == [offence]


def test_no_private_method_of_a_library_is_overridden() -> None:
    assert {of.__qualname__: names for of in classes() if (names := private_overrides(of))} == {}


class Overriding(uvicorn.Server):
    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._log_started_message(sockets or [])


def test_a_private_override_or_use_is_noticed() -> None:
    assert private_overrides(Overriding) == {"_serve", "_log_started_message"}


def test_one_small_class_extends_uvicorns_protocol() -> None:
    extensions = {of for of in classes() if issubclass(of, HttpToolsProtocol | H11Protocol)}
    assert extensions == {HttpProtocol}
    assert len(inspect.getsource(HttpProtocol).splitlines()) <= 100


def test_ci_installs_every_program_that_tests_need() -> None:
    installed = set(re.findall(r"\[([\w-]+)\]=([\w-]+)", (ROOT / ".ci" / "run").read_text("utf-8")))
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py"))
    assert set(re.findall(r'\bneed\("([\w-]+)", "([\w-]+)"\)', sources)) <= installed
