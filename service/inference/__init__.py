"""From text to scores: tokenise, encode with ONNX Runtime, apply heads. No torch below here."""
