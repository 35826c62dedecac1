// Shapes through the bodies of If, Loop, Scan and SequenceMap.
//
// A loop's carried values are looked at from turn to turn: a first look takes the sizes that they begin with; what a turn gives
// back in another size may have any, and a second look takes it as unknown. What is then given back as it came stays so in every
// turn. Source of the operators' meaning: the ONNX operator specification.

#include "onnx_io/versions.h"
#include "shapes/enter.h"
#include "shapes/rules.h"
#include "shapes/infer.h"
#include "support/excerpt.h"

#include <algorithm>

namespace triptych {

namespace {

bool same(const ValueShape& a, const ValueShape& b) {
    if (a.type != b.type || a.ranked != b.ranked || a.dims != b.dims || !a.sequence != !b.sequence) return false;
    if (a.sequence == b.sequence) return true;
    const auto& these = a.sequence->items;
    const auto& those = b.sequence->items;
    return same(a.sequence->each, b.sequence->each) && these.has_value() == those.has_value() && (!these || std::equal(these->begin(), these->end(), those->begin(), those->end(), same));
}

/// As little of a value as holds for any of its kind.
ValueShape loosened(const ValueShape& shape, bool ranks) {
    ValueShape made{shape.type, ranks && shape.ranked, {}};
    if (made.ranked) made.dims.assign(shape.dims.size(), unknownDim);
    if (shape.sequence) made.sequence = std::make_shared<const SequenceShape>(SequenceShape{loosened(shape.sequence->each, ranks), std::nullopt});
    return made;
}

std::size_t itemsOf(const ValueShape& shape) { return shape.sequence && shape.sequence->items ? shape.sequence->items->size() : 0; }

class Bodies {
public:
    Bodies(const Model& model, const Graph& outer, const Shapes& shapes, NodeId id, const NestingBudget& budget, const Job& job)
        : m_model(model), m_outer(outer), m_shapes(shapes), m_id(id), m_node(outer.node(id)), m_budget(budget), m_job(job) {}

    std::optional<BodyShapes> run() {
        if (m_budget.level >= NestingBudget::deepest) return std::nullopt;
        m_made.outputs.resize(m_node.outputs.size());
        m_made.content.resize(m_node.outputs.size());
        if (m_node.is("If")) conditional();
        else if (m_node.is("Loop")) loop();
        else if (m_node.is("Scan") && !batched()) scan();
        else if (m_node.is("SequenceMap")) map();
        else return std::nullopt;
        return std::move(m_made);
    }

private:
    struct Seen {
        GraphPtr graph;
        ShapesPtr shapes;
        ValueShape output(std::size_t i) const { return i < graph->outputs().size() ? shapes->of(graph->outputs()[i]) : ValueShape(); }
    };

    /// Scan of opset 8 has a batch and a list of lengths: left to what the file declares.
    bool batched() const {
        const std::int64_t opset = standardVersion(m_model.opsets);
        return opset > 0 && opset < 9;
    }

    /// A body under the given shapes of its inputs, in one turn of a Loop where that is given; empty where it can't be looked at.
    std::optional<Seen> look(std::string_view attribute, std::span<const ValueShape> inputs, std::optional<std::int64_t> turn = {}) {
        const auto all = nestedGraphs(m_model, m_node);
        const auto found = std::find_if(all.begin(), all.end(), [&](const NestedGraph& each) { return each.name == attribute; });
        if (found == all.end()) return std::nullopt;
        constexpr std::size_t always = 32; // what building the smallest graph costs, in nodes
        std::size_t cost = found->graph->nodes().size() + found->graph->values().size() + always;
        for (const ValueShape& input : inputs) cost += itemsOf(input);
        if (cost > *m_budget.nodes) return std::nullopt;
        *m_budget.nodes -= cost;
        auto graph = enteredGraph(m_model, m_outer, m_shapes, m_id, static_cast<std::size_t>(found - all.begin()), inputs, turn);
        if (!graph) return std::nullopt;
        auto shapes = inferNestedShapes(m_model, **graph, m_shapes.bindings(), sequencesInside(*found->graph, inputs), {m_budget.level + 1, m_budget.nodes}, m_job);
        if (!shapes) return std::nullopt;
        return Seen{std::move(*graph), std::move(*shapes)};
    }

