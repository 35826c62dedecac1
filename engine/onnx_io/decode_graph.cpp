// NodeProto, AttributeProto, GraphProto and FunctionProto.

#include "onnx_io/decode.h"

namespace triptych {

namespace {

/// Nested graphs deeper than this are refused: decoding recurses.
constexpr int deepest = 64;
constexpr std::size_t mostMessages = 3'000'000; ///< of all graphs and functions together
using Kind = WireField::Kind;

template <class T>
std::vector<T> packedNumbers(const WireField& field, bool& bad) {
    std::vector<T> numbers;
    if constexpr (std::is_same_v<T, float>) {
        if (field.kind == Kind::fixed32) return {field.real()};
        bad = bad || field.bytes.size() % 4 != 0;
        numbers.resize(field.bytes.size() / 4);
        std::copy_n(field.bytes.data(), numbers.size() * 4, reinterpret_cast<std::byte*>(numbers.data()));
    } else {
        if (field.kind == Kind::varint) return {field.whole()};
        WireReader packed(field.bytes);
        for (std::uint64_t number = 0; !packed.atEnd() && packed.varint(number);) numbers.push_back(static_cast<std::int64_t>(number));
        bad = bad || packed.bad();
    }
    return numbers;
}

} // namespace

std::pair<std::string, std::string> textPair(std::span<const std::byte> message, bool raw) {
    std::pair<std::string, std::string> pair;
    WireReader reader(message);
    for (WireField field; reader.next(field);)
        if (field.kind == Kind::bytes && field.number <= 2) (field.number == 1 ? pair.first : pair.second) = raw ? std::string(field.text()) : cleanText(field.text());
    return pair;
}

std::pair<std::string, std::int64_t> opsetImport(std::span<const std::byte> message) {
    std::pair<std::string, std::int64_t> import{"", 0};
    WireReader opset(message);
    for (WireField part; opset.next(part);) {
        if (part.number == 1 && part.kind == Kind::bytes) import.first = cleanText(part.text());
        if (part.number == 2 && part.kind == Kind::varint) import.second = part.whole();
    }
    if (import.first == "ai.onnx") import.first.clear();
    return import;
}

tl::unexpected<Failure> Decoder::damaged(std::string_view what) const {
    return fail("import", "the file is damaged or truncated inside " + std::string(what), "copy or export the file again");
}

void Decoder::warn(std::string text) {
    constexpr std::size_t most = 100;
    if (m_warnings.size() < most) m_warnings.push_back(std::move(text));
}

Result<Attribute> Decoder::attribute(std::span<const std::byte> message, int depth) {
    Attribute made;
    std::vector<std::int64_t> ints;
    std::vector<float> floats;
    std::vector<std::string> strings;
    std::vector<TensorPtr> tensors;
    std::vector<GraphPtr> graphs;
    Attribute::Value single;
    std::optional<std::span<const std::byte>> sparse;
    int kind = 0;
    bool bad = false;
    WireReader reader(message);
    for (WireField field; reader.next(field);) {
        const bool isNumber = field.number == 2 || field.number == 3 || field.number == 7 || field.number == 8 || field.number == 20;
        if (!isNumber && field.kind != Kind::bytes) continue;
        switch (field.number) {
        case 1: made.name = cleanText(field.text()); break;
        case 2: single = field.real(); break;
        case 3: single = field.whole(); break;
        case 4: single = std::string(field.text()); break;
        case 5:
        case 10: {
            auto tensor = this->tensor(field.bytes);
            if (!tensor) return tl::unexpected(tensor.error());
            if (field.number == 5) single = *tensor;
            else tensors.push_back(*tensor);
            break;
        }
        case 6:
        case 11: {
            auto graph = this->graph(field.bytes, depth + 1);
            if (!graph) return tl::unexpected(graph.error());
            if (field.number == 6) single = *graph;
            else graphs.push_back(*graph);
            break;
        }
        case 7:
            for (const float number : packedNumbers<float>(field, bad)) floats.push_back(number);
            break;
        case 8:
            for (const std::int64_t number : packedNumbers<std::int64_t>(field, bad)) ints.push_back(number);
            break;
        case 9: strings.emplace_back(field.text()); break;
        case 20: kind = static_cast<int>(field.integer); break;
        case 22: sparse = field.bytes; break;
        case 21: made.reference = cleanText(field.text()); break;
        default: break;
        }
    }
    if (reader.bad() || bad) return damaged("the attribute " + made.name);
    if (sparse && made.name == "sparse_value") { // of Constant: the same as a dense one
        auto tensor = sparseTensor(*sparse);
        if (!tensor) return tl::unexpected(tensor.error());
        if ((*tensor)->payload.missing.empty()) return Attribute{"value", *tensor, ""};
    }
    switch (kind) {
    case 0: // before IR 3 the type was told by the field that is set
    case 1: // a number that is 0 may be left out
    case 2:
    case 3:
        made.value = std::move(single);
        if (kind == 1 && !std::holds_alternative<float>(made.value)) made.value = 0.0F;
        if (kind == 2 && !std::holds_alternative<std::int64_t>(made.value)) made.value = std::int64_t(0);
        if (kind == 3 && !std::holds_alternative<std::string>(made.value)) made.value = std::string();
        if (kind == 0 && !ints.empty()) made.value = std::move(ints);
        else if (kind == 0 && !floats.empty()) made.value = std::move(floats);
        else if (kind == 0 && !strings.empty()) made.value = std::move(strings);
        break;
    case 4:
    case 5: made.value = std::move(single); break;
    case 6: made.value = std::move(floats); break;
    case 7: made.value = std::move(ints); break;
    case 8: made.value = std::move(strings); break;
    case 9: made.value = std::move(tensors); break;
    case 10: made.value = std::move(graphs); break;
    default: made.value = RawAttribute{kind, {reinterpret_cast<const char*>(message.data()), message.size()}}; break;
    }
    return made;
}

Result<Node> Decoder::node(std::span<const std::byte> message, std::size_t index, GraphBuilder& builder, int depth) {
    if ((++m_decoded & 1023) == 0 && m_job.stopped()) return fail("import", "stopped");
    Node node;
    std::vector<Attribute> attributes;
    WireReader reader(message);
    for (WireField field; reader.next(field);) {
        if (field.kind != Kind::bytes) continue;
        switch (field.number) {
        case 1: node.inputs.push_back(builder.value(cleanText(field.text()))); break;
        case 2: node.outputs.push_back(builder.value(cleanText(field.text()))); break;
        case 3: node.name = cleanText(field.text()); break;
        case 4: node.op = cleanText(field.text()); break;
        case 5: {
            auto made = attribute(field.bytes, depth);
            if (!made) {
                Failure failure = made.error();
                if (failure.node.empty()) failure.node = (node.name.empty() ? node.op + "_" + std::to_string(index) : node.name) + " (" + node.op + ", node " + std::to_string(index) + ")";
                return tl::unexpected(std::move(failure));
            }
            attributes.push_back(std::move(*made));
            break;
        }
        case 7: node.domain = cleanText(field.text()); break;
        case 8: node.overload = cleanText(field.text()); break;
        case 9: node.metadata.push_back(textPair(field.bytes)); break;
        default: break;
        }
    }
    if (reader.bad()) return damaged("the node " + node.name);
    if (node.domain == "ai.onnx") node.domain.clear();
    if (const auto own = m_ownVersions.find(node.domain); own != m_ownVersions.end()) node.ownVersion = own->second;
    node.attributes = Attributes(std::move(attributes));
    node.scope = moduleScope(node.metadata, node.name);
    // A nested graph's values that nothing inside gives come from here.
    std::set<std::string> taken;
    for (const Attribute& each : node.attributes.items())
        for (const GraphPtr& inner : graphsOf(each))
            for (std::size_t i = 0; i < inner->values().size(); ++i) {
                const std::string& name = inner->values()[i].name;
                if (inner->isOuter(ValueId(i)) && taken.insert(name).second) node.captured.push_back(builder.value(name));
            }
    return node;
}

Result<GraphPtr> Decoder::graph(std::span<const std::byte> message, int depth) {
    if (depth > deepest) return fail("import", "graphs are nested more than " + std::to_string(deepest) + " deep", "flatten the control flow");
    std::vector<std::span<const std::byte>> nodes, inputs, outputs, infos, initializers, sparse;
    std::string name;
    WireReader reader(message);
    for (WireField field; reader.next(field);) {
        if (field.kind != Kind::bytes) continue;
        switch (field.number) {
        case 1: nodes.push_back(field.bytes); break;
        case 2: name = cleanText(field.text()); break;
        case 5: initializers.push_back(field.bytes); break;
        case 11: inputs.push_back(field.bytes); break;
        case 12: outputs.push_back(field.bytes); break;
        case 13: infos.push_back(field.bytes); break;
        case 15: sparse.push_back(field.bytes); break;
        default: break;
        }
    }
    if (reader.bad()) return damaged("its graph " + name);
    // A node costs a thousand times what an empty message takes in the file.
    m_messages += nodes.size() + initializers.size() + sparse.size() + inputs.size() + outputs.size() + infos.size() + 20;
    if (m_messages > mostMessages) return fail("import", "its graphs have more than " + std::to_string(mostMessages) + " nodes and values", "export a smaller model", name);
    GraphBuilder builder(name);
    builder.reserve(nodes.size(), nodes.size() + initializers.size() + inputs.size());
    for (const auto each : initializers) {
        auto tensor = this->tensor(each);
        if (!tensor) return tl::unexpected(tensor.error());
        if (!(*tensor)->name.empty() && builder.findValue((*tensor)->name)) {
            warn("the initializer " + (*tensor)->name + " is given twice; the first one counts");
            continue;
        }
        builder.addInitializer(std::move(*tensor));
    }
    for (const auto each : sparse) {
        auto tensor = sparseTensor(each);
        if (!tensor) return tl::unexpected(tensor.error());
        if (!builder.findValue((*tensor)->name)) builder.addInitializer(std::move(*tensor));
    }
    const auto declare = [&](const DeclaredType& declared, ValueId id) {
        if (id && !builder.peek(id).initializer) builder.edit(id).declared = declared;
    };
    std::set<ValueId> given;
    for (const auto each : inputs) {
        const auto [inputName, declared] = valueInfo(each);
        const ValueId id = builder.value(inputName);
        if (!id) continue;
        if (const TensorPtr& tensor = builder.peek(id).initializer) contradicts(declared, *tensor);
        if (builder.peek(id).initializer) continue;
        if (!given.insert(id).second) {
            warn("the input " + inputName + " is given twice; the first one counts");
            continue;
        }
        declare(declared, id);
        builder.addInput(id);
    }
    for (const auto each : infos) {
        const auto [valueName, declared] = valueInfo(each);
        if (const ValueId id = builder.value(valueName); id && !given.contains(id)) declare(declared, id);
    }
    for (std::size_t i = 0; i < nodes.size(); ++i) {
        auto made = node(nodes[i], i, builder, depth);
        if (!made) return tl::unexpected(made.error());
        if (made->op.empty()) warn("the node " + made->name + " has no operator");
        builder.addNode(std::move(*made));
    }
    for (const auto each : outputs) {
        const auto [outputName, declared] = valueInfo(each);
        const ValueId id = builder.value(outputName);
        if (!id) continue;
        if (!given.contains(id)) declare(declared, id);
        builder.addOutput(id);
    }
    return builder.finish();
}

Result<Function> Decoder::function(std::span<const std::byte> message, const std::map<std::string, std::int64_t>& imported) {
    Function function;
    GraphBuilder builder;
    std::vector<std::string> inputs, outputs;
    std::vector<std::span<const std::byte>> nodes, infos;
    WireReader reader(message);
    for (WireField field; reader.next(field);) {
        if (field.kind != Kind::bytes) continue;
        switch (field.number) {
        case 1: function.name = cleanText(field.text()); break;
        case 4: inputs.push_back(cleanText(field.text())); break;
        case 5: outputs.push_back(cleanText(field.text())); break;
        case 6: function.parameters.push_back({cleanText(field.text()), false, {}}); break;
        case 7: nodes.push_back(field.bytes); break;
        case 9: function.opsets.insert(opsetImport(field.bytes)); break;
        case 10: function.domain = cleanText(field.text()); break;
        case 12: infos.push_back(field.bytes); break;
        case 11: {
            auto made = attribute(field.bytes, 0);
            if (!made) return tl::unexpected(made.error());
            function.parameters.push_back({made->name, true, *made});
            break;
        }
        case 13: function.overload = cleanText(field.text()); break;
        default: break;
        }
    }
    if (reader.bad()) return damaged("the function " + function.name);
    if (function.domain == "ai.onnx") function.domain.clear();
    m_messages += nodes.size() + inputs.size() + outputs.size() + infos.size() + 20;
    if (m_messages > mostMessages) return fail("import", "its functions have more than " + std::to_string(mostMessages) + " nodes and values", "export a smaller model", function.name);
    std::set<std::string> given;
    for (const std::string& input : inputs)
        if (given.insert(input).second) builder.addInput(builder.value(input));
    for (const auto each : infos) {
        auto [name, declared] = valueInfo(each);
        // Its symbols are its own: those of the graph that calls it may mean something else.
        for (std::string& symbol : declared.symbols) symbol.clear();
        if (const ValueId id = builder.value(name); id && !given.contains(name)) builder.edit(id).declared = std::move(declared);
    }
    m_ownVersions.clear();
    for (const auto& [domain, version] : function.opsets)
        if (const auto known = imported.find(domain); known == imported.end() || known->second != version) m_ownVersions.emplace(domain, version);
    for (std::size_t i = 0; i < nodes.size(); ++i) {
        auto made = node(nodes[i], i, builder, 0);
        if (!made) return tl::unexpected(made.error());
        builder.addNode(std::move(*made));
    }
    m_ownVersions.clear();
    for (const std::string& output : outputs) builder.addOutput(builder.value(output));
    auto body = builder.finish();
    if (!body) return tl::unexpected(body.error());
    function.body = *body;
    return function;
}

} // namespace triptych
