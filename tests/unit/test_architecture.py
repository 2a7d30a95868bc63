"""The rules of the house: what may import what, and what no module does when it is imported.

They hold the parts apart that can be tested without a container from those that cannot.
"""

from __future__ import annotations

import ast
import json
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import pytest

ROOT: Final = pathlib.Path(__file__).parents[2]
FILES: Final = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "entrypoint").rglob("*.py"))
}
TREES: Final = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
MODULES: Final = sorted(TREES)
_MOST_LINES: Final = 300
# A declaration takes about eight lines, and there is one for each setting: a table, not logic.
_TABLES: Final = frozenset({"entrypoint.config.declarations"})
# What turns bytes from outside into values, wherever they come from; a system module that uses one names it.
_PARSERS: Final = frozenset(
    f"entrypoint.{name}"
    for name in (
        "config.certificates",
        "config.list_maps",
        "config.password_scheme",
        "config.dkim",
        "config.dkim_key",
        "config.web_url",
        "journal.addresses",
        "journal.forms",
        "journal.queue_ids",
    )
)
_PLAIN: Final = ("entrypoint", "entrypoint.errors", "entrypoint.paths", "entrypoint.placeholders")
_EXEC: Final = re.compile(r"os\.(exec\w+|spawn\w+|posix_spawn\w*|system|popen|fork|forkpty)")


def _find_imports(module: str) -> set[str]:
    """Return the full names of all modules that a module imports, at any depth of its code."""
    found: set[str] = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            assert node.module is not None
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = {name for name in names if name in TREES}
            found |= submodules
            if submodules != names:
                found.add(node.module)
    return found


def _find_own_imports(module: str) -> set[str]:
    return {name for name in _find_imports(module) if name.split(".")[0] == "entrypoint"}


def _list_package(name: str) -> list[str]:
    return [module for module in MODULES if module.startswith(f"entrypoint.{name}.")]


def _find_outside(module: str, *allowed: str) -> set[str]:
    """Return what a module imports of ours beyond the allowed modules and packages."""
    return {
        name
        for name in _find_own_imports(module)
        if name not in (*allowed, *_PLAIN) and not name.startswith(tuple(f"{package}." for package in allowed))
    }


def _find_dotted_names(module: str) -> Iterator[str]:
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)


@pytest.mark.parametrize("module", _list_package("config"))
def test_config_imports_only_config(module: str) -> None:
    """What the user asked for is decided without looking at the world."""
    assert _find_outside(module, "entrypoint.config") == set()


@pytest.mark.parametrize("module", _list_package("plan"))
def test_plan_imports_only_plan_and_config(module: str) -> None:
    """The plan is computed from settings and facts alone, so that golden files are the whole truth."""
    assert _find_outside(module, "entrypoint.plan", "entrypoint.config") == set()


@pytest.mark.parametrize("module", [*_list_package("plan"), *_list_package("config")])
def test_config_and_plan_are_pure(module: str) -> None:
    """No clock, no processes, no network; the one reader of files and the templates' loader are named."""
    impure = {"time", "socket", "subprocess", "random", "secrets", "tempfile", "shutil", "signal", "threading"}
    assert _find_imports(module) & impure == set()
    if module != "entrypoint.config.environment":
        assert "os" not in _find_imports(module)
        calls = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)]
        has_loader = module == "entrypoint.plan.templates"
        assert has_loader or "open" not in {ast.unparse(call.func) for call in calls}


@pytest.mark.parametrize("module", _list_package("migration"))
def test_migration_imports_only_itself_and_config(module: str) -> None:
    """What an old configuration comes to is decided without Postfix and without a disk; the command brings both."""
    assert _find_outside(module, "entrypoint.migration", "entrypoint.config") == set()
    assert _find_imports(module) & {"os", "time", "socket", "subprocess", "tempfile"} == set()


@pytest.mark.parametrize("module", _list_package("journal"))
def test_journal_imports_only_itself_and_reasons(module: str) -> None:
    """It sees every line of the log: what it does with them must be possible to say without a socket or a file."""
    assert _find_outside(module, "entrypoint.journal", "entrypoint.reasons") == set()
    assert _find_imports(module) & {"os", "time", "socket", "threading", "logging"} == set()


