"""The run directory: where the control socket lives, and that nobody else could have put it there."""

import os
import stat
from pathlib import Path


def default_run_dir() -> Path:
    """`$SLUICEWAY_RUN_DIR`, else /run/sluiceway for root, else the user's own runtime directory."""
    chosen = os.environ.get("SLUICEWAY_RUN_DIR")
    if chosen:
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/run/sluiceway")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return (
        Path(runtime, "sluiceway") if runtime else Path(f"/tmp/sluiceway-{os.geteuid()}")
    )  # prepare_run_dir looks who made it


def prepare_run_dir(path: Path) -> None:
    """Create the directory (0700) or accept an existing one that only we and root control. Raises OSError in words."""
    try:
        path.mkdir(mode=0o700, parents=True)
        return
    except FileExistsError:
        pass
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) and found.st_uid in {0, os.geteuid()}:
        found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{path} is not a directory; choose another run_dir")
    if found.st_uid not in {0, os.geteuid()}:
        raise PermissionError(f"{path} belongs to user {found.st_uid}; choose another run_dir")
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise PermissionError(f"everybody may write to {path}; chmod o-w it, or choose another run_dir")