    /// Sequences that a body gets or captures, by its own values.
    GivenSequences sequencesInside(const Graph& body, std::span<const ValueShape> inputs) const {
        GivenSequences found;
        for (std::size_t i = 0; i < body.inputs().size() && i < inputs.size(); ++i)
            if (inputs[i].sequence) found[body.inputs()[i]] = inputs[i];
        std::map<std::string_view, ValueId> captured;
        for (const ValueId id : m_node.captured)
            if (id && m_shapes.of(id).sequence) captured.emplace(m_outer.value(id).name, id);
        for (std::size_t i = 0; i < body.values().size() && !captured.empty(); ++i) {
            const auto outside = body.isOuter(ValueId(i)) ? captured.find(body.value(ValueId(i)).name) : captured.end();
            if (outside != captured.end()) found[ValueId(i)] = m_shapes.of(outside->second);
        }
        return found;
    }

    /// What a body's declarations differ in, once its inputs are those of every turn.
    void noteDeclared(const Seen& seen) {
        constexpr std::size_t most = 100;
        for (const DeclaredOtherwise& each : seen.shapes->declaredOtherwise())
            if (m_made.declaredInside.size() < most) m_made.declaredInside.push_back({m_id, excerpt(seen.graph->value(each.value).name), excerpt(describe(*seen.graph, each.producer)), each.declared, seen.shapes->of(each.value).dims});
        for (DeclaredInside each : seen.shapes->declaredInside()) {
            each.holder = m_id;
            if (m_made.declaredInside.size() < most) m_made.declaredInside.push_back(std::move(each));
        }
    }

    /// A condition that asks a shape which isn't known is open for the reason that the shape is.
    std::string whyOpen(ValueId condition) const {
        constexpr int most = 8; // steps to the shape that it asks
        for (int step = 0; step < most && condition; ++step) {
            if (const std::string reason = m_shapes.reasonUnknown(condition); !reason.empty()) return reason;
            const NodeId maker = m_outer.producer(condition);
            condition = maker ? m_outer.node(maker).input(0) : ValueId();
        }
        return "its condition decides";
    }

    void conditional() {
        const auto condition = m_node.input(0) ? m_shapes.scalar(m_node.input(0)) : std::nullopt;
        m_made.reason = whyOpen(m_node.input(0));
        std::vector<Seen> branches;
        for (const char* name : {"then_branch", "else_branch"}) {
            if (condition && (*condition != 0) != (std::string_view(name) == "then_branch")) continue;
            auto seen = look(name, {});
            if (!seen) return;
            noteDeclared(*seen);
            branches.push_back(std::move(*seen));
        }
        for (std::size_t i = 0; i < m_made.outputs.size(); ++i) {
            m_made.outputs[i] = branches[0].output(i);
            if (branches.size() > 1) m_made.outputs[i] = common(m_made.outputs[i], branches[1].output(i));
            if (branches.size() > 1 || i >= branches[0].graph->outputs().size()) continue;
            if (const HostTensor* content = branches[0].shapes->constant(branches[0].graph->outputs()[i])) m_made.content[i] = std::make_shared<HostTensor>(*content);
            const std::string why = branches[0].shapes->reasonUnknown(branches[0].graph->outputs()[i]);
            if (!why.empty()) m_made.reason = why;
        }
    }

    /// Looks until the first `carried` of `inputs` come back as they went in: `first` is the place of the first one.
    std::optional<Seen> settle(std::vector<ValueShape>& inputs, std::size_t first, std::size_t carried, std::size_t firstOutput) {
        // A turn may lose a size for each carried value, as one hands it on to the next: after a few turns all are given up, then all ranks.
        constexpr int noSizes = 4, noRanks = 6, turns = 8;
        for (int turn = 0; turn < turns; ++turn) {
            for (std::size_t i = 0; i < carried && turn >= noSizes; ++i) {
                ValueShape& in = inputs[first + i];
                in = loosened(in, turn < noRanks);
            }
            auto seen = look("body", inputs);
            if (!seen) return std::nullopt;
            bool settled = true;
            for (std::size_t i = 0; i < carried; ++i) {
                ValueShape& in = inputs[first + i];
                ValueShape wider = common(in, seen->output(firstOutput + i));
                settled = settled && same(wider, in);
                in = std::move(wider);
            }
            if (settled) return seen;
        }
        return std::nullopt;
    }

