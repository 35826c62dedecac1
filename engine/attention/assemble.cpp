#include "attention/assemble.h"

#include "attention/key_blocks.h"
#include "attention/product_axes.h"
#include "attention/products.h"

#include <algorithm>

namespace triptych {

namespace {

std::optional<Projection> projectionOf(const Graph& graph, const Shapes& shapes, const RoleTrace& trace) {
    if (!trace.linear) return std::nullopt;
    const Node& product = graph.node(trace.linear);
    Projection made;
    made.nodes = {trace.linear};
    made.input = product.input(0);
    made.weight = factorOf(product, 1);
    made.output = product.output();
    made.width = linearColumns(graph, shapes, trace.linear);
    made.bias = linearBias(product);
    if (trace.bias) {
        const Node& add = graph.node(trace.bias);
        made.nodes.push_back(trace.bias);
        made.bias = add.input(0) == made.output ? add.input(1) : add.input(0);
        made.output = add.output();
    }
    return made;
}

/// Values that an activation comes from, through what neither mixes other data in nor multiplies by weights of its own.
void roots(const Graph& graph, const Shapes& shapes, ValueId value, int depth, std::set<ValueId>& found) {
    if (!value || shapes.isConstant(value) || depth > 24 || !found.insert(value).second) return;
    const NodeId id = graph.producer(value);
    if (!id) return;
    const Node& node = graph.node(id);
    static const std::set<std::string> transparent{
        "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "Transpose", "Reshape", "Identity", "Cast", "Dropout", "Squeeze", "Unsqueeze", "Flatten",
        "Conv", "BatchNormalization", "Slice", "Pad", "Split", "Concat", "Gather", "AveragePool", "MaxPool", "GlobalAveragePool", "Resize", "GridSample", "ReduceMean", "ReduceMax", "Expand", "Relu", "Gelu", "Erf", "Tanh", "Sigmoid", "HardSigmoid",
        "HardSwish", "Swish", "Elu", "Clip", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"};
    const auto activations = [&] { return std::count_if(node.inputs.begin(), node.inputs.end(), [&](ValueId input) { return input && !shapes.isConstant(input); }); };
    // An operator that nobody knows is a projection or a norm where it reads one activation.
    const bool unknown = !node.domain.empty() && node.domain != "com.microsoft" && activations() == 1;
    if (unknown || transparent.contains(node.op)) {
        for (const ValueId input : node.inputs) roots(graph, shapes, input, depth + 1, found);
        return;
    }
    if (node.is("Add") || node.is("Mul") || node.is("Sub") || node.is("Div")) {
        // Position embeddings and the pieces of a spelled-out norm; a residual add of two activations ends the walk.
        const auto mixed = std::count_if(node.inputs.begin(), node.inputs.end(), [&](ValueId input) { return input && !shapes.isConstant(input) && !restoresIntegers(graph, shapes, input); });
        const auto oneForEachRow = [&](ValueId input) { return shapes.of(input).known() && !shapes.of(input).dims.empty() && shapes.of(input).dims.back() == 1; };
        // The pieces of an activation that is spelled out are as large as what they are made of.
        const bool whole = node.is("Mul") && shapes.of(node.input(0)).known() && shapes.of(node.input(0)).dims == shapes.of(node.input(1)).dims;
        const bool norm = whole || (node.is("Mul") && std::any_of(node.inputs.begin(), node.inputs.end(), oneForEachRow));
        if (mixed == 1 || norm || node.is("Div") || node.is("Sub"))
            for (const ValueId input : node.inputs) roots(graph, shapes, input, depth + 1, found);
    }
}

/// Latent attention projects down before it projects up: what the narrow products below a role's input read.
void latentRoots(const Graph& graph, const Shapes& shapes, std::set<ValueId>& found) {
    for (const ValueId value : std::vector<ValueId>(found.begin(), found.end())) {
        const NodeId id = graph.producer(value);
        if (!id || !linearWeight(graph, shapes, id)) continue;
        const ValueId input = graph.node(id).input(0);
        const ValueShape &wide = shapes.of(input), &narrow = shapes.of(graph.node(id).output());
        if (wide.known() && narrow.known() && !wide.dims.empty() && !narrow.dims.empty() && narrow.dims.back() < wide.dims.back()) roots(graph, shapes, input, 0, found);
    }
}

bool sameOrigin(const Graph& graph, const Shapes& shapes, ValueId a, ValueId b) {
    if (a == b) return true;
    std::set<ValueId> one, two;
    roots(graph, shapes, a, 0, one);
    roots(graph, shapes, b, 0, two);
    const auto meet = [&] { return std::any_of(one.begin(), one.end(), [&](ValueId value) { return two.contains(value); }); };
    if (meet()) return true;
    latentRoots(graph, shapes, one);
    latentRoots(graph, shapes, two);
    return meet();
}

/// Columns of a role in the projection that it shares with others.
std::optional<ColumnRange> sharedRange(const Graph& graph, const Shapes& shapes, const RoleTrace& role, const Roles& roles) {
    std::vector<const RoleTrace*> others;
    for (const RoleTrace* other : {&roles.q, &roles.k, &roles.v})
        if (other != &role && other->linear == role.linear) others.push_back(other);
    const std::int64_t columns = linearColumns(graph, shapes, role.linear);
    if (const RoleStage* stage = ownStage(role, others, columns)) return columnRange(stage->view, columns);
    // All columns are those of the others too: what cuts them stands behind something that isn't followed.
    auto range = role.columns ? columnRange(*role.columns, columns) : std::nullopt;
    return range && (others.empty() || range->width < columns) ? range : std::nullopt;
}

/// Whether a Concat on the way joins all that a node cuts, as heads that stand in the batch.
bool joinsPieces(const Graph& graph, const Shapes& shapes, const RoleTrace& role, NodeId cut) {
    const auto joins = [&](NodeId id) { return joinedSplit(graph, shapes, graph.node(id)) == cut; };
    return graph.node(cut).outputs.size() <= Products::asked && std::any_of(role.path.begin(), role.path.end(), joins);
}

/// Columns of a role whose part of its projection (`whole` of them) makes something else besides, as a gate: those of the last cut that leaves heads whole. A cut
/// within heads is joined again; a part of a latent, less than a head, stands beside positions that were cut from it.
std::int64_t ownWidth(const Graph& graph, const Shapes& shapes, const RoleTrace& role, std::int64_t head, std::int64_t whole) {
    const std::int64_t columns = linearColumns(graph, shapes, role.linear);
    for (std::size_t i = role.stages.size(); i-- > 0 && head > 0;) {
        const ValueShape& shape = shapes.of(role.stages[i].value);
        if (!shape.known() || shape.dims.empty() || shape.dims.back() % head != 0 || joinsPieces(graph, shapes, role, role.stages[i].selector)) continue;
        const auto range = columnRange(role.stages[i].view, columns);
        if (!range || range->width <= 0 || range->width % head != 0) return whole;
        return whole < head ? range->width : std::min(range->width, whole);
    }
    return whole;
}

/// One projection that is two roles as a whole is not packed: nothing cuts it on the way to either, or one cut serves both (a latent that is keys and values), or cuts
/// pick copies that a table of scales made.
bool servesWhole(const Graph& graph, const Shapes& shapes, const RoleTrace& a, const RoleTrace& b) {
    const auto cuts = [&](const RoleTrace& trace) {
        std::size_t count = 0;
        for (std::size_t i = 0; i < trace.path.size(); ++i) {
            const Node& node = graph.node(trace.path[i]);
            const bool whole = std::any_of(trace.path.begin(), trace.path.begin() + static_cast<std::ptrdiff_t>(i), [&](NodeId id) {
                const Node& round = graph.node(id);
                return turnsRound(graph, shapes, round) && std::any_of(round.inputs.begin(), round.inputs.end(), [&](ValueId part) { return graph.producer(bare(graph, shapes, part)) == trace.path[i]; });
            });
            if (!whole && (node.is("Split") || node.is("Slice") || node.is("Gather"))) ++count;
        }
        return count;
    };
    // A cut behind something that isn't followed may take any columns.
    const auto followed = [&](const RoleTrace& trace) { return cuts(trace) == trace.stages.size() && !joined(graph, trace); };
    if (!a.stages.empty() && !b.stages.empty() && a.stages.back().value == b.stages.back().value) return true;
    if (cuts(a) == 0 && cuts(b) == 0) return true;
    if (!a.columns || !b.columns) return false;
    const std::int64_t columns = linearColumns(graph, shapes, a.linear);
    const auto one = columnRange(*a.columns, columns), two = columnRange(*b.columns, columns);
    return followed(a) && followed(b) && one && two && one->width == columns && two->width == columns;
}

ProjectionForm packedForm(const Graph& graph, const Shapes& shapes, const RoleTrace& role, const Roles& roles) {
    const auto range = sharedRange(graph, shapes, role, roles);
    return range && !range->contiguous ? ProjectionForm::packedInterleaved : ProjectionForm::packed;
}

/// Whether a role's product is of split heads, as where blocks of keys are compressed by a network that all heads share.
bool worksOnHeads(const Graph& graph, const Shapes& shapes, const RoleTrace& trace) { return trace.linear && graph.node(trace.linear).is("MatMul") && shapes.of(graph.node(trace.linear).input(0)).dims.size() >= 4; }

/// What a role is made of: what its projection reads, or, where that works on heads, what split them.
ValueId originOf(const Graph& graph, const Shapes& shapes, const RoleTrace& trace) {
    ValueId value = sourceOf(graph, trace);
    constexpr int longest = 40;
    for (int steps = 0; steps < longest && value && worksOnHeads(graph, shapes, trace); ++steps) {
        const NodeId id = graph.producer(value);
        if (!id) break;
        const Node& node = graph.node(id);
        value = node.input(shapes.isConstant(node.input(0)) ? 1 : 0);
        if (linearWeight(graph, shapes, id) && shapes.of(value).dims.size() <= 3) return value;
    }
    return sourceOf(graph, trace);
}

std::int64_t headsFromOperand(const Shapes& shapes, ValueId operand) {
    const ValueShape& shape = shapes.of(operand);
    return shape.ranked && shape.dims.size() >= 4 ? std::max<Dim>(shape.dims[shape.dims.size() - 3], 0) : 0;
}

/// Whether two operands of a product have the same matrices: as many heads, and as many windows of each.
bool sameBatch(const Shapes& shapes, ValueId a, ValueId b) {
    const ValueShape &one = shapes.of(a), &two = shapes.of(b);
    return one.known() && two.known() && one.dims.size() > 2 && one.dims.size() == two.dims.size() && std::equal(one.dims.begin(), one.dims.end() - 2, two.dims.begin());
}

/// Channel attention sums over places: a head's width is another axis of its operand. 0 where this is no such attention.
std::int64_t headsOverPlaces(const Graph& graph, const Shapes& shapes, const std::optional<Projection>& projection, const RoleTrace& trace, std::int64_t size) {
    const ValueShape& operand = shapes.of(trace.operand);
    if (!projection || projection->width <= 0 || !operand.known() || operand.dims.size() < 4) return 0;
    // Halves of heads are as wide as no head of the projection, either: but they are columns.
    const std::int64_t columns = linearColumns(graph, shapes, trace.linear);
    if (trace.columns && !trace.columns->axes.empty() && std::any_of(trace.columns->axes.back().begin(), trace.columns->axes.back().end(), [&](const ColumnView::Factor& each) { return each.size > 1 && std::abs(each.stride) < columns; })) return 0;
    const std::size_t rank = operand.dims.size();
    const Dim many = operand.dims[rank - 3];
    return many > 0 && operand.dims[rank - 1] == size && operand.dims[rank - 2] * many == projection->width && size * many != projection->width ? many : 0;
}

/// Heads of Q and of K, by the widths of projections and operands.
void countHeads(const Graph& graph, const Shapes& shapes, const Roles& roles, AttentionSpec& spec) {
    const auto& [q, k, v] = roles;
    const auto heads = [&](const std::optional<Projection>& projection, const RoleTrace& trace, std::int64_t size) {
        if (projection && spec.heads > 1 && projection->width == size && worksOnHeads(graph, shapes, trace) && headsFromOperand(shapes, trace.operand) == spec.heads) return spec.heads;
        const auto range = projection && trace.columns && !joined(graph, trace) ? columnRange(*trace.columns, linearColumns(graph, shapes, trace.linear)) : std::nullopt;
        if (range && range->width < projection->width && size > 0 && range->width > 0 && range->width % size == 0) return range->width / size; // a part of each head
        if (projection && projection->width > 0 && size > 0 && projection->width % size == 0) return projection->width / size;
        // With sizes that don't fit the file (pictures smaller than a window) no view tells the columns, and another axis stands before the places: then equal parts do.
        const auto shares = [&](const RoleTrace& role) { return std::int64_t(trace.linear && trace.linear == role.linear); };
        const std::int64_t parts = shares(roles.q) + shares(roles.k) + shares(roles.v);
        const std::int64_t columns = projection ? linearColumns(graph, shapes, trace.linear) : 0;
        const bool several = shapes.of(trace.operand).dims.size() > 4;
        if (several && projection && projection->width == 0 && size > 0 && parts > 1 && columns % (parts * size) == 0) return columns / (parts * size);
        return headsFromOperand(shapes, trace.operand);
    };
    if (const std::int64_t many = spec.heads == 0 ? headsOverPlaces(graph, shapes, spec.projectionQ, q, spec.headDim) : 0) {
        spec.heads = spec.kvHeads = many;
        spec.headDim = spec.projectionQ->width / many;
        if (spec.projectionV && spec.projectionV->width > 0 && spec.projectionV->width % many == 0) spec.vHeadDim = spec.projectionV->width / many;
    }
    if (spec.heads == 0) spec.heads = q.heads > 0 ? q.heads : heads(spec.projectionQ, q, spec.headDim);
    // Queries may have a part of positions beside each head's own: then V tells how many heads there are.
    const std::int64_t byValues = heads(spec.projectionV, v, spec.vHeadDim);
    const bool told = shapes.of(q.operand).dims.size() == 3 || headsFromOperand(shapes, q.operand) == byValues;
    if (!spec.opaque && joined(graph, q) && byValues > spec.heads && q.linear != v.linear && told) spec.heads = spec.kvHeads = byValues;
    spec.operandKvHeads = spec.kvHeads;
    // Heads that were repeated before the operator are fewer where they are projected.
    const bool lost = spec.projectionK && spec.projectionK->width == 0 && sameBatch(shapes, q.operand, k.operand);
    const std::int64_t projected = lost ? spec.heads : heads(spec.projectionK, k, spec.headDim);
    if (spec.kvHeads == 0 || (k.extras.contains("kv_repeat") && projected > 0)) spec.kvHeads = projected;
    // Without a projection the copies themselves tell.
    const bool copied = k.extras.contains("kv_repeat") && !k.linear && k.repeats > 1 && spec.kvHeads == spec.heads && spec.heads % k.repeats == 0;
    if (copied) spec.kvHeads = spec.heads / k.repeats;
    if (spec.kvHeads == 0) spec.kvHeads = spec.heads;
    if (spec.heads == 0) spec.heads = spec.kvHeads;
    if (spec.heads == 0 && !spec.opaque && shapes.of(q.operand).ranked && shapes.of(q.operand).dims.size() <= 3) spec.heads = spec.kvHeads = 1; // no projection and no axis of heads
    if (spec.operandKvHeads == 0) spec.operandKvHeads = spec.kvHeads;
}

/// The projections of one stream: where each role's columns lie in the one that it shares with others.
StreamProjections projectionsOf(const Graph& graph, const Shapes& shapes, const Roles& roles, const AttentionSpec& spec) {
    const auto& [q, k, v] = roles;
    StreamProjections made;
    made.projectionQ = projectionOf(graph, shapes, q);
    made.projectionK = projectionOf(graph, shapes, k);
    made.projectionV = projectionOf(graph, shapes, v);
    made.q = sourceOf(graph, q);
    made.k = sourceOf(graph, k);
    made.v = sourceOf(graph, v);
    const auto packed = [&](const RoleTrace& a, const RoleTrace& b) { return a.linear && a.linear == b.linear && (spec.opaque || !servesWhole(graph, shapes, a, b)); };
    const bool qk = packed(q, k), kv = packed(k, v), qv = packed(q, v);
    if (kv || qk) made.projections = packedForm(graph, shapes, k, roles);
    else if (!k.linear && !v.linear) made.projections = ProjectionForm::none;
    else made.projections = ProjectionForm::separate;
    const auto place = [&](std::optional<Projection>& projection, const RoleTrace& trace, bool shared, std::int64_t head) {
        if (!projection) return;
        projection->width = shared ? 0 : ownWidth(graph, shapes, trace, head, linearColumns(graph, shapes, trace.linear));
        if (!shared) return;
        if (const auto range = sharedRange(graph, shapes, trace, roles)) {
            projection->offset = range->offset;
            projection->width = ownWidth(graph, shapes, trace, head, range->width);
        }
    };
    place(made.projectionQ, q, qk || qv, spec.headDim);
    place(made.projectionK, k, qk || kv, spec.headDim);
    place(made.projectionV, v, qv || kv, spec.vHeadDim);
    return made;
}

void addEvidence(const Graph& graph, const RoleTrace& trace, const char* role, const char* where, AttentionSpec& spec) {
    if (!trace.operand) return;
    std::string way;
    for (std::size_t i = 0; i < trace.path.size() && i < 8; ++i) way += (i ? ", " : "") + graph.node(trace.path[i]).op;
    if (trace.path.size() > 8) way += ", …";
    const std::string node = trace.linear ? graph.node(trace.linear).name : graph.value(trace.source).name;
    std::string beside;
    for (const Join& join : trace.joins) beside += (beside.empty() ? "; " : " and ") + graph.node(join.concat).name;
    if (!beside.empty()) beside += trace.joins.size() > 1 ? " join other projections to it" : " joins other projections to it";
    spec.evidence.push_back({role, node, std::string("reaches ") + where + (way.empty() ? " directly" : " through " + way) + beside});
}

} // namespace

bool joined(const Graph& graph, const RoleTrace& trace) {
    return std::any_of(trace.path.begin(), trace.path.end(), [&](NodeId id) { return graph.node(id).is("Concat"); });
}

void assembleRoles(const Graph& graph, const Shapes& shapes, const std::vector<Roles>& streams, AttentionSpec& spec) {
    const Roles& roles = streams[0];
    static_cast<StreamProjections&>(spec) = projectionsOf(graph, shapes, roles, spec);
    for (std::size_t i = 1; i < streams.size(); ++i) spec.joined.push_back(projectionsOf(graph, shapes, streams[i], spec));
    const bool self = std::any_of(streams.begin(), streams.end(), [&](const Roles& each) {
        const ValueId q = sourceOf(graph, each.q);
        return q && (sameOrigin(graph, shapes, q, originOf(graph, shapes, each.k)) || sameOrigin(graph, shapes, q, originOf(graph, shapes, each.v)));
    });
    spec.kind = self ? AttentionKind::self : AttentionKind::cross;
    countHeads(graph, shapes, roles, spec);

    for (const Roles& stream : streams) {
        for (const RoleTrace* trace : {&stream.q, &stream.k, &stream.v}) {
            for (const std::string& extra : trace->extras) {
                if (trace == &stream.v && (extra == "rope" || extra == "qk_norm")) continue;
                if (trace == &stream.q && extra == "kv_repeat") continue;
                // A latent that is keys and values is normed for both.
                if (trace == &stream.k && extra == "qk_norm" && stream.v.extras.contains(extra) && !stream.q.extras.contains(extra)) continue;
                spec.extras.insert(extra);
            }
        }
        addEvidence(graph, stream.q, "q", "operand 0 of the scores product", spec);
        addEvidence(graph, stream.k, "k", "operand 1 of the scores product", spec);
        addEvidence(graph, stream.v, "v", "the context product", spec);
    }
    if (spec.kvHeads == spec.heads) spec.extras.erase("kv_repeat");

    std::set<NodeId> nodes(spec.nodes.begin(), spec.nodes.end());
    for (const Roles& stream : streams) {
        for (const RoleTrace* trace : {&stream.q, &stream.k, &stream.v}) {
            if (!trace->linear) continue;
            nodes.insert(trace->linear);
            nodes.insert(trace->path.begin(), trace->path.end());
        }
    }
    spec.nodes.assign(nodes.begin(), nodes.end());
}

void findOutputProjection(const Graph& graph, const Shapes& shapes, ValueId context, AttentionSpec& spec) {
    std::vector<NodeId> between;
    for (int steps = 0; steps < 8; ++steps) {
        NodeId next;
        for (const NodeId reader : graph.readers(context)) {
            const Node& node = graph.node(reader);
            if (linearWeight(graph, shapes, reader) && node.input(0) == context) {
                Projection projection;
                projection.nodes = {reader};
                projection.input = context;
                projection.weight = factorOf(node, 1);
                projection.output = node.output();
                projection.bias = linearBias(node);
                const auto readers = graph.readers(projection.output);
                if (readers.size() == 1 && graph.node(readers[0]).is("Add")) {
                    const Node& add = graph.node(readers[0]);
                    const ValueId other = add.input(0) == projection.output ? add.input(1) : add.input(0);
                    if (other && shapes.isConstant(other)) {
                        projection.nodes.push_back(readers[0]);
                        projection.bias = other;
                        projection.output = add.output();
                    }
                }
                spec.nodes.insert(spec.nodes.end(), between.begin(), between.end());
                spec.nodes.insert(spec.nodes.end(), projection.nodes.begin(), projection.nodes.end());
                const Dims& weight = shapes.of(projection.weight).dims;
                const std::size_t rows = node.attributes.integer("transB", 0) != 0 ? 1 : 0;
                const bool merged = (node.is("MatMul") || node.is("Gemm")) && weight.size() == 2 && spec.vHeadDim > 0 && weight[rows] > 0 && weight[rows] % spec.vHeadDim == 0;
                if (spec.heads == 0 && merged) spec.heads = spec.kvHeads = spec.operandKvHeads = weight[rows] / spec.vHeadDim; // where no shape tells, what it reads does
                spec.projectionOut = std::move(projection);
                return;
            }
            for (const char* op : {"Transpose", "Reshape", "Cast", "Identity", "Squeeze", "Unsqueeze", "Dropout"})
                if (!next && node.is(op) && node.input(0) == context) next = reader;
        }
        if (!next) return;
        between.push_back(next);
        context = graph.node(next).output();
    }
}

void describeMasks(const std::vector<ValueId>& masks, MaskReader& reader, AttentionSpec& spec, const std::vector<ValueId>& multiplied) {
    bool causal = false, unknown = false;
    std::vector<ValueId> all = masks;
    all.insert(all.end(), multiplied.begin(), multiplied.end());
    for (std::size_t i = 0; i < all.size(); ++i) {
        const ValueId mask = all[i];
        const MaskFacts facts = reader.facts(mask);
        causal = causal || facts.causal;
        unknown = unknown || (facts.unknown && !facts.causal && !facts.learned);
        if (facts.causal) spec.masks.insert("causal");
        if (facts.window) spec.masks.insert("window");
        if (facts.blockSparse) spec.masks.insert("block_sparse");
        if (facts.fromInput) spec.masks.insert("padding");
        if (facts.alibi) {
            spec.masks.insert("bias");
            spec.extras.insert("alibi");
        }
        if (facts.learned) {
            spec.masks.insert("bias");
            spec.extras.insert("relative_bias");
        }
        spec.masks.insert(facts.boolean || i >= masks.size() ? "boolean" : "additive"); // 0 and 1 where it multiplies
        if (!spec.mask) spec.mask = mask;
    }
    spec.causal = causal ? std::optional(true) : unknown ? std::nullopt : std::optional(false);
}

} // namespace triptych
