"""What takes the room in a bundle: folders and files with their sizes and shares, largest first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgepack.cli.words import size

if TYPE_CHECKING:
    from edgepack.bundle import Bundle

_ARCHIVE = "(headers and padding)"
_BAR_CHARACTERS = 10


@dataclass(slots=True)
class Node:
    """A file or a folder of a bundle; a folder's size is that of its files."""

    name: str
    size_bytes: int = 0
    inside: dict[str, Node] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; files have no `inside`."""
        inside = [node.as_dict() for node in self.largest_first()]
        return {"name": self.name, "size_bytes": self.size_bytes, **({"inside": inside} if inside else {})}

    def largest_first(self) -> list[Node]:
        return sorted(self.inside.values(), key=lambda node: (-node.size_bytes, node.name))


def tree_of(bundle: Bundle) -> Node:
    """Every entry of a bundle; with the archive's own bytes the sizes add up to the file's."""
    entries = [place.entry for place in bundle.layout.placed]
    root = Node(bundle.path.name)
    own = bundle.layout.size_bytes - sum(entry.size_bytes for entry in entries)
    for name, size_bytes in (*((entry.name, entry.size_bytes) for entry in entries), (_ARCHIVE, own)):
        node = root
        node.size_bytes += size_bytes
        for part in name.split("/"):
            node = node.inside.setdefault(part, Node(part))
            node.size_bytes += size_bytes
    return root


def tree_lines(root: Node) -> list[str]:
    """The tree as text: name, size, share of the whole as percent and as a bar."""
    rows = [(root.name, root.size_bytes), *_rows(root, "")]
    width = max(len(text) for text, _ in rows)
    total = max(1, root.size_bytes)
    lines = []
    for text, size_bytes in rows:
        share = size_bytes / total
        bar = "█" * round(_BAR_CHARACTERS * share)
        lines.append(f"{text:<{width}}  {size(size_bytes):>8}  {100 * share:5.1f} %  {bar}".rstrip())
    return lines


def _rows(node: Node, indent: str) -> Iterable[tuple[str, int]]:
    children = node.largest_first()
    for child in children:
        is_last = child is children[-1]
        yield f"{indent}{'└── ' if is_last else '├── '}{child.name}", child.size_bytes
        yield from _rows(child, indent + ("    " if is_last else "│   "))
