#include "onnx_io/export.h"

#include "onnx_io/encode.h"
#include "onnx_io/versions.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace triptych {

namespace {

/// Whether weights should lie outside of the file: the source does so, or they are too many for one message.
bool wantsExternal(const ExportRequest& request) {
    std::uint64_t total = 0;
    bool outside = false;
    const auto count = [&](const Tensor& tensor) {
        const Payload& payload = tensor.payload;
        total += tensor.byteSize().value_or(0);
        outside = outside || payload.place == Payload::Place::external;
        for (const TensorPart& part : payload.parts) outside = outside || part.base->payload.place == Payload::Place::external;
    };
    for (std::size_t i = 0; i < request.graph.values().size(); ++i) {
        const Value& value = request.graph.value(ValueId(i));
        if (value.initializer && value.initializer->payload.place != Payload::Place::absent && !request.graph.readers(ValueId(i)).empty()) count(*value.initializer);
    }
    return outside || total > request.mostInside;
}

/// Names of the nodes of the source file, by SourceId. A node of a file that was written here stands for those that it names itself: so
/// a file that is written twice still names the nodes of the first one.
std::vector<std::vector<std::string>> sourceNames(const Graph& file) {
    std::vector<std::vector<std::string>> names(file.nodes().size());
    for (std::size_t i = 0; i < names.size(); ++i) {
        const Node& node = file.nodes()[i];
        std::vector<std::string> own;
        for (const auto& [key, value] : node.metadata) {
            const auto list = key == sourcesKey ? nlohmann::json::parse(value, nullptr, false) : nlohmann::json();
            for (const auto& each : list.is_array() ? list : nlohmann::json::array())
                if (each.is_string()) own.push_back(each.get<std::string>());
        }
        if (own.empty()) own.push_back(node.name);
        for (const SourceId source : file.sources(NodeId(i))) names.at(source.position()) = own;
    }
    return names;
}

Message encodeModel(const ExportRequest& request, ExternalFile& external) {
    Encoder encoder(external);
    Message made;
    // Functions came with IR 8; older readers know nothing of them.
    made.integer(1, std::max<std::int64_t>(request.source.irVersion, request.functions.empty() ? 4 : 8));
    made.text(2, "triptych");
    for (const auto& [domain, version] : request.source.opsets) made.message(8, encodeOpset(domain, version));
    std::vector<std::string> domains;
    for (const Function& function : request.functions)
        if (!request.source.opsets.contains(function.domain) && std::find(domains.begin(), domains.end(), function.domain) == domains.end()) domains.push_back(function.domain);
    for (const std::string& domain : domains) made.message(8, encodeOpset(domain, 1));
    made.message(7, encoder.graph(request.graph, sourceNames(*request.source.graph)));
    const auto replaced = [&](const std::string& key) { return std::any_of(request.metadata.begin(), request.metadata.end(), [&](const auto& each) { return each.first == key; }); };
    for (const auto& [key, value] : request.source.metadata)
        if (!replaced(key)) made.message(14, encodePair(key, value));
    for (const auto& [key, value] : request.metadata) made.message(14, encodePair(key, value));
    for (const Function& function : request.functions) made.message(25, encoder.function(function));
    return made;
}

/// A node that came out of a function with imports of its own can't always stand under the model's.
Result<void> checkVersions(const Graph& graph, const std::map<std::string, std::int64_t>& imports) {
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
        const Node& node = graph.nodes()[i];
        if (differsUnder(imports, node))
            return fail("write", "it was written for ai.onnx " + std::to_string(node.ownVersion) + ", in a function of its own, and means something else in " + std::to_string(imports.at("")) + ", which the file imports",
                        "export the model again with one opset", describe(graph, NodeId(i)));
        for (const Attribute& attribute : node.attributes.items())
            for (const GraphPtr& body : graphsOf(attribute))
                if (auto checked = checkVersions(*body, imports); !checked) return checked;
    }
    return {};
}

/// Writes pieces in order; what went wrong with a payload is kept, as the sink only knows of full disks.
class PieceWriter {
public:
    PieceWriter(const Model& model, const Job& job) : m_model(model), m_job(job) {}

    bool model(const Message& message, const FileSink& sink) {
        for (const Message::Piece& piece : message.pieces()) {
            if (!sink(piece.text)) return false;
            if (piece.payload && !payload(*piece.payload, piece.length, sink)) return false;
        }
        return true;
    }

    bool external(const ExternalFile& file, const FileSink& sink) {
        std::uint64_t at = 0;
        for (const auto& [tensor, offset] : file.tensors) {
            if (!sink(std::string(offset - at, '\0'))) return false;
            at = offset + tensor->byteSize().value_or(0);
            if (!payload(*tensor, at - offset, sink)) return false;
        }
        return true;
    }

    const std::optional<Failure>& failure() const { return m_failure; }

private:
    bool payload(const Tensor& tensor, std::uint64_t length, const FileSink& sink) {
        if (m_job.stopped()) {
            m_failure = Failure{"write", "", "stopped", ""};
            return false;
        }
        std::uint64_t written = 0;
        auto done = streamPayload(m_model, tensor, [&](std::string_view piece) {
            written += piece.size();
            return sink(piece);
        });
        if (!done) m_failure = done.error();
        else if (!*done) return false;
        else if (written != length) m_failure = Failure{"weights", tensor.name, "its bytes don't fill its shape", "export the model again"};
        return !m_failure;
    }

    const Model& m_model;
    const Job& m_job;
    std::optional<Failure> m_failure;
};

} // namespace

Result<void> exportModel(const ExportRequest& request, const std::filesystem::path& out, const Job& job) {
    if (auto checked = checkVersions(request.graph, request.source.opsets); !checked) return checked;
    for (const Function& function : request.functions)
        if (auto checked = checkVersions(*function.body, function.opsets); !checked) return checked;
    ExternalFile external;
    if (wantsExternal(request)) external.name = out.filename().string() + ".data";
    const Message message = encodeModel(request, external);
    PieceWriter writer(request.source, job);
    const auto failed = [&](const Result<void>& written) { return tl::unexpected(writer.failure() ? *writer.failure() : written.error()); };
    // The data first: a model never stands beside data that isn't there.
    if (!external.tensors.empty()) {
        const auto written = writeFile(out.parent_path() / external.name, [&](const FileSink& sink) { return writer.external(external, sink); });
        if (!written) return failed(written);
    }
    const auto written = writeFile(out, [&](const FileSink& sink) { return writer.model(message, sink); });
    if (!written) return failed(written);
    return {};
}

} // namespace triptych
