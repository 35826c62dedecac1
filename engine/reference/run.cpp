#include "reference/kernels.h"
#include "reference/run.h"
#include "reference/sequences.h"

#include <algorithm>

namespace triptych {

namespace {

using Held = std::shared_ptr<const RunValue>;
using NamedValues = std::map<std::string, Held>;
using Lookup = std::function<const RunValue*(std::string_view)>;
constexpr std::int64_t mostIterations = 1'000'000;
constexpr int mostLevels = 32;

class Runner {
public:
    Runner(const Graph& graph, const RunOptions& options, const Job& job, const Lookup& outer, int level)
        : m_graph(graph), m_options(options), m_job(job), m_outer(outer), m_level(level), m_values(graph.values().size()), m_uses(graph.values().size(), 0) {}

    Result<NamedValues> run(const NamedValues& inputs) {
        if (m_level > mostLevels) return fail("evaluate", "its bodies nest too deep", {}, m_graph.name());
        for (const ValueId input : m_graph.inputs()) {
            const auto given = inputs.find(m_graph.value(input).name);
            if (given == inputs.end()) return fail("evaluate", "input " + m_graph.value(input).name + " has no value", "give it with --data");
            put(input, given->second);
        }
        for (std::size_t i = 0; i < m_graph.values().size(); ++i) {
            const ValueId value(i);
            m_uses[value] = m_graph.readers(value).size();
            if (m_graph.isOutput(value) || m_options.keep.contains(m_graph.value(value).name)) ++m_uses[value];
        }
        for (const Node& node : m_graph.nodes()) {
            if (m_job.stopped()) return fail("evaluate", "stopped");
            if (auto done = step(node); !done) return tl::unexpected(done.error());
        }
        return results();
    }

private:
    void put(ValueId value, Held held) {
        m_live += elementsOf(*held);
        m_values[value] = std::move(held);
    }
    void put(ValueId value, RunValue made) { put(value, std::make_shared<const RunValue>(std::move(made))); }

    void release(ValueId value) {
        if (!value || m_uses[value] == 0 || --m_uses[value] > 0 || !m_values[value]) return;
        m_live -= elementsOf(*m_values[value]);
        m_values[value] = nullptr;
    }

    Result<HostTensor> read(const Tensor& tensor, const std::string& name) {
        const bool known = bitsOf(tensor.type) != 0 && elementCount(tensor.dims) && !(isFloating(tensor.type) && bitsOf(tensor.type) < 16);
        if (!known) return fail("evaluate", tensor.type == DataType::string ? "text can't be evaluated" : "its type can't be evaluated", {}, name);
        auto bytes = m_options.weights(tensor);
        if (!bytes) return tl::unexpected(bytes.error());
        if (bytes->size() < tensor.byteSize().value_or(UINT64_MAX)) return fail("weights", "its bytes are fewer than its shape says", "export the model again", name);
        return decodeTensor(tensor.type, tensor.dims, *bytes);
    }

    /// A value that is there, an initializer that is read now, or one of an outer graph.
    Result<const RunValue*> value(ValueId id) {
        if (m_values[id]) return m_values[id].get();
        const Value& value = m_graph.value(id);
        if (const TensorPtr& tensor = value.initializer) {
            auto content = read(*tensor, value.name);
            if (!content) return tl::unexpected(content.error());
            put(id, std::move(*content));
            return m_values[id].get();
        }
        if (m_outer)
            if (const RunValue* found = m_outer(value.name)) return found;
        return fail("evaluate", "value " + value.name + " has no producer", "export the model again");
    }

