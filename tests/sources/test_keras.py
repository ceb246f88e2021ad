"""`.keras` files: what they say without Keras, what is refused before Keras sees them, and that the network computes what Keras does."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgepack.core.errors import EdgepackError, EnvironmentProblem, SourceError, UnsupportedError
from edgepack.network.model import Model
from edgepack.recipe import InputSection, ModelSection
from edgepack.sources import open_source
from edgepack.sources.keras import KerasFile
from sources.keras_files import keras


def save(model: Any, folder: Path, name: str = "model.keras") -> Path:
    """Biases and batch norms get values that matter."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if not weight.path.endswith(("kernel", "embeddings")):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    model.save(folder / name)
    return folder / name


def source(path: Path, *inputs: InputSection, **more: Any) -> KerasFile:
    opened = open_source(ModelSection(file=path.name, inputs=inputs, **more), path.parent)
    assert isinstance(opened, KerasFile)
    return opened


def load(path: Path, *inputs: InputSection, **more: Any) -> Model:
    scratch = path.parent / f"scratch of {path.name}"
    scratch.mkdir()
    return source(path, *inputs, **more).load(scratch)[0]


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The archive with every file changed; a file becomes None to leave it out."""
    with zipfile.ZipFile(path) as old:
        content = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in content.items():
            if (changed := change(name, data)) is not None:
                new.writestr(name, changed)
    return path


def edited(path: Path, old: str, new: str, member: str = "config.json") -> Path:
    def edit(name: str, data: bytes) -> bytes:
        return data.replace(old.encode(), new.encode()) if name == member else data

    return rewritten(path, edit)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    layers = keras().layers
    return save(
        keras().Sequential([layers.Input((6, 6, 3), name="image"), layers.Flatten(), layers.Dense(2)]), tmp_path
    )


def difference(model: Model, path: Path, *arrays: np.ndarray[Any, Any]) -> float:
    """Between the network and Keras in this process."""
    wanted = keras().saving.load_model(path, compile=False)(arrays[0], training=False)
    with torch.no_grad():
        ours = model.network(*map(torch.from_numpy, arrays))
    return float((ours - wanted).abs().max())


def test_inputs_come_from_the_archive_in_keras_own_layout(small: Path) -> None:
    (image,) = source(small).inputs()

    assert (image.name, image.shape, image.dtype, image.layout) == ("image", (6, 6, 3), "float32", "HWC")


def test_a_plan_does_not_load_keras(small: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgepack.recipe import ModelSection; from edgepack.sources import open_source\n"
        f"source = open_source(ModelSection(file={small.name!r}), Path({str(small.parent)!r})); source.files(); source.inputs()\n"
        "assert not {'keras', 'torch', 'tensorflow'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_layers_have_keras_names_and_leave_no_permute_between_them(tmp_path: Path) -> None:
    layers = keras().layers
    image = layers.Input((9, 8, 3), name="image")
    x = layers.BatchNormalization(name="pixels")(image)
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.MaxPooling2D(3, strides=2, padding="same")(layers.SeparableConv2D(6, 3, padding="same", name="block")(x))
    squeezed = layers.Conv2D(6, 1, activation="sigmoid", name="gate")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Multiply()([x, squeezed])
    x = layers.Concatenate()([x, layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(2, 1, name="side")(x))])
    x = layers.UpSampling2D(2)(layers.Conv2DTranspose(4, 3, strides=2, padding="same", name="up")(x))
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    path = save(keras().Model(image, layers.Dense(3, activation="softmax", name="scores")(x)), tmp_path)

    model = load(path)

    operations = [str(node.target) for node in torch.export.export(model.network, model.example()).graph.nodes]
    assert {"stem", "block_depthwise", "block_pointwise", "gate", "side", "up", "scores"} <= {
        name.partition(".")[0] for name, _ in model.network.named_parameters()
    }
    assert [operation for operation in operations if operation.startswith("aten")][:2] == [
        "aten.permute.default",
        "aten.batch_norm.default",
    ]
    assert sum("permute" in operation for operation in operations) == 1
    assert not [one for one in operations if one.startswith(("aten.sub", "aten.div", "aten.expand", "aten.unsqueeze"))]
    assert [spec.name for spec in model.outputs] == ["scores"]
    assert difference(model, path, np.random.default_rng(0).normal(size=(3, 9, 8, 3)).astype(np.float32)) < 1e-5


def test_sequences_of_tokens_and_several_inputs_and_outputs_load(tmp_path: Path) -> None:
    layers = keras().layers
    tokens, features = layers.Input((None,), dtype="int32", name="tokens"), layers.Input((4, 8), name="features")
    x = layers.Embedding(11, 8, name="table")(tokens)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, features)
    x = layers.LayerNormalization()(layers.Conv1D(8, 3, padding="causal")(x))
    outputs = {"scores": layers.Dense(3)(layers.GlobalMaxPooling1D()(x)), "average": x * 0.5}
    path = save(keras().Model({"b": tokens, "a": features}, outputs), tmp_path)

    model = load(path, InputSection(name="tokens", shape=(5,)), InputSection(name="features", shape=(4, 8)))

    assert [(spec.name, spec.shape, spec.dtype) for spec in model.inputs] == [
        ("features", (1, 4, 8), "float32"),
        ("tokens", (1, 5), "int32"),
    ]
    assert [(spec.name, spec.shape) for spec in model.outputs] == [("average", (1, 5, 8)), ("scores", (1, 3))]
    assert not [name for name, _ in model.network.named_buffers()], "every weight is a parameter"


def test_average_pooling_leaves_padding_out_as_tensorflow_does(tmp_path: Path) -> None:
    """Keras' torch backend (3.15.1) counts the repeated border; models are trained with TensorFlow, which doesn't."""
    layers = keras().layers
    image = layers.Input((4, 4, 1))
    even, odd = (
        layers.AveragePooling2D(2, strides=1, padding="same"),
        layers.AveragePooling2D(3, strides=2, padding="same"),
    )
    path = save(keras().Model(image, [even(image), odd(image)]), tmp_path)
    pixels = torch.arange(16.0).reshape(1, 4, 4, 1)

    model = load(path)

    with torch.no_grad():
        small_steps, large_steps = model.network(pixels)
    assert small_steps[0, 3, :, 0].tolist() == pytest.approx([12.5, 13.5, 14.5, 15.0])
    assert large_steps[0, 1, :, 0].tolist() == pytest.approx([11.0, 12.5])


def test_what_was_trained_in_mixed_precision_is_read_in_float32(tmp_path: Path) -> None:
    layers = keras().layers
    mixed = keras().DTypePolicy("mixed_float16")
    path = save(
        keras().Sequential([layers.Input((4,)), layers.Dense(3, dtype=mixed), layers.Dense(2, dtype="float32")]),
        tmp_path,
    )

    model = load(path)

    x = torch.randn(5, 4)
    first, second = (module for module in model.network.modules() if isinstance(module, torch.nn.Linear))
    assert model.network(x).dtype == torch.float32
    assert torch.allclose(model.network(x), second(first(x)))


def test_a_size_that_the_model_leaves_open_needs_a_bound(tmp_path: Path) -> None:
    layers = keras().layers
    path = save(keras().Sequential([layers.Input((None, 4), name="steps"), layers.GlobalMaxPooling1D()]), tmp_path)

    with pytest.raises(
        SourceError, match=r"input 'steps' has shape \[batch, size 1, 4\]: nothing says how large 'size 1' is"
    ):
        source(path).inputs()


def test_a_lambda_layer_never_runs_without_asking(tmp_path: Path) -> None:
    layers = keras().layers
    image = layers.Input((4,))
    witness = tmp_path / "it ran"
    code = eval(f"lambda x: (open({str(witness)!r}, 'w').close(), x * 2)[1]")
    twice = layers.Lambda(code, output_shape=(4,), name="twice")
    path = save(keras().Model(image, layers.Dense(2)(twice(image))), tmp_path)
    witness.unlink(missing_ok=True)

    with pytest.raises(
        SourceError, match=r"layer 'twice' \(.*\) brings code of its own.*allow_code = true in \[model\]"
    ):
        source(path).inputs()
    with pytest.raises(SourceError, match="never run without asking"):
        load(path)
    assert not witness.exists()

    model = load(path.rename(tmp_path / "again.keras"), allow_code=True)

    assert witness.exists()
    assert [spec.shape for spec in model.outputs] == [(1, 2)]


def test_a_lambda_inside_a_nested_model_is_found(tmp_path: Path) -> None:
    layers = keras().layers
    inner = keras().Sequential(
        [layers.Input((4,)), layers.Lambda(lambda x: x, output_shape=(4,), name="hidden")], name="inner"
    )
    path = save(keras().Sequential([layers.Input((4,)), inner, layers.Dense(2)]), tmp_path)

    with pytest.raises(SourceError, match="layer 'hidden'"):
        source(path).inputs()


def test_layers_and_functions_that_are_not_keras_own_are_named(tmp_path: Path) -> None:
    module = keras()

    @module.saving.register_keras_serializable("mine")
    class Doubled(module.layers.Layer):
        def call(self, x: Any) -> Any:
            return x * 2

    @module.saving.register_keras_serializable("mine")
    def squashed(x: Any) -> Any:
        return module.ops.tanh(x)

    custom = save(module.Sequential([module.layers.Input((4,)), Doubled(name="double")]), tmp_path, "custom.keras")
    dense = module.layers.Dense(2, activation=squashed, name="scores")
    activation = save(module.Sequential([module.layers.Input((4,)), dense]), tmp_path, "activation.keras")

    with pytest.raises(
        SourceError, match=r"layer 'double' uses 'mine>Doubled', which is no part of Keras.*model\.factory"
    ):
        source(custom).inputs()
    with pytest.raises(SourceError, match="layer 'scores' uses 'mine>squashed'"):
        source(activation, allow_code=True).inputs()


def test_an_object_of_another_module_is_refused_before_keras_reads_the_file(small: Path) -> None:
    with pytest.raises(SourceError, match="uses 'Dense', which is no part of Keras"):
        source(
            edited(small, '"module": "keras.layers", "class_name": "Dense"', '"module": "os", "class_name": "Dense"')
        ).inputs()


def test_a_model_that_declares_no_inputs_is_refused(small: Path) -> None:
    with pytest.raises(SourceError, match=r"a Sequential model that doesn't declare its inputs.*keras\.Input"):
        source(edited(small, "InputLayer", "Dropout")).inputs()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50)),
            r"is an HDF5 file, the format of Keras 2; load it with",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "is truncated or no file of Keras 3"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b"\x89HDF", b"xHDF")),
            r"model\.weights\.h5 in it is damaged",
        ),
        (
            lambda path: rewritten(path, lambda name, data: None if "weights" in name else data),
            r"model\.weights\.h5 is missing",
        ),
        (
            lambda path: edited(path, '"keras_version": "3', '"keras_version": "2', "metadata.json"),
            r"saved by Keras 2\..*save it again with Keras 3",
        ),
        (
            lambda path: rewritten(path, lambda name, data: b"[]" if name == "config.json" else data),
            "describes no model",
        ),
        (lambda path: edited(path, '"sparse": false', '"sparse": true'), "input 'image' is sparse or ragged"),
        (
            lambda path: edited(path, '"dtype": "float32", "sparse"', '"dtype": "uint8", "sparse"'),
            "input 'image' is uint8",
        ),
    ],
    ids=["hdf5", "truncated", "damaged", "no weights", "keras 2", "no model", "sparse", "uint8"],
)
def test_a_file_that_cannot_be_read_is_refused_by_the_plan(
    small: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(small)

    with pytest.raises(SourceError, match=f"model.keras: .*{message}|model.keras: {message}"):
        source(small).inputs()


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.keras").mkdir()

    with pytest.raises(SourceError, match=r"is a folder; save the model with model\.save\('model\.keras'\)"):
        source(tmp_path / "model.keras").inputs()


def test_weights_that_do_not_fit_the_layers_are_refused(small: Path, tmp_path: Path) -> None:
    layers = keras().layers
    other = save(
        keras().Sequential([layers.Input((6, 6, 3)), layers.Flatten(), layers.Dense(5)]), tmp_path, "other.keras"
    )
    weights = zipfile.ZipFile(other).read("model.weights.h5")
    rewritten(small, lambda name, data: weights if name == "model.weights.h5" else data)

    with pytest.raises(SourceError, match=r"Keras can't load .*model\.keras"):
        load(small)


def test_values_that_are_not_finite_are_refused(small: Path) -> None:
    model = keras().saving.load_model(small, compile=False)
    model.layers[-1].bias.assign([np.nan, 0])
    model.save(small)

    with pytest.raises(SourceError, match=r"has 1 values that are NaN or infinite"):
        load(small)


def test_keras_that_is_not_installed_is_said_by_the_plan(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)

    with pytest.raises(EnvironmentProblem, match=r"pip install 'edgepack\[keras\]'"):
        source(small).files()


def test_another_backend_in_this_process_stays_as_it_is(small: Path) -> None:
    pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'edgepack[saved-model]'")
    code = (
        "import os; os.environ['KERAS_BACKEND'] = 'tensorflow'; import keras\n"
        "from pathlib import Path; from edgepack.recipe import ModelSection; from edgepack.sources import open_source\n"
        f"folder = Path({str(small.parent)!r}); (folder / 's').mkdir(); source = open_source(ModelSection(file={small.name!r}), folder)\n"
        "print(source.load(folder / 's')[0].outputs, keras.backend.backend())"
    )

    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True)

    assert "TensorSpec(name='dense" in done.stdout
    assert done.stdout.split()[-1] == "tensorflow"


def test_a_conversion_that_dies_shows_its_last_words(small: Path, tmp_path: Path) -> None:
    from edgepack.sources.conversion import convert

    (tmp_path / "folder").mkdir()
    with pytest.raises(
        EdgepackError, match=r"the conversion died \(exit code 2\).*\n(.*\n)*KeyError: 'inputs'"
    ) as failure:
        convert("keras_to_program", tmp_path / "folder", file=str(small), allow_code=False)

    assert not isinstance(failure.value, UnsupportedError)
