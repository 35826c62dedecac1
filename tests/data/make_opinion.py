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

# Operators of com.microsoft that ONNX Runtime's CPU has kernels of; everything but x is in the file.
whole = lambda name, kind, *values: numpy_helper.from_array(np.array(values, kind), name)
one = lambda name, kind, value: numpy_helper.from_array(np.array(value, kind), name)
signed = lambda name, limit, *dims: numpy_helper.from_array(rng.integers(-limit, limit, dims).astype(np.int8), name)
microsoft = {"domain": "com.microsoft", "num_heads": 4}
apart = [n("MatMul", ["x", "w" + r], [r]) for r in "qkv"]
own = lambda: [weight("w" + r, 32, 32) for r in "qkvo"]
model("integers", [n("QuantizeLinear", ["x", "xs", "xz"], ["u"]), n("QAttention", ["u", "w", "b", "xs", "ws", "", "xz", "wz"], ["a"], unidirectional=1, **microsoft), n("MatMul", ["a", "wo"], ["y"])],
      [signed("w", 90, 32, 96), weight("b", 96), weight("wo", 32, 32), one("xs", np.float32, 0.02), one("xz", np.uint8, 120), numpy_helper.from_array(rng.uniform(0.005, 0.02, 96).astype(np.float32), "ws"), signed("wz", 3, 96)],
      ["batch", "seq", 32], True)
model("sink", apart + [n("GroupQueryAttention", ["q", "k", "v", "", "", "last", "total", "", "", "", "", "sink"], ["a"], kv_num_heads=4, softcap=2.0, **microsoft), n("MatMul", ["a", "wo"], ["y"])],
      own() + [weight("sink", 4), whole("last", np.int32, 4, 4), one("total", np.int32, 5)], [2, 5, 32], True)
model("one_token", [n("Slice", ["x", "begin", "end", "axis"], ["t"])] + [n("MatMul", ["t", "w" + r], [r]) for r in "qkv"]
      + [n("DecoderMaskedMultiHeadAttention", ["q", "k", "v", "mask", "", "pk", "pv", "past", "", "", "b"], ["a", "nk", "nv"], past_present_share_buffer=1, **microsoft), n("MatMul", ["a", "wo"], ["y"])],
      own() + [weight("b", 96), weight("pk", 2, 4, 9, 8), weight("pv", 2, 4, 9, 8), whole("past", np.int32, 3), numpy_helper.from_array(np.array([[1, 1, 1, 1], [0, 1, 1, 1]], np.int32), "mask"),
               ints("begin", 0), ints("end", 1), ints("axis", 1)], [2, 5, 32], True)

# What the cache holds behind a step counts too.
token = [n("Slice", ["x", "begin", "end", "axis"], ["t"])] + [n("MatMul", ["t", "w" + r], [r]) for r in "qkv"]
ends = [n("Cast", ["nk"], ["kf"], to=TensorProto.FLOAT), n("ReduceMean", ["kf"], ["km"], axes=[2], keepdims=1), n("ReduceSum", ["km"], ["held"], keepdims=0), n("MatMul", ["a", "wo"], ["z"]), n("Add", ["z", "held"], ["y"])]
cut = lambda: [ints("begin", 0), ints("end", 1), ints("axis", 1)]
grouped = lambda inputs, **more: [n("GroupQueryAttention", ["q", "k", "v", "pk", "pv", "last", "total"] + inputs, ["a", "nk", "nv"], kv_num_heads=4, **microsoft, **more)]
lengths = lambda: [whole("last", np.int32, 11, 5), one("total", np.int32, 12)]
# A window's cache that is not full: once it is, or where sequences differ in length, the CPU of ONNX Runtime 1.30 reads memory that nothing wrote.
model("window_cache", token + grouped([], sliding_window_cache=1, local_window_size=3) + ends, own() + cut() + [whole("last", np.int32, 4, 4), one("total", np.int32, 5)] + [weight("pk", 2, 4, 5, 8), weight("pv", 2, 4, 5, 8)], [2, 5, 32], True)
model("half_bytes", token + grouped([""] * 5 + ["ks", "vs"], kv_cache_bit_width=4, k_quant_type="PER_CHANNEL", v_quant_type="PER_CHANNEL") + ends,
      own() + cut() + lengths() + [numpy_helper.from_array(rng.integers(0, 256, (2, 4, 12, 4)).astype(np.uint8), name) for name in ("pk", "pv")]
      + [numpy_helper.from_array(rng.uniform(0.05, 0.2, (1, 4, 1, 8)).astype(np.float32), name) for name in ("ks", "vs")], [2, 5, 32], True)
# A bias of its own for each beam the CPU adds by where a key came from, others by where the query is: here all have the same.
model("beams", token + [n("DecoderMaskedMultiHeadAttention", ["q", "k", "v", "mask", "bias", "pk", "pv", "past", "width", "choice"], ["a", "nk", "nv"], past_present_share_buffer=1, **microsoft)] + ends,
      own() + cut() + [numpy_helper.from_array(np.repeat(rng.standard_normal((1, 4, 1, 6)).astype(np.float32), 2, axis=0), "bias"), weight("pk", 2, 4, 9, 8), weight("pv", 2, 4, 9, 8), whole("past", np.int32, 5), whole("width", np.int32, 2), numpy_helper.from_array(np.ones((2, 6), np.int32), "mask"),
                       numpy_helper.from_array((np.arange(18).reshape(1, 2, 9) // 2 % 2).astype(np.int32), "choice")], [2, 5, 32], True)
# A cache that another layer filled: no keys are new, queries alone are turned. Its CPU turns heads of 16 and their multiples.
two = {"domain": "com.microsoft", "num_heads": 2}
model("shared_cache", [n("MatMul", ["x", "wq"], ["q"]), n("GroupQueryAttention", ["q", "none", "none", "pk", "pv", "last", "total", "cos", "sin"], ["a", "nk", "nv"], kv_num_heads=1, do_rotary=1, **two)] + ends,
      [weight("wq", 32, 32), weight("wo", 32, 32), weight("none", 2, 0, 16), weight("pk", 2, 1, 9, 16), weight("pv", 2, 1, 9, 16), weight("cos", 12, 8), weight("sin", 12, 8), whole("last", np.int32, 4, 4), one("total", np.int32, 5)], [2, 5, 32], True)
