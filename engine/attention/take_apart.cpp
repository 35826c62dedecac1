// A packed projection as one projection a role.

#include "attention/decomposer.h"

#include "attention/product_axes.h"

#include <algorithm>

namespace triptych {

namespace {

std::vector<std::string>& productsOf(NamedStream& named, std::size_t role) { return role == 0 ? named.q : role == 1 ? named.k : named.v; }

/// A cut's view of its own places alone, where others are joined to them: the axis that holds them, shortened join by join. False where
/// it can't be told. `axes`: along which each join stands in what the cut handed on.
bool keepOwnRows(const RoleStage& stage, ColumnView& view, Dims& dims, std::vector<std::size_t>& axes) {
    axes.resize(stage.joined.size());
    for (std::size_t at = stage.joined.size(); at-- > 0;) {
        const JoinedRows& rows = stage.joined[at];
        ColumnView::Factor* found = nullptr;
        for (std::size_t i = 0; i < view.axes.size(); ++i) {
            for (ColumnView::Factor& factor : view.axes[i]) {
                if (factor.size != rows.whole || factor.stride != rows.stride) continue;
                if (found) return false;
                found = &factor;
                axes[at] = i;
            }
        }
        if (!found || view.size(axes[at]) != rows.whole || dims.size() != view.axes.size()) return false;
        found->size = dims[axes[at]] = rows.own;
    }
    return true;
}

/// Which input of each join leads to a cut's own places, the last join first.
std::vector<std::size_t> placeAmongJoined(const RoleStage& stage) {
    std::vector<std::size_t> inputs;
    for (std::size_t at = stage.joined.size(); at-- > 0;) inputs.push_back(stage.joined[at].join.input);
    return inputs;
}

constexpr std::array views{"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "Split", "Slice", "Gather"};
constexpr std::array pointwiseOperators{"Cast", "Clip", "Min", "Max", "Mul", "Div", "Add", "Sub", "Neg", "QuantizeLinear", "DequantizeLinear"};
constexpr std::array quantisedOperators{"QLinearAdd", "QLinearMul"}; // of com.microsoft

} // namespace

/// The weight of a product in the file, however quantised; none where it is computed otherwise.
std::optional<WeightSource> Decomposer::packedWeight(const Node& product) const {
    constexpr int deepest = 8;
    ValueId value = factorOf(product, 1);
    for (int steps = 0; steps < deepest && value; ++steps) {
        if (auto source = weightSource(m_graph, value, &m_active->shapes())) return source;
        const NodeId id = m_graph.producer(value);
        value = id ? m_graph.node(id).input(0) : ValueId();
    }
    return std::nullopt;
}

std::string Decomposer::weightPrefix(const Node& product) const {
    const auto source = packedWeight(product);
    return source && !source->tensor->name.empty() ? source->tensor->name : product.name;
}

bool Decomposer::weightIsAbsent(const RoleTrace& trace) const {
    const auto source = packedWeight(m_graph.node(trace.linear));
    return source && source->tensor->payload.place == Payload::Place::absent;
}

/// What a cut is applied to, beside views: operators that do the same to every element or column. Empty where anything else lies before it.
std::optional<std::vector<NodeId>> Decomposer::pointwiseBefore(const RoleTrace& trace, const RoleStage& stage, const OwnColumns& own) const {
    const Shapes& shapes = m_active->shapes();
    const Node& product = m_graph.node(trace.linear);
    const std::set<NodeId> ineffective = cancelledViews(m_graph, shapes, trace);
    std::vector<NodeId> found;
    bool inOrder = !convolves(product), channels = !inOrder; // columns are still the last axis, or still the second
    for (std::size_t i = trace.path.size(); i-- > 0;) {
        const NodeId id = trace.path[i];
        if (id == stage.selector) return found;
        if (id == trace.bias || ineffective.contains(id)) continue;
        const Node& node = m_graph.node(id);
        const Dims& dims = shapes.of(node.output()).dims;
        inOrder = inOrder && !node.is("Transpose") && !dims.empty() && dims.back() == shapes.of(product.output()).dims.back();
        channels = channels && dims == shapes.of(product.output()).dims;
        if ((channels || (inOrder && dims.size() == 2)) && worksByColumn(shapes, node, own)) {
            found.push_back(id);
            continue;
        }
        if (isOneOf(node, views)) continue;
        if (std::any_of(stage.joined.begin(), stage.joined.end(), [&](const JoinedRows& rows) { return rows.join.concat == id; })) continue;
        const bool quantised = std::any_of(quantisedOperators.begin(), quantisedOperators.end(), [&](const char* each) { return node.is("com.microsoft", each); });
        if (!quantised && !isOneOf(node, pointwiseOperators)) return std::nullopt;
        const NodeId before = i + 1 < trace.path.size() ? trace.path[i + 1] : trace.linear;
        // Before any view what stands beside has the columns of the product.
        const bool whole = inOrder && dims == shapes.of(product.output()).dims;
        for (const ValueId input : node.inputs)
            if (input && m_graph.producer(input) != before && !isNumber(input) && !(whole && own.cutsLast(input))) return std::nullopt;
        found.push_back(id);
    }
    return std::nullopt;
}

bool Decomposer::isNumber(ValueId value) const {
    const ValueShape& shape = m_active->shapes().of(value);
    return shape.known() && shape.count() == 1;
}

/// Where each role's columns lie in the product that it shares; empty where a cut isn't plain.
std::optional<std::vector<Decomposer::Cut>> Decomposer::cutsOf(const std::array<RoleTrace, 3>& traces) const {
    std::vector<Cut> cuts;
    for (std::size_t r = 0; r < 3; ++r) {
        std::vector<const RoleTrace*> others;
        for (std::size_t o = 0; o < 3; ++o)
            if (o != r && traces[o].linear && traces[o].linear == traces[r].linear) others.push_back(&traces[o]);
        if (others.empty()) continue;
        const ValueShape& out = m_active->shapes().of(m_graph.node(traces[r].linear).output());
        const std::int64_t columns = out.known() && !out.dims.empty() ? linearColumns(m_graph, m_active->shapes(), traces[r].linear) : 0;
        const RoleStage* stage = ownStage(traces[r], others, columns);
        auto range = stage ? columnRange(stage->view, columns) : std::nullopt;
        if (!range || !m_active->shapes().of(stage->value).known()) return std::nullopt;
        Cut cut{stage, std::move(*range), r, {}, columns, stage->view, m_active->shapes().of(stage->value).dims, {}};
        if (!keepOwnRows(*stage, cut.view, cut.dims, cut.axes) || !hasAllRows(cut.view, columns, out.count() / columns)) return std::nullopt;
        auto pointwise = pointwiseBefore(traces[r], *stage, OwnColumns(m_graph, m_active->shapes(), cut.range, columns));
        if (!pointwise) return std::nullopt;
        cut.pointwise = std::move(*pointwise);
        cuts.push_back(std::move(cut));
    }
    return cuts;
}

/// The packed projections with their cuts; empty where one of them isn't plain.
std::optional<std::vector<Decomposer::PackedStream>> Decomposer::packedStreams(const AttentionSpec& spec, const std::array<ValueId, 3>& operands) const {
    std::vector<PackedStream> found;
    std::vector<Roles> streams = traceStreams(m_graph, m_active->shapes(), operands);
    if (streams.size() != spec.joined.size() + 1) return std::nullopt;
    for (std::size_t i = 0; i < streams.size(); ++i) {
        if (!isPacked(i == 0 ? spec.projections : spec.joined[i - 1].projections)) continue;
        PackedStream stream{{std::move(streams[i].q), std::move(streams[i].k), std::move(streams[i].v)}, {}, i};
        auto cuts = cutsOf(stream.traces);
        if (!cuts) return std::nullopt;
        found.push_back(std::move(stream));
        found.back().cuts = std::move(*cuts); // they point into the traces
    }
    return joinsAreWhole(found) ? std::optional(std::move(found)) : std::nullopt;
}

/// Whether of what is joined before a cut every part is cut from a weight in the file: then the parts are joined behind their cuts.
bool Decomposer::joinsAreWhole(const std::vector<PackedStream>& streams) const {
    std::map<std::pair<ValueId, std::vector<std::size_t>>, std::pair<NodeId, std::set<std::size_t>>> joins; // by what a cut hands on and the way to a join: which of its inputs are cut
    for (const PackedStream& stream : streams) {
        for (const Cut& cut : stream.cuts) {
            if (cut.stage->joined.empty()) continue;
            const OwnColumns part(m_graph, m_active->shapes(), cut.range, cut.columns);
            if (!hasOwnProjection(m_graph, m_active->shapes(), stream.traces[cut.role], part)) return false;
            std::pair<ValueId, std::vector<std::size_t>> way{cut.stage->value, {}};
            for (std::size_t at = cut.stage->joined.size(); at-- > 0;) {
                const Join& join = cut.stage->joined[at].join;
                auto& [concat, inputs] = joins[way];
                concat = join.concat;
                inputs.insert(join.input);
                way.second.push_back(join.input);
            }
        }
    }
    return std::all_of(joins.begin(), joins.end(), [&](const auto& join) { return join.second.second.size() == m_graph.node(join.second.first).inputs.size(); });
}

/// Without its weight a product stays packed: a Split hands each role its columns. Empty where their order doesn't allow it.
std::optional<std::vector<ValueId>> Decomposer::splitInstead(const std::vector<Cut>& cuts, const std::array<RoleTrace, 3>& traces, NamedAttention& named) {
    const RoleTrace& trace = traces[cuts[0].role];
    const Node& product = m_graph.node(trace.linear);
    std::vector<std::size_t> order(cuts.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return cuts[a].range.offset < cuts[b].range.offset; });
    std::vector<std::int64_t> lengths;
    std::int64_t end = 0;
    for (const std::size_t at : order) {
        if (!cuts[at].range.contiguous || cuts[at].range.offset != end || traces[cuts[at].role].linear != trace.linear) return std::nullopt;
        lengths.push_back(cuts[at].range.width);
        end += cuts[at].range.width;
    }
    if (convolves(product) || end != m_active->shapes().of(product.output()).dims.back()) return std::nullopt;
    Emitter emit = emitter(product.name, product.scope, sourcesOf({trace.linear, cuts[0].stage->selector}));
    const auto parts = emit.split("qkv", trace.bias ? m_graph.node(trace.bias).output() : product.output(), lengths, m_active->shapes().of(product.output()).dims.size());
    named.nodes.insert(named.nodes.end(), emit.names().begin(), emit.names().end());
    std::vector<ValueId> own(cuts.size());
    for (std::size_t i = 0; i < order.size(); ++i) own[order[i]] = parts[i];
    return own;
}

/// What lies between the product and its cut, of the role's own columns; `dims` are those of the result. Empty where a size can't be told.
std::optional<ValueId> Decomposer::pointwiseOfOwn(const Cut& cut, const RoleTrace& trace, Emitter& emit, ValueId own, Dims& dims, OwnColumns& part) {
    const std::string role = std::string(roleNames[cut.role]) + "_proj", prefix = weightPrefix(m_graph.node(trace.linear)) + "." + roleNames[cut.role] + "_";
    for (const NodeId id : cut.pointwise) {
        const Node& node = m_graph.node(id);
        std::vector<ValueId> inputs = node.inputs;
        const bool columns = node.is("BatchNormalization") || node.is("Conv");
        if (columns) {
            Dims flat = m_active->shapes().of(node.output()).dims; // all rows in one axis, or channels second
            flat[1] = cut.range.width;
            const auto rows = flat == dims ? std::optional(own) : m_active->reshape(emit, role, own, dims, flat);
            if (!rows) return std::nullopt;
            dims = flat;
            inputs[0] = *rows;
            for (std::size_t i = 1; i < inputs.size(); ++i)
                if (inputs[i]) inputs[i] = part.of(emit, inputs[i], 0, prefix + m_graph.value(inputs[i]).name);
        } else {
            const auto on = std::find(trace.path.begin(), trace.path.end(), id) + 1;
            const NodeId before = on == trace.path.end() ? trace.linear : *on;
            for (ValueId& input : inputs) {
                if (input && m_graph.producer(input) == before) input = own;
                else if (input && !isNumber(input)) input = part.ofLast(emit, input, prefix + m_graph.value(input).name);
            }
        }
        own = emit.copy(role, node, std::move(inputs));
        if (node.is("Conv")) m_builder.editNode(emit.nodes().back()).attributes.set("group", cut.range.width);
    }
    if (!convolves(m_graph.node(trace.linear))) return own;
    // Channels are turned to the end: that is how a view counts them.
    std::vector<std::int64_t> perm{0};
    for (std::size_t i = 2; i < dims.size(); ++i) perm.push_back(static_cast<std::int64_t>(i));
    perm.push_back(1);
    std::rotate(dims.begin() + 1, dims.begin() + 2, dims.end());
    return emit.transpose(role, own, perm);
}

/// Hands on what the cut handed on, from the role's own columns; or its part of that, where other sequences are joined before the cut.
void Decomposer::replaceCut(const Cut& cut, const RoleTrace& trace, Emitter& emit, ValueId own, OwnColumns& part, NamedAttention& named, NamedStream& stream) {
    const ValueShape& out = m_active->shapes().of(m_graph.node(trace.linear).output());
    Dims ownDims = out.dims;
    ownDims.resize(ownDims.size() + 1 - std::min(columnAxes(m_graph.node(trace.linear)), ownDims.size())); // an own product has one axis of columns
    ownDims[convolves(m_graph.node(trace.linear)) ? 1 : ownDims.size() - 1] = cut.range.width;
    const auto changed = pointwiseOfOwn(cut, trace, emit, own, ownDims, part);
    if (!changed || !viewOfOwn(emit, *m_active, std::string(roleNames[cut.role]) + "_proj", *changed, ownDims, cut.view, cut.dims)) {
        m_result.warnings.push_back(describe(m_graph, trace.linear) + ": a size behind its packed projection can't be told for other bindings, so it stays packed");
        return;
    }
    if (!cut.stage->joined.empty()) {
        m_pieces[cut.stage->value][placeAmongJoined(*cut.stage)] = {&cut, emit.nodes().empty() ? *changed : m_builder.editNode(emit.nodes().back()).outputs[0]};
    } else if (emit.nodes().empty()) {
        // The columns are what the cut handed on: only the name is missing.
        emit.op(std::string(roleNames[cut.role]) + "_proj", "Identity", {*changed}, {}, cut.stage->value);
    } else {
        m_builder.editNode(emit.nodes().back()).outputs[0] = cut.stage->value;
    }
    if (cut.stage->joined.empty()) m_replaced.insert(cut.stage->value);
    m_ownProducts[{cut.stage->value, trace.linear}] = productsOf(stream, cut.role);
    named.nodes.insert(named.nodes.end(), emit.names().begin(), emit.names().end());
    m_candidate[trace.linear.position()] = true;
    for (const NodeId node : part.written()) m_candidate[node.position()] = true;
    for (const NodeId node : trace.path) m_candidate[node.position()] = true;
    m_candidate[cut.stage->selector.position()] = true;
    named.rewritten = true;
}

/// The places of all sequences, one role at a time: joined as they were, the first join first.
void Decomposer::joinPieces(NamedAttention& named) {
    for (auto& [value, pieces] : m_pieces) {
        while (!pieces.begin()->first.empty()) {
            const auto deepest = std::max_element(pieces.begin(), pieces.end(), [](const auto& a, const auto& b) { return a.first.size() < b.first.size(); });
            std::vector<std::size_t> way = deepest->first;
            way.pop_back();
            const Cut& cut = *deepest->second.cut;
            const std::size_t at = cut.stage->joined.size() - 1 - way.size();
            const NodeId concat = cut.stage->joined[at].join.concat;
            const Node& node = m_graph.node(concat);
            std::vector<ValueId> all;
            for (std::size_t input = 0; input < node.inputs.size(); ++input) {
                way.push_back(input);
                if (const auto piece = pieces.find(way); piece != pieces.end()) {
                    all.push_back(piece->second.value);
                    pieces.erase(piece);
                }
                way.pop_back();
            }
            if (all.size() != node.inputs.size()) break; // a size of another one couldn't be told
            Emitter emit = emitter(node.name, node.scope, sourcesOf({concat, cut.stage->selector}));
            const ValueId whole = emit.op(roleNames[cut.role], "Concat", std::move(all), {{"axis", static_cast<std::int64_t>(cut.axes[at]), {}}}, way.empty() ? value : ValueId());
            if (way.empty()) m_replaced.insert(value);
            named.nodes.insert(named.nodes.end(), emit.names().begin(), emit.names().end());
            pieces[way] = {&cut, whole};
        }
    }
    m_pieces.clear();
}

/// Layers that share keys and values read the same cut: what an attention before wrote for it serves the next one too.
void Decomposer::takeOver(PackedStream& stream, NamedStream& named) const {
    std::erase_if(stream.cuts, [&](const Cut& cut) {
        if (!m_replaced.contains(cut.stage->value)) return false;
        if (const auto written = m_ownProducts.find({cut.stage->value, stream.traces[cut.role].linear}); written != m_ownProducts.end()) productsOf(named, cut.role) = written->second;
        return true;
    });
}

/// One sequence's packed projection as products of its roles.
void Decomposer::writeStream(const PackedStream& stream, NamedAttention& named, NamedStream& own) {
    const auto partOf = [&](const Cut& cut) { return OwnColumns(m_graph, m_active->shapes(), cut.range, cut.columns); };
    const auto emitterOf = [&](const Cut& cut, const std::string& suffix) {
        const NodeId linear = stream.traces[cut.role].linear;
        return emitter(m_graph.node(linear).name + suffix, m_graph.node(linear).scope, sourcesOf({linear, cut.stage->selector}));
    };
    if (!stream.cuts.empty() && m_sizes.forFile() && weightIsAbsent(stream.traces[stream.cuts[0].role])) {
        const auto parts = splitInstead(stream.cuts, stream.traces, named);
        m_result.warnings.push_back(describe(m_graph, stream.traces[stream.cuts[0].role].linear) + ": its weight is not in the file, so " + (parts ? "it stays packed and a Split cuts its product" : "it stays as it is"));
        for (std::size_t i = 0; parts && i < stream.cuts.size(); ++i) {
            Emitter emit = emitterOf(stream.cuts[i], "");
            OwnColumns part = partOf(stream.cuts[i]);
            replaceCut(stream.cuts[i], stream.traces[stream.cuts[i].role], emit, (*parts)[i], part, named, own);
        }
        return;
    }
    // Another reader of the packed product would lose it: then it stays, beside the parts.
    for (const Cut& cut : stream.cuts) {
        const RoleTrace& trace = stream.traces[cut.role];
        const int times = m_timesTakenApart[{trace.linear, cut.role}]++;
        const std::string again = times > 0 ? "_" + std::to_string(times) : "";
        Emitter emit = emitterOf(cut, again);
        OwnColumns part = partOf(cut);
        const auto product = ownProjection(emit, m_graph, m_active->shapes(), trace, part, roleNames[cut.role], weightPrefix(m_graph.node(trace.linear)) + again, productsOf(own, cut.role));
        if (!product) {
            m_result.warnings.push_back(describe(m_graph, trace.linear) + ": its packed weight can't be cut by columns, so it stays packed");
            return;
        }
        replaceCut(cut, trace, emit, *product, part, named, own);
    }
}

void Decomposer::takeApart(const AttentionSpec& spec, NamedAttention& named, const std::array<ValueId, 3>& operands) {
    named.joined.resize(spec.joined.size());
    const auto packed = [](const StreamProjections& each) { return isPacked(each.projections); };
    const auto of = [&](std::size_t at) -> NamedStream& { return at == 0 ? static_cast<NamedStream&>(named) : named.joined[at - 1]; };
    const auto first = std::find_if(spec.joined.begin(), spec.joined.end(), packed);
    if ((!packed(spec) && first == spec.joined.end()) || !operands[0] || !operands[1] || !operands[2]) return;
    if (packed(spec)) named.wasPacked = true;
    m_active = &m_sizes;
    auto streams = packedStreams(spec, operands);
    if (!streams && m_sizes.forFile()) {
        // The file itself fixes sizes that it declares as free: then it holds for the bound ones only, and so may we.
        m_active = &m_boundSizes;
        streams = packedStreams(spec, operands);
        if (streams && std::any_of(streams->begin(), streams->end(), [](const PackedStream& each) { return !each.cuts.empty(); })) m_boundOnly += (m_boundOnly.empty() ? "" : ", ") + spec.id;
    }
    if (!streams) {
        const auto& keys = packed(spec) ? spec.projectionK : first->projectionK;
        const NodeId linear = keys ? keys->nodes[0] : spec.scores;
        m_result.warnings.push_back((linear ? describe(m_graph, linear) : spec.id) + ": its packed projection can't be taken apart: the cut isn't plain");
        return;
    }
    for (PackedStream& each : *streams) takeOver(each, of(each.at));
    for (const PackedStream& each : *streams) writeStream(each, named, of(each.at));
    joinPieces(named);
}

} // namespace triptych