@pytest.mark.parametrize("module", _list_package("system"))
def test_system_imports_another_system_module_only_where_its_docstring_says_so(module: str) -> None:
    """One module for each outside thing; where one needs another, its first lines say which and why."""
    docstring = ast.get_docstring(TREES[module]) or ""
    said = re.search(r"Uses (`\w+`[^.]*)\.", docstring)
    named = {f"entrypoint.system.{name}" for name in re.findall(r"`(\w+)`", said[1] if said else "")}
    parsers = {f"entrypoint.{name}" for name in re.findall(r"`((?:config|journal)\.\w+)`", docstring)}
    assert parsers <= _PARSERS
    assert _find_outside(module, *named, *parsers, *(["entrypoint.config.declaration"] if parsers else [])) == set()
    assert named | parsers <= _find_own_imports(module)


@pytest.mark.parametrize("module", _list_package("oauth2"))
def test_oauth2_imports_only_config_and_system(module: str) -> None:
    """What an answer of an endpoint means is decided without Postfix, and by whoever asks."""
    assert _find_outside(module, "entrypoint.oauth2", "entrypoint.config", "entrypoint.system") == set()


@pytest.mark.parametrize("module", _list_package("services"))
def test_services_import_only_system_and_their_own_parts(module: str) -> None:
    """Their environment is scrubbed: settings are not there, and the passwords must not come back."""
    allowed = ["entrypoint.system", "entrypoint.services", "entrypoint.journal"]
    if module.startswith("entrypoint.services.status."):
        allowed += ["entrypoint.health", "entrypoint.upkeep", "entrypoint.reasons"]
    assert _find_outside(module, *allowed) == set()


@pytest.mark.parametrize("module", _list_package("health"))
def test_health_imports_only_system_and_upkeep(module: str) -> None:
    """It is asked every few seconds in every container: settings and templates must not come along."""
    assert _find_outside(module, "entrypoint.system", "entrypoint.upkeep", "entrypoint.health") == set()


@pytest.mark.parametrize("module", _list_package("upkeep"))
def test_upkeep_imports_only_system(module: str) -> None:
    """`health` reads what it remembers, every few seconds: settings and templates must not come along."""
    assert _find_outside(module, "entrypoint.system", "entrypoint.upkeep") == set()


@pytest.mark.parametrize("module", [name for name in MODULES if name != "entrypoint.__main__"])
def test_only_the_hall_imports_commands(module: str) -> None:
    """A command that called another would run its start twice; what they share is in `prepare`."""
    commands = {name for name in _find_own_imports(module) if name.startswith("entrypoint.commands.")}
    allowed = {"entrypoint.commands.prepare"} if module.startswith("entrypoint.commands.") else set()
    if module == "entrypoint.commands.run":
        allowed = {"entrypoint.commands.start"}
    if module == "entrypoint.commands.prepare":
        allowed = {"entrypoint.commands.endings"}
    assert commands <= allowed


@pytest.mark.parametrize("module", MODULES)
def test_only_environment_reads_the_environment(module: str) -> None:
    """A setting that is read elsewhere is in no table, in no check, and in nobody's mind."""
    used = {name for name in _find_dotted_names(module) if re.fullmatch(r"os\.(environb?|getenvb?|putenv)", name)}
    if module in ("entrypoint.commands.start", "entrypoint.services.supervisor"):
        source = FILES[module].read_text(encoding="utf-8")
        assert len(re.findall(r'os\.environ\["TZ"\] = ', source)) == len(re.findall(r"os\.environ", source)) == 1
    elif module != "entrypoint.config.environment":
        assert used == set()
    if module != "entrypoint.config.parsing":
        assert "environs" not in _find_imports(module)


@pytest.mark.parametrize("module", [name for name in MODULES if name != "entrypoint.system.processes"])
def test_only_processes_runs_programs(module: str) -> None:
    """Whoever runs programs decides on their environment and their open files; that is decided once."""
    assert "subprocess" not in _find_imports(module)
    assert "multiprocessing" not in _find_imports(module)
    assert [name for name in _find_dotted_names(module) if _EXEC.fullmatch(name)] == []


@pytest.mark.parametrize("module", MODULES)
def test_only_system_and_services_open_sockets(module: str) -> None:
    """A start that waits for the network where nobody expects it is a start that hangs."""
    network = {"socket", "ssl", "http", "http.client", "urllib.request", "smtplib", "asyncio"}
    if not module.startswith(("entrypoint.system.", "entrypoint.services.")):
        assert _find_imports(module) & network == set()


