"""Writes the small ONNX files of this folder. Needs nothing but Python: messages are encoded by hand.

control_flow.onnx  a Loop over a small block, an If with two branches inside it, a Scan, and a call of a model-local
                   function that calls another and reads an attribute of the call
merged_decoder.onnx  one attention with a cache and one without, in the branches of an If that an input decides
looped_attention.onnx  attention in the body of a Loop, which calls a function, and in a branch that is always taken
lists.onnx         a Loop that appends to a list, a SequenceMap over it, a list that both branches of an If make
function_opset.onnx  a function that imports ai.onnx 12 in a model of 17, with a Softmax that means another thing in each
outside.onnx       a MatMul whose weight lies in ../weights/weights.bin, outside of the model's folder
"""
import pathlib
import struct

FLOAT, INT64, BOOL = 1, 7, 9


def varint(number):
    number &= (1 << 64) - 1
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name, kind, dims, raw):
    return b"".join(field(1, dim) for dim in dims) + field(2, kind) + field(8, name) + field(9, raw)


def floats(name, *dims):
    count = 1
    for dim in dims:
        count *= dim
    return tensor(name, FLOAT, dims, struct.pack(f"<{count}f", *[0.01 * (i % 7) for i in range(count)]))


def info(name, kind, dims=None):
    inner = field(1, kind)
    if dims is not None:
        inner += field(2, b"".join(field(1, field(2, d) if isinstance(d, str) else field(1, d)) for d in dims))
    return field(1, name) + field(2, field(1, inner))


def integer(name, value):
    return field(1, name) + field(3, value) + field(20, 2)


def integers(name, values):
    return field(1, name) + b"".join(field(8, value) for value in values) + field(20, 7)


def nested(name, body):
    return field(1, name) + field(6, body) + field(20, 5)


def reference(name, of):
    return field(1, name) + field(21, of) + field(20, 2)


def node(op, inputs, outputs, name, attributes=(), domain=""):
    out = b"".join(field(1, i) for i in inputs) + b"".join(field(2, o) for o in outputs) + field(3, name) + field(4, op)
    out += b"".join(field(5, a) for a in attributes)
    return out + (field(7, domain) if domain else b"")


def graph(name, nodes, inputs, outputs, initializers=()):
    return (b"".join(field(1, n) for n in nodes) + field(2, name) + b"".join(field(5, i) for i in initializers)
            + b"".join(field(11, i) for i in inputs) + b"".join(field(12, o) for o in outputs))


def model(body, functions=()):
    opsets = [field(8, field(1, "") + field(2, 17))]
    if functions:
        opsets.append(field(8, field(1, "local") + field(2, 1)))
    return field(1, 8) + field(2, "triptych tests") + field(7, body) + b"".join(opsets) + b"".join(field(25, f) for f in functions)


def function(name, inputs, outputs, parameters, nodes, opset=17):
    return (field(1, name) + b"".join(field(4, i) for i in inputs) + b"".join(field(5, o) for o in outputs)
            + b"".join(field(6, p) for p in parameters) + b"".join(field(7, n) for n in nodes)
            + field(9, field(1, "") + field(2, opset)) + field(9, field(1, "local") + field(2, 1)) + field(10, "local"))


def control_flow():
    then_branch = graph("then", [node("Relu", ["h"], ["t"], "then_relu")], [], [info("t", FLOAT)])
    else_branch = graph("else", [node("Neg", ["h"], ["n"], "else_neg"), node("Tanh", ["n"], ["e"], "else_tanh")], [], [info("e", FLOAT)])
    body = graph("body", [
        node("MatMul", ["state", "w"], ["h0"], "body_matmul"),
        node("Add", ["h0", "b"], ["h"], "body_add"),
        node("ReduceMean", ["h"], ["mean"], "body_mean", [integer("keepdims", 0)]),
        node("Greater", ["mean", "limit"], ["positive"], "body_greater"),
        node("If", ["positive"], ["picked"], "choose", [nested("then_branch", then_branch), nested("else_branch", else_branch)]),
        node("Add", ["picked", "x"], ["next"], "body_residual"),
        node("Identity", ["keep_going"], ["still"], "body_condition"),
    ], [info("step", INT64, []), info("keep_going", BOOL, []), info("state", FLOAT)], [info("still", BOOL, []), info("next", FLOAT)])
    scan_body = graph("scan", [node("Add", ["sum", "row"], ["total"], "scan_add"), node("Identity", ["total"], ["copy"], "scan_copy")],
                      [info("sum", FLOAT, [64]), info("row", FLOAT, [64])], [info("total", FLOAT, [64]), info("copy", FLOAT, [64])])
    gate = function("Gate", ["g_in"], ["g_out"], [], [
        node("Sigmoid", ["g_in"], ["g_s"], "gate_sigmoid"), node("Mul", ["g_in", "g_s"], ["g_out"], "gate_mul")])
    block = function("Block", ["f_in", "f_w"], ["f_out"], ["axis"], [
        node("MatMul", ["f_in", "f_w"], ["f_h"], "block_matmul"),
        node("Gate", ["f_h"], ["f_g"], "block_gate", [], "local"),
        node("Softmax", ["f_g"], ["f_out"], "block_softmax", [reference("axis", "axis")])])
    main = graph("control_flow", [
        node("Relu", ["x"], ["start"], "first"),
        node("Loop", ["trips", "go", "start"], ["looped"], "loop", [nested("body", body)]),
        node("Block", ["looped", "w"], ["blocked"], "block", [integer("axis", -1)], "local"),
        node("Scan", ["zero", "blocked"], ["last", "sums"], "scan", [nested("body", scan_body), integer("num_scan_inputs", 1)]),
        node("Tanh", ["sums"], ["y"], "final"),
    ], [info("x", FLOAT, ["rows", 64])], [info("y", FLOAT, None), info("last", FLOAT, None)], [
        tensor("trips", INT64, [], struct.pack("<q", 3)), tensor("go", BOOL, [], b"\1"), floats("limit"), floats("zero", 64), floats("b", 64),
        field(1, 64) + field(1, 64) + field(2, FLOAT) + field(8, "w") + external("weights.bin"),
    ])
    return model(main, [gate, block])


