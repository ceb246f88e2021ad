"""Commands that need no bundle: help, init, plan, targets, schema, doctor, completion, and how each fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from small_project import Project

from edgepack.cli import SECTIONS
from edgepack.cli.completion import SHELLS
from edgepack.cli.schemas import SCHEMAS, shipped_methods
from edgepack.core.errors import BundleError, EnvironmentProblem, RecipeError, UsageError
from edgepack.recipe import Recipe, load_recipe
from edgepack.targets import target_names

Call = Callable[..., Result]
Shell = Callable[..., subprocess.CompletedProcess[str]]

COMMANDS = [name for section in SECTIONS.values() for name in section]
EVERY = [*COMMANDS, "cache show", "cache prune", "key new", "trust add"]
HEAVY = ("numpy", "pydantic", "rich", "torch", "nncf", "PIL", "scipy")


def modules_after(*calls: list[str]) -> set[str]:
    """The packages that a fresh interpreter has loaded after these calls."""
    code = (
        "import sys, json\n"
        "from edgepack.cli import app\n"
        f"for call in {list(calls)!r}:\n"
        "    try: app.main(call, prog_name='edgepack')\n"
        "    except SystemExit as end: assert not end.code, call\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(ended.stderr))


def told(result: Result) -> str:
    """The one message of a call that failed; nothing on standard output, and no traceback."""
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    first, *rest = result.stderr.splitlines()
    assert first.startswith("edgepack: error: ")
    assert not any(line.startswith("edgepack: error:") for line in rest)
    return first.removeprefix("edgepack: error: ")


def test_help_lists_every_command_with_what_it_does(call: Call) -> None:
    result = call("--help")

    assert result.exit_code == 0
    for title, section in SECTIONS.items():
        assert f"{title}:" in result.stdout
        for name, entry in section.items():
            assert f"  {name} " in result.stdout
            assert entry.help in result.stdout


def test_help_and_the_version_load_nothing_heavy() -> None:
    calls = [["--help"], ["--version"], *([*name.split(), "--help"] for name in EVERY)]

    assert not modules_after(*calls) & set(HEAVY)


def test_completion_of_commands_loads_nothing_heavy_and_names_them(shell: Shell) -> None:
    ended = shell(_EDGEPACK_COMPLETE="bash_complete", COMP_WORDS="edgepack b", COMP_CWORD="1")

    assert ended.stdout.split() == ["plain,build", "plain,bench"]
    assert not modules_after(["completion", "bash"]) & set(HEAVY)


@pytest.mark.parametrize("name", EVERY)
def test_each_commands_help_has_an_example(call: Call, name: str) -> None:
    result = call(*name.split(), "--help")

    assert result.exit_code == 0
    assert "Example" in result.stdout
    examples = result.stdout.partition("Example")[2].partition("Options:")[0]
    assert f"edgepack {name.split()[0]}" in examples
    assert "--debug" in result.stdout


def test_the_table_of_commands_says_what_each_commands_help_says(call: Call) -> None:
    for section in SECTIONS.values():
        for name, entry in section.items():
            assert entry.help in " ".join(call(name, "--help").stdout.split())


def test_no_command_shows_the_help_and_is_a_usage_error(call: Call) -> None:
    result = call()

    assert result.exit_code == UsageError.exit_code
    assert "Make a bundle:" in result.stderr + result.stdout


def test_an_unknown_command_is_refused_with_the_nearest_name(call: Call) -> None:
    result = call("biuld")

    assert result.exit_code == UsageError.exit_code
    assert told(result) == "unknown command 'biuld' (did you mean 'build'?)"
    assert "Try 'edgepack --help'." in result.stderr


def test_an_unknown_option_is_refused_with_the_nearest_name(call: Call) -> None:
    result = call("build", "--recpie", ".")

    assert result.exit_code == UsageError.exit_code
    assert "'--recipe'" in told(result)


# --- init


def test_init_writes_a_recipe_that_is_valid_and_says_what_to_fill_in(call: Call, tmp_path: Path) -> None:
    result = call("init", tmp_path / "new")

    text = (tmp_path / "new" / "edgepack.toml").read_text()
    assert result.exit_code == 0
    assert load_recipe(tmp_path / "new").bundle.name == "new"
    assert f"fill in {text.count('FILL IN')} marked places" in result.stdout


def test_init_names_every_key_of_the_recipe(call: Call, tmp_path: Path) -> None:
    call("init", tmp_path)

    text = (tmp_path / "edgepack.toml").read_text()
    for name, field in Recipe.model_fields.items():
        assert name in text
        for key in getattr(field.annotation, "model_fields", {}):
            assert key in text, f"{name}.{key}"


def test_init_suggests_the_model_and_the_weights_that_are_there(
    call: Call, tiny_project: Callable[..., Project]
) -> None:
    project = tiny_project()

    result = call("init", project.folder, "--force", "--input-shape", "1x8x8")

    recipe = load_recipe(project.folder)
    assert "found weights: weights.safetensors" in result.stdout
    assert recipe.model.weights == "weights.safetensors"
    assert recipe.model.inputs[0].shape == (1, 8, 8)


def test_init_finds_a_factory_without_running_it(call: Call, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("raise SystemExit('run!')\ndef build_model(classes=3): ...\n")

    result = call("init", tmp_path)

    assert result.exit_code == 0
    assert load_recipe(tmp_path).model.factory == "nets:build_model"


def test_init_refuses_to_write_over_a_recipe_unless_forced(call: Call, tmp_path: Path) -> None:
    (tmp_path / "edgepack.toml").write_text("mine")

    result = call("init", tmp_path)

    assert result.exit_code == UsageError.exit_code
    assert "--force writes over it" in told(result)
    assert (tmp_path / "edgepack.toml").read_text() == "mine"
    assert call("init", tmp_path, "--force").exit_code == 0
    assert load_recipe(tmp_path)


@pytest.mark.parametrize("shape", ["", "3,,4", "3,0,4", "a", "-1,2"])
def test_init_refuses_what_is_no_shape(call: Call, tmp_path: Path, shape: str) -> None:
    result = call("init", tmp_path, f"--input-shape={shape}")

    assert result.exit_code == UsageError.exit_code
    assert "e.g. 3,224,224" in told(result)
    assert not list(tmp_path.iterdir())


def test_init_refuses_a_factory_that_is_none_and_writes_nothing(call: Call, tmp_path: Path) -> None:
    result = call("init", tmp_path, "--factory", "model.py")

    assert result.exit_code == RecipeError.exit_code
    assert "module:function" in told(result)
    assert not list(tmp_path.iterdir())


# --- plan


def test_plan_shows_the_checksums_of_the_data(call: Call, tiny_project: Callable[..., Project]) -> None:
    project = tiny_project()

    content = json.loads(call("plan", "--recipe", project.folder, "--json").stdout)
    shown = call("plan", "--recipe", project.recipe).stdout

    assert set(content["data"]) == {"train", "calibration", "evaluation"}
    assert content["compress"][0]["method"] == "quantize"
    for data in content["data"].values():
        assert data["sha256"] in shown


def test_a_recipes_unknown_key_is_refused_with_the_nearest_name(
    call: Call, tiny_project: Callable[..., Project]
) -> None:
    project = tiny_project()
    project.replace("drop_points", "drop_point")

    result = call("plan", "--recipe", project.folder)

    assert result.exit_code == RecipeError.exit_code
    assert "did you mean 'drop_points'?" in told(result)


def test_a_folder_without_a_recipe_is_refused(call: Call, tmp_path: Path) -> None:
    result = call("plan", "--recipe", tmp_path)

    assert result.exit_code == RecipeError.exit_code
    assert str(tmp_path) in told(result)


def test_debug_shows_the_traceback_and_the_message(call: Call, tmp_path: Path) -> None:
    for result in (
        call("plan", "--recipe", tmp_path, "--debug"),
        call("plan", "--recipe", tmp_path, EDGEPACK_DEBUG="1"),
        call("--debug", "plan", "--recipe", tmp_path),
    ):
        assert result.exit_code == RecipeError.exit_code
        assert "Traceback" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("edgepack: error: ")


def test_what_nobody_expected_is_one_message_and_exit_code_one(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a mistake\nin two lines")

    monkeypatch.setattr("edgepack.targets.target_names", broken)

    result = call("targets")

    assert result.exit_code == 1
    assert told(result) == "internal error: ZeroDivisionError: a mistake; run again with --debug and report it"


# --- targets


def test_targets_lists_the_shipped_ones_and_those_of_the_project(call: Call, tmp_path: Path) -> None:
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "mine.toml").write_text('description = "My board"\nexporter = "litert"\nruntime = "litert"')

    result = call("targets", "--project", tmp_path)

    mine, arm64 = (next(line for line in result.stdout.splitlines() if name in line) for name in ("mine", "arm64"))
    assert "My board" in mine and "this project" in mine
    assert "this project" not in arm64


def test_targets_shows_one_with_every_key(call: Call) -> None:
    shown = call("targets", "arm64").stdout
    content = json.loads(call("targets", "arm64", "--json").stdout)

    assert list(content) == ["arm64"]
    for section in ("limits", "quantization"):
        for key in content["arm64"][section]:
            assert f"{section}.{key}" in shown


def test_targets_as_json_holds_every_target(call: Call) -> None:
    content = json.loads(call("targets", "--json").stdout)

    assert "arm64" in content
    assert all(profile["description"] for profile in content.values())


def test_an_unknown_target_is_refused_with_the_nearest_name(call: Call, tiny_project: Callable[..., Project]) -> None:
    for command in (["targets", "arm46"], ["plan", "--recipe", tiny_project().folder, "--target", "arm46"]):
        result = call(*command)

        assert result.exit_code == RecipeError.exit_code
        assert "(did you mean 'arm64'?)" in told(result)


# --- schema


def tables_of(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object within a JSON value."""
    if isinstance(schema, dict):
        yield schema
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from tables_of(inner)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_schema_prints_json_schema_whose_references_all_lead_somewhere(call: Call, kind: str) -> None:
    result = call("schema", kind)

    content = json.loads(result.stdout)
    assert result.exit_code == 0
    assert content["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert content["type"] == "object"
    for table in tables_of(content):
        if isinstance(reference := table.get("$ref"), str):
            assert reference.removeprefix("#/$defs/") in content["$defs"]
        if isinstance(required := table.get("required"), list):
            assert set(required) <= set(table.get("properties", required))


def test_schema_knows_each_methods_options(call: Call) -> None:
    definitions = json.loads(call("schema").stdout)["$defs"]

    for name in shipped_methods():
        step = definitions[f"CompressStep_{name}"]
        assert step["properties"]["method"]["const"] == name
        assert "method" in step["required"]
    assert "sparsity" in definitions["CompressStep_prune_channels"]["required"]


def test_an_unknown_schema_is_a_usage_error(call: Call) -> None:
    result = call("schema", "recipes")

    assert result.exit_code == UsageError.exit_code
    assert "'recipe'" in told(result)


# --- doctor and completion


def test_doctor_finds_what_this_machine_has(call: Call) -> None:
    result = call("doctor", "--json")

    findings = {one["name"]: one for one in json.loads(result.stdout)["findings"]}
    missing = [name for name, one in findings.items() if one["verdict"] == "missing"]
    assert {"system", "Python", "torch", "nncf", "C++ compiler", "memory"} <= set(findings)
    assert all(one["remedy"] for one in findings.values() if one["verdict"] != "ok")
    assert result.exit_code == (EnvironmentProblem.exit_code if missing else 0)


def test_doctor_misses_a_compiler_only_where_nothing_is_compiled_yet(call: Call, tmp_path: Path) -> None:
    result = call("doctor", EDGEPACK_CACHE_DIR=str(tmp_path), CXX="no-such-compiler")

    assert result.exit_code == EnvironmentProblem.exit_code
    assert result.stderr.splitlines() == ["edgepack: error: this machine lacks: C++ compiler"]
    assert "point CXX at one" in result.stdout


@pytest.mark.parametrize("shell_name", SHELLS)
def test_completion_prints_a_script(call: Call, shell_name: str) -> None:
    result = call("completion", shell_name)

    assert result.exit_code == 0
    assert "_EDGEPACK_COMPLETE" in result.stdout


def test_bash_accepts_the_completion_script(call: Call) -> None:
    script = call("completion", "bash").stdout

    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).returncode == 0


