#pragma once
// A graph, what is found in it and what is written out of it; whether both compute the same.

#include "branches.h"
#include "graph/text.h"
#include "verify/verify.h"

#include <QStringList>

namespace triptych {

/// Weights for the initializers of a text graph that have none.
inline GraphPtr withWeights(const Graph& from) {
    GraphBuilder builder(from.name());
    builder.adoptValues(from);
    std::uint32_t state = 12345;
    for (std::size_t i = 0; i < from.values().size(); ++i) {
        const TensorPtr& tensor = from.value(ValueId(i)).initializer;
        if (!tensor || tensor->payload.place != Payload::Place::absent) continue;
        HostTensor content = HostTensor::zeros(tensor->type, tensor->dims);
        for (std::size_t at = 0; at < static_cast<std::size_t>(content.count()); ++at) {
            state = state * 1664525 + 1013904223;
            // Integers of a byte are weights, others pick rows of a table, which has two at least.
            if (content.isFloat()) content.floats()[at] = static_cast<float>(state >> 8) / static_cast<float>(1 << 24) - 0.5F;
            else content.integers()[at] = bitsOf(tensor->type) == 8 ? state >> 25 : state >> 31;
        }
        auto made = std::make_shared<Tensor>(*tensor);
        made->payload = {};
        made->payload.place = Payload::Place::memory;
        made->payload.bytes = std::make_shared<const std::vector<std::byte>>(encodeTensor(content));
        made->payload.length = made->payload.bytes->size();
        builder.edit(ValueId(i)).initializer = std::move(made);
    }
    for (std::size_t i = 0; i < from.nodes().size(); ++i) builder.adoptNode(from, NodeId(i));
    return *builder.finish();
}

struct Proof {
    Model model;
    ShapesPtr shapes;
    Attentions attentions;
    bool inFile = true; ///< they were found in the file's own graph
    Decomposition decomposition;
};

inline Proof decomposed(const std::string& text, std::int64_t opset, const Bindings& bindings = {}) {
    Proof proof;
    const auto parsed = parseText(text);
    if (!parsed) qFatal("%s", parsed.error().message().c_str());
    proof.model.graph = withWeights(**parsed);
    proof.model.opsets = {{"", opset}, {"com.microsoft", 1}};
    const FlatGraph flat = *flatten(proof.model, *resolveBindings(*proof.model.graph, bindings), true);
    const Graph& graph = *flat.graph;
    proof.shapes = flat.shapes;
    proof.attentions = findAttention(proof.model, graph, *proof.shapes);
    proof.inFile = !flat.listsUndone && flat.taken.empty();
    const ShapesPtr varied = *variedShapes(proof.model, graph, *proof.shapes);
    auto made = decompose(proof.model, graph, *proof.shapes, proof.attentions, Expansion::canonical, varied.get());
    if (!made) qFatal("%s", made.error().message().c_str());
    proof.decomposition = std::move(*made);
    return proof;
}

/// Empty where both compute the same on all fills, under bindings of its own.
inline QString difference(const Proof& proof, const Bindings& bindings = {}) {
    const Graph& graph = *proof.model.graph;
    const ShapesPtr shapes = *inferShapes(proof.model, graph, *resolveBindings(graph, bindings));
    const VerifyRequest request{proof.model, graph, *shapes, proof.model, *proof.decomposition.graph, "decomposed", proof.inFile ? &proof.attentions : nullptr, nullptr, {Fill::random, Fill::masked, Fill::ramp}, 7, std::nullopt, std::nullopt};
    const auto comparison = verify(request);
    if (!comparison) return QString::fromStdString(comparison.error().message());
    for (const Difference& each : comparison->differences)
        if (!each.holds) return QStringLiteral("%1 %2: %3 %4").arg(QString::fromStdString(each.inputs), QString::fromStdString(each.output)).arg(each.absolute).arg(QString::fromStdString(each.at));
    return comparison->holds() ? QString() : QStringLiteral("nothing compared");
}

/// What is said of an attention by words that mean the same in every form: how masks are applied and what guards against NaN is how it is written.
inline QString described(const AttentionSpec& spec) {
    QStringList words{QString::fromUtf8(toString(spec.kind).data()), QStringLiteral("%1 heads").arg(spec.heads), QStringLiteral("%1 of keys").arg(spec.kvHeads), QStringLiteral("sizes %1 %2").arg(spec.headDim).arg(spec.vHeadDim)};
    words << (!spec.causal ? QStringLiteral("causal unknown") : *spec.causal ? QStringLiteral("causal") : QStringLiteral("not causal"));
    for (const std::string& word : spec.masks)
        if (word != "additive" && word != "boolean" && word != "causal") words << QString::fromStdString(word);
    for (const std::string& word : spec.extras)
        if (word != "cast" && word != "nan_guard") words << QString::fromStdString(word);
    return words.join(QStringLiteral(", "));
}

/// The attentions of a graph under bindings, described; as they are found in what is written.
inline QStringList reopened(const Proof& proof, const Bindings& bindings = {}) {
    const Graph& graph = *proof.decomposition.graph;
    const ShapesPtr shapes = *inferShapes(proof.model, graph, *resolveBindings(graph, bindings));
    QStringList all;
    for (const AttentionSpec& spec : findAttention(proof.model, graph, *shapes).found) all << described(spec);
    return all;
}

} // namespace triptych
