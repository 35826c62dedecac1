#pragma once
// Attention, whatever its form, as one specification.

#include "shapes/shapes.h"

#include <array>
#include <set>

namespace triptych {

/// Position in Attentions::found.
using AttentionId = Index<struct AttentionTag>;

/// How Q, K, V are projected (for cross attention: how K, V are).
enum class ProjectionForm { separate, packed, packedInterleaved, none };
inline bool isPacked(ProjectionForm form) { return form == ProjectionForm::packed || form == ProjectionForm::packedInterleaved; }
enum class AttentionKind { self, cross };
enum class ScalePlace { scores, q, k, qAndK, inside, none };

std::string_view toString(ProjectionForm form);   ///< "separate", "packed", "packed_interleaved", "none"
std::string_view toString(AttentionKind kind);    ///< "self", "cross"
std::string_view toString(ScalePlace place);      ///< "scores", "q", "k", "q_and_k", "inside", "none"

/// A linear projection: MatMul (+ Add of a 1-D bias), Gemm, or a slice of a packed one.
struct Projection {
    std::vector<NodeId> nodes; ///< product, bias add, in order
    ValueId input;             ///< the activation that it reads
    ValueId weight;            ///< its weight value; for a packed one the packed weight
    ValueId bias;              ///< none where it has none
    ValueId output;            ///< after the bias
    std::int64_t offset = 0;   ///< of this role's columns in a packed projection; meaningless where interleaved
    std::int64_t width = 0;    ///< columns of this role
};

/// Why a role was given to a node: {"q", "/layer/0/query/MatMul", "reaches input 0 of the scores product through ..."}.
struct Evidence {
    std::string role, node, why;
};

/// Where Q, K and V of a sequence come from.
struct StreamProjections {
    ProjectionForm projections = ProjectionForm::none;
    std::optional<Projection> projectionQ, projectionK, projectionV;
    ValueId q, k, v; ///< activations that enter the projections (or the attention, where form none)
};

/// The middle of an attention: two products and what makes weights of the first one's scores. None where opaque.
struct AttentionPart {
    NodeId scores, softmax, context;
};

/// Everything that is known of one attention, in terms of the graph it was found in. Of sequences that it joins (text beside an image)
/// its own projections are those of one.
struct AttentionSpec : StreamProjections, AttentionPart {
    std::string id; ///< "attention_0", in node order
    AttentionKind kind = AttentionKind::self;
    std::string form; ///< "explicit", "ai.onnx.Attention", "com.microsoft.Attention", ..., "function:DOMAIN.NAME"
    std::int64_t heads = 0, kvHeads = 0, headDim = 0, vHeadDim = 0; ///< 0: unknown
    std::optional<double> scale; ///< product of all constant scales on q, k and scores; empty if none or not constant
    ScalePlace scaleAt = ScalePlace::none;
    std::optional<bool> causal;        ///< empty: the mask's values are not in the file
    std::set<std::string> masks, extras; ///< words of docs/cli.md
    ValueId mask;
    std::vector<StreamProjections> joined; ///< of the other sequences, in the order of their Concat; what one doesn't have is none
    std::string scope;
    /// The opaque node; none where explicit.
    NodeId opaque;
    std::int64_t operandKvHeads = 0; ///< that it reads: more than kvHeads where they are repeated before it
    /// Nodes of the attention in order: projections, core, output projection. For an opaque one: the node itself and
    /// projections outside of it.
    std::vector<NodeId> nodes;
    /// The core: from the scores product to the context product, no projections. Empty where opaque.
    std::vector<NodeId> core;
    std::array<ValueId, 3> operands;                ///< of Q, K and V: where their ways back to the projections begin; none where opaque
    std::vector<AttentionPart> parts; ///< those of other blocks of its queries, where the file computes blocks apart
    std::optional<Projection> projectionOut;
    std::vector<Evidence> evidence;
};

/// Something that looks like attention and is none that we know: {"Softmax_12", "softmax", "no product reads it", ...}.
struct Unrecognised {
    std::string at, looksLike, reason, detail;
};

struct Attentions {
    std::vector<AttentionSpec> found; ///< in node order
    std::vector<Unrecognised> unrecognised;
};

/// Finds every attention of a graph (function calls already inlined; `callOf` gives the call that an inlined node came
/// from, for the form "function:..."). Cost: linear in nodes. Never fails: what nearly qualifies is in `unrecognised`.
Attentions findAttention(const Model& model, const Graph& graph, const Shapes& shapes, const Job& job = {});

} // namespace triptych