def numbers(name, *values):
    return tensor(name, INT64, [len(values)], struct.pack(f"<{len(values)}q", *values))


def attention(prefix, state, result, cached=False):
    """4 heads of 8 with a packed projection; weights of the outer graph. Names of the same roles are the same in all."""
    def n(op, inputs, output, *attributes):
        return node(op, inputs, [prefix + output], prefix + output + "_" + op, attributes)

    def heads(role):
        return [n("Reshape", [prefix + role, "split_heads"], role + "4"), n("Transpose", [prefix + role + "4"], role + "h", integers("perm", [0, 2, 1, 3]))]

    nodes = [n("MatMul", [state, "w_qkv"], "qkv"),
             node("Split", [prefix + "qkv", "thirds"], [prefix + "q", prefix + "k", prefix + "v"], prefix + "split", [integer("axis", -1)])]
    nodes += heads("q") + heads("k") + heads("v")
    keys, values = prefix + "kh", prefix + "vh"
    if cached:
        nodes += [n("Concat", ["past_k", keys], "ka", integer("axis", 2)), n("Concat", ["past_v", values], "va", integer("axis", 2))]
        keys, values = prefix + "ka", prefix + "va"
    nodes += [n("Transpose", [keys], "kt", integers("perm", [0, 1, 3, 2])), n("MatMul", [prefix + "qh", prefix + "kt"], "scores"),
              n("Mul", [prefix + "scores", "scale"], "scaled"), n("Softmax", [prefix + "scaled"], "weights", integer("axis", -1)),
              n("MatMul", [prefix + "weights", values], "context"), n("Transpose", [prefix + "context"], "merged", integers("perm", [0, 2, 1, 3])),
              n("Reshape", [prefix + "merged", "join_heads"], "flat"), node("MatMul", [prefix + "flat", "w_o"], [result], prefix + "out")]
    return nodes, keys, values


def shared_weights():
    return [floats("w_qkv", 32, 96), floats("w_o", 32, 32), numbers("thirds", 32, 32, 32), numbers("split_heads", 0, 0, 4, 8), numbers("join_heads", 0, 0, 32),
            tensor("scale", FLOAT, [], struct.pack("<f", 8 ** -0.5))]


def merged_decoder():
    def branch(name, cached):
        nodes, keys, values = attention("", "x", "out", cached)
        return graph(name, nodes, [], [info("out", FLOAT), info(keys, FLOAT), info(values, FLOAT)])

    choose = node("If", ["use_cache"], ["y", "present_k", "present_v"], "choose", [nested("then_branch", branch("cached", True)), nested("else_branch", branch("first", False))])
    cache = ["batch", 4, "past_length", 8]
    return model(graph("merged_decoder", [choose],
                       [info("x", FLOAT, ["batch", "sequence", 32]), info("past_k", FLOAT, cache), info("past_v", FLOAT, cache), info("use_cache", BOOL, [1])],
                       [info("y", FLOAT), info("present_k", FLOAT), info("present_v", FLOAT)], shared_weights()))


