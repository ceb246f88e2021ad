"""Which version of each operator an old runtime knows, and whether a file asks for more.

TensorFlow Lite gives an operator a new version whenever it learns a type or an option; a runtime refuses to open a file with a version that is newer than
itself. A target that must run on an old one says so (`exporter_options.oldest_runtime`), and a model that asks for more is refused before training.
"""

from __future__ import annotations

from edgepack.core.errors import UnsupportedError
from edgepack.exporters.litert_graph import read_graph

_SHOWN = 5
# Made by `python -m benchmarks operator_versions`, which asks the real runtime for each operator and version. 'highest version: operators'.
_TFLITE_RUNTIME_2_14 = """
1: ADD_N ASSIGN_VARIABLE ATAN2 BITCAST BITWISE_XOR BROADCAST_ARGS BUCKETIZE CALL_ONCE CEIL COMPLEX_ABS CONV_3D CONV_3D_TRANSPOSE COS CUMSUM DENSIFY
   DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP_SPARSE EXPAND_DIMS FLOOR HARD_SWISH HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_LOOKUP
   HASHTABLE_SIZE IF IMAG L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LSH_PROJECTION MATRIX_DIAG MATRIX_SET_DIAG
   MULTINOMIAL NEG NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 ONE_HOT POW PRELU RANDOM_STANDARD_NORMAL RANDOM_UNIFORM RANK READ_VARIABLE REAL
   REDUCE_ALL REDUCE_ANY RELU_0_TO_1 RELU_N1_TO_1 RESHAPE REVERSE_SEQUENCE RFFT2D RIGHT_SHIFT ROUND SCATTER_ND SEGMENT_SUM SHAPE SIN SKIP_GRAM SQRT
   SQUARE UNIQUE UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_SUM VAR_HANDLE WHILE ZEROS_LIKE
2: DEPTH_TO_SPACE DIV EXP FAKE_QUANT FLOOR_MOD GELU GREATER L2_NORMALIZATION LEAKY_RELU LESS_EQUAL LOG_SOFTMAX RANGE REDUCE_PROD RSQRT SELECT_V2 SIGN
   SPACE_TO_DEPTH SPLIT_V SQUARED_DIFFERENCE SQUEEZE SUM WHERE
3: ARG_MAX ARG_MIN AVERAGE_POOL_2D BIDIRECTIONAL_SEQUENCE_LSTM BIDIRECTIONAL_SEQUENCE_RNN BROADCAST_TO EMBEDDING_LOOKUP FLOOR_DIV GREATER_EQUAL LESS
   LOGISTIC MAX_POOL_2D MEAN MIRROR_PAD NOT_EQUAL QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 REVERSE_V2 RNN SOFTMAX SPARSE_TO_DENSE TANH TILE TOPK_V2
   UNIDIRECTIONAL_SEQUENCE_RNN
4: BATCH_MATMUL BATCH_TO_SPACE_ND CONCATENATION EQUAL FILL GATHER_ND LSTM MAXIMUM MINIMUM PACK PAD PADV2 RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
   SELECT SPACE_TO_BATCH_ND SPLIT SVDF TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK
5: ABS ADD CAST DEQUANTIZE SUB
6: GATHER SLICE TRANSPOSE
7: CONV_2D DEPTHWISE_CONV_2D MUL
8: STRIDED_SLICE
10: FULLY_CONNECTED
"""


def _table(text: str) -> dict[str, int]:
    """{operator: highest version}; a line without a number goes on with the one before."""
    found: dict[str, int] = {}
    version = 0
    for line in text.strip().splitlines():
        number, colon, kinds = line.rpartition(":")
        version = int(number) if colon else version
        found.update(dict.fromkeys(kinds.split(), version))
    return found


HIGHEST_VERSIONS = {"tflite-runtime 2.14": _table(_TFLITE_RUNTIME_2_14)}


def check_versions(content: bytes, runtime: str) -> None:
    """Raises UnsupportedError that names each operator which a runtime of HIGHEST_VERSIONS does not know, with its place in the model."""
    from edgepack.exporters.litert_pairing import place  # with torch, which a plan doesn't load

    known = HIGHEST_VERSIONS[runtime]
    model, graph = read_graph(content)
    lines = []
    for raw, operator in zip(model.subgraphs[0].operators, graph.operators, strict=True):
        version = model.operatorCodes[raw.opcodeIndex].version
        if version > known.get(operator.kind, 0):
            where = place(graph.names[operator.outputs[0]])
            limit = f"it knows up to {known[operator.kind]}" if operator.kind in known else "it has no such operator"
            lines.append(f"{operator.kind} version {version} at '{where}' ({limit})")
    if lines:
        more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise UnsupportedError(
            f"{runtime} can't run this model: {'; '.join(lines[:_SHOWN])}{more}. Replace the operator by an older one in the model, or build for a target "
            "without exporter_options.oldest_runtime (arm64) and give the device the newer runtime"
        )
