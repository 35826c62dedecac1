// Shapes and constants, one node after another in topological order.

#include "reference/evaluate.h"
#include "shapes/dim_expression.h"
#include "shapes/infer.h"
#include "shapes/rules.h"
#include "shapes/weight_inputs.h"
#include "support/excerpt.h"

#include <algorithm>

namespace triptych {

bool ValueShape::known() const { return ranked && std::all_of(dims.begin(), dims.end(), [](Dim dim) { return dim >= 0; }) && elementCount(dims).has_value(); }

std::int64_t ValueShape::count() const { return elementCount(dims).value_or(0); }

const HostTensor* Shapes::constant(ValueId value) const {
    const auto found = m_constants.find(value);
    return found == m_constants.end() ? nullptr : found->second.get();
}

std::optional<double> Shapes::scalar(ValueId value) const {
    const HostTensor* content = value ? constant(value) : nullptr;
    if (!content || content->count() != 1) return std::nullopt;
    return content->at(0);
}

std::string Shapes::reasonUnknown(ValueId value) const {
    const auto found = m_reasons.find(value);
    return found == m_reasons.end() ? std::string() : found->second;
}

// Every unknown value has its reason; what a rewriting left without producer and reader is no part of the graph.
std::size_t Shapes::unknownCount() const { return m_reasons.size(); }

namespace {

const RuleTable& rules() {
    static const RuleTable table = [] {
        RuleTable made;
        addPlainRules(made);
        addViewRules(made);
        addProductRules(made);
        addAttentionRules(made);
        addSequenceRules(made);
        addSignalRules(made);
        addImageRules(made);
        addTrainingRules(made);
        addTextRules(made);
        addMlRules(made);
        addQuantizedRules(made);
        addMicrosoftRules(made);
        addMicrosoftAttentionRules(made);
        return made;
    }();
    return table;
}

Rule ruleOf(const Node& node) {
    const auto found = node.domain.empty() ? rules().find(node.op) : rules().find(node.domain + "::" + node.op);
    return found == rules().end() ? nullptr : found->second;
}

bool readable(DataType type) {
    return bitsOf(type) >= 8 && type != DataType::complex64 && type != DataType::complex128 && !shortName(type).starts_with("f8");
}

} // namespace

class ShapeInference {
public:
    ShapeInference(const Model& model, const Graph& graph, const Bindings& bindings, const GivenSequences& given, const NestingBudget& budget, const Job& job)
        : m_model(model), m_graph(graph), m_given(given), m_budget(budget), m_job(job), m_result(new Shapes()) {
        m_result->m_bindings = bindings;
        m_result->m_shapes.resize(graph.values().size());
        m_result->m_constant = m_result->m_fixed = IndexVector<ValueId, bool>(graph.values().size(), false);
    }

    Result<ShapesPtr> run() {
        givens();
        const std::size_t count = m_graph.nodes().size();
        for (std::size_t i = 0; i < count; ++i) {
            if ((i & 255) == 0) {
                if (m_job.stopped()) return fail("shapes", "stopped");
                m_job.report("shapes", static_cast<double>(i) / static_cast<double>(count));
            }
            visit(NodeId(i), m_graph.nodes()[i]);
        }
        return m_result;
    }

private:
    std::optional<std::int64_t> sizeOf(const std::string& symbol) const {
        const auto found = m_result->m_bindings.find(symbol);
        return found == m_result->m_bindings.end() ? std::nullopt : std::optional(found->second);
    }

    Dims bound(const DeclaredType& declared, const std::string& name) const {
        Dims dims = declared.dims;
        for (std::size_t i = 0; i < dims.size(); ++i) {
            if (dims[i] >= 0) continue;
            std::string symbol = i < declared.symbols.size() ? declared.symbols[i] : "";
            if (symbol.empty()) symbol = name + "_dim_" + std::to_string(i);
            const auto size = sizeOf(symbol);
            if (size) dims[i] = *size;
            else if (isDimExpression(symbol)) dims[i] = evaluateDim(symbol, [this](std::string_view name) { return sizeOf(std::string(name)); }).value_or(unknownDim);
        }
        return dims;
    }