    Result<void> step(const Node& node) {
        std::vector<const RunValue*> given;
        std::vector<const HostTensor*> inputs; // null where a value is a sequence
        for (const ValueId input : node.inputs) {
            if (!input) {
                given.push_back(nullptr);
                inputs.push_back(nullptr);
                continue;
            }
            auto found = value(input);
            if (!found) return tl::unexpected(found.error());
            given.push_back(*found);
            inputs.push_back(std::get_if<HostTensor>(*found));
            const bool fits = inputs.back() || node.is("Loop") || node.is("Identity") || (worksOnSequences(node) && inputs.size() == 1);
            if (!fits) return fail("evaluate", "one of its inputs is a sequence", "export the model again", node.name + " (" + node.op + ")");
        }
        // Bodies look outer values up by name: those that lie in initializers are read before.
        for (const ValueId captured : node.captured)
            if (auto given = value(captured); !given) return tl::unexpected(given.error());
        // A large constant lies in the file, as an initializer does.
        if (const TensorPtr tensor = node.is("Constant") ? node.attributes.tensor("value") : nullptr; tensor && tensor->payload.place != Payload::Place::memory) {
            auto content = read(*tensor, node.name);
            if (!content) return tl::unexpected(content.error());
            put(node.outputs.at(0), std::move(*content));
            return {};
        }
        auto outputs = outputsOf(node, given, inputs);
        if (!outputs) return tl::unexpected(outputs.error());
        for (std::size_t i = 0; i < node.outputs.size(); ++i) {
            if (!node.outputs[i]) continue;
            if (i >= outputs->size()) return fail("evaluate", "its output " + std::to_string(i) + " can't be evaluated", {}, node.name + " (" + node.op + ")");
            if (m_uses[node.outputs[i]] > 0) put(node.outputs[i], std::move((*outputs)[i]));
        }
        if (m_live > m_options.maximumElements) return fail("evaluate", "the model needs more memory than the evaluator may take", "verify a smaller model, or bind smaller sizes", node.name);
        for (const ValueId input : node.inputs) release(input);
        for (const ValueId captured : node.captured) release(captured);
        return {};
    }

    Result<std::vector<RunValue>> outputsOf(const Node& node, const std::vector<const RunValue*>& given, const std::vector<const HostTensor*>& inputs) {
        if (node.is("If")) return branch(node, inputs);
        if (node.is("Loop")) return loop(node, given);
        if (node.is("Identity") && !given.empty() && given[0] && !inputs[0]) return std::vector<RunValue>{*given[0]};
        if (worksOnSequences(node)) {
            auto made = evaluateSequence(node, !given.empty() && given[0] ? std::get_if<TensorSequence>(given[0]) : nullptr, inputs, m_options.maximumElements - m_live);
            if (!made) return tl::unexpected(made.error());
            return std::vector<RunValue>{std::move(*made)};
        }
        auto made = node.is("Scan") ? scan(node, inputs) : evaluateNode(node, inputs, opsetOf(node), m_options.maximumElements - m_live);
        if (!made) return tl::unexpected(made.error());
        return std::vector<RunValue>(std::make_move_iterator(made->begin()), std::make_move_iterator(made->end()));
    }

    std::int64_t opsetOf(const Node& node) const { return node.version(m_options.opsets, 1); }

    /// Outputs of a body in its order, given values for its inputs in its order.
    Result<std::vector<RunValue>> body(const Graph& graph, const std::vector<RunValue>& inputs) {
        NamedValues named;
        for (std::size_t i = 0; i < graph.inputs().size() && i < inputs.size(); ++i) named[graph.value(graph.inputs()[i]).name] = std::make_shared<const RunValue>(inputs[i]);
        RunOptions options = m_options;
        options.keep.clear();
        options.maximumElements -= m_live;
        const Lookup here = [this](std::string_view name) -> const RunValue* {
            const ValueId found = m_graph.findValue(name);
            if (found && m_values[found]) return m_values[found].get();
            return m_outer ? m_outer(name) : nullptr;
        };
        auto made = Runner(graph, options, m_job, here, m_level + 1).run(named);
        if (!made) return tl::unexpected(made.error());
        std::vector<RunValue> outputs;
        for (const ValueId output : graph.outputs()) outputs.push_back(*(*made)[graph.value(output).name]);
        return outputs;
    }

    /// The same for a body of tensors alone.
    Result<std::vector<HostTensor>> bodyOfTensors(const Node& node, const Graph& graph, const std::vector<HostTensor>& inputs) {
        auto made = body(graph, std::vector<RunValue>(inputs.begin(), inputs.end()));
        if (!made) return tl::unexpected(made.error());
        std::vector<HostTensor> outputs;
        for (RunValue& each : *made) {
            if (!std::holds_alternative<HostTensor>(each)) return fail("evaluate", "its body gives a sequence", {}, node.name);
            outputs.push_back(std::get<HostTensor>(std::move(each)));
        }
        return outputs;
    }

    Result<std::vector<RunValue>> branch(const Node& node, const std::vector<const HostTensor*>& inputs) {
        if (inputs.empty() || !inputs[0] || inputs[0]->count() != 1) return fail("evaluate", "its condition is no single value", {}, node.name);
        const GraphPtr graph = node.attributes.graph(inputs[0]->at(0) != 0 ? "then_branch" : "else_branch");
        if (!graph) return fail("evaluate", "it has no branch", {}, node.name);
        return body(*graph, {});
    }

