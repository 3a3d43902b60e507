"""Symbolic links of local folders: what is read for an input or a lake lies in it."""

from __future__ import annotations

import contextlib
import errno
import os

from transforms.storage import is_local


def leaves(root: str, path: str) -> bool:
    """Tells whether a local path leads out of a folder, by links."""
    inside = os.path.realpath(root)
    real = os.path.realpath(path)
    return real != inside and not real.startswith(f"{inside.rstrip('/')}/")


def check_links(root: str, *folders: str) -> None:
    """Checks that nothing directly in some folders of a local lake is a link out of the lake.

    Args:
        root: the lake.
        folders: the lake or folders below it; one that does not exist holds no link.

    Raises:
        OSError: there is such a link.
    """
    if not is_local(root):
        return
    for folder in folders:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as all_:
            for entry in all_:
                if entry.is_symlink() and leaves(root, entry.path):
                    raise OSError(errno.EINVAL, "a link that leads out of the lake", entry.path)
