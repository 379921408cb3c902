"""Training of the depth networks that come with fgbgpack: ``python -m fgbgpack.training --help``.

Needs PyTorch (the extra ``train``). ``views`` makes pictures and labels, ``networks`` has the two networks,
``losses`` what they minimise, ``fit`` the training loop, ``trainer`` the batches; ``export`` writes ONNX.
"""