    /// Carried values, then what each pass gives, stacked.
    Result<std::vector<RunValue>> loop(const Node& node, const std::vector<const RunValue*>& inputs) {
        const GraphPtr graph = node.attributes.graph("body");
        if (!graph || inputs.size() < 2) return fail("evaluate", "it has no body", {}, node.name);
        const std::size_t carried = inputs.size() - 2;
        const auto* turns = inputs[0] ? std::get_if<HostTensor>(inputs[0]) : nullptr;
        const auto* first = inputs[1] ? std::get_if<HostTensor>(inputs[1]) : nullptr;
        const std::int64_t passes = turns ? static_cast<std::int64_t>(turns->at(0)) : mostIterations;
        std::vector<RunValue> state{HostTensor::ofIntegers({}, {0}), HostTensor::ofIntegers({}, {first ? first->at(0) != 0 : 1}, DataType::boolean)};
        for (std::size_t i = 0; i < carried; ++i) {
            if (!inputs[i + 2]) return fail("evaluate", "a carried value is missing", {}, node.name);
            state.push_back(*inputs[i + 2]);
        }
        const auto goesOn = [&] {
            const auto* condition = std::get_if<HostTensor>(&state[1]);
            return condition && condition->at(0) != 0;
        };
        std::vector<std::vector<HostTensor>> stacked;
        for (std::int64_t pass = 0; pass < passes && goesOn(); ++pass) {
            if (pass >= mostIterations) return fail("evaluate", "it doesn't end", {}, node.name);
            state[0] = HostTensor::ofIntegers({}, {pass});
            auto made = body(*graph, state);
            if (!made) return tl::unexpected(made.error());
            if (made->size() < carried + 1) return fail("evaluate", "its body has too few outputs", {}, node.name);
            stacked.resize(made->size() - carried - 1);
            for (std::size_t i = 0; i < stacked.size(); ++i) {
                auto* each = std::get_if<HostTensor>(&(*made)[carried + 1 + i]);
                if (!each) return fail("evaluate", "it stacks sequences", {}, node.name);
                stacked[i].push_back(std::move(*each));
            }
            for (std::size_t i = 0; i <= carried; ++i) state[i + 1] = std::move((*made)[i]);
        }
        std::vector<RunValue> outputs(std::make_move_iterator(state.begin() + 2), std::make_move_iterator(state.end()));
        if (stacked.empty())
            for (std::size_t i = carried + 1; i < graph->outputs().size(); ++i) outputs.push_back(nothingStacked(*graph, i));
        for (const auto& each : stacked) outputs.push_back(joined(each));
        return outputs;
    }

    /// What no turn gave: of the type and sizes that the body declares, as far as it does.
    static HostTensor nothingStacked(const Graph& graph, std::size_t output) {
        const DeclaredType& declared = graph.value(graph.outputs()[output]).declared;
        Dims dims{0};
        for (const Dim dim : declared.dims) dims.push_back(std::max<Dim>(dim, 0));
        return HostTensor::zeros(declared.type == DataType::undefined ? DataType::float32 : declared.type, std::move(dims));
    }

    /// States, then what each pass gives, stacked along the axis that the node names.
    Result<std::vector<HostTensor>> scan(const Node& node, const std::vector<const HostTensor*>& inputs) {
        const GraphPtr graph = node.attributes.graph("body");
        const std::int64_t scanned = node.attributes.integer("num_scan_inputs", 0);
        const auto count = static_cast<std::int64_t>(inputs.size());
        if (!graph || scanned < 1 || scanned > count || opsetOf(node) < 9) return fail("evaluate", "it has no body that can be run", {}, node.name);
        for (const HostTensor* each : inputs)
            if (!each) return fail("evaluate", "one of its inputs is missing", {}, node.name);
        const auto states = static_cast<std::size_t>(count - scanned);
        const auto listed = [&](const char* name, std::size_t i) {
            const auto* list = node.attributes.integers(name);
            return list && i < list->size() ? (*list)[i] : 0;
        };
        std::vector<HostTensor> state;
        for (std::size_t i = 0; i < states; ++i) state.push_back(*inputs[i]);
        // Slices stand in front, so that each is one run of elements.
        std::vector<HostTensor> sources;
        std::int64_t passes = -1;
        for (std::size_t i = states; i < inputs.size(); ++i) {
            auto turned = axisTo(*inputs[i], listed("scan_input_axes", i - states), 0);
            if (!turned || (passes >= 0 && turned->dims[0] != passes)) return fail("evaluate", "its inputs don't fit each other", {}, node.name);
            passes = turned->dims[0];
            sources.push_back(std::move(*turned));
        }
        std::vector<std::vector<HostTensor>> stacked;
        for (std::int64_t pass = 0; pass < passes; ++pass) {
            std::vector<HostTensor> given = state;
            for (std::size_t i = 0; i < sources.size(); ++i) given.push_back(sliceOf(sources[i], listed("scan_input_directions", i) != 0 ? passes - 1 - pass : pass));
            auto made = bodyOfTensors(node, *graph, given);
            if (!made) return tl::unexpected(made.error());
            if (made->size() < states) return fail("evaluate", "its body has too few outputs", {}, node.name);
            stacked.resize(made->size() - states);
            for (std::size_t i = 0; i < stacked.size(); ++i) stacked[i].push_back(std::move((*made)[states + i]));
            made->resize(states);
            state = std::move(*made);
        }
        for (std::size_t i = 0; i < stacked.size(); ++i) {
            if (listed("scan_output_directions", i) != 0) std::reverse(stacked[i].begin(), stacked[i].end());
            auto turned = axisTo(joined(stacked[i]), 0, listed("scan_output_axes", i));
            if (!turned) return fail("evaluate", "its output axis doesn't fit", {}, node.name);
            state.push_back(std::move(*turned));
        }
        return state;
    }

