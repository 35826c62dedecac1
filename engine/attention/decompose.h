#pragma once
// Writes attention out in explicit operators.

#include "attention/attention.h"

namespace triptych {

/// Which way an opaque attention is written out.
enum class Expansion {
    asDocumented, ///< as its own body or documented semantics say: a packed weight stays one product ("unfused")
    canonical     ///< named Q, K, V; one Mul by the scale on the scores; packed projections taken apart ("decomposed")
};

/// The projections of one sequence in the new graph.
struct DecomposedStream {
    std::vector<NodeId> q, k, v;         ///< product and bias of each; empty where there is none
    ValueId inputQ, inputK, inputV;      ///< activations that they read
    bool wasPacked = false;              ///< the file packs them
};

/// What became of one attention.
struct DecomposedAttention : DecomposedStream, AttentionPart {
    AttentionId attention;
    std::vector<NodeId> nodes;           ///< all its nodes in the new graph, in order: written-out ones and those that stayed
    std::vector<DecomposedStream> joined; ///< as AttentionSpec::joined
    std::vector<AttentionPart> parts;    ///< as AttentionSpec::parts
    bool rewritten = false;              ///< false: as the file spells it
};

struct Decomposition {
    GraphPtr graph;
    std::vector<DecomposedAttention> attentions; ///< same order as Attentions::found
    std::vector<std::string> warnings;           ///< "weights of X are absent: its product is cut by a Split"
};

/// @param inlined  the graph that `attentions` were found in
/// @returns the new graph with, for each new node, its sources; or the first node whose semantics we don't know.
/// The opaque node's outputs and their names are kept. Weights are named NAME.q_weight, NAME.k_weight, NAME.v_weight,
/// biases NAME.q_bias ...; where the payload of the packed weight is absent their tensors have absent payloads too.
/// @param varied  shapes of the same graph under variedShapes(). Given: the new graph is for a file; it holds for all
///                bindings, and a packed weight that is absent stays, its product cut by a Split. Null: the new graph is for
///                these bindings alone, and absent weights are taken apart in name
Result<Decomposition> decompose(const Model& model, const Graph& inlined, const Shapes& shapes, const Attentions& attentions,
                                Expansion expansion, const Shapes* varied = nullptr, const Job& job = {});

/// The same graph under other sizes than those of `shapes`, chosen so that what follows from them can be told from what is fixed.
Result<ShapesPtr> variedShapes(const Model& model, const Graph& graph, const Shapes& shapes, const Job& job = {});

} // namespace triptych
