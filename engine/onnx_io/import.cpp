#include "onnx_io/decode.h"
#include "onnx_io/other_format.h"
#include "onnx_io/versions.h"
#include "support/excerpt.h"

#include <algorithm>
#include <tuple>

namespace triptych {

namespace {

/// The newest versions whose meaning we know; later ones are drawn with a warning.
constexpr std::int64_t newestIr = 13, newestOpset = 25, oldestIr = 3, oldestOpset = 7;

tl::unexpected<Failure> noModel(std::span<const std::byte> bytes, std::string cause) {
    std::string other = otherFormat(bytes);
    if (other.empty()) return fail("import", std::move(cause), "copy or export the file again");
    const std::size_t cut = other.find("; ");
    return fail("import", "not an ONNX model: " + other.substr(0, cut), other.substr(cut + 2));
}

/// "weights.bin and 3 more files" that are not where the model says; "" where none is missing.
std::string absentFiles(const Model& model) {
    std::string first;
    std::size_t count = 0;
    for (const auto& [name, file] : model.dataFiles)
        if (file.stamp.size < 0 && count++ == 0) first = excerpt(cleanText(name.string()));
    return count > 1 ? first + " and " + std::to_string(count - 1) + " more files" : first;
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

/// What a call hands in or takes beyond what its function has is lost.
void warnAboutCalls(Model& model) {
    constexpr std::size_t most = 10;
    if (model.functions.empty()) return;
    std::size_t told = 0;
    for (std::size_t i = 0; i < model.graph->nodes().size() && told < most; ++i) {
        const Node& node = model.graph->nodes()[i];
        const Function* function = model.function(node);
        if (!function) continue;
        const Graph& body = *function->body;
        for (const auto& [what, given, has] : {std::tuple("inputs", node.inputs.size(), body.inputs().size()), std::tuple("outputs", node.outputs.size(), body.outputs().size())})
            if (given > has && ++told <= most) model.warnings.push_back(describe(*model.graph, NodeId(i)) + " has " + std::to_string(given) + " " + what + ", its function " + std::to_string(has));
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
        if (!node.domain.empty() && !model.opsets.contains(node.domain) && !model.function(node) && strangers.insert(node.domain).second && strangers.size() <= 10)
            model.warnings.push_back("the domain " + node.domain + " is used but not imported (first by " + describe(graph, NodeId(i)) + ")");
        for (const ValueId value : node.inputs) {
            if (!value || graph.producer(value) || graph.isInput(value) || graph.value(value).initializer) continue;
            if (++missing <= 10) model.warnings.push_back(describe(graph, NodeId(i)) + " reads '" + graph.value(value).name + "', which nothing produces");
        }
    }
    std::size_t twice = 0;
    for (std::size_t i = 0; i < graph.values().size(); ++i) {
        const ValueId id(i);
        const bool given = graph.value(id).initializer || graph.isInput(id);
        if (given && graph.producer(id) && ++twice <= 10)
            model.warnings.push_back("the value '" + graph.value(id).name + "' is " + (graph.isInput(id) ? "an input" : "an initializer") + " and the output of " + describe(graph, graph.producer(id)) + " too");
    }
    std::size_t lost = 0;
    for (const ValueId output : graph.outputs())
        if (!graph.producer(output) && !graph.isInput(output) && !graph.value(output).initializer && ++lost <= 10)
            model.warnings.push_back("the output '" + graph.value(output).name + "' is produced by nothing");
    for (const auto& [count, what] : {std::pair(missing, "values are read that nothing produces"), std::pair(lost, "outputs are produced by nothing"), std::pair(strangers.size(), "domains are used but not imported")})
        if (count > 10) model.warnings.push_back(std::to_string(count - 10) + " more " + what);
}

/// A function may import another version of ai.onnx than the model; its nodes keep theirs, and where they thereby mean something
/// else, programs that look at the model's import alone read them wrongly.
void warnAboutFunctions(Model& model) {
    constexpr int most = 10;
    int told = 0;
    for (const Function& function : model.functions) {
        const auto& nodes = function.body->nodes();
        const auto odd = std::find_if(nodes.begin(), nodes.end(), [&](const Node& node) { return differsUnder(model.opsets, node); });
        if (odd == nodes.end() || ++told > most) continue;
        model.warnings.push_back("the function " + function.name + " imports ai.onnx " + std::to_string(odd->ownVersion) + ", the model " + std::to_string(model.opsets.at("")) + ": "
                                 + describe(*function.body, NodeId(static_cast<std::size_t>(odd - nodes.begin()))) + " means something else in each; taken as the function says");
    }
}

/// What tells one function from all others.
std::string calledName(const std::string& domain, const std::string& name, const std::string& overload) { return domain + '\n' + name + '\n' + overload; }

/// The parts of a ModelProto that are decoded once the whole is known to be one.
struct Parts {
    std::vector<std::span<const std::byte>> graphs, functions;
    std::string version; ///< of the producer
    bool trains = false;     ///< there is a graph of training beside the other
    std::size_t devices = 0; ///< configurations of devices that the nodes are spread over
    bool bad = false;
};

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
        case 14: model.metadata.push_back(textPair(field.bytes)); break;
        case 20: parts.trains = true; break;
        case 25: parts.functions.push_back(field.bytes); break;
        case 26: ++parts.devices; break;
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
    const std::map<std::string, std::int64_t> imported = model->opsets;
    if (!parts.version.empty()) model->producer += " " + parts.version;
    job.report("import", 0.1);
    for (const auto each : parts.functions) {
        auto function = decoder.function(each, model->opsets);
        if (!function) return tl::unexpected(function.error());
        const auto [place, fresh] = model->functionPlaces.try_emplace(calledName(function->domain, function->name, function->overload), model->functions.size());
        if (!fresh) decoder.warn("the function " + function->name + " is given twice; the first one counts");
        model->functions.push_back(std::move(*function));
    }
    if (parts.trains) decoder.warn("the file holds how it is trained, too: neither shown nor written, only what infers is");
    if (parts.devices > 0) decoder.warn("the file says how its nodes are spread over devices: it is looked at, and written, as for one");
    if (parts.graphs.size() > 1) decoder.warn("the file holds " + std::to_string(parts.graphs.size()) + " graphs; the last one counts");
    auto decoded = decoder.graph(parts.graphs.back(), 0);
    if (!decoded) return otherFormat(bytes).empty() ? tl::unexpected(decoded.error()) : noModel(bytes, decoded.error().cause);
    model->graph = *decoded;
    if (model->graph->nodes().empty() && model->graph->outputs().empty() && model->irVersion == 0)
        return noModel(bytes, "not an ONNX model: its graph is empty");
    model->dataFiles = decoder.dataFiles();
    if (const std::string absent = absentFiles(*model); !absent.empty()) decoder.warn("external data is not beside the model, so its weights are absent: " + absent);
    model->warnings = std::move(decoder.warnings());
    model->refusedFolders.assign(decoder.refusedFolders().begin(), decoder.refusedFolders().end());
    // A domain that only functions use may be imported by them alone.
    for (const Function& each : model->functions)
        for (const auto& [domain, version] : each.opsets)
            if (!imported.contains(domain)) model->opsets[domain] = std::max(model->opsets[domain], version);
    warnAboutVersions(*model);
    warnAboutFunctions(*model);
    warnAboutGraph(*model);
    warnAboutCalls(*model);
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
