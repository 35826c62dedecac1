#pragma once
// ONNX files byte by byte, for what no exporter writes.

#include <cstdint>
#include <string>
#include <vector>

namespace triptych {

/// A protobuf message, field by field.
struct Wire {
    std::string bytes;
    Wire& varint(std::uint64_t value) {
        for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
        bytes += static_cast<char>(value);
        return *this;
    }
    Wire& integer(std::uint32_t field, std::int64_t value) {
        varint(static_cast<std::uint64_t>(field) << 3);
        return varint(static_cast<std::uint64_t>(value));
    }
    Wire& text(std::uint32_t field, const std::string& value) {
        varint(static_cast<std::uint64_t>(field) << 3 | 2).varint(value.size());
        bytes += value;
        return *this;
    }
    Wire& message(std::uint32_t field, const Wire& inner) { return text(field, inner.bytes); }
};

inline Wire opset(const std::string& domain, std::int64_t version) { return Wire().text(1, domain).integer(2, version); }

inline Wire node(const std::string& name, const std::string& op, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs, const std::string& domain = {}) {
    Wire made;
    for (const auto& each : inputs) made.text(1, each);
    for (const auto& each : outputs) made.text(2, each);
    made.text(3, name).text(4, op);
    if (!domain.empty()) made.text(7, domain);
    return made;
}

inline Wire valueInfo(const std::string& name, const std::vector<std::int64_t>& dims) {
    Wire shape;
    for (const std::int64_t dim : dims) shape.message(1, Wire().integer(1, dim));
    return Wire().text(1, name).message(2, Wire().message(1, Wire().integer(1, 1).message(2, shape)));
}

/// As valueInfo(), of a symbolic size.
inline Wire symbolicInfo(const std::string& name, const std::string& symbol, std::int64_t dim) {
    const Wire shape = Wire().message(1, Wire().text(2, symbol)).message(1, Wire().integer(1, dim));
    return Wire().text(1, name).message(2, Wire().message(1, Wire().integer(1, 1).message(2, shape)));
}

inline Wire tensor(const std::string& name, const std::vector<std::int64_t>& dims, const std::string& raw) {
    Wire made;
    for (const std::int64_t dim : dims) made.integer(1, dim);
    return made.integer(2, 1).text(8, name).text(9, raw);
}

inline std::string model(const Wire& graph, const std::vector<Wire>& functions = {}) {
    Wire made;
    made.integer(1, 8).message(7, graph).message(8, opset("", 17)).message(8, opset("f", 1));
    for (const Wire& each : functions) made.message(25, each);
    return made.bytes;
}

} // namespace triptych