@pytest.mark.parametrize("module", MODULES)
def test_module_has_a_docstring_a_good_name_and_a_size_that_fits_a_head(module: str) -> None:
    """Whoever opens a file learns from its first line what it is for."""
    assert ast.get_docstring(TREES[module])
    words = set(re.split(r"[._]", module))
    assert words & {"utils", "util", "helpers", "helper", "common", "manager", "misc"} == set()
    lines = len(FILES[module].read_text(encoding="utf-8").splitlines())
    assert lines < _MOST_LINES or module in _TABLES


@pytest.mark.parametrize("module", MODULES)
def test_public_function_has_a_docstring(module: str) -> None:
    """A name says what it does; the sentence says what the caller must know."""
    classes = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.ClassDef)]
    bodies = [TREES[module].body, *(node.body for node in classes if not node.name.startswith("_"))]
    missing = [
        node.name
        for body in bodies
        for node in body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
        and not _is_protocol_member(node)
    ]
    assert missing == []


def _is_protocol_member(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """Return whether a function has `...` for its body: its class says what it is."""
    only = node.body[0] if len(node.body) == 1 else None
    return isinstance(only, ast.Expr) and isinstance(only.value, ast.Constant) and only.value.value is ...


# Standard input: the modules. Each is imported in a child of its own, beside libraries that are here already.
_WATCH: Final = """
import compileall, importlib, json, os, sys
import cryptography.x509, environs, jinja2, jwt, marshmallow, oauthlib.oauth2, supervisor.options

def watch(event, arguments):
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        print("opens for writing:", arguments[0])
    elif event.startswith(("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.system", "os.putenv",
                           "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "signal.")):
        print("does:", event, arguments)

def look(module):
    sys.addaudithook(watch)
    importlib.import_module(module)

compileall.compile_dir("entrypoint", quiet=1)
told = {}
for module in json.load(sys.stdin):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.close(reading)
        os.close(writing)
        look(module)
        sys.stdout.flush()
        os._exit(0)
    os.close(writing)
    with open(reading) as said:
        text = said.read()
    told[module] = [text, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def imports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, int]]:
    """By module: what its import wrote, and the exit status."""
    byte_code = str(tmp_path_factory.mktemp("byte-code"))
    done = subprocess.run(
        (sys.executable, "-B", "-c", _WATCH),
        cwd=ROOT,
        input=json.dumps([name for name in MODULES if name != "entrypoint.__main__"]),
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "", "PYTHONPYCACHEPREFIX": byte_code},
    )
    return {module: (text, status) for module, (text, status) in json.loads(done.stdout).items()}


@pytest.mark.parametrize("module", [name for name in MODULES if name != "entrypoint.__main__"])
def test_import_has_no_effect(module: str, imports: dict[str, tuple[str, int]]) -> None:
    """A health check imports, a test imports, an editor imports: none of them may start anything."""
    assert imports[module] == ("", 0)


def test_supervisor_leaves_out_what_it_does_not_need() -> None:
    """supervisor's web server and client take twice the time of all the rest, at every start, and much memory."""
    code = "import sys, entrypoint.services.supervisor; print(*sys.modules)"
    command = (sys.executable, "-B", "-c", code)
    loaded = set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    assert "supervisor.process" in loaded
    unwanted = {"supervisor.xmlrpc", "supervisor.http", "xmlrpc.client", "http.client", "email", "html", "zipfile"}
    assert loaded & {*unwanted, "importlib.metadata", "environs", "jinja2", "cryptography"} == set()


def test_start_leaves_out_what_it_does_not_need() -> None:
    """The checks that marshmallow has, and what reads files of variables, took a third of what the start imports."""
    code = "import sys, entrypoint.commands.start; print(*sys.modules)"
    command = (sys.executable, "-B", "-c", code)
    loaded = set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    assert {"environs", "marshmallow.fields", "jinja2.environment"} <= loaded
    unwanted = {"marshmallow.validate", "dotenv.main", "logging", "tempfile", "uuid", "pickle", "cryptography"}
    assert loaded & {*unwanted, "hashlib", "supervisor", "oauthlib", "jwt", "entrypoint.oauth2"} == set()


def test_health_check_stays_light() -> None:
    """It runs every few seconds in every container; settings, templates and certificates are not its business."""
    code = "import sys, entrypoint.__main__, entrypoint.commands.health; print(*sys.modules)"
    command = (sys.executable, "-B", "-c", code)
    loaded = set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    assert loaded & {"cryptography", "jinja2", "environs", "marshmallow", "supervisor", "entrypoint.config"} == set()
