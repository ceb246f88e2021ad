"""Operators and shapes of an OpenVINO `.xml`: its layers, with the shapes that stand at their ports."""

from __future__ import annotations

from xml.etree import ElementTree

from edgepack.explain.graph import Node, Shape, Wiring


def read(data: bytes) -> Wiring:
    """Every layer but the constants, in the file's order. Raises ValueError for what is no IR."""
    if b"<!ENTITY" in data or b"<!DOCTYPE" in data:
        raise ValueError("an IR has no document type")
    try:
        document = ElementTree.fromstring(data)
        return _read(document)
    except (ElementTree.ParseError, KeyError) as exc:
        raise ValueError(f"no IR: {exc}") from exc


def _read(document: ElementTree.Element) -> Wiring:
    layers = {layer.attrib["id"]: layer for layer in document.iterfind("layers/layer")}
    into: dict[tuple[str, str], str] = {}
    for edge in document.iterfind("edges/edge"):
        source = (edge.attrib["from-layer"], edge.attrib["from-port"])
        into[edge.attrib["to-layer"], edge.attrib["to-port"]] = _tensor(layers[source[0]], source[1])
    nodes, shapes = [], {}
    for number, layer in layers.items():
        ports = [port.attrib["id"] for port in layer.iterfind("output/port")]
        for port in layer.iterfind("output/port"):
            shapes[_tensor(layer, port.attrib["id"])] = _shape(port)
        if layer.attrib["type"] in ("Const", "Result"):
            continue
        given = tuple(into.get((number, port.attrib["id"]), "") for port in layer.iterfind("input/port"))
        outputs = tuple(_tensor(layer, port) for port in ports)
        kind = layer.attrib["type"].lower()
        nodes.append(Node(name=layer.attrib["name"], kind=kind, inputs=given, outputs=outputs))
    inputs = frozenset(name for node in nodes if node.kind in ("parameter", "readvalue") for name in node.outputs)
    known = {name: shape for name, shape in shapes.items() if shape is not None}
    return Wiring(nodes=tuple(nodes), inputs=inputs, shapes=known)


def _tensor(layer: ElementTree.Element, port: str) -> str:
    """A tensor is called as its layer; of a layer with several outputs, the later ones with the port behind."""
    ports = [one.attrib["id"] for one in layer.iterfind("output/port")]
    name = layer.attrib["name"]
    return name if not ports or port == ports[0] else f"{name}:{port}"


def _shape(port: ElementTree.Element) -> Shape | None:
    """A batch of any size counts as 1; another size that isn't fixed leaves the shape unknown."""
    sizes = [int(dim.text or -1) for dim in port.iterfind("dim")]
    if sizes and sizes[0] < 1:
        sizes[0] = 1
    return tuple(sizes) if all(size > 0 for size in sizes) else None
