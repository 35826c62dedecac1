#include "onnx_io/other_format.h"

#include "onnx_io/decode.h"

#include <algorithm>

namespace triptych {

namespace {

using Kind = WireField::Kind;

/// Whether the first fields of a message are these, each length-delimited.
bool beginsWith(std::span<const std::byte> message, std::initializer_list<std::uint32_t> numbers) {
    WireReader reader(message);
    WireField field;
    return std::all_of(numbers.begin(), numbers.end(), [&](std::uint32_t number) { return reader.next(field) && field.number == number && field.kind == Kind::bytes; });
}

/// NodeDef {name, op, input, device, attr} of TensorFlow's GraphDef; NodeProto {input, output, name, op_type} of ONNX is alike but for the type.
bool isTensorFlowNode(std::span<const std::byte> message) {
    bool named = false, typed = false, attributes = false;
    WireReader reader(message);
    for (WireField field; reader.next(field);) {
        if (field.kind != Kind::bytes) return false;
        named = named || field.number == 1;
        typed = typed || field.number == 2;
        attributes = attributes || (field.number == 5 && beginsWith(field.bytes, {1, 2}));
    }
    return !reader.bad() && named && typed && attributes;
}

/// BlockDesc {idx, parent_idx, vars, ops} of Paddle's ProgramDesc.
bool isPaddleBlock(std::span<const std::byte> message) {
    WireReader reader(message);
    WireField first, second, third;
    return reader.next(first) && reader.next(second) && reader.next(third) && first.number == 1 && first.kind == Kind::varint && second.number == 2 && second.kind == Kind::varint && (third.number == 3 || third.number == 4) && third.kind == Kind::bytes;
}

/// A protobuf message of another kind, by the numbers and kinds of its fields.
/// Sources: saved_model.proto and graph.proto of TensorFlow, Model.proto of Core ML, caffe.proto, framework.proto of Paddle, onnx.proto (TensorProto).
std::string otherMessage(std::span<const std::byte> bytes) {
    bool versioned = false, typed = false, content = false;
    WireReader reader(bytes);
    WireField field;
    for (int at = 0; at < 10'000 && reader.next(field); ++at) {
        const bool isBytes = field.kind == Kind::bytes;
        versioned = versioned || (field.number == 1 && field.kind == Kind::varint);
        if (at == 0 && field.number == 1 && isBytes && isTensorFlowNode(field.bytes)) return "this is a TensorFlow graph; convert it to ONNX with tf2onnx";
        // A MetaGraphDef begins with what it is about, then comes its graph.
        if (at == 1 && versioned && field.number == 2 && isBytes && beginsWith(field.bytes, {1, 2})) return "this is a TensorFlow SavedModel; convert it to ONNX with tf2onnx";
        if (at == 0 && field.number == 1 && isBytes && isPaddleBlock(field.bytes)) return "this is a PaddlePaddle program; convert it to ONNX with paddle2onnx";
        if (versioned && field.number >= 200 && isBytes) return "this is a Core ML model; export the model that it was made from to ONNX";
        if (field.number == 100 && isBytes && beginsWith(field.bytes, {1, 2})) return "this is a Caffe model; convert it to ONNX";
        typed = typed || (field.number == 2 && field.kind == Kind::varint && isKnown(typeNumbered(field.integer)));
        content = content || (field.number >= 4 && field.number <= 13 && isBytes);
    }
    if (typed && content) return "this is a single tensor, as test data is (input_0.pb); name the model that it belongs to";
    return {};
}

/// Text, by how it begins; `head` is the first of it.
std::string otherText(std::string_view head) {
    std::string_view text = head.substr(head.starts_with("\xef\xbb\xbf") ? 3 : 0); // a mark of UTF-8
    text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
    if (text.starts_with("<?xml") && text.find("<net ") != std::string_view::npos) return "this is an OpenVINO model; convert the ONNX file that it was made from, or export to ONNX";
    if (text.starts_with("<") && text.find("ir_version") < 16) return "this is ONNX's own text form; read it with onnx.parser.parse_model and save it";
    for (const std::string_view first : {"ir_version:", "producer_name:", "graph {", "opset_import {"})
        if (text.starts_with(first)) return "this is a model as protobuf text (textproto); load it with onnx.load(..., format=\"textproto\") and save it";
    if (text.starts_with("<")) return "this is an HTML or XML page; was the download complete?";
    if (text.starts_with("{") || text.starts_with("[")) return "this is JSON text; name the .onnx file";
    const auto printable = std::count_if(head.begin(), head.end(), [](char c) { return c == '\n' || c == '\t' || c == '\r' || (c >= 0x20 && c < 0x7f); });
    if (!head.empty() && static_cast<std::size_t>(printable) == head.size()) return "this is a text file; name an .onnx file";
    return {};
}

} // namespace

std::string otherFormat(std::span<const std::byte> bytes) {
    const std::string_view head(reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 512));
    const auto starts = [&](std::string_view magic) { return head.starts_with(magic); };
    if (starts("\x1f\x8b")) return "this is a gzip archive; unpack it first";
    if (starts("PK\x03\x04")) return "this is a zip archive (PyTorch's .pt files are such); export it to ONNX, or unpack it first";
    if (starts("\x80\x02") || starts("\x80\x03") || starts("\x80\x04") || starts("\x80\x05")) return "this is a Python pickle; export the model to ONNX";
    if (starts("ftrt") || starts("ptrt")) return "this is a TensorRT engine; open the ONNX file that it was built from";
    if (starts("\x89HDF")) return "this is an HDF5 file; export the model to ONNX";
    if (starts("GGUF")) return "this is a GGUF file; export the model to ONNX";
    if (head.size() > 8 && head.substr(4, 4) == "TFL3") return "this is a TensorFlow Lite model; convert it to ONNX";
    if (starts("version https://git-lfs")) return "this is a Git LFS pointer, not the model; fetch it with git lfs pull";
    if (head.size() > 9 && head[8] == '{' && head.substr(0, 8).find('\0') != std::string_view::npos) return "this is a safetensors file: weights without a graph; export the model to ONNX";
    if (head.size() > 8 && head.substr(4, 4) == "ORTM") return "this is a model in ONNX Runtime's own format; open the ONNX file that it was made from";
    if (starts("\xfd" "7zXZ") || starts("BZh") || starts("7z\xbc\xaf") || starts("Rar!\x1a\x07") || starts("\x28\xb5\x2f\xfd") || head.substr(std::min<std::size_t>(257, head.size())).starts_with("ustar")) return "this is an archive; unpack it first";
    if (!head.empty() && head.find_first_not_of('\0') == std::string_view::npos) return "this begins with zeros alone, as a download does that was broken off; fetch it again";
    if (starts("\x93NUMPY")) return "this is a NumPy array; name the model that it belongs to";
    if (starts("\x7f" "ELF")) return "this is a program; name an .onnx file";
    if (std::string other = otherMessage(bytes); !other.empty()) return other;
    // A damaged one tells by what stands at its beginning.
    const bool tensorFlow = head.find("saved_model") != std::string_view::npos || head.find("serve") != std::string_view::npos || head.find("Placeholder") != std::string_view::npos || head.find("NoOp") != std::string_view::npos;
    if (tensorFlow && (starts("\x08\x01\x12") || starts("\x0a"))) return "this looks like a TensorFlow model; convert it to ONNX with tf2onnx";
    return otherText(head);
}

} // namespace triptych
