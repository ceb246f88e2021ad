"""The app kit for browsers and Node.js: an ES module on onnxruntime-web."""
