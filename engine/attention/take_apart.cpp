// A packed projection as one projection a role.

#include "attention/decomposer.h"

#include "attention/product_axes.h"

#include <algorithm>

namespace triptych {

namespace {

std::vector<std::string>& productsOf(NamedAttention& named, std::size_t role) { return role == 0 ? named.q : role == 1 ? named.k : named.v; }

constexpr std::array views{"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "Split", "Slice", "Gather"};
constexpr std::array pointwiseOperators{"Cast", "Clip", "Min", "Max", "Mul", "Div", "Add", "Sub", "Neg", "QuantizeLinear", "DequantizeLinear"};

} // namespace

std::string Decomposer::weightPrefix(const Node& product) const {
    const auto source = weightSource(m_graph, factorOf(product, 1));
    return source && !source->tensor->name.empty() ? source->tensor->name : product.name;
}

/// What a cut is applied to, beside views: operators that do the same to every element or column. Empty where anything else lies before it.
std::optional<std::vector<NodeId>> Decomposer::pointwiseBefore(const RoleTrace& trace, const RoleStage& stage, const OwnColumns& own) const {
    const Shapes& shapes = m_active->shapes();
    const Node& product = m_graph.node(trace.linear);
    std::vector<NodeId> found;
    bool inOrder = !convolves(product), channels = !inOrder; // columns are still the last axis, or still the second
    for (std::size_t i = trace.path.size(); i-- > 0;) {
        const NodeId id = trace.path[i];
        if (id == stage.selector) return found;
        if (id == trace.bias) continue;
        const Node& node = m_graph.node(id);
        const Dims& dims = shapes.of(node.output()).dims;
        inOrder = inOrder && !node.is("Transpose") && !dims.empty() && dims.back() == shapes.of(product.output()).dims.back();
        channels = channels && dims == shapes.of(product.output()).dims;
        if ((channels || (inOrder && dims.size() == 2)) && worksByColumn(shapes, node, own)) {
            found.push_back(id);
            continue;
        }
        if (std::any_of(views.begin(), views.end(), [&](const char* op) { return node.is(op); })) continue;
        if (std::none_of(pointwiseOperators.begin(), pointwiseOperators.end(), [&](const char* op) { return node.is(op); })) return std::nullopt;
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
std::optional<std::vector<Decomposer::Cut>> Decomposer::cutsOf(const std::array<RoleTrace, 3>& traces) {
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
        if (!range || !m_active->shapes().of(stage->value).known() || !hasAllRows(stage->view, columns, out.count() / columns)) return std::nullopt;
        auto pointwise = pointwiseBefore(traces[r], *stage, OwnColumns(m_graph, m_active->shapes(), *range, columns));
        if (!pointwise) return std::nullopt;
        cuts.push_back({stage, std::move(*range), r, std::move(*pointwise), columns});
    }
    return cuts;
}

bool Decomposer::weightIsAbsent(const RoleTrace& trace) const {
    ValueId value = factorOf(m_graph.node(trace.linear), 1);
    for (int steps = 0; steps < 8 && value; ++steps) {
        if (const auto source = weightSource(m_graph, value, &m_active->shapes())) return source->tensor->payload.place == Payload::Place::absent;
        const NodeId id = m_graph.producer(value); // quantised
        value = id ? m_graph.node(id).input(0) : ValueId();
    }
    return false;
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

/// Hands on what the cut handed on, from the role's own columns.
void Decomposer::replaceCut(const Cut& cut, const RoleTrace& trace, Emitter& emit, ValueId own, OwnColumns& part, NamedAttention& named) {
    const ValueShape& out = m_active->shapes().of(m_graph.node(trace.linear).output());
    Dims ownDims = out.dims;
    ownDims[convolves(m_graph.node(trace.linear)) ? 1 : ownDims.size() - 1] = cut.range.width;
    const auto changed = pointwiseOfOwn(cut, trace, emit, own, ownDims, part);
    if (!changed || !viewOfOwn(emit, *m_active, std::string(roleNames[cut.role]) + "_proj", *changed, ownDims, cut.stage->view, m_active->shapes().of(cut.stage->value).dims)) {
        m_result.warnings.push_back(describe(m_graph, trace.linear) + ": a size behind its packed projection can't be told for other bindings, so it stays packed");
        return;
    }
    if (emit.nodes().empty()) {
        // The columns are what the cut handed on: only the name is missing.
        emit.op(std::string(roleNames[cut.role]) + "_proj", "Identity", {*changed}, {}, cut.stage->value);
    } else {
        m_builder.editNode(emit.nodes().back()).outputs[0] = cut.stage->value;
    }
    m_replaced.insert(cut.stage->value);
    m_ownProducts[cut.stage->value] = productsOf(named, cut.role);
    named.nodes.insert(named.nodes.end(), emit.names().begin(), emit.names().end());
    m_candidate[trace.linear.position()] = true;
    for (const NodeId node : part.written()) m_candidate[node.position()] = true;
    for (const NodeId node : trace.path) m_candidate[node.position()] = true;
    m_candidate[cut.stage->selector.position()] = true;
    named.rewritten = true;
}

/// Layers that share keys and values read the same cut: what an attention before wrote for it serves the next one too.
void Decomposer::takeOver(std::vector<Cut>& cuts, NamedAttention& named) const {
    std::erase_if(cuts, [&](const Cut& cut) {
        if (!m_replaced.contains(cut.stage->value)) return false;
        if (const auto written = m_ownProducts.find(cut.stage->value); written != m_ownProducts.end()) productsOf(named, cut.role) = written->second;
        return true;
    });
}

void Decomposer::takeApart(const AttentionSpec& spec, NamedAttention& named, const std::array<ValueId, 3>& operands) {
    if (spec.projections != ProjectionForm::packed && spec.projections != ProjectionForm::packedInterleaved) return;
    if (!operands[0] || !operands[1] || !operands[2]) return;
    const auto traced = [&] {
        return std::array<RoleTrace, 3>{traceRole(m_graph, m_active->shapes(), operands[0]), traceRole(m_graph, m_active->shapes(), operands[1]), traceRole(m_graph, m_active->shapes(), operands[2])};
    };
    named.wasPacked = true;
    m_active = &m_sizes;
    std::array<RoleTrace, 3> traces = traced();
    auto cuts = cutsOf(traces);
    if (!cuts && m_sizes.forFile()) {
        // The file itself fixes sizes that it declares as free: then it holds for the bound ones only, and so may we.
        m_active = &m_boundSizes;
        traces = traced();
        cuts = cutsOf(traces);
        if (cuts && !cuts->empty()) m_boundOnly += (m_boundOnly.empty() ? "" : ", ") + spec.id;
    }
    if (!cuts) {
        const NodeId linear = traces[1].linear ? traces[1].linear : spec.scores;
        m_result.warnings.push_back((linear ? describe(m_graph, linear) : spec.id) + ": its packed projection can't be taken apart: the cut isn't plain");
        return;
    }
    takeOver(*cuts, named);
    if (cuts->empty()) return;
    if (m_sizes.forFile() && weightIsAbsent(traces[cuts->front().role])) {
        const RoleTrace& first = traces[cuts->front().role];
        const auto own = splitInstead(*cuts, traces, named);
        m_result.warnings.push_back(describe(m_graph, first.linear) + ": its weight is not in the file, so " + (own ? "it stays packed and a Split cuts its product" : "it stays as it is"));
        for (std::size_t i = 0; own && i < cuts->size(); ++i) {
            const RoleTrace& trace = traces[(*cuts)[i].role];
            Emitter emit = emitter(m_graph.node(trace.linear).name, m_graph.node(trace.linear).scope, sourcesOf({trace.linear, (*cuts)[i].stage->selector}));
            OwnColumns part(m_graph, m_active->shapes(), (*cuts)[i].range, (*cuts)[i].columns);
            replaceCut((*cuts)[i], trace, emit, (*own)[i], part, named);
        }
        return;
    }
    // Another reader of the packed product would lose it: then it stays, beside the parts.
    for (const Cut& cut : *cuts) {
        const RoleTrace& trace = traces[cut.role];
        const Node& product = m_graph.node(trace.linear);
        const int times = m_timesTakenApart[{trace.linear, cut.role}]++;
        const std::string again = times > 0 ? "_" + std::to_string(times) : "";
        Emitter emit = emitter(product.name + again, product.scope, sourcesOf({trace.linear, cut.stage->selector}));
        OwnColumns part(m_graph, m_active->shapes(), cut.range, cut.columns);
        const auto own = ownProjection(emit, m_graph, m_active->shapes(), trace, part, roleNames[cut.role], weightPrefix(product) + again, productsOf(named, cut.role));
        if (!own) {
            m_result.warnings.push_back(describe(m_graph, trace.linear) + ": its packed weight is computed, so it stays packed");
            return;
        }
        replaceCut(cut, trace, emit, *own, part, named);
    }
}

} // namespace triptych
