#pragma once
// An ONNX file as imported: its graph, functions and what its header says.

#include "graph/graph.h"
#include "support/files.h"
#include "support/job.h"

#include <map>
#include <unordered_map>

namespace triptych {

/// No tensor that anything runs has as many axes; sizes of more are not kept.
inline constexpr std::size_t highestRank = 256;

struct FunctionParameter {
    std::string name;
    bool hasDefault = false;
    Attribute defaultValue;
};

/// A model-local function. Its body's inputs and outputs are the formal ones.
struct Function {
    std::string domain, name, overload;
    std::vector<FunctionParameter> parameters;
    std::map<std::string, std::int64_t> opsets;
    GraphPtr body;

    /// An attribute of the body as a call gives it; none where the call leaves it out and there is no default.
    std::optional<Attribute> attributeIn(const Node& call, const Attribute& inner) const;
};

/// A file of external data, where it was found to lie: without links, in a folder that the model may read.
struct DataFile {
    std::filesystem::path place;
    FileStamp stamp; ///< as it was at import; size -1 where it is not there
};

/// Immutable once imported.
struct Model {
    std::filesystem::path path;
    std::shared_ptr<const MappedFile> file; ///< null for models made in memory
    std::int64_t irVersion = 0;
    std::map<std::string, std::int64_t> opsets; ///< domain ("" for ai.onnx) to version
    std::string producer;                       ///< name and version
    Metadata metadata;
    /// The file's own graph: calls of model-local functions are single nodes. Every node is its own source.
    GraphPtr graph;
    std::vector<Function> functions; ///< in the file's order
    std::unordered_map<std::string, std::size_t> functionPlaces; ///< by what a call names; empty: they are searched
    std::vector<std::string> warnings;
    std::map<std::filesystem::path, DataFile> dataFiles; ///< by the name that payloads give; refused ones are left out
    std::vector<std::filesystem::path> refusedFolders; ///< external data lies there and was refused: outside of the model's folder

    const Function* function(const Node& call) const; ///< null where the node calls none
};
using ModelPtr = std::shared_ptr<const Model>;

/// Reads a model without touching its weights. Cost: linear in the bytes that are not weights.
/// External data outside of the model's folder is refused unless it lies in one of the `allowed` folders.
/// Fails (stage "open" or "import") on what is not a usable ONNX model, saying what it is where that can be told.
Result<ModelPtr> importModel(const std::filesystem::path& path, const Job& job = {}, const std::vector<std::filesystem::path>& allowed = {});

/// The file's graph with calls of model-local functions replaced by their bodies, recursively. Inner nodes are called
/// CALL/INNER and have the call as their source. Calls for which `keep` is true stay.
/// Bounded: fails, naming the call, beyond 2,000,000 nodes, 64 levels, or names and attributes that the file's size doesn't let expect.
Result<GraphPtr> inlineFunctions(const Model& model, const Graph& graph, const std::function<bool(const Graph&, NodeId)>& keep,
                                 const Job& job = {});

/// A graph with If nodes replaced by one of their branches: `taken` tells which (true: then), and none where the node stays.
/// Nodes keep the names that they have in the branch, and have the If as their source. One level: a branch may hold more.
Result<GraphPtr> inlineBranches(const Model& model, const Graph& graph, const std::function<std::optional<bool>(NodeId)>& taken);

/// The bytes of a tensor, read now: from memory, from the model's file or from an external file (`length` at `offset`).
/// Fails, naming the tensor, where they are absent.
Result<std::vector<std::byte>> readPayload(const Model& model, const Tensor& tensor);

/// The same bytes handed on piece by piece, without a copy of the whole where they lie in a file. False where the sink gave up.
Result<bool> streamPayload(const Model& model, const Tensor& tensor, const FileSink& sink);

/// A TensorProto in a file of its own, as test data comes (input_0.pb), with its bytes in memory.
Result<TensorPtr> readTensorFile(const std::filesystem::path& path);

} // namespace triptych