    /// Inputs: most turns, first condition, carried values. The body: turn, condition, carried values; it gives condition, carried values, what is stacked.
    void loop() {
        const std::size_t carried = m_node.inputs.size() > 2 ? m_node.inputs.size() - 2 : 0;
        m_made.reason = "the number of its turns decides";
        std::vector<ValueShape> inputs{{DataType::int64, true, {}}, {DataType::boolean, true, {}}};
        for (std::size_t i = 0; i < carried; ++i) inputs.push_back(m_shapes.of(m_node.input(i + 2)));
        const auto seen = settle(inputs, 2, carried, 1);
        m_made.inputs = std::move(inputs);
        if (!seen) return;
        noteDeclared(*seen);
        const Dim turns = turnsOf(*seen);
        if (turns >= 0) m_made.reason = "what its " + std::to_string(turns) + " turns do to it";
        const auto last = turnByTurn(turns, carried, seen->graph->nodes().size());
        for (std::size_t i = 0; i < m_made.outputs.size(); ++i) {
            if (i < carried) {
                m_made.outputs[i] = last ? (*last)[i + 2] : m_made.inputs[i + 2];
                continue;
            }
            m_made.outputs[i] = seen->output(i + 1);
            if (m_made.outputs[i].ranked) m_made.outputs[i].dims.insert(m_made.outputs[i].dims.begin(), turns);
        }
    }

    /// What the carried values are after so many turns, where a size of theirs changes from turn to turn; empty where none does,
    /// and where the turns are unknown or many for the nodes of the body.
    std::optional<std::vector<ValueShape>> turnByTurn(Dim turns, std::size_t carried, std::size_t nodes) {
        constexpr Dim most = 1024, mostNodes = 20'000; // of all turns
        const auto grows = [&] {
            for (std::size_t i = 0; i < carried; ++i)
                if (!same(m_made.inputs[i + 2], m_shapes.of(m_node.input(i + 2)))) return true;
            return false;
        };
        if (turns < 0 || turns > most || turns * static_cast<Dim>(nodes) > mostNodes || !grows()) return std::nullopt;
        std::vector<ValueShape> inputs = m_made.inputs;
        for (std::size_t i = 0; i < carried; ++i) inputs[i + 2] = m_shapes.of(m_node.input(i + 2));
        for (Dim turn = 0; turn < turns; ++turn) {
            const auto seen = look("body", inputs, turn);
            if (!seen) return std::nullopt;
            for (std::size_t i = 0; i < carried; ++i) inputs[i + 2] = seen->output(i + 1);
        }
        return inputs;
    }

    /// How often a loop runs, where nothing in it can end it early.
    Dim turnsOf(const Seen& seen) const {
        const auto most = m_node.input(0) ? m_shapes.scalar(m_node.input(0)) : std::nullopt;
        const auto first = m_node.input(1) ? m_shapes.scalar(m_node.input(1)) : std::optional<double>(1);
        if (!most || !first || seen.graph->outputs().empty()) return unknownDim;
        ValueId goes = seen.graph->outputs()[0];
        for (int steps = 0; steps < 8 && seen.graph->producer(goes) && seen.graph->node(seen.graph->producer(goes)).is("Identity"); ++steps) goes = seen.graph->node(seen.graph->producer(goes)).input(0);
        const auto always = seen.shapes->scalar(goes);
        const bool handedOn = seen.graph->inputs().size() > 1 && goes == seen.graph->inputs()[1];
        if (!(always && *always != 0) && !handedOn) return unknownDim;
        return *first != 0 && *most > 0 ? static_cast<Dim>(std::min(*most, 1e15)) : 0; // neither is true of what is no number
    }