def test_targets_and_recipes_are_completed(shell: Shell, tiny_project: Callable[..., Project]) -> None:
    folder = tiny_project().folder

    arm = [f"plain,{name}" for name in sorted(target_names()) if name.startswith("arm")]

    for words, wanted in (("--target arm", arm), ("--recipe e", ["plain,edgepack.toml"])):
        line = {"COMP_WORDS": f"edgepack build {words}", "COMP_CWORD": "3"}
        ended = shell(cwd=folder, _EDGEPACK_COMPLETE="bash_complete", **line)
        assert sorted(ended.stdout.split()) == wanted


# --- files that are not there, pipes that are closed


@pytest.mark.parametrize("command", ["inspect", "verify", "bench", "unpack"])
def test_a_bundle_that_is_not_there_is_refused(call: Call, tmp_path: Path, command: str) -> None:
    result = call(command, tmp_path / "none.edgepack")

    assert result.exit_code == BundleError.exit_code
    assert "none.edgepack" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_reader_that_has_gone_is_no_reason_to_complain() -> None:
    reading, writing = os.pipe()
    os.close(reading)

    with open(writing, "wb") as closed:  # noqa: PTH123  # a descriptor
        ended = subprocess.run(
            [sys.executable, "-m", "edgepack", "schema"], stdout=closed, stderr=subprocess.PIPE, text=True
        )

    assert ended.stderr == ""


def test_python_dash_m_and_the_console_script_are_the_same_command(shell: Shell) -> None:
    scripts = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["scripts"]

    assert scripts == {"edgepack": "edgepack.cli:main"}
    assert shell("--version").stdout.startswith("edgepack, version ")
