"""Make the files beside this script: small Keras networks, and what Keras answers with them.

Run by hand, in an environment of its own; the tests read the files and need no TensorFlow:

    pip install tensorflow-cpu tf_keras
    python tests/data/keras/make_fixture.py

- ``densedepth-small.h5``: DenseDepth's layers and connections, with few channels and one dense block, of
  Keras 2.
- ``every-layer.h5`` and ``every-layer-keras3.h5``: one network with every kind of layer that can be imported,
  in the files of Keras 2 (tf_keras) and Keras 3, with the same weights.
- ``answers.npz``: pictures (uint8, to be divided by 255) and the answers of these networks to them, float32.
  DenseDepth's own up-sampling layer has three answers, one for each way of placing pixels that TensorFlow has
  had; ``half_pixel`` is today's.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras as keras3
import numpy as np
import tensorflow as tf
import tf_keras as keras2

HERE = Path(__file__).parent
SIZES = {"a": (32, 96), "b": (64, 32)}


def up_sampling_layer(keras, placing="half_pixel"):
    """DenseDepth's own layer: twice the size, bilinear."""

    class BilinearUpSampling2D(keras.layers.Layer):
        def __init__(self, size=(2, 2), data_format="channels_last", **options):
            super().__init__(**options)
            self.size, self.data_format = tuple(size), data_format

        def call(self, value):
            shape = tf.shape(value)
            size = [self.size[0] * shape[1], self.size[1] * shape[2]]
            if placing == "half_pixel":
                return tf.image.resize(value, size, method="bilinear")
            aligned = placing == "align_corners"
            return tf.compat.v1.image.resize_bilinear(value, size, align_corners=aligned)

        def compute_output_shape(self, shape):
            return (shape[0], shape[1] and 2 * shape[1], shape[2] and 2 * shape[2], shape[3])

        def get_config(self):
            return {**super().get_config(), "size": self.size, "data_format": self.data_format}

    return BilinearUpSampling2D


def densedepth_small(placing="half_pixel"):
    layers, up_sampling = keras2.layers, up_sampling_layer(keras2, placing)
    normal = {"epsilon": 1.001e-5}

    def dense_block(value, name):
        path = layers.Activation("relu")(layers.BatchNormalization(name=f"{name}_0_bn", **normal)(value))
        path = layers.Conv2D(4, 1, use_bias=False, name=f"{name}_1_conv")(path)
        path = layers.Activation("relu")(layers.BatchNormalization(name=f"{name}_1_bn", **normal)(path))
        path = layers.Conv2D(3, 3, padding="same", use_bias=False, name=f"{name}_2_conv")(path)
        return layers.Concatenate(axis=3, name=f"{name}_concat")([value, path])

    def transition(value, name):
        value = layers.Activation("relu")(layers.BatchNormalization(name=f"{name}_bn", **normal)(value))
        value = layers.Conv2D(5, 1, use_bias=False, name=f"{name}_conv")(value)
        return layers.AveragePooling2D(2, strides=2, name=f"{name}_pool")(value)

    def decoder_block(value, skip, filters, name):
        value = up_sampling((2, 2), name=f"{name}_upsampling2d")(value)
        value = layers.Concatenate(name=f"{name}_concat")([value, skip])
        for part in "AB":
            value = layers.Conv2D(filters, 3, padding="same", name=f"{name}_conv{part}")(value)
            value = layers.LeakyReLU(alpha=0.2)(value)
        return value

    picture = layers.Input((None, None, 3), name="input_1")
    value = layers.ZeroPadding2D(((3, 3), (3, 3)))(picture)
    value = layers.Conv2D(6, 7, strides=2, use_bias=False, name="conv1/conv")(value)
    value = layers.BatchNormalization(name="conv1/bn", **normal)(value)
    skips = [value := layers.Activation("relu", name="conv1/relu")(value)]
    value = layers.ZeroPadding2D(((1, 1), (1, 1)))(value)
    skips.append(value := layers.MaxPooling2D(3, strides=2, name="pool1")(value))
    skips.append(value := transition(dense_block(value, "conv2_block1"), "pool2"))
    skips.append(value := transition(value, "pool3"))
    value = layers.AveragePooling2D(2, strides=2, name="pool4_pool")(value)
    value = layers.Activation("relu", name="relu")(layers.BatchNormalization(name="bn", **normal)(value))
    value = layers.Conv2D(8, 1, padding="same", name="conv2")(value)
    for number, (skip, filters) in enumerate(zip(reversed(skips), (6, 5, 4, 3), strict=True), 1):
        value = decoder_block(value, skip, filters, f"up{number}")
    answer = layers.Conv2D(1, 3, padding="same", name="conv3")(value)
    return with_weights(keras2, keras2.Model(picture, answer))


