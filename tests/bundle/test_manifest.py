import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_bundle import content, variant

from edgepack.bundle.manifest import Manifest, Tensor, manifest_schema, parse_manifest
from edgepack.core.errors import BundleError
from edgepack.core.types import Check, QuantParams, Signature

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
GRIDS = st.one_of(
    st.none(),
    st.builds(lambda scale, zero: {"scale": [scale], "zero_point": [zero]}, POSITIVE, st.integers(-128, 127)),
    st.builds(
        lambda pairs: {"scale": [s for s, _ in pairs], "zero_point": [z for _, z in pairs], "axis": 0},
        st.lists(st.tuples(POSITIVE, st.integers(-128, 127)), min_size=1, max_size=4),
    ),
)
TENSORS = st.fixed_dictionaries(
    {
        "name": TEXT.filter(bool),
        "shape": st.lists(st.integers(0, 512), max_size=4),
        "dtype": st.sampled_from(["int8", "uint8", "float32"]),
        "layout": st.sampled_from(["NCHW", "NHWC", "any"]),
        "quantization": GRIDS,
    }
)
NUMBERS = st.tuples(FINITE, FINITE)
METRICS = st.fixed_dictionaries(
    {
        "name": TEXT,
        "value": FINITE,
        "float_value": FINITE,
        "samples": st.integers(0, 10**9),
        "ci95": st.none() | NUMBERS,
        "also": st.lists(
            st.fixed_dictionaries({"name": TEXT, "value": FINITE, "float_value": st.none() | FINITE}), max_size=2
        ),
    }
)


@st.composite
def contents(draw: st.DrawFn) -> dict[str, Any]:
    check = Check(
        kind=draw(st.sampled_from(["fidelity", "accuracy", "budget"])),
        name=draw(TEXT),
        value=draw(FINITE),
        limit=draw(FINITE),
        direction=draw(st.sampled_from(["max", "min"])),
        ci95=draw(st.none() | NUMBERS),
    )
    return content(
        inputs=[draw(TENSORS)],
        outputs=[draw(TENSORS)],
        metric=draw(st.none() | METRICS),
        checks=[check.as_dict()],
        checks_passed=check.passed,
        labels=draw(st.none() | st.lists(TEXT, max_size=3)),
        preprocess=draw(st.lists(st.dictionaries(TEXT, JSON, max_size=3), max_size=2)),
        lineage=draw(st.dictionaries(TEXT, JSON, max_size=3)),
        extensions=draw(st.dictionaries(TEXT, JSON, max_size=3)),
        created_with=draw(st.dictionaries(TEXT, TEXT, max_size=3)),
        description=draw(TEXT),
    )


@settings(max_examples=150, deadline=None)
@given(contents())
def test_a_manifest_is_read_back_as_it_was_written(described: dict[str, Any]) -> None:
    manifest = Manifest.model_validate(described)
    data = manifest.to_bytes()

    assert parse_manifest(data) == manifest
    assert parse_manifest(data).to_bytes() == data


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_anything_else_is_a_bundle_error(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json"):
        parse_manifest(data)


def test_a_manifest_without_further_metrics_is_what_it_was_before_there_were_any() -> None:
    metric = {"name": "top1", "value": 0.9, "float_value": None, "samples": 10, "ci95": None}
    further = [{"name": "f1", "value": 0.8, "float_value": None}]

    for described in (metric, {**metric, "also": further}):
        written = json.loads(Manifest.model_validate(content(metric=described)).to_bytes())
        assert written["variants"][0]["metric"] == described


def changed(**changes: Any) -> bytes:
    return json.dumps(content(**changes)).encode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"checks_passed": "yes"}, "checks_passed: Input should be a valid boolean"),
        ({"checks_passed": False}, "checks_passed is False, but the checks say otherwise"),
        ({"name": "../digits"}, "name: String should match pattern"),
        ({"schema_version": "one"}, "schema_version: String should match pattern"),
        ({"schema_version": 1}, "schema_version: Input should be a valid string"),
        ({"inputs": []}, "inputs: Tuple should have at least 1 item"),
        ({"inputs": variant()["inputs"] * 2}, "two inputs have the same name"),
        ({"golden": {**variant()["golden"], "inputs": ["a", "b"]}}, "one file per input"),
        ({"golden": {**variant()["golden"], "output_steps": [0.1, 0.2]}}, "one number per output"),
        ({"outputs": [{"name": "y", "shape": [1], "dtype": "int8", "quantization": {"scale": [1, 2], "zero_point": [0]}}]},
         "2 scales but 1 zero points"),
        ({"outputs": [{"name": "y", "shape": [1], "dtype": "int8", "quantization": {"scale": [0], "zero_point": [0]}}]},
         "greater than 0"),
        ({"outputs": [{"name": "y", "shape": [1], "dtype": "int7"}]}, "outputs.0.dtype"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError) as caught:
        parse_manifest(changed(**changes))

    assert message in str(caught.value)


@pytest.mark.parametrize("version", ["3.0", "10.3", "9" * 5000 + ".0"])
def test_a_higher_major_version_is_refused(version: str) -> None:
    with pytest.raises(BundleError, match=r"newer than 2\.0"):
        parse_manifest(changed(schema_version=version, surprise=1))


def test_a_higher_minor_version_with_unknown_extensions_is_read() -> None:
    manifest = parse_manifest(changed(schema_version="2.7", extensions={"delta": {"base": "x"}}))

    assert manifest.extensions == {"delta": {"base": "x"}}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused(number: str) -> None:
    data = changed(lineage={"seed": 12345}).replace(b"12345", number.encode())

    with pytest.raises(BundleError, match="not valid JSON"):
        parse_manifest(data)


def test_not_a_number_is_not_written() -> None:
    with pytest.raises((BundleError, ValueError)):
        Manifest.model_validate(content(lineage={"loss": float("nan")})).to_bytes()


def test_a_key_that_occurs_twice_is_refused() -> None:
    with pytest.raises(BundleError, match="occurs twice"):
        parse_manifest(b'{"name": "a", "name": "b"}')


def test_a_check_that_lies_about_its_result_is_refused() -> None:
    check = Check(kind="budget", name="size_bytes", value=10, limit=5, direction="max").as_dict()

    with pytest.raises(BundleError, match="says passed = True"):
        parse_manifest(changed(checks=[{**check, "passed": True}]))


def test_signatures_travel_through_the_manifest() -> None:
    grid = QuantParams(scale=(0.1, 0.2), zero_point=(0, 1), dtype="uint8", axis=1)
    signature = Signature(name="x", shape=(1, 2), dtype="uint8", layout="NHWC", quantization=grid)

    assert Tensor.of(signature).as_signature() == signature


def test_the_schema_describes_every_field_and_is_json() -> None:
    schema = json.loads(json.dumps(manifest_schema()))

    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(Manifest.model_fields)
    for part in (schema, *schema["$defs"].values()):
        for name, field in part.get("properties", {}).items():
            assert "description" in field or "$ref" in field, f"{part['title']}.{name}"


def test_the_schema_takes_what_the_reader_takes_and_refuses_an_unknown_key() -> None:
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(manifest_schema())
    written = json.loads(Manifest.model_validate(content()).to_bytes())

    assert list(validator.iter_errors(written)) == []
    assert [error.validator for error in validator.iter_errors({**written, "surprise": 1})] == ["additionalProperties"]
    assert next(validator.iter_errors({**written, "variants": []})).validator == "minItems"