    static bool isSequence(const DeclaredType& declared) { return declared.kind == "sequence"; }

    void givens() {
        const std::set<ValueId> weights = weightInputs(m_graph);
        for (std::size_t i = 0; i < m_graph.values().size(); ++i) {
            const ValueId id(i);
            const Value& value = m_graph.values()[i];
            if (value.initializer) {
                m_result->m_shapes[id] = {value.initializer->type, true, value.initializer->dims};
                m_result->m_constant[id] = m_result->m_fixed[id] = true;
                readInitializer(id, *value.initializer);
            } else if (isSequence(value.declared)) {
                if (m_graph.producer(id)) continue;
                const auto given = m_given.find(id);
                m_result->m_shapes[id] = given != m_given.end() ? given->second : sequenceOf({{value.declared.type, value.declared.hasShape, bound(value.declared, value.name)}, std::nullopt});
                m_result->m_reasons[id] = "it is a sequence";
            } else if (m_graph.isInput(id) && value.declared.kind == "tensor") {
                m_result->m_shapes[id] = {value.declared.type, value.declared.hasShape, bound(value.declared, value.name)};
                if (!m_result->m_shapes[id].known()) m_result->m_reasons[id] = isEndless(m_result->m_shapes[id]) ? endless : "the input declares no shape";
                else readChoice(id, value);
                if (weights.contains(id)) m_result->m_constant[id] = m_result->m_fixed[id] = true;
            } else if (!m_graph.producer(id) && (!m_graph.readers(id).empty() || m_graph.isOutput(id))) {
                m_result->m_shapes[id] = {value.declared.type, value.declared.hasShape, bound(value.declared, value.name)};
                if (!m_result->m_shapes[id].known()) m_result->m_reasons[id] = value.declared.kind.empty() || value.declared.kind == "tensor" ? "nothing produces it" : "it is a " + value.declared.kind;
            }
        }
    }

    /// A bound switch or value is a constant, so that the If that asks it has one branch.
    void readChoice(ValueId id, const Value& value) {
        const ValueShape& shape = m_result->m_shapes[id];
        const auto found = m_result->m_bindings.find(value.name);
        if (found == m_result->m_bindings.end() || shape.count() != 1 || (!isInteger(shape.type) && shape.type != DataType::boolean)) return;
        m_result->m_constant[id] = true;
        HostTensor content = HostTensor::ofIntegers(shape.dims, {found->second}, shape.type);
        content.normalise();
        m_result->m_constants[id] = std::make_shared<HostTensor>(std::move(content));
    }

    void readInitializer(ValueId id, const Tensor& tensor) {
        const auto count = elementCount(tensor.dims);
        const auto size = tensor.byteSize();
        if (!count || *count > Shapes::foldLimit || !size || !readable(tensor.type) || tensor.payload.place == Payload::Place::absent) return;
        const auto bytes = readPayload(m_model, tensor);
        if (bytes && bytes->size() == *size) m_result->m_constants[id] = std::make_shared<HostTensor>(decodeTensor(tensor.type, tensor.dims, *bytes));
    }

    std::int64_t opset(const Node& node) const { return node.version(m_model.opsets, node.domain.empty() ? 17 : 1); }

