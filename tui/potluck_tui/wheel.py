"""This very version as a wheel, to install it on another machine."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlparse

from potluck_proto.errors import SetupError

BUILD_SECONDS = 120.0


def make_wheel(folder: Path) -> Path:
    """Write a wheel into a folder and return it. Raises `SetupError`.

    From a checkout it is built; from an installation it is packed again from the files that pip
    installed.
    """
    distribution = metadata.distribution("potluck")
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return _built(Path(unquote(urlparse(origin["url"]).path)), folder)
    return _packed(distribution, folder)


def pinned_versions() -> list[str]:
    """Return the versions of all packages that are installed here, as pip takes constraints."""
    found = {
        f"{distribution.name}=={distribution.version}"
        for distribution in metadata.distributions()
        if distribution.name != "potluck"
    }
    return sorted(found)


def _built(source: Path, folder: Path) -> Path:
    result = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", str(folder), str(source)],
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )  # fmt: skip
    wheels = list(folder.glob("potluck-*.whl"))
    if result.returncode or not wheels:
        raise SetupError(f"The package cannot be built here: {' '.join(result.stderr.split())}")
    return wheels[0]


def _packed(distribution: metadata.Distribution, folder: Path) -> Path:
    target = folder / f"potluck-{distribution.version}-py3-none-any.whl"
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file in distribution.files or ():
            # Programs and byte code are made by the installation; what pip noted is of this one.
            made_here = file.name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
            if file.parts[0] == ".." or file.suffix == ".pyc" or made_here:
                continue
            content = Path(str(file.locate())).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            wheel.writestr(str(file), content)
            rows.writerow([str(file), f"sha256={digest}", len(content)])
        name = f"potluck-{distribution.version}.dist-info/RECORD"
        rows.writerow([name, "", ""])
        wheel.writestr(name, record.getvalue())
    return target
