"""A bundle's name as the names that programming languages allow."""

from __future__ import annotations

import keyword
import re
import sys
from dataclasses import dataclass

# Words that C++, Java, Kotlin, Swift or JavaScript keep for themselves, modules that a package's own code imports, and names in the kits' code.
_WORDS = """
abstract assert auto bool boolean byte case catch char concept const default delete do double enum explicit export extends extension
extern false final float func fun goto implements init inline int interface internal let long mutable namespace native new nil
null object operator package private protected protocol public register requires self short signed sizeof static std string struct
super switch template this throw throws true typedef typename typeof union unsigned using val var virtual void volatile when
ai_edge_litert cryptography edgepack numpy onnxruntime openvino pil main
all answer array classify clean error facts golden_test help image info install model_runtime package pixels
postprocess prediction preprocess runtime sample verification verification_error verification_exception
"""
_TAKEN = frozenset(_WORDS.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """`ds-cnn` as `ds_cnn` (module, namespace), `DsCnn` (type) and `ds-cnn` (package on an index)."""

    module: str
    type: str
    package: str


def names_of(bundle_name: str) -> Names:
    """Names that are allowed everywhere; those that are taken get `_model` at their end.

    >>> names_of("ds-cnn")
    Names(module='ds_cnn', type='DsCnn', package='ds-cnn')
    >>> names_of("2.class")
    Names(module='model_2_class', type='Model2Class', package='model-2-class')
    """
    words = [word.lower() for word in re.findall(r"[A-Za-z0-9]+", bundle_name)]
    if not words or words[0][0].isdigit():
        words.insert(0, "model")
    module = "_".join(words)
    if keyword.iskeyword(module) or module in _TAKEN or module in sys.stdlib_module_names:
        words.append("model")
    return Names(module="_".join(words), type="".join(map(str.capitalize, words)), package="-".join(words))
