#include "onnx_io/decode.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

namespace triptych {

namespace {

/// The newest versions whose meaning we know; later ones are drawn with a warning.
constexpr std::int64_t newestIr = 13, newestOpset = 25, oldestIr = 3, oldestOpset = 7;

/// What a file is that isn't ONNX, by its first bytes; "" where they tell nothing.
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
    if (starts("\xfd" "7zXZ") || starts("BZh") || starts("7z\xbc\xaf") || starts("\x28\xb5\x2f\xfd") || head.substr(std::min<std::size_t>(257, head.size())).starts_with("ustar")) return "this is an archive; unpack it first";
    if (starts("\x93NUMPY")) return "this is a NumPy array; name the model that it belongs to";
    if (starts("\x7f" "ELF")) return "this is a program; name an .onnx file";
    const bool tensorFlow = head.find("saved_model") != std::string_view::npos || head.find("serve") != std::string_view::npos || head.find("Placeholder") != std::string_view::npos || head.find("NoOp") != std::string_view::npos;
    if (tensorFlow && (starts("\x08\x01\x12") || starts("\x0a"))) return "this looks like a TensorFlow model; convert it to ONNX with tf2onnx";
    std::string_view text = head.substr(starts("\xef\xbb\xbf") ? 3 : 0); // a mark of UTF-8
    text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
    if (text.starts_with("<?xml") && text.find("<net ") != std::string_view::npos) return "this is an OpenVINO model; convert the ONNX file that it was made from, or export to ONNX";
    if (text.starts_with("<")) return "this is an HTML or XML page; was the download complete?";
    if (text.starts_with("{") || text.starts_with("[")) return "this is JSON text; name the .onnx file";
    const auto printable = std::count_if(head.begin(), head.end(), [](char c) { return c == '\n' || c == '\t' || c == '\r' || (c >= 0x20 && c < 0x7f); });
    if (!head.empty() && static_cast<std::size_t>(printable) == head.size()) return "this is a text file; name an .onnx file";
    return {};
}

tl::unexpected<Failure> noModel(std::span<const std::byte> bytes, std::string cause) {
    std::string other = otherFormat(bytes);
    if (other.empty()) return fail("import", std::move(cause), "copy or export the file again");
    const std::size_t cut = other.find("; ");
    return fail("import", "not an ONNX model: " + other.substr(0, cut), other.substr(cut + 2));
}

void warnAboutVersions(Model& model) {
    if (model.irVersion > newestIr) model.warnings.push_back("IR version " + std::to_string(model.irVersion) + " is newer than what is known here (" + std::to_string(newestIr) + ")");
    if (model.irVersion < oldestIr) model.warnings.push_back("IR version " + std::to_string(model.irVersion) + " is older than any that is in use; read as " + std::to_string(oldestIr));
    const auto found = model.opsets.find("");
    if (found == model.opsets.end()) {
        model.warnings.emplace_back("the file imports no version of ai.onnx; taken as the newest known");
        model.opsets[""] = newestOpset;
    } else if (found->second < oldestOpset) {
        model.warnings.push_back("opset " + std::to_string(found->second) + " is older than what is known here (" + std::to_string(oldestOpset) + " to " + std::to_string(newestOpset) + ")");
    } else if (found->second > newestOpset) {
        model.warnings.push_back("opset " + std::to_string(found->second) + " is newer than what is known here (" + std::to_string(newestOpset) + ")");
    }
}

/// An If has two branches, each with as many outputs as it has itself.
void warnAboutBranches(Model& model, NodeId id) {
    const Node& node = model.graph->node(id);
    for (const char* name : {"then_branch", "else_branch"}) {
        const GraphPtr branch = node.attributes.graph(name);
        if (!branch) model.warnings.push_back(describe(*model.graph, id) + " has no " + name);
        else if (branch->outputs().size() < node.outputs.size()) model.warnings.push_back("the " + std::string(name) + " of " + describe(*model.graph, id) + " has " + std::to_string(branch->outputs().size()) + " outputs, the node " + std::to_string(node.outputs.size()));
    }
}

void warnAboutGraph(Model& model) {
    const Graph& graph = *model.graph;
    std::set<std::string> strangers;
    std::size_t missing = 0;
    std::size_t branched = 0;
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
        const Node& node = graph.nodes()[i];
        if (node.is("If") && ++branched <= 10) warnAboutBranches(model, NodeId(i));
        if (!node.domain.empty() && !model.opsets.contains(node.domain) && !model.function(node) && strangers.insert(node.domain).second)
            model.warnings.push_back("the domain " + node.domain + " is used but not imported (first by " + node.name + ")");
        for (const ValueId value : node.inputs) {
            if (!value || graph.producer(value) || graph.isInput(value) || graph.value(value).initializer) continue;
            if (++missing <= 10) model.warnings.push_back(node.name + " (" + node.op + ") reads '" + graph.value(value).name + "', which nothing produces");
        }
    }
    std::size_t twice = 0;
    for (std::size_t i = 0; i < graph.values().size(); ++i) {
        const ValueId id(i);
        const bool given = graph.value(id).initializer || graph.isInput(id);
        if (given && graph.producer(id) && ++twice <= 10)
            model.warnings.push_back("the value '" + graph.value(id).name + "' is " + (graph.isInput(id) ? "an input" : "an initializer") + " and the output of " + describe(graph, graph.producer(id)) + " too");
    }
    if (missing > 10) model.warnings.push_back(std::to_string(missing - 10) + " more values are read that nothing produces");
    for (const ValueId output : graph.outputs())
        if (!graph.producer(output) && !graph.isInput(output) && !graph.value(output).initializer)
            model.warnings.push_back("the output '" + graph.value(output).name + "' is produced by nothing");
}