    /// The body runs once for each tensor of the first sequence, with the one at the same place of the others; tensors stay as they are.
    void map() {
        constexpr std::size_t mostLooks = 64;
        std::vector<ValueShape> each;
        for (const ValueId value : m_node.inputs) each.push_back(m_shapes.of(value).sequence ? m_shapes.of(value).sequence->each : m_shapes.of(value));
        const SequenceShape* first = m_node.input(0) ? m_shapes.of(m_node.input(0)).sequence.get() : nullptr;
        m_made.reason = "it is a sequence";
        m_made.inputs = each;
        const auto seen = look("body", each);
        if (!seen) return;
        noteDeclared(*seen);
        std::vector<SequenceShape> made(m_made.outputs.size());
        for (std::size_t i = 0; i < made.size(); ++i) made[i].each = seen->output(i);
        const std::size_t count = first && first->items ? first->items->size() : mostLooks + 1;
        const bool alike = std::all_of(m_node.inputs.begin(), m_node.inputs.end(), [&](ValueId value) { return !m_shapes.of(value).sequence || m_shapes.of(value).sequence->each.known(); });
        for (std::size_t turn = 0; count <= mostLooks && turn < count; ++turn) {
            std::vector<ValueShape> inputs = each;
            for (std::size_t i = 0; i < inputs.size(); ++i)
                if (const auto& sequence = m_shapes.of(m_node.inputs[i]).sequence; sequence && sequence->items && turn < sequence->items->size()) inputs[i] = (*sequence->items)[turn];
            const auto now = alike ? seen : look("body", inputs);
            for (std::size_t i = 0; now && i < made.size(); ++i) {
                if (turn == 0) made[i].items.emplace();
                if (made[i].items && made[i].items->size() == turn) made[i].items->push_back(now->output(i));
            }
        }
        for (std::size_t i = 0; i < made.size(); ++i) {
            if (made[i].items && made[i].items->size() != count) made[i].items.reset();
            if (made[i].items && count > 0) made[i].each = commonOf(*made[i].items);
            m_made.outputs[i] = sequenceOf(std::move(made[i]));
        }
    }

    /// Inputs: carried values, then what is cut into slices.
    void scan() {
        const auto scanned = static_cast<std::size_t>(std::clamp<std::int64_t>(m_node.attributes.integer("num_scan_inputs", 0), 0, static_cast<std::int64_t>(m_node.inputs.size())));
        const std::size_t carried = m_node.inputs.size() - scanned;
        const auto axisOf = [&](const char* name, std::size_t at, std::size_t rank) {
            const auto* axes = m_node.attributes.integers(name);
            return axisIn(axes && at < axes->size() ? (*axes)[at] : 0, rank);
        };
        m_made.reason = "the length of what it scans decides";
        std::vector<ValueShape> inputs;
        Dim length = unknownDim;
        for (std::size_t i = 0; i < m_node.inputs.size(); ++i) {
            ValueShape shape = m_shapes.of(m_node.inputs[i]);
            const auto axis = i >= carried && shape.ranked ? axisOf("scan_input_axes", i - carried, shape.dims.size()) : std::nullopt;
            if (i >= carried && !axis) shape.ranked = false;
            if (axis) {
                length = std::max(length, shape.dims[*axis]);
                shape.dims.erase(shape.dims.begin() + static_cast<std::ptrdiff_t>(*axis));
            }
            inputs.push_back(std::move(shape));
        }
        const auto seen = settle(inputs, 0, carried, 0);
        m_made.inputs = std::move(inputs);
        if (!seen) return;
        noteDeclared(*seen);
        for (std::size_t i = 0; i < m_made.outputs.size(); ++i) {
            m_made.outputs[i] = i < carried ? m_made.inputs[i] : seen->output(i);
            if (i < carried || !m_made.outputs[i].ranked) continue;
            const auto axis = axisOf("scan_output_axes", i - carried, m_made.outputs[i].dims.size() + 1);
            if (axis) m_made.outputs[i].dims.insert(m_made.outputs[i].dims.begin() + static_cast<std::ptrdiff_t>(*axis), length);
            else m_made.outputs[i].ranked = false;
        }
    }

    const Model& m_model;
    const Graph& m_outer;
    const Shapes& m_shapes;
    NodeId m_id;
    const Node& m_node;
    const NestingBudget& m_budget;
    const Job& m_job;
    BodyShapes m_made;
};

} // namespace

std::optional<BodyShapes> shapesThroughBodies(const Model& model, const Graph& outer, const Shapes& shapes, NodeId node, const NestingBudget& budget, const Job& job) {
    return Bodies(model, outer, shapes, node, budget, job).run();
}

} // namespace triptych
