"""Training of the depth networks that come with fgbgpack: ``python -m fgbgpack.training --help``.

Needs PyTorch (the extra ``train``); nothing else in fgbgpack imports this package.

``views`` makes the pictures and their labels, ``networks`` has the two networks, ``losses`` what they are
trained for, ``fit`` the loop, ``export`` the way to ONNX, ``course`` the order of it all.
"""