/// What tells one function from all others.
std::string calledName(const std::string& domain, const std::string& name, const std::string& overload) { return domain + '\n' + name + '\n' + overload; }

/// The parts of a ModelProto that are decoded once the whole is known to be one.
struct Parts {
    std::vector<std::span<const std::byte>> graphs, functions;
    std::string version; ///< of the producer
    bool bad = false;
};

std::pair<std::string, std::string> metadataEntry(std::span<const std::byte> message) {
    WireReader pair(message);
    std::pair<std::string, std::string> entry;
    for (WireField part; pair.next(part);)
        if (part.kind == WireField::Kind::bytes && part.number <= 2) (part.number == 1 ? entry.first : entry.second) = cleanText(part.text());
    return entry;
}

/// ModelProto: what stands beside the graph goes into the model.
Parts readHeader(std::span<const std::byte> bytes, Model& model) {
    Parts parts;
    WireReader reader(bytes);
    for (WireField field; reader.next(field);) {
        const bool isBytes = field.kind == WireField::Kind::bytes;
        if (field.number == 1 && !isBytes) model.irVersion = field.whole();
        if (!isBytes) continue;
        switch (field.number) {
        case 2: model.producer = cleanText(field.text()); break;
        case 3: parts.version = cleanText(field.text()); break;
        case 7: parts.graphs.push_back(field.bytes); break;
        case 8: {
            const auto [domain, version] = opsetImport(field.bytes);
            auto& known = model.opsets[domain];
            known = std::max(known, version);
            break;
        }
        case 14: model.metadata.push_back(metadataEntry(field.bytes)); break;
        case 25: parts.functions.push_back(field.bytes); break;
        default: break;
        }
    }
    parts.bad = reader.bad();
    return parts;
}

Result<ModelPtr> decodeModel(const std::shared_ptr<const MappedFile>& file, const std::filesystem::path& path, const Job& job, const std::vector<std::filesystem::path>& allowed) {
    const auto bytes = file->bytes();
    auto model = std::make_shared<Model>();
    model->path = path;
    model->file = file;
    Decoder decoder(file, job, allowed);
    const Parts parts = readHeader(bytes, *model);
    if (parts.bad) return noModel(bytes, !parts.graphs.empty() || model->irVersion > 0 ? "the file is damaged or truncated" : "not an ONNX model");
    if (parts.graphs.empty()) return noModel(bytes, "not an ONNX model: there is no graph in it");
    if (!parts.version.empty()) model->producer += " " + parts.version;
    job.report("import", 0.1);
    for (const auto each : parts.functions) {
        auto function = decoder.function(each);
        if (!function) return tl::unexpected(function.error());
        const auto [place, fresh] = model->functionPlaces.try_emplace(calledName(function->domain, function->name, function->overload), model->functions.size());
        if (!fresh) decoder.warn("the function " + function->name + " is given twice; the first one counts");
        model->functions.push_back(std::move(*function));
    }
    if (parts.graphs.size() > 1) decoder.warn("the file holds " + std::to_string(parts.graphs.size()) + " graphs; the last one counts");
    auto decoded = decoder.graph(parts.graphs.back(), 0);
    if (!decoded) return otherFormat(bytes).empty() ? tl::unexpected(decoded.error()) : noModel(bytes, decoded.error().cause);
    model->graph = *decoded;
    if (model->graph->nodes().empty() && model->graph->outputs().empty() && model->irVersion == 0)
        return noModel(bytes, "not an ONNX model: its graph is empty");
    if (const auto& absent = decoder.absentFiles(); !absent.empty())
        decoder.warn("external data is not beside the model, so its weights are absent: " + absent.front() + (absent.size() > 1 ? " and " + std::to_string(absent.size() - 1) + " more files" : ""));
    model->warnings = std::move(decoder.warnings());
    model->refusedFolders.assign(decoder.refusedFolders().begin(), decoder.refusedFolders().end());
    warnAboutVersions(*model);
    warnAboutGraph(*model);
    job.report("import", 1);
    return model;
}

} // namespace

const Function* Model::function(const Node& call) const {
    if (functions.empty()) return nullptr;
    if (!functionPlaces.empty()) {
        const auto found = functionPlaces.find(calledName(call.domain, call.op, call.overload));
        return found == functionPlaces.end() ? nullptr : &functions[found->second];
    }
    for (const Function& each : functions)
        if (each.name == call.op && each.domain == call.domain && each.overload == call.overload) return &each;
    return nullptr;
}

Result<ModelPtr> importModel(const std::filesystem::path& path, const Job& job, const std::vector<std::filesystem::path>& allowed) {
    auto file = MappedFile::open(path);
    if (!file) return tl::unexpected(file.error());
    auto model = decodeModel(*file, path, job, allowed);
    // Whatever was found then is found in a mixture of two files.
    if ((*file)->altered()) return fail("import", "the file was written to while it was read", "open it again once it is complete");
    return model;
}

} // namespace triptych