def looped_attention():
    nodes, _, _ = attention("", "state", "out")
    body = graph("body", nodes + [node("Residual", ["out", "state"], ["next"], "residual", [], "local"), node("Identity", ["on"], ["still"], "still_on")],
                 [info("turn", INT64, []), info("on", BOOL, []), info("state", FLOAT)], [info("still", BOOL, []), info("next", FLOAT)])
    always, _, _ = attention("always/", "x", "a")
    then_branch = graph("then", always, [], [info("a", FLOAT)])
    else_branch = graph("else", [node("Neg", ["x"], ["e"], "negative")], [], [info("e", FLOAT)])
    main = graph("looped_attention", [
        node("Shape", ["x"], ["shape"], "shape_of_x"),
        node("Gather", ["shape", "last"], ["width"], "width_of_x"),
        node("Equal", ["width", "thirty_two"], ["wide"], "is_wide"),
        node("If", ["wide"], ["first"], "choose", [nested("then_branch", then_branch), nested("else_branch", else_branch)]),
        node("Loop", ["trips", "", "first"], ["y"], "loop", [nested("body", body)]),
    ], [info("x", FLOAT, ["batch", "sequence", 32])], [info("y", FLOAT)], shared_weights() + [tensor("last", INT64, [], struct.pack("<q", 2)),
        tensor("thirty_two", INT64, [], struct.pack("<q", 32)), tensor("trips", INT64, [], struct.pack("<q", 2))])
    residual = function("Residual", ["r_a", "r_b"], ["r_sum"], [], [node("Add", ["r_a", "r_b"], ["r_sum"], "add")])
    return model(main, [residual])


def external(location):
    def entry(key, value):
        return field(13, field(1, key) + field(2, value))

    return entry("location", location) + entry("offset", "0") + entry("length", str(64 * 64 * 4)) + field(14, 1)


def outside():
    weight = field(1, 64) + field(1, 64) + field(2, FLOAT) + field(8, "w") + external("../weights/weights.bin")
    return model(graph("outside", [node("MatMul", ["x", "w"], ["y"], "product")], [info("x", FLOAT, ["batch", 64])], [info("y", FLOAT)], [weight]))


def listed(name):
    """The type of a list of float tensors of any shape."""
    return field(1, name) + field(2, field(4, field(1, field(1, field(1, FLOAT)))))


def lists():
    body = graph("body", [
        node("Gather", ["x", "turn"], ["row"], "row_of_x", [integer("axis", 0)]),
        node("SequenceInsert", ["list", "row"], ["longer"], "append"),
        node("Identity", ["on"], ["still"], "still_on"),
    ], [info("turn", INT64, []), info("on", BOOL, []), listed("list")], [info("still", BOOL, []), listed("longer")])
    mapped = graph("mapped", [node("Concat", ["item", "more"], ["wide"], "widen", [integer("axis", 0)])], [info("item", FLOAT), info("more", FLOAT)], [info("wide", FLOAT)])
    then_branch = graph("then", [node("SequenceConstruct", ["x", "more"], ["two"], "make_two")], [], [listed("two")])
    else_branch = graph("else", [node("SequenceConstruct", ["x"], ["one"], "make_one")], [], [listed("one")])
    main = graph("lists", [
        node("SequenceEmpty", [], ["nothing"], "begin"),
        node("Loop", ["rows", "", "nothing"], ["all"], "loop", [nested("body", body)]),
        node("ConcatFromSequence", ["all"], ["stacked"], "stack", [integer("axis", 0), integer("new_axis", 1)]),
        node("SequenceMap", ["all", "more"], ["widened"], "map", [nested("body", mapped)]),
        node("ConcatFromSequence", ["widened"], ["joined"], "join", [integer("axis", 0)]),
        node("If", ["which"], ["made"], "choose", [nested("then_branch", then_branch), nested("else_branch", else_branch)]),
        node("SequenceAt", ["made", "zero"], ["picked"], "pick"),
    ], [info("x", FLOAT, [5, 4]), info("which", FLOAT, [])], [info("stacked", FLOAT), info("joined", FLOAT), info("picked", FLOAT)], [
        floats("more", 3), tensor("rows", INT64, [], struct.pack("<q", 5)), tensor("zero", INT64, [], struct.pack("<q", 0))])
    return model(main)


def function_opset():
    old = function("Old", ["f_in"], ["f_out"], [], [node("Softmax", ["f_in"], ["f_out"], "softmax")], 12)
    main = graph("function_opset", [node("Old", ["x"], ["old"], "call", [], "local"), node("Softmax", ["x"], ["new"], "softmax")],
                 [info("x", FLOAT, [2, 3, 4])], [info("old", FLOAT), info("new", FLOAT)])
    return model(main, [old])


if __name__ == "__main__":
    here = pathlib.Path(__file__).parent
    (here / "control_flow.onnx").write_bytes(control_flow())
    (here / "merged_decoder.onnx").write_bytes(merged_decoder())
    (here / "looped_attention.onnx").write_bytes(looped_attention())
    (here / "lists.onnx").write_bytes(lists())
    (here / "function_opset.onnx").write_bytes(function_opset())
    (here / "outside.onnx").write_bytes(outside())
