"""Databases for tests: SQLite, and a PostgreSQL server of one's own where there is one."""

import contextlib
import glob
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import pytest


def find_postgres() -> pathlib.Path | None:
    """The folder of PostgreSQL's programs, newest version first; None where there is none."""
    found = sorted(
        glob.glob("/usr/lib/postgresql/*/bin/initdb"),
        key=lambda path: int(pathlib.Path(path).parts[-3]),
        reverse=True,
    )
    on_path = shutil.which("initdb")
    paths = [*found, *([on_path] if on_path else [])]
    return pathlib.Path(paths[0]).parent if paths else None


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A server with a new cluster, on a socket in a folder of its own; yields its URL.

    Skips the test where PostgreSQL is not installed.
    """
    programs = find_postgres()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with tempfile.TemporaryDirectory(prefix="vrn-pg-") as folder:
        demote = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            names = [one.pw_name for one in pwd.getpwall()]
            user = "postgres" if "postgres" in names else "nobody"
            demote = {"user": user}
            shutil.chown(folder, user)
        options = {"check": True, "capture_output": True, "timeout": 120, "cwd": folder} | demote
        subprocess.run(
            [programs / "initdb", "-D", f"{folder}/data", "-U", "vrn", "-A", "trust", "-N"],
            **options,
        )
        pg_ctl = [programs / "pg_ctl", "-D", f"{folder}/data", "-w"]
        listen = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"
        # The server keeps what it is given as standard output for as long as it lives.
        options |= {"capture_output": False, "stdout": subprocess.DEVNULL}
        subprocess.run([*pg_ctl, "-l", f"{folder}/log", "-o", listen, "start"], **options)
        try:
            yield f"postgresql+psycopg://vrn@/postgres?host={folder}"
        finally:
            subprocess.run([*pg_ctl, "-m", "immediate", "stop"], **options)
