#include "attention/kernel_attention.h"

#include "attention/product_axes.h"
#include "attention/products.h"
#include "attention/starts.h"

#include <algorithm>
#include <array>

namespace triptych {

namespace {

bool isMatrixProduct(const Node& node) { return node.is("MatMul") || node.is("com.microsoft", "FusedMatMul"); }

/// Of two activations; an Einsum may multiply a third one in, the normaliser.
bool activationProduct(const Graph& graph, const Shapes& shapes, NodeId id) {
    if (!id) return false;
    const Node& node = graph.node(id);
    const bool fits = node.inputs.size() == 2 || (node.is("Einsum") && node.inputs.size() == 3);
    return (isMatrixProduct(node) || node.is("Einsum")) && fits && !shapes.isConstant(node.input(0)) && !shapes.isConstant(node.input(1));
}

/// The product behind a value, through views.
NodeId productBehind(const Graph& graph, const Shapes& shapes, ValueId value) {
    for (int steps = 0; steps < 12 && value; ++steps) {
        const NodeId id = graph.producer(value);
        if (activationProduct(graph, shapes, id)) return id;
        if (!id) return {};
        const Node& node = graph.node(id);
        if (!node.is("Transpose") && !node.is("Reshape") && !node.is("Identity") && !node.is("Cast") && !node.is("Mul")) return {};
        value = node.input(0);
    }
    return {};
}

/// Whether a value is a number for each row, as a norm or a largest feature is.
bool ofRow(const Shapes& shapes, ValueId value) { return shapes.of(value).known() && !shapes.of(value).dims.empty() && shapes.of(value).dims.back() == 1; }

/// What a node of a feature map changes: of two activations the one that is no norm of each row.
ValueId changedByMap(const Shapes& shapes, const Node& node) {
    if (shapes.isConstant(node.input(0))) return node.input(1);
    return node.is("Mul") && node.input(1) && !shapes.isConstant(node.input(1)) && ofRow(shapes, node.input(0)) && !ofRow(shapes, node.input(1)) ? node.input(1) : node.input(0);
}

/// What copies that a Concat joins are made of, each times a table of its own (cosFormer's sines and cosines of positions); none where they are no such copies.
ValueId copiedByTables(const Graph& graph, const Shapes& shapes, const Node& concat) {
    ValueId common;
    for (const ValueId input : concat.inputs) {
        const NodeId id = input ? graph.producer(bare(graph, shapes, input)) : NodeId();
        if (!id || !graph.node(id).is("Mul")) return {};
        const Node& node = graph.node(id);
        const std::size_t side = shapes.isConstant(node.input(0)) ? 1 : 0;
        const ValueId copied = bare(graph, shapes, node.input(side));
        if (!shapes.isConstant(node.input(1 - side)) || (common && copied != common)) return {};
        common = copied;
    }
    return common;
}

/// An operand behind its feature map: what is positive on every input, over one projection.
struct Mapped {
    RoleTrace role;
    std::vector<NodeId> map;
    bool mapped = false, rotated = false, widened = false; ///< widened: by copies of its features
};

Mapped throughMap(const Graph& graph, const Shapes& shapes, ValueId value) {
    Mapped made;
    ValueId behind = value; // what enters the map, or the features before it
    for (int steps = 0; steps < 24 && value; ++steps) {
        const NodeId id = graph.producer(bare(graph, shapes, value));
        if (!id) break;
        const Node& node = graph.node(id);
        const auto function = weighing(graph, shapes, id);
        const bool map = function || node.is("Exp") || node.is("Softmax");
        // Random features are a product with a constant between the heads and the map.
        const bool features = !made.role.linear && isMatrixProduct(node) && shapes.isConstant(node.input(1)) && shapes.of(node.input(0)).dims.size() >= 4;
        const bool view = node.is("Transpose") || node.is("Reshape") || node.is("Identity") || node.is("Cast") || node.is("Unsqueeze") || node.is("Squeeze") ||
                          (!made.mapped && (node.is("Slice") || node.is("Split") || node.is("Gather")));
        const bool arithmetic = node.is("Add") || node.is("Sub") || node.is("Mul") || node.is("Div") || node.is("Clip") || node.is("Max") || node.is("Pow");
        if (!made.mapped && !made.rotated && (node.is("Add") || node.is("Concat"))) {
            // Positions may be rotated behind the map.
            const RoleTrace turned = traceRole(graph, shapes, value);
            if (turned.extras.contains("rope") && !turned.linear) {
                made.rotated = true;
                value = turned.source;
                continue;
            }
        }
        if (const ValueId copied = node.is("Concat") ? copiedByTables(graph, shapes, node) : ValueId()) {
            made.widened = true;
            value = behind = copied;
            continue;
        }
        // Positive random features: half the square of each row and its largest feature are taken off before the exponent.
        const bool shift = node.is("Sub") && ofRow(shapes, node.input(1));
        if (!map && !features && !view && !shift && (!arithmetic || made.mapped)) break;
        made.mapped = made.mapped || map;
        if (map || features) made.map.push_back(id);
        const ValueId next = function ? function->scores : changedByMap(shapes, node);
        if (!next || shapes.isConstant(next)) break;
        value = next;
        if (map || features) behind = next;
    }
    made.role = traceRole(graph, shapes, behind);
    if (made.rotated) made.role.extras.insert("rope");
    return made;
}

/// Whether a value depends on a sum, or on the mean of a product's mapped keys: the normaliser. Level by level, each node once.
bool sumsAlong(const Graph& graph, const Shapes& shapes, const Mapped& keys, ValueId value) {
    constexpr int deepest = 12;
    std::set<NodeId> seen;
    std::vector<ValueId> level{value};
    for (int depth = 0; depth <= deepest && !level.empty(); ++depth) {
        std::vector<ValueId> next;
        for (const ValueId each : level) {
            const NodeId id = each ? graph.producer(bare(graph, shapes, each)) : NodeId();
            if (!id || !seen.insert(id).second || linearWeight(graph, shapes, id)) continue;
            const Node& node = graph.node(id);
            if (node.is("ReduceSum") || (node.is("ReduceMean") && throughMap(graph, shapes, node.input(0)).map == keys.map)) return true;
            next.insert(next.end(), node.inputs.begin(), node.inputs.end());
        }
        level = std::move(next);
    }
    return false;
}

/// Whether a value is cut out of a product: V had a column of ones, so that the product's last column is the sum of the keys.
bool cutFrom(const Graph& graph, const Shapes& shapes, ValueId value, ValueId product) {
    bool cut = false;
    for (int steps = 0; steps < 16 && value; ++steps) {
        if (value == product) return cut;
        const NodeId id = graph.producer(value);
        if (!id) return false;
        const Node& node = graph.node(id);
        const bool slices = node.is("Slice") || node.is("Split") || node.is("Gather");
        if (!slices && !node.is("Add") && !node.is("Cast") && !node.is("Identity") && !node.is("Unsqueeze") && !node.is("Transpose") && !node.is("Reshape") && !node.is("Clip")) return false;
        cut = cut || slices;
        value = shapes.isConstant(node.input(0)) ? node.input(1) : node.input(0);
    }
    return false;
}

/// A product behind its normaliser, through views; none where nothing divides it by a sum.
ValueId normalisedResult(const Graph& graph, const Shapes& shapes, const Mapped& keys, ValueId product, ValueId from, int depth = 0) {
    for (const NodeId reader : graph.readers(from)) {
        const Node& node = graph.node(reader);
        if (node.is("Div") && node.input(0) == from && cutFrom(graph, shapes, node.input(1), product)) return node.output();
        if ((node.is("Div") || node.is("Mul")) && sumsAlong(graph, shapes, keys, node.input(0) == from ? node.input(1) : node.input(0))) return node.output();
        const bool passes = node.is("Identity") || node.is("Cast") || node.is("Transpose") || node.is("Reshape") || node.is("Slice") || node.is("Split");
        if (const ValueId found = passes && depth < 12 ? normalisedResult(graph, shapes, keys, product, node.output(), depth + 1) : ValueId()) return found;
    }
    return {};
}

bool has(const Graph& graph, const Mapped& mapped, const char* op) {
    return std::any_of(mapped.map.begin(), mapped.map.end(), [&](NodeId each) { return graph.node(each).is(op); });
}

/// Keys and values cut from one product must be different columns of it: what multiplies a thing by itself is no attention.
bool apart(const Graph& graph, const Shapes& shapes, const RoleTrace& k, const RoleTrace& v) {
    if (k.linear != v.linear) return true;
    const std::int64_t columns = linearColumns(graph, shapes, k.linear);
    const auto rangeOf = [&](const RoleTrace& trace) {
        auto range = trace.columns ? columnRange(*trace.columns, columns) : std::nullopt;
        return range || trace.stages.empty() ? range : columnRange(trace.stages.back().view, columns); // before heads are repeated
    };
    const auto one = rangeOf(k), two = rangeOf(v);
    if (one && two && !joined(graph, k) && !joined(graph, v)) return one->runs != two->runs;
    // Columns that can't be told (put together of several scales) are still cut by nodes of their own.
    const auto cut = [&](const RoleTrace& trace) {
        const auto found = std::find_if(trace.path.begin(), trace.path.end(), [&](NodeId id) { return graph.node(id).is("Slice") || graph.node(id).is("Gather"); });
        return found == trace.path.end() ? NodeId() : *found;
    };
    return cut(k) && cut(v) && cut(k) != cut(v);
}

/// Whether K is a softmax over what its product with V sums, the places: then nothing else needs to bring it to a sum of 1.
bool sumsToOne(const Graph& graph, const Shapes& shapes, const Mapped& k, NodeId inner, std::size_t keys) {
    ValueId value = graph.node(inner).input(keys);
    const auto rank = static_cast<std::int64_t>(shapes.of(value).dims.size());
    std::int64_t summed = rank - 1;
    while (summed >= 0 && !sumsAxis(shapes, graph.node(inner), keys, static_cast<std::size_t>(summed))) --summed;
    if (rank < 3 || summed < 0) return false;
    for (int steps = 0; steps < 12 && value; ++steps) {
        const NodeId id = graph.producer(bare(graph, shapes, value));
        if (!id) return false;
        const Node& node = graph.node(id);
        if (node.is("Softmax")) {
            const std::int64_t axis = node.attributes.integer("axis", -1);
            return (axis < 0 ? axis + rank : axis) == summed && std::find(k.map.begin(), k.map.end(), id) != k.map.end();
        }
        if (!node.is("Transpose") && !node.is("Identity") && !node.is("Cast")) return false;
        const auto* perm = node.is("Transpose") ? node.attributes.integers("perm") : nullptr;
        if (perm && static_cast<std::int64_t>(perm->size()) != rank) return false;
        if (node.is("Transpose")) summed = perm ? (*perm)[static_cast<std::size_t>(summed)] : rank - 1 - summed;
        if (summed < 0 || summed >= rank) return false;
        value = node.input(0);
    }
    return false;
}

/// What is known of the two products and their operands.
struct Kernel {
    NodeId first, last;        ///< the products
    std::vector<NodeId> nodes; ///< both, and what is between them
    Mapped q, k;
    RoleTrace v;
    ValueId divided;           ///< behind the normaliser; none where nothing divides the last product
    Dim summed = 0, own = 0;   ///< features; what V has of its own
};

AttentionSpec specOf(const Graph& graph, const Shapes& shapes, const Kernel& kernel, const std::string& why) {
    const auto& [first, context, nodes, q, k, v, divided, summed, own] = kernel;
    AttentionSpec spec;
    spec.form = "explicit";
    spec.core = nodes;
    spec.core.insert(spec.core.end(), q.map.begin(), q.map.end());
    spec.core.insert(spec.core.end(), k.map.begin(), k.map.end());
    std::sort(spec.core.begin(), spec.core.end());
    spec.core.erase(std::unique(spec.core.begin(), spec.core.end()), spec.core.end());
    spec.nodes = spec.core;
    spec.scores = first;
    spec.context = context;
    spec.operands = {q.role.operand, k.role.operand, v.operand};
    spec.scope = graph.node(context).scope;
    spec.causal = false;
    // Random features, and copies of them, are more than a head is wide.
    const auto last = [&](ValueId value) { return shapes.of(value).known() && !shapes.of(value).dims.empty() ? shapes.of(value).dims.back() : 0; };
    const bool features = std::any_of(q.map.begin(), q.map.end(), [&](NodeId each) { return isMatrixProduct(graph.node(each)); });
    spec.headDim = features || q.widened || summed == 0 ? last(q.role.operand) : summed;
    spec.vHeadDim = own > 0 ? own : last(v.operand);
    const bool ones = std::any_of(v.path.begin(), v.path.end(), [&](NodeId each) { return graph.node(each).is("Pad") || graph.node(each).is("Concat"); });
    if (ones && spec.vHeadDim == spec.headDim + 1) --spec.vHeadDim;
    const Dims& operand = shapes.of(q.role.operand).dims;
    if (joined(graph, q.role) && operand.size() >= 4) spec.heads = spec.kvHeads = operand[operand.size() - 3]; // a projection is but one scale of them
    assembleRoles(graph, shapes, {Roles{q.role, k.role, v}}, spec);
    spec.extras.insert("performer");
    spec.evidence.push_back({"context", graph.node(context).name, why});
    findOutputProjection(graph, shapes, divided ? divided : graph.node(context).output(), spec);
    return spec;
}

/// The products Q (K V), `side` being Q's in the outer and `keys` K's in the inner one.
std::optional<AttentionSpec> kernelAttention(const Graph& graph, const Shapes& shapes, NodeId id, NodeId inner, std::size_t side, std::size_t keys) {
    const Node& node = graph.node(id);
    const Mapped q = throughMap(graph, shapes, node.input(side)), k = throughMap(graph, shapes, graph.node(inner).input(keys));
    const bool one = sumsToOne(graph, shapes, k, inner, keys);
    if ((!q.mapped && !one) || !q.role.linear || !k.mapped || !k.role.linear) return std::nullopt;
    const RoleTrace v = traceRole(graph, shapes, graph.node(inner).input(1 - keys));
    const ValueId third = node.inputs.size() == 3 && sumsAlong(graph, shapes, k, node.input(2)) ? node.output() : ValueId();
    const ValueId divided = third ? third : normalisedResult(graph, shapes, k, node.output(), node.output());
    const bool twice = has(graph, q, "Softmax") && has(graph, k, "Softmax");
    if ((!v.linear && (!divided || !q.mapped)) || !apart(graph, shapes, k.role, v) || (!divided && !twice && !one)) return std::nullopt;
    return specOf(graph, shapes, {inner, id, {inner, id}, q, k, v, divided, summedSize(graph, shapes, id), ownSize(graph, shapes, inner, 1 - keys)}, "multiplies mapped queries by " + graph.node(inner).name + ", which sums mapped keys times values");
}

std::optional<AttentionSpec> kernelAttention(const Graph& graph, const Shapes& shapes, NodeId id) {
    if (!activationProduct(graph, shapes, id)) return std::nullopt;
    for (const std::size_t side : {0U, 1U}) {
        const NodeId inner = productBehind(graph, shapes, graph.node(id).input(1 - side));
        for (const std::size_t keys : {0U, 1U})
            if (auto found = inner ? kernelAttention(graph, shapes, id, inner, side, keys) : std::nullopt) return found;
    }
    return std::nullopt;
}

/// Whether a product sums an operand over rows of its projection, not over columns of one; true where it can't be told.
bool sumsPlaces(const Graph& graph, const Shapes& shapes, NodeId product, ValueId operand, const RoleTrace& trace) {
    const Node& node = graph.node(product);
    const std::int64_t columns = linearColumns(graph, shapes, trace.linear);
    if (!Products::multiplies(node) || node.is("Einsum") || !trace.columns || columns <= 0 || trace.columns->axes.size() < 2) return true;
    const auto& summed = trace.columns->axes[trace.columns->axes.size() - (sumsLastAxis(node, factorOf(node, 0) == operand ? 0 : 1) ? 1 : 2)];
    return std::none_of(summed.begin(), summed.end(), [&](const ColumnView::Factor& each) { return each.size > 1 && std::abs(each.stride) < columns; });
}

/// The softmaxes that a value is computed from without crossing a projection or another one of them, in the order of operands.
void softmaxesBehind(const Graph& graph, const Shapes& shapes, ValueId value, std::set<ValueId>& seen, std::vector<NodeId>& found) {
    constexpr std::size_t most = 400;
    if (!value || shapes.isConstant(value) || seen.size() > most || !seen.insert(value).second) return;
    const NodeId id = graph.producer(value);
    if (!id || linearWeight(graph, shapes, id)) return;
    if (graph.node(id).is("Softmax")) return found.push_back(id);
    for (const ValueId input : graph.node(id).inputs) softmaxesBehind(graph, shapes, input, seen, found);
}

std::vector<NodeId> softmaxesBehind(const Graph& graph, const Shapes& shapes, ValueId value) {
    std::set<ValueId> seen;
    std::vector<NodeId> found;
    softmaxesBehind(graph, shapes, value, seen, found);
    return found;
}

} // namespace

std::vector<AttentionSpec> kernelAttentions(const Graph& graph, const Shapes& shapes) {
    std::vector<AttentionSpec> found;
    for (std::size_t i = 0; i < graph.nodes().size(); ++i)
        if (auto spec = kernelAttention(graph, shapes, NodeId(i))) found.push_back(std::move(*spec));
    return found;
}

std::optional<AttentionSpec> kernelAttention(const Graph& graph, const Shapes& shapes, const Core& core) {
    const Node& context = graph.node(core.context);
    const Mapped q = throughMap(graph, shapes, core.q), k = throughMap(graph, shapes, core.k);
    const RoleTrace v = traceRole(graph, shapes, core.v);
    if (!q.mapped || !k.mapped || !q.role.linear || !k.role.linear || !v.linear || !apart(graph, shapes, k.role, v)) return std::nullopt;
    const bool within = std::any_of(core.nodes.begin(), core.nodes.end(), [&](NodeId each) { return graph.node(each).is("ReduceSum"); });
    const bool third = context.inputs.size() == 3 && sumsAlong(graph, shapes, k, context.input(2));
    const ValueId divided = within || third ? core.result : normalisedResult(graph, shapes, k, context.output(), context.output());
    if (!divided) return std::nullopt;
    return specOf(graph, shapes, {core.scores, core.context, core.nodes, q, k, v, divided, core.headDim, core.vHeadDim}, "sums values by products of mapped queries and keys (" + graph.node(core.scores).name + "), which are divided by their sum");
}

std::optional<std::pair<std::string, std::string>> whyNotWeighed(const Graph& graph, const Shapes& shapes, const Core& core) {
    using Why = std::pair<std::string, std::string>;
    const RoleTrace q = traceRole(graph, shapes, core.q), k = traceRole(graph, shapes, core.k), v = traceRole(graph, shapes, core.v);
    const auto alike = [&](const RoleTrace& a, const RoleTrace& b) { return a.linear && a.linear == b.linear ? !apart(graph, shapes, a, b) : bare(graph, shapes, a.source) == bare(graph, shapes, b.source); };
    if (alike(q, v) || alike(k, v)) return Why{};
    if (behindViews(graph, core.q) == behindViews(graph, core.k)) return Why{"its queries are its keys", describe(graph, core.scores) + " multiplies one value by itself, as a graph of likeness does"};
    if (Spelled(graph, shapes).weighs(core.v)) return Why{}; // classes of masks
    // Outer products of outer products, as tensor fusion makes them, sum nothing.
    if (summedSize(graph, shapes, core.scores) == 1 && summedSize(graph, shapes, core.context) == 1) return Why{};
    // Each query weighs things of its own, as a router does the outputs of experts: no place looks at another.
    if (const Node& context = graph.node(core.context); !hasOwnAxis(context, factorOf(context, 0) == core.v ? 1 : 0)) return Why{};
    // A softmax makes an attention of anything; other functions of products stand in much else.
    for (const auto& [trace, name] : {std::pair(&q, "queries"), std::pair(&k, "keys"), std::pair(&v, "values")}) {
        if (trace->linear) continue;
        const NodeId end = trace->source ? graph.producer(trace->source) : NodeId();
        return Why{std::string("its ") + name + " come from no projection", end ? "their way ends at " + describe(graph, end) : "their way ends at " + graph.value(trace->source).name};
    }
    if (sumsPlaces(graph, shapes, core.context, core.v, v)) return std::nullopt;
    // Keys times values first: then those two are summed over places, and the last product over features.
    if (core.scores == core.softmax && sumsPlaces(graph, shapes, core.scores, core.q, q)) return std::nullopt;
    return Why{"what it weighs are columns of one row", describe(graph, v.linear) + " makes all of them of each row: a layer whose matrix is made of data, or channels that attend"};
}

void joinLandmarks(const Graph& graph, const Shapes& shapes, std::vector<AttentionSpec>& found) {
    const auto operandOfContext = [&](const AttentionSpec& spec) {
        const CoreResult core = findCore(graph, shapes, spec.softmax);
        return core.core ? core.core->v : ValueId();
    };
    std::map<NodeId, const AttentionSpec*> factors; // by softmax
    for (const AttentionSpec& spec : found) {
        // Only what has no projection of V of its own can be a factor.
        if (!spec.softmax || spec.opaque || spec.projectionV) continue;
        if (!softmaxesBehind(graph, shapes, operandOfContext(spec)).empty()) factors[spec.softmax] = &spec;
    }
    if (factors.empty()) return;
    std::multimap<ValueId, NodeId> products; // by what they multiply from the right
    for (std::size_t i = 0; i < graph.nodes().size(); ++i)
        if (activationProduct(graph, shapes, NodeId(i))) products.emplace(bare(graph, shapes, graph.nodes()[i].input(1)), NodeId(i));
    std::set<const AttentionSpec*> dropped;
    for (AttentionSpec& spec : found) {
        if (factors.contains(spec.softmax) || !spec.context) continue;
        const ValueId context = graph.node(spec.context).output();
        const auto [begin, end] = products.equal_range(context);
        for (auto at = begin; at != end; ++at) {
            const NodeId reader = at->second;
            const auto behind = softmaxesBehind(graph, shapes, graph.node(reader).input(0));
            const auto factor = behind.empty() ? factors.end() : factors.find(behind.front());
            if (factor == factors.end()) continue;
            // Scores of the context itself are those of the next layer.
            if (bare(graph, shapes, factor->second->q) == context || bare(graph, shapes, factor->second->k) == context) continue;
            spec.extras.insert("landmarks");
            spec.q = factor->second->q;
            spec.projectionQ = factor->second->projectionQ;
            spec.kind = factor->second->kind;
            spec.nodes.push_back(reader);
            for (const NodeId softmax : behind) {
                const auto each = factors.find(softmax);
                if (each == factors.end()) continue;
                dropped.insert(each->second);
                spec.nodes.insert(spec.nodes.end(), each->second->nodes.begin(), each->second->nodes.end());
            }
            std::sort(spec.nodes.begin(), spec.nodes.end());
            spec.nodes.erase(std::unique(spec.nodes.begin(), spec.nodes.end()), spec.nodes.end());
            if (!spec.projectionOut) findOutputProjection(graph, shapes, graph.node(reader).output(), spec);
        }
    }
    std::vector<AttentionSpec> kept;
    for (AttentionSpec& spec : found)
        if (!dropped.contains(&spec)) kept.push_back(std::move(spec));
    found = std::move(kept);
}

} // namespace triptych
