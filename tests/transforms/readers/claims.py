"""Logs of one reader under a folder, as discovery would claim them."""

from __future__ import annotations

import fsspec

from schemas.records import LogRef, Member
from transforms.readers import Claim, Format, Tree


def tree_of(root: str) -> Tree:
    """Lists every file under a folder."""
    fs, path = fsspec.core.url_to_fs(root)
    path = path.rstrip("/")
    sizes = {p.removeprefix(f"{path}/"): int(n) for p, n in fs.du(path, total=False).items()}
    return Tree(fs, path, sizes)


def log_of(reader: Format, tree: Tree, claim: Claim) -> LogRef:
    """Makes a log of a claim, with a fingerprint that does not depend on its content."""
    members = tuple(
        Member(path.removeprefix(claim.base), tree.uri(path), tree.size(path))
        for path in claim.paths
    )
    return LogRef(reader.name, claim.name, claim.uri, members, "0")


def logs_of(reader: Format, root: str) -> list[LogRef]:
    """Claims the logs under a folder."""
    tree = tree_of(root)
    return [log_of(reader, tree, claim) for claim in reader.claim(tree)]
