"""ONNX → `torch.export`: each operator is computed by the torch function that means the same, while torch traces it.

`graph` reads and checks a file without torch; `network.program_of` makes the program.
"""