    void visit(NodeId id, const Node& node) {
        if (node.is("If") || node.is("Loop") || node.is("Scan") || node.is("SequenceMap")) return visitBodies(id, node);
        // Random numbers are no constants, though they have no inputs.
        bool constant = !node.op.starts_with("Random") && !node.is("Bernoulli") && !node.is("Multinomial") && node.captured.empty();
        bool fixed = constant;
        for (const ValueId value : node.inputs) {
            constant = constant && (!value || m_result->m_constant[value]);
            fixed = fixed && (!value || m_result->m_fixed[value]);
        }
        const bool shapeOnly = (node.is("Shape") || node.is("Size")) && node.input(0) && m_result->m_shapes[node.input(0)].known();
        if (shapeOnly) constant = true;
        std::vector<ValueShape> shapes;
        std::string reason;
        infer(id, node, shapes, reason);
        for (std::size_t i = 0; i < node.outputs.size(); ++i) {
            const ValueId output = node.outputs[i];
            if (!output) continue;
            ValueShape& shape = m_result->m_shapes[output];
            shape = i < shapes.size() ? std::move(shapes[i]) : ValueShape();
            m_result->m_constant[output] = constant;
            m_result->m_fixed[output] = fixed;
            merge(output, shape);
        }
        if (constant) fold(node, shapeOnly);
        keepPickedSizes(node);
        for (const ValueId output : node.outputs)
            if (output && !m_result->m_shapes[output].known()) explain(node, output, reason);
    }

    void visitBodies(NodeId id, const Node& node) {
        auto told = shapesThroughBodies(m_model, m_graph, *m_result, id, m_budget, m_job);
        constexpr std::size_t mostInside = 1000;
        if (told && m_result->m_declaredInside.size() < mostInside) m_result->m_declaredInside.insert(m_result->m_declaredInside.end(), told->declaredInside.begin(), told->declaredInside.end());
        for (std::size_t i = 0; i < node.outputs.size(); ++i) {
            const ValueId output = node.outputs[i];
            if (!output) continue;
            ValueShape& shape = m_result->m_shapes[output];
            if (told && told->content[i]) {
                m_result->m_constant[output] = true;
                keep(output, HostTensor(*told->content[i]));
                continue;
            }
            shape = told ? std::move(told->outputs[i]) : ValueShape();
            if (shape.sequence) boundItems(shape);
            if (shape.dims.size() > highestRank) shape = {shape.type, false, {}};
            merge(output, shape);
            if (!shape.known()) explain(node, output, shape.sequence ? "it is a sequence" : told ? told->reason : "its bodies nest too deep, or are too many");
        }
    }

    void infer(NodeId id, const Node& node, std::vector<ValueShape>& shapes, std::string& reason) {
        const Rule rule = ruleOf(node);
        if (!rule) {
            reason = "no shape rule for " + (node.domain.empty() ? "" : node.domain + ".") + node.op;
            return;
        }
        RuleCall call(node, opset(node), {m_shapeOf, m_constantOf});
        try {
            rule(call);
        } catch (const std::exception&) { // a constant of a type that the operator can't have
            reason = "its inputs don't fit it";
            return;
        }
        shapes = std::move(call.outputs());
        reason = !call.dataDependent.empty() ? call.dataDependent : !call.misfit.empty() ? call.misfit : silence(node, call);
        if (!call.misfit.empty() && m_result->m_warnings.size() < mostWarnings) m_result->m_warnings.push_back(describe(m_graph, id) + ": " + call.misfit);
        for (ValueShape& shape : shapes)
            if (shape.sequence) boundItems(shape);
    }

    /// Why a rule told nothing, where the shapes of all inputs are known; else it follows from those.
    std::string silence(const Node& node, const RuleCall& call) const {
        const auto known = [&](ValueId input) { return !input || m_result->m_shapes[input].known(); };
        if (!std::all_of(node.inputs.begin(), node.inputs.end(), known)) return {};
        if (call.wanting()) return "the content of '" + excerpt(m_graph.value(call.wanting()).name) + "' decides";
        std::string sizes;
        for (const ValueId input : node.inputs)
            if (input && sizes.size() < 200) sizes += (sizes.empty() ? "" : ", ") + dimsText(m_result->m_shapes[input].dims);
        return sizes.empty() ? "its attributes don't tell it" : "inputs of these sizes don't fit it: " + sizes;
    }

