"""Names and texts of bundles in other languages' code."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.appkit.names import names_of
from edgepack.appkit.rendering import float32_literal, one_line, python_literal, quoted


@pytest.mark.parametrize(
    ("bundle", "module", "type_name", "package"),
    [
        ("digits", "digits", "Digits", "digits"),
        ("efficientnet-lite0", "efficientnet_lite0", "EfficientnetLite0", "efficientnet-lite0"),
        ("3d.shapes", "model_3d_shapes", "Model3dShapes", "model-3d-shapes"),
        ("json", "json_model", "JsonModel", "json-model"),
        ("class", "class_model", "ClassModel", "class-model"),
        ("template", "template_model", "TemplateModel", "template-model"),
        ("Runtime", "runtime_model", "RuntimeModel", "runtime-model"),
        ("numpy", "numpy_model", "NumpyModel", "numpy-model"),
    ],
)
def test_a_bundles_name_becomes_names_that_code_allows(bundle: str, module: str, type_name: str, package: str) -> None:
    names = names_of(bundle)

    assert (names.module, names.type, names.package) == (module, type_name, package)


def test_texts_can_not_leave_their_quotes() -> None:
    text = 'a "quoted" \\ line\nbreak */ and """'

    assert eval(quoted(text)) == text
    assert '"""' not in one_line(text)
    assert "*/" not in one_line(text)
    assert "\n" not in one_line(text)
    assert "\\" not in one_line(text)


def test_plain_data_is_python_again() -> None:
    value = {"op": "resize", "size": [28, 30], "filter": None, "pair": (1,), "on": True, "mean": 0.5}

    assert eval(python_literal(value)) == value


@pytest.mark.parametrize("value", [0.485, 1 / 3, 255.0, 1e-9, 3e38, 0.0078125, 127.0, 1e10])
def test_a_float32_literal_is_read_back_exactly(value: float) -> None:
    literal = float32_literal(value)

    assert literal.endswith("f")
    assert "." in literal or "e" in literal
    assert np.float32(literal[:-1]) == np.float32(value)
