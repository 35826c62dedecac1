#include "onnx_io/encode.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

namespace triptych {

std::string& Message::tail() {
    if (m_pieces.empty() || m_pieces.back().payload) m_pieces.emplace_back();
    return m_pieces.back().text;
}

void Message::varint(std::uint64_t value) {
    std::string& to = tail();
    for (; value >= 0x80; value >>= 7, ++m_size) to += static_cast<char>(value | 0x80);
    to += static_cast<char>(value);
    ++m_size;
}

void Message::tag(std::uint32_t field, unsigned kind) { varint(static_cast<std::uint64_t>(field) << 3 | kind); }

void Message::integer(std::uint32_t field, std::int64_t value) {
    tag(field, 0);
    varint(static_cast<std::uint64_t>(value));
}

void Message::real(std::uint32_t field, float value) {
    tag(field, 5);
    char bytes[4];
    std::memcpy(bytes, &value, 4);
    raw({bytes, 4});
}

void Message::text(std::uint32_t field, std::string_view value) {
    tag(field, 2);
    varint(value.size());
    raw(value);
}

void Message::raw(std::string_view fields) {
    tail() += fields;
    m_size += fields.size();
}

void Message::message(std::uint32_t field, Message inner) {
    tag(field, 2);
    varint(inner.m_size);
    for (Piece& piece : inner.m_pieces) {
        tail() += piece.text;
        if (!piece.payload) continue;
        m_pieces.back().payload = std::move(piece.payload);
        m_pieces.back().length = piece.length;
    }
    m_size += inner.m_size;
}

void Message::payload(std::uint32_t field, TensorPtr tensor, std::uint64_t length) {
    tag(field, 2);
    varint(length);
    m_pieces.back().payload = std::move(tensor);
    m_pieces.back().length = length;
    m_size += length;
}

Message encodePair(const std::string& key, const std::string& value) {
    Message made;
    made.text(1, key);
    made.text(2, value);
    return made;
}

Message encodeOpset(const std::string& domain, std::int64_t version) {
    Message made;
    if (!domain.empty()) made.text(1, domain);
    made.integer(2, version);
    return made;
}

Message encodeValueInfo(const std::string& name, const DeclaredType& declared) {
    Message made;
    made.text(1, name);
    if (declared.other) {
        Message type;
        type.raw(*declared.other);
        made.message(2, std::move(type));
        return made;
    }
    if (declared.type == DataType::undefined) return made;
    Message tensor;
    tensor.integer(1, static_cast<std::int64_t>(declared.type));
    if (declared.hasShape) {
        Message shape;
        for (std::size_t i = 0; i < declared.dims.size(); ++i) {
            Message dim;
            if (declared.dims[i] >= 0) dim.integer(1, declared.dims[i]);
            else if (i < declared.symbols.size() && !declared.symbols[i].empty()) dim.text(2, declared.symbols[i]);
            shape.message(1, std::move(dim));
        }
        tensor.message(2, std::move(shape));
    }
    Message type;
    type.message(declared.kind == "sparse_tensor" ? 8 : 1, std::move(tensor));
    made.message(2, std::move(type));
    return made;
}

Message Encoder::tensor(const TensorPtr& tensor, const std::string& name) {
    /// Payloads above this go to the external file where there is one.
    constexpr std::uint64_t inlineBytes = 1024;
    Message made;
    for (const Dim dim : tensor->dims) made.integer(1, dim);
    made.integer(2, static_cast<std::int64_t>(tensor->type));
    if (!name.empty()) made.text(8, name);
    const Payload& payload = tensor->payload;
    if (tensor->type == DataType::string) {
        for (const std::string& each : tensor->strings) made.text(6, each);
        return made;
    }
    const auto refer = [&](const std::string& file, std::uint64_t offset, std::uint64_t length) {
        made.message(13, encodePair("location", file));
        made.message(13, encodePair("offset", std::to_string(offset)));
        made.message(13, encodePair("length", std::to_string(length)));
        made.integer(14, 1);
    };
    if (payload.place == Payload::Place::absent) {
        // What the source refers to but hasn't beside it stays a reference.
        if (!payload.file.empty()) refer(payload.file.string(), payload.offset, payload.length);
        return made;
    }
    const std::uint64_t length = tensor->byteSize().value_or(payload.length);
    if (m_external.name.empty() || length <= inlineBytes) {
        made.payload(9, tensor, length);
        return made;
    }
    const std::uint64_t offset = (m_external.size + 63) / 64 * 64;
    m_external.tensors.emplace_back(tensor, offset);
    m_external.size = offset + length;
    refer(m_external.name, offset, length);
    return made;
}

Message Encoder::attribute(const Attribute& attribute) {
    Message made;
    if (const auto* raw = std::get_if<RawAttribute>(&attribute.value)) {
        made.raw(raw->bytes);
        return made;
    }
    made.text(1, attribute.name);
    if (!attribute.reference.empty()) made.text(21, attribute.reference);
    struct Writer {
        Encoder& encoder;
        Message& to;
        std::int64_t operator()(std::monostate) { return 0; }
        std::int64_t operator()(const RawAttribute&) { return 0; }
        std::int64_t operator()(float value) { return to.real(2, value), 1; }
        std::int64_t operator()(std::int64_t value) { return to.integer(3, value), 2; }
        std::int64_t operator()(const std::string& value) { return to.text(4, value), 3; }
        std::int64_t operator()(const TensorPtr& value) { return to.message(5, encoder.tensor(value, value->name)), 4; }
        std::int64_t operator()(const GraphPtr& value) { return to.message(6, encoder.graph(*value, {})), 5; }
        std::int64_t operator()(const std::vector<float>& values) {
            for (const float each : values) to.real(7, each);
            return 6;
        }
        std::int64_t operator()(const std::vector<std::int64_t>& values) {
            for (const std::int64_t each : values) to.integer(8, each);
            return 7;
        }
        std::int64_t operator()(const std::vector<std::string>& values) {
            for (const std::string& each : values) to.text(9, each);
            return 8;
        }
        std::int64_t operator()(const std::vector<TensorPtr>& values) {
            for (const TensorPtr& each : values) to.message(10, encoder.tensor(each, each->name));
            return 9;
        }
        std::int64_t operator()(const std::vector<GraphPtr>& values) {
            for (const GraphPtr& each : values) to.message(11, encoder.graph(*each, {}));
            return 10;
        }
    };
    made.integer(20, std::visit(Writer{*this, made}, attribute.value));
    return made;
}

Message Encoder::node(const Graph& graph, NodeId id, const std::vector<std::vector<std::string>>& sourceNames) {
    const Node& node = graph.node(id);
    Message made;
    for (const ValueId value : node.inputs) made.text(1, value ? graph.value(value).name : "");
    for (const ValueId value : node.outputs) made.text(2, value ? graph.value(value).name : "");
    made.text(3, node.name);
    made.text(4, node.op);
    for (const Attribute& each : node.attributes.items()) made.message(5, attribute(each));
    if (!node.domain.empty()) made.text(7, node.domain);
    if (!node.overload.empty()) made.text(8, node.overload);
    for (const auto& [key, value] : node.metadata)
        if (key != sourcesKey) made.message(9, encodePair(key, value));
    if (!sourceNames.empty()) {
        std::vector<std::string> names;
        for (const SourceId source : graph.sources(id))
            for (const std::string& name : sourceNames.at(source.position()))
                if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
        made.message(9, encodePair(std::string(sourcesKey), nlohmann::json(names).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
    }
    return made;
}

Message Encoder::graph(const Graph& graph, const std::vector<std::vector<std::string>>& sourceNames) {
    Message made;
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) made.message(1, node(graph, NodeId(i), sourceNames));
    made.text(2, graph.name().empty() ? "graph" : graph.name());
    for (std::size_t i = 0; i < graph.values().size(); ++i) {
        const ValueId id(i);
        const Value& value = graph.value(id);
        if (value.initializer && (!graph.readers(id).empty() || graph.isOutput(id))) made.message(5, tensor(value.initializer, value.name));
    }
    for (const ValueId value : graph.inputs()) made.message(11, encodeValueInfo(graph.value(value).name, graph.value(value).declared));
    for (const ValueId value : graph.outputs()) made.message(12, encodeValueInfo(graph.value(value).name, graph.value(value).declared));
    for (std::size_t i = 0; i < graph.values().size(); ++i) {
        const ValueId id(i);
        if (graph.producer(id) && !graph.isOutput(id) && graph.value(id).declared.hasShape) made.message(13, encodeValueInfo(graph.value(id).name, graph.value(id).declared));
    }
    return made;
}

Message Encoder::function(const Function& function) {
    const Graph& body = *function.body;
    Message made;
    made.text(1, function.name);
    for (const ValueId value : body.inputs()) made.text(4, body.value(value).name);
    for (const ValueId value : body.outputs()) made.text(5, body.value(value).name);
    for (const FunctionParameter& parameter : function.parameters) {
        if (parameter.hasDefault) made.message(11, attribute(parameter.defaultValue));
        else made.text(6, parameter.name);
    }
    // A body holds no initializers: its constants become nodes.
    for (std::size_t i = 0; i < body.values().size(); ++i) {
        const Value& value = body.value(ValueId(i));
        if (!value.initializer || body.readers(ValueId(i)).empty()) continue;
        Message constant;
        constant.text(2, value.name);
        constant.text(3, value.name + "/Constant");
        constant.text(4, "Constant");
        constant.message(5, attribute({"value", value.initializer, {}}));
        made.message(7, std::move(constant));
    }
    for (std::size_t i = 0; i < body.nodes().size(); ++i) made.message(7, node(body, NodeId(i), {}));
    for (const auto& [domain, version] : function.opsets) made.message(9, encodeOpset(domain, version));
    made.text(10, function.domain);
    if (!function.overload.empty()) made.text(13, function.overload);
    return made;
}

} // namespace triptych
