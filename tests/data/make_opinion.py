#!/usr/bin/env python3
# Makes opinion_*.onnx: small attention models with weights, for the test that asks ONNX Runtime for a second opinion.
import sys
import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

rng = np.random.default_rng(7)


def weight(name, *dims):
    return numpy_helper.from_array((rng.standard_normal(dims) * 0.3).astype(np.float32), name)


def model(name, nodes, weights, dims, domain=False):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid("com.microsoft", 1)] if domain else [])
    made = helper.make_model(helper.make_graph(nodes, name, [x], [y], weights), opset_imports=opsets, ir_version=8)
    save(made, f"{sys.argv[1]}/opinion_{name}.onnx")


n = helper.make_node
ints = lambda name, *values: numpy_helper.from_array(np.array(values, np.int64), name)
heads = ints("heads", 0, 0, 4, 8)
core = [n("Transpose", [r + "h"], [r + "t"], perm=[0, 2, 1, 3]) for r in "qkv"] + [
    n("Transpose", ["kt"], ["ktt"], perm=[0, 1, 3, 2]), n("MatMul", ["qt", "ktt"], ["s"]), n("Mul", ["s", "scale"], ["ss"]),
    n("Softmax", ["ss"], ["p"], axis=-1), n("MatMul", ["p", "vt"], ["c"]), n("Transpose", ["c"], ["ct"], perm=[0, 2, 1, 3]),
    n("Reshape", ["ct", "flat"], ["cf"]), n("MatMul", ["cf", "wo"], ["y"])]
scale = numpy_helper.from_array(np.array(8 ** -0.5, np.float32), "scale")
flat = ints("flat", 0, 0, 32)
model("packed", [n("MatMul", ["x", "w"], ["m"]), n("Add", ["m", "b"], ["a"]), n("Split", ["a", "sizes"], ["q", "k", "v"], axis=-1)]
      + [n("Reshape", [r, "heads"], [r + "h"]) for r in "qkv"] + core,
      [weight("w", 32, 96), weight("b", 96), weight("wo", 32, 32), ints("sizes", 32, 32, 32), heads, scale, flat], ["batch", "seq", 32])
model("separate", [n("MatMul", ["x", "w" + r], [r + "m"]) for r in "qkv"] + [n("Add", [r + "m", "b" + r], [r]) for r in "qkv"]
      + [n("Reshape", [r, "heads"], [r + "h"]) for r in "qkv"] + core,
      [weight("w" + r, 32, 32) for r in "qkv"] + [weight("b" + r, 32) for r in "qkv"] + [weight("wo", 32, 32), heads, scale, flat], ["batch", "seq", 32])
model("microsoft", [n("Attention", ["x", "w", "b"], ["a"], domain="com.microsoft", num_heads=4, unidirectional=1), n("MatMul", ["a", "wo"], ["y"])],
      [weight("w", 32, 96), weight("b", 96), weight("wo", 32, 32)], ["batch", "seq", 32], True)
