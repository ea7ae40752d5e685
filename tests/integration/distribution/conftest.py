"""A wheel that is built once, and an environment with nothing of the checkout in which it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT


@dataclass(frozen=True)
class Installed:
    """The environment of a user who installed the wheel."""

    wheel: Path
    folder: Path

    @property
    def bin(self) -> Path:
        """Return the folder of its commands."""
        return self.folder / "venv" / "bin"

    def environment(self) -> dict[str, str]:
        """Return the variables of its processes: none of ours, and no way to the checkout."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("BNFOLD_", "PYTHON", "VIRTUAL_ENV"))}
        state = {"XDG_STATE_HOME": str(self.folder / "state"), "BNFOLD_WARM_FORMATS": "onnx"}
        return kept | state | {"PATH": f"{self.bin}:{kept['PATH']}"}

    def run(self, *command: str, exit_code: int = 0) -> str:
        """Run a command of the environment outside the checkout and return what it printed."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=240,
            check=False,
        )  # fmt: skip
        assert done.returncode == exit_code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the documentation site as `make docs-site` does: a warning fails it."""
    folder = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def wheel(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as `make wheel` does, without a network, from a copy that has the site in it."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    unwanted = shutil.ignore_patterns("__pycache__", "site")
    for name in ("bnfold", "folding", "service"):
        shutil.copytree(ROOT / name, tree / name, ignore=unwanted)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, tree / name)
    shutil.copytree(site, tree / "service" / "web" / "site")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=tree, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Install the wheel into an environment of its own.

    Its dependencies come from this environment's folder, named in a `.pth` file: nothing is downloaded or
    copied. A `.pth` file inside that folder is not read, so the editable install of the checkout is not seen.
    """
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, timeout=60)
    python = folder / "venv" / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps",
         "--no-index", "--disable-pip-version-check", str(wheel)],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (folder / "venv" / "lib" / version / "site-packages" / "dependencies.pth").write_text(
        sysconfig.get_path("purelib") + "\n"
    )
    return Installed(wheel, folder)
