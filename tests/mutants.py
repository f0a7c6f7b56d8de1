"""Run mutmut over one module against the tests that concern it: `make mutants MODULE=worklist`.

mutmut knows a package by its path below `src`, so it works on a copy in which `functions` is called
that. The copy stays in .local/mutants/MODULE, with mutmut's results.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIED = (
    "tests",
    "local",
    "realtimekit_simulator",
    "realtimekit_recordings",
    "bench",
    "events",
    "docs",
    "template.yaml",
)

TESTS = {
    "bounded_http": "unit/test_bounded_http unit/test_realtimekit unit/test_webhook",
    "archive": "unit/test_archive functional/test_archive_recording",
    "archiver": "functional/test_archive_recording functional/test_session_files",
    "budget": "unit/test_worklist unit/test_fairness",
    "catalogue": "unit/test_catalogue unit/test_session_rows unit/test_interleavings",
    "copier": "unit/test_copier functional/test_archive_recording",
    "dynamodb": "unit/test_catalogue unit/test_worklist unit/test_listing",
    "erasure": "functional/test_archive_recording functional/test_serve_catalogue",
    "events": "unit/test_messages functional/test_publish_changes",
    "health": "functional/test_serve_catalogue",
    "ingestion": "functional/test_ingest_recording functional/test_session_files",
    "links": "functional/test_serve_catalogue",
    "listing": "unit/test_listing functional/test_serve_catalogue",
    "media": "unit/test_media_downloads functional/test_archive_recording",
    "media_types": "unit/test_media_downloads cli/test_error_pages",
    "messages": "unit/test_messages functional/test_follow_up functional/test_publish_changes",
    "model": "unit/test_model unit/test_webhook",
    "paging": "functional/test_sweep_recordings",
    "parameters": "unit/test_listing functional/test_serve_catalogue",
    "problems": "functional/test_serve_catalogue",
    "realtimekit": "unit/test_realtimekit functional/test_ingest_recording",
    "rows": "unit/test_catalogue unit/test_session_rows unit/test_stored unit/test_interleavings",
    "sweeper": "functional/test_sweep_recordings",
    "sweeps": "functional/test_sweep_recordings functional/test_serve_catalogue",
    "warmup": "unit/test_warmup",
    "webhook": "unit/test_webhook functional/test_receive_webhook",
    "worklist": "unit/test_worklist functional/test_follow_up",
}
"""The test files of a module of functions/recordings, where more than those that import it."""


def main(module: str, wanted: list[str]) -> int:
    """Run the mutants of a module, or only those `wanted`, and list the survivors."""
    folder = ROOT / ".local" / "mutants" / module
    stage(folder, module)
    command = [sys.executable, "-m", "mutmut"]
    code = subprocess.run([*command, "run", *wanted], cwd=folder, check=False).returncode
    subprocess.run([*command, "results"], cwd=folder, check=False)
    return code


def stage(folder: Path, module: str) -> None:
    """Copy what the tests need; results of an earlier run stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        _copy(ROOT / name, folder / name)
    _copy(ROOT / "functions", folder / "src")
    (folder / "functions").unlink(missing_ok=True)
    (folder / "functions").symlink_to("src")
    settings = (ROOT / "pyproject.toml").read_text()
    settings = settings.replace('pythonpath = ["functions", ', 'pythonpath = ["src", ')
    (folder / "pyproject.toml").write_text(settings + configuration(module))


def configuration(module: str) -> str:
    """Return mutmut's section of pyproject.toml."""
    path = f"{module}.py" if is_handler(module) else f"recordings/{module}.py"
    copied = [name for name in (*COPIED, "functions") if name != "tests"]
    return f"""
[tool.mutmut]
source_paths = ["src"]
only_mutate = ["src/{path}"]
also_copy = {copied}
# A mutant that hangs ends after so many seconds; a busy machine takes a minute for the slowest test.
pytest_add_cli_args = ["-p", "no:cacheprovider", "-o", "timeout=300"]
pytest_add_cli_args_test_selection = {files_of(module)}
"""


def is_handler(module: str) -> bool:
    """Return whether it is a function's own file."""
    return (ROOT / "functions" / f"{module}.py").exists()


def files_of(module: str) -> list[str]:
    """Return the test files that concern a module."""
    if is_handler(module):
        return [f"tests/functional/test_{module}.py"]
    if module in TESTS:
        return [f"tests/{name}.py" for name in TESTS[module].split()]
    imports = re.compile(rf"\brecordings(\.| import .*\b){module}\b")
    found = [*ROOT.glob("tests/unit/test_*.py"), *ROOT.glob("tests/functional/test_*.py")]
    return [str(path.relative_to(ROOT)) for path in found if imports.search(path.read_text())]


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
