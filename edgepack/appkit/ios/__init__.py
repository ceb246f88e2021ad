"""The app kit for iOS and macOS: a Swift package on ONNX Runtime, with the steps in C."""