def every_layer(keras):
    layers = keras.layers
    slope = {"alpha": 0.3} if keras is keras2 else {"negative_slope": 0.3}
    picture = layers.Input((None, None, 3), name="picture")
    value = layers.ZeroPadding2D(((0, 1), (2, 1)), name="pad")(picture)
    value = layers.Conv2D(4, (3, 4), strides=2, activation="relu", name="valid")(value)
    value = layers.BatchNormalization(scale=False, name="after_activation")(value)
    left = layers.Conv2D(4, (4, 3), padding="same", name="even")(value)
    left = layers.BatchNormalization(center=False, name="folded")(left)
    left = layers.ReLU(name="relu")(left)
    right = layers.Conv2D(4, 3, padding="same", dilation_rate=2, name="dilated")(value)
    right = layers.LeakyReLU(name="leaky", **slope)(right)
    value = layers.Add(name="sum")([left, right, value])
    low = layers.Conv2D(3, 3, strides=2, padding="same", name="strided")(value)
    low = layers.Concatenate(name="pools")(
        [
            low,
            layers.MaxPooling2D(3, strides=2, padding="same", name="max")(value),
            layers.AveragePooling2D((3, 2), strides=2, padding="same", name="average")(value),
        ]
    )
    low = layers.AveragePooling2D((2, 3), strides=1, padding="same", name="smooth")(low)
    high = layers.Concatenate(name="ups")(
        [
            layers.UpSampling2D(2, interpolation="bilinear", name="bilinear")(low),
            layers.UpSampling2D(2, name="nearest")(low),
            up_sampling_layer(keras)(name="own")(low),
        ]
    )
    answer = layers.Conv2D(2, 1, activation="linear", name="answer")(high)
    return with_weights(keras, keras.Model(picture, layers.Activation("linear", name="end")(answer)))


def with_weights(keras, model):
    """Random weights that keep the values of all layers of the same order, batch statistics included."""
    random = np.random.default_rng(20)
    for layer in sorted(model.layers, key=lambda layer: layer.name):
        weights = []
        for weight in layer.weights:
            name, shape = weight.name.rsplit("/", 1)[-1].split(":")[0], tuple(weight.shape)
            if name == "kernel":
                weights.append(random.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape))
            elif name in ("gamma", "moving_variance"):
                weights.append(random.uniform(0.5, 1.5, shape))
            else:
                weights.append(random.normal(0, 0.3, shape))
        layer.set_weights(weights)
    return model


def main() -> None:
    random = np.random.default_rng(0)
    arrays = {}
    for key, size in SIZES.items():
        arrays[f"picture_{key}"] = random.integers(0, 256, (1, *size, 3), np.uint8)
    networks = {
        f"densedepth_{placing}": densedepth_small(placing)
        for placing in ("half_pixel", "align_corners", "asymmetric")
    }
    networks["every_layer"] = every_layer(keras2)
    same = every_layer(keras3)
    networks["densedepth_half_pixel"].save(HERE / "densedepth-small.h5", include_optimizer=False)
    networks["every_layer"].save(HERE / "every-layer.h5", include_optimizer=False)
    same.save(HERE / "every-layer-keras3.h5")
    for name, network in networks.items():
        for key in SIZES:
            picture = arrays[f"picture_{key}"].astype(np.float32) / 255
            arrays[f"{name}_{key}"] = network(picture, training=False).numpy()
    for key in SIZES:
        picture = arrays[f"picture_{key}"].astype(np.float32) / 255
        np.testing.assert_allclose(same(picture, training=False), arrays[f"every_layer_{key}"], atol=1e-5)
    np.savez_compressed(HERE / "answers.npz", **arrays)


if __name__ == "__main__":
    main()