    /// Sequences that grow one by one make as many copies of themselves.
    void boundItems(ValueShape& shape) {
        constexpr std::size_t most = 65536;
        const auto& items = shape.sequence->items;
        if (items && (m_items += items->size()) > most) shape = sequenceOf({shape.sequence->each, std::nullopt});
    }

    /// What the file declares fills what is unknown; where both are known and differ, a warning names both.
    void merge(ValueId id, ValueShape& shape) {
        const Value& value = m_graph.value(id);
        const DeclaredType& declared = value.declared;
        if (isSequence(declared)) return;
        if (shape.type == DataType::undefined) shape.type = declared.type;
        else if (declared.type != DataType::undefined && declared.type != shape.type) otherType(id, shape.type);
        if (!declared.hasShape) return;
        const Dims dims = bound(declared, value.name);
        if (!shape.ranked) {
            shape.ranked = true;
            shape.dims = dims;
            return;
        }
        if (shape.dims.size() != dims.size()) return void(m_result->m_declaredOtherwise.push_back({id, m_graph.producer(id), dims}));
        bool differs = false;
        for (std::size_t i = 0; i < dims.size(); ++i) {
            if (shape.dims[i] < 0) shape.dims[i] = dims[i];
            differs = differs || (dims[i] >= 0 && shape.dims[i] != dims[i]);
        }
        if (differs) m_result->m_declaredOtherwise.push_back({id, m_graph.producer(id), dims});
    }

    void otherType(ValueId id, DataType ours) {
        const Value& value = m_graph.value(id);
        if (m_result->m_warnings.size() >= mostWarnings) return;
        m_result->m_warnings.push_back("the file declares " + std::string(shortName(value.declared.type)) + " for '" + value.name + "', but " + describe(m_graph, m_graph.producer(id)) + " gives " + std::string(shortName(ours)));
    }

    void fold(const Node& node, bool shapeOnly) {
        for (const ValueId id : node.outputs) {
            if (!id) continue;
            const ValueShape& shape = m_result->m_shapes[id];
            if (shape.known() && shape.count() > Shapes::foldLimit) return;
        }
        if (shapeOnly && node.input(0)) {
            keep(node.output(), node.is("Size") ? HostTensor::ofIntegers({}, {m_result->m_shapes[node.input(0)].count()}) : sizesOf(node));
            return;
        }
        std::vector<const HostTensor*> inputs;
        inputs.reserve(node.inputs.size());
        for (const ValueId value : node.inputs) {
            inputs.push_back(value ? m_result->constant(value) : nullptr);
            if (value && !inputs.back()) return;
        }
        if (!canFold(node)) return;
        auto outputs = evaluateNode(node, inputs, opset(node), Shapes::foldLimit);
        if (!outputs) return;
        for (std::size_t i = 0; i < outputs->size() && i < node.outputs.size(); ++i)
            if (node.outputs[i]) keep(node.outputs[i], std::move((*outputs)[i]));
    }

    /// What a Shape gives, unknownDim where a size isn't known.
    HostTensor sizesOf(const Node& shape) const {
        const Dims& dims = m_result->m_shapes[shape.input(0)].dims;
        const auto rank = static_cast<std::int64_t>(dims.size());
        const auto clamped = [&](std::int64_t at) { return std::clamp<std::int64_t>(at < 0 ? at + rank : at, 0, rank); };
        const std::int64_t start = clamped(shape.attributes.integer("start", 0)), end = std::max(start, clamped(shape.attributes.integer("end", rank)));
        return HostTensor::ofIntegers({end - start}, {dims.begin() + start, dims.begin() + end});
    }

