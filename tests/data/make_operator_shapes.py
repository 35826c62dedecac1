"""Condenses the ONNX project's own operator tests into operator_shapes.txt: what goes in, and the shapes that came out.

    python3 make_operator_shapes.py [FOLDER]

FOLDER holds CASE/model.onnx and CASE/test_data_set_0/*.pb, as Debian's libonnx-testdata installs them. Needs nothing but
Python. A line is

    CASE OPSET | one node in the text form of engine/graph/text.h | type[sizes] of each output that is a tensor

Content is kept only of those inputs that decide a shape: a rule has to find every other shape from types and sizes.
"""
import pathlib
import struct
import sys

TYPES = {1: "f32", 2: "u8", 3: "i8", 4: "u16", 5: "i16", 6: "i32", 7: "i64", 8: "string", 9: "bool", 10: "f16", 11: "f64",
         12: "u32", 13: "u64", 14: "c64", 15: "c128", 16: "bf16"}
FORMATS = {1: "f", 6: "i", 7: "q", 9: "?"}  # of the types that the text form takes values of

# Inputs whose content decides a shape.
DECIDING = {
    "AffineGrid": {1}, "BlackmanWindow": {0}, "CenterCropPad": {1}, "Col2Im": {1, 2}, "ConstantOfShape": {0}, "DFT": {1, 2},
    "Expand": {1}, "HammingWindow": {0}, "HannWindow": {0}, "MaxUnpool": {2}, "MelWeightMatrix": {0, 1}, "OneHot": {1},
    "Pad": {1, 3}, "Range": {0, 1, 2}, "ReduceSum": {1}, "Reshape": {1}, "Resize": {1, 2, 3}, "STFT": {1, 3}, "Slice": {1, 2, 3, 4},
    "Split": {1}, "Squeeze": {1}, "Tile": {1}, "TopK": {1}, "Unsqueeze": {1}, "Upsample": {1},
}


def messages(data):
    """(field number, value) of one protobuf message; bytes where the value has a length."""
    at = 0

    def varint():
        nonlocal at
        result = shift = 0
        while True:
            byte = data[at]
            at += 1
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result

    while at < len(data):
        tag = varint()
        kind = tag & 7
        if kind == 0:
            yield tag >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(kind) or varint()
        yield tag >> 3, data[at:at + size]
        at += size


def of(data, number):
    return [value for field, value in messages(data) if field == number]


def one(data, number, absent=b""):
    return (of(data, number) or [absent])[0]


def text(data, number):
    return one(data, number).decode()


def signed(value):
    return value - (1 << 64) if value >= 1 << 63 else value


def packed_integers(values):
    """Repeated integers, packed or one by one."""
    out = []
    for value in values:
        if isinstance(value, int):
            out.append(signed(value))
        else:
            out += [signed(each) for _, each in messages(b"".join(b"\x08" + part for part in split_varints(value)))]
    return out


def split_varints(data):
    begin = 0
    for at, byte in enumerate(data):
        if byte < 0x80:
            yield data[begin:at + 1]
            begin = at + 1


def packed_floats(values):
    return [number for value in values for number in struct.unpack(f"<{len(value) // 4}f", value)]


class Tensor:
    def __init__(self, data):
        self.dims = packed_integers(of(data, 1))
        self.type = one(data, 2, 0)
        self.data = data

    def shape(self):
        return f"{TYPES[self.type]}[{','.join(map(str, self.dims))}]"

    def content(self):
        if self.type not in FORMATS:
            raise ValueError(f"values of {TYPES[self.type]}")
        raw = one(self.data, 9)
        code = FORMATS[self.type]
        if raw:
            values = [each[0] for each in struct.iter_unpack("<" + code, raw)]
        elif self.type == 1:
            values = packed_floats(of(self.data, 4))
        else:
            values = packed_integers(of(self.data, 7 if self.type == 7 else 5))
        return "{" + ",".join(str(float(v)) if self.type == 1 else str(int(v)) for v in values) + "}"


def attribute(data):
    kind = one(data, 20, 0)
    if kind == 1:
        value = str(float(struct.unpack("<f", one(data, 2))[0]))
    elif kind == 2:
        value = str(signed(one(data, 3, 0)))
    elif kind == 3:
        value = '"' + text(data, 4) + '"'
    elif kind == 6:
        value = "[" + ",".join(str(float(v)) for v in packed_floats(of(data, 7))) + "]"
    elif kind == 7:
        value = "[" + ",".join(map(str, packed_integers(of(data, 8)))) + "]"
    elif kind == 8:
        value = "[" + ",".join('"' + v.decode() + '"' for v in of(data, 9)) + "]"
    else:
        raise ValueError(f"attribute of kind {kind}")
    return text(data, 1) + "=" + value


def tensors(folder, what, count):
    """Test data by position; None where it is a sequence or an optional."""
    return [Tensor((folder / f"{what}_{i}.pb").read_bytes()) for i in range(count)]


def element_type(info):
    return one(one(one(info, 2), 1), 1, 0)


def is_tensor(info):
    return bool(of(one(info, 2), 1))


def line(folder):
    model = (folder / "model.onnx").read_bytes()
    graph = one(model, 7)
    nodes = of(graph, 1)
    if len(nodes) != 1:
        raise ValueError("more than one node")
    node = nodes[0]
    if not all(is_tensor(info) for info in of(graph, 11) + of(graph, 12)):
        raise ValueError("a sequence or an optional")
    domain, op = text(node, 7), text(node, 4)
    opset = next(one(each, 2) for each in of(model, 8) if text(each, 1) == domain)
    data = folder / "test_data_set_0"
    given = dict(zip([text(each, 1) for each in of(graph, 11)], tensors(data, "input", len(of(graph, 11)))))
    made = dict(zip([text(each, 1) for each in of(graph, 12)], tensors(data, "output", len(of(graph, 12)))))
    for info in of(graph, 11) + of(graph, 12):  # test data holds bfloat16 as uint16
        (given if text(info, 1) in given else made)[text(info, 1)].type = element_type(info)
    operands = []
    for place, name in enumerate(each.decode() for each in of(node, 1)):
        if not name:
            operands.append("_")
            continue
        values = " = " + given[name].content() if place in DECIDING.get(op, ()) else ""
        operands.append(f"x{place}: {given[name].shape()}{values}")
    operands += [attribute(each) for each in of(node, 5)]
    names = [each.decode() for each in of(node, 2)]
    outputs = ", ".join(f"y{i}" if name else "_" for i, name in enumerate(names))
    call = f"{domain}::{op}" if domain else op
    expected = " ".join(made[name].shape() for name in names if name)
    return f"{opset} | {outputs} = {call}({', '.join(operands)}) | {expected}"


def main():
    source = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/libonnx-testdata/data/node")
    seen, skipped = {}, {}
    for folder in sorted(source.iterdir()):
        name = folder.name.removeprefix("test_")
        if name.endswith("_expanded"):
            continue
        try:
            seen.setdefault(line(folder), name)
        except ValueError as error:
            skipped.setdefault(str(error), []).append(name)
    target = pathlib.Path(__file__).parent / "operator_shapes.txt"
    target.write_text("".join(sorted(f"{name} {case}\n" for case, name in seen.items())))
    print(f"{len(seen)} cases, {target.stat().st_size} bytes")
    for why, names in skipped.items():
        print(f"skipped, {why}: {' '.join(names)}")


if __name__ == "__main__":
    main()