    /// Moves one axis to another place.
    static std::optional<HostTensor> axisTo(const HostTensor& from, std::int64_t axis, std::int64_t to) {
        const auto rank = static_cast<std::int64_t>(from.dims.size());
        if (axis < 0) axis += rank;
        if (to < 0) to += rank;
        if (axis < 0 || axis >= rank || to < 0 || to >= rank) return std::nullopt;
        std::vector<std::int64_t> perm;
        for (std::int64_t i = 0; i < rank; ++i)
            if (i != axis) perm.push_back(i);
        perm.insert(perm.begin() + to, axis);
        return transposed(from, perm);
    }

    static HostTensor sliceOf(const HostTensor& from, std::int64_t at) {
        HostTensor out = HostTensor::zeros(from.type, Dims(from.dims.begin() + 1, from.dims.end()));
        const auto size = static_cast<std::size_t>(out.count());
        for (std::size_t i = 0; i < size; ++i) copyElement(from, static_cast<std::size_t>(at) * size + i, out, i);
        return out;
    }

    static HostTensor joined(const std::vector<HostTensor>& passes) {
        Dims dims = passes[0].dims;
        dims.insert(dims.begin(), static_cast<Dim>(passes.size()));
        HostTensor out = HostTensor::zeros(passes[0].type, dims);
        std::visit(
            [&](auto& to) {
                to.clear();
                for (const HostTensor& each : passes) {
                    const auto& from = std::get<std::decay_t<decltype(to)>>(each.values);
                    to.insert(to.end(), from.begin(), from.end());
                }
                to.resize(static_cast<std::size_t>(out.count()));
            },
            out.values);
        return out;
    }

    Result<NamedValues> results() {
        NamedValues made;
        const auto give = [&](ValueId id) { made[m_graph.value(id).name] = m_values[id]; };
        for (const ValueId output : m_graph.outputs()) {
            auto given = value(output);
            if (!given) return tl::unexpected(given.error());
            if (m_values[output]) give(output);
            else made[m_graph.value(output).name] = std::make_shared<const RunValue>(**given); // of an outer graph
        }
        for (const std::string& name : m_options.keep)
            if (const ValueId id = m_graph.findValue(name); id && m_values[id]) give(id);
        return made;
    }

    const Graph& m_graph;
    const RunOptions& m_options;
    const Job& m_job;
    const Lookup& m_outer;
    int m_level;
    IndexVector<ValueId, Held> m_values;
    IndexVector<ValueId, std::size_t> m_uses;
    std::int64_t m_live = 0;
};

} // namespace

Result<NamedTensors> runGraph(const Graph& graph, const NamedTensors& inputs, const RunOptions& options, const Job& job) {
    const Lookup none;
    NamedValues given;
    for (const auto& [name, tensor] : inputs) given[name] = std::make_shared<const RunValue>(tensor);
    auto made = Runner(graph, options, job, none, 0).run(given);
    if (!made) return tl::unexpected(made.error());
    NamedTensors outputs;
    for (const auto& [name, held] : *made) {
        const auto* tensor = std::get_if<HostTensor>(held.get());
        if (!tensor) return fail("evaluate", "output " + name + " is a sequence", "give out its tensors");
        outputs[name] = *tensor;
    }
    return outputs;
}

} // namespace triptych