    /// Where data decide one size, the others may still be picked from the shape.
    void keepPickedSizes(const Node& node) {
        const bool picks = (node.is("Gather") || node.is("Slice")) && node.output() && !m_result->constant(node.output());
        const NodeId maker = picks ? m_graph.producer(node.input(0)) : NodeId();
        if (!maker || !m_graph.node(maker).is("Shape") || !m_result->m_shapes[m_graph.node(maker).input(0)].ranked) return;
        const HostTensor sizes = sizesOf(m_graph.node(maker));
        std::vector<const HostTensor*> inputs{&sizes};
        for (std::size_t i = 1; i < node.inputs.size(); ++i) {
            inputs.push_back(node.inputs[i] ? m_result->constant(node.inputs[i]) : nullptr);
            if (node.inputs[i] && !inputs.back()) return;
        }
        auto picked = evaluateNode(node, inputs, opset(node), Shapes::foldLimit);
        if (!picked || picked->empty() || std::any_of(picked->front().integers().begin(), picked->front().integers().end(), [](std::int64_t size) { return size < 0; })) return;
        m_result->m_constant[node.output()] = true;
        keep(node.output(), std::move(picked->front()));
    }

    void keep(ValueId id, HostTensor tensor) {
        if (!id || tensor.dims.size() > highestRank) return; // nobody wants it, or it is none
        // One may have foldLimit elements; all together are bounded too, but for the few that shapes are computed with.
        constexpr std::int64_t few = 64, most = std::int64_t(1) << 23;
        if (tensor.count() > few && (m_kept += tensor.count()) > most) return;
        ValueShape& shape = m_result->m_shapes[id];
        shape = {tensor.type, true, tensor.dims};
        m_result->m_constants[id] = std::make_shared<HostTensor>(std::move(tensor));
    }

    /// All sizes are known, but not their product.
    static bool isEndless(const ValueShape& shape) {
        return shape.ranked && std::all_of(shape.dims.begin(), shape.dims.end(), [](Dim dim) { return dim >= 0; });
    }

    void explain(const Node& node, ValueId id, const std::string& reason) {
        // Everything behind it repeats the reason: names in it are cut.
        const std::string here = excerpt(node.name) + " (" + excerpt(node.op) + "): ";
        if (isEndless(m_result->m_shapes[id])) return void(m_result->m_reasons[id] = here + endless);
        if (!reason.empty()) return void(m_result->m_reasons[id] = here + excerpt(reason, 1000));
        for (const ValueId input : node.inputs) {
            if (!input || m_result->m_shapes[input].known()) continue;
            const auto found = m_result->m_reasons.find(input);
            m_result->m_reasons[id] = found == m_result->m_reasons.end() ? "follows from '" + excerpt(m_graph.value(input).name) + "'" : found->second;
            return;
        }
        m_result->m_reasons[id] = here + "its inputs don't tell it";
    }

    static constexpr std::size_t mostWarnings = 10;
    static constexpr const char* endless = "it has more elements than can be counted";
    const Model& m_model;
    const Graph& m_graph;
    const GivenSequences& m_given;
    NestingBudget m_budget;
    const Job& m_job;
    std::shared_ptr<Shapes> m_result;
    const std::function<const ValueShape&(ValueId)> m_shapeOf = [this](ValueId value) -> const ValueShape& { return m_result->m_shapes[value]; };
    const std::function<const HostTensor*(ValueId)> m_constantOf = [this](ValueId value) { return m_result->constant(value); };
    std::size_t m_items = 0;   ///< of all sequences
    std::int64_t m_kept = 0;   ///< elements of the larger constants
};

Result<ShapesPtr> inferShapes(const Model& model, const Graph& graph, const Bindings& bindings, const Job& job) { return ShapeInference(model, graph, bindings, {}, {}, job).run(); }

Result<ShapesPtr> inferNestedShapes(const Model& model, const Graph& graph, const Bindings& bindings, const GivenSequences& given, const NestingBudget& budget, const Job& job) {
    return ShapeInference(model, graph, bindings, given, budget, job).run();
}

} // namespace triptych
