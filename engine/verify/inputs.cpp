// Inputs for a comparison: made by rule, or read from a folder of test data.

#include "verify/lengths.h"
#include "verify/verify.h"

#include <algorithm>
#include <array>

namespace triptych {

namespace {

constexpr std::array<std::pair<Fill, std::string_view>, 5> fills{
    {{Fill::random, "random"}, {Fill::ones, "ones"}, {Fill::zeros, "zeros"}, {Fill::ramp, "ramp"}, {Fill::masked, "masked"}}};

/// Numbers that are the same with every standard library. Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators (SplitMix64).
class Numbers {
public:
    explicit Numbers(std::uint64_t seed) : m_state(seed) {}
    std::uint64_t next() {
        m_state += 0x9e3779b97f4a7c15ULL;
        std::uint64_t z = m_state;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        return z ^ (z >> 31);
    }
    /// -1 to 1.
    double real() { return static_cast<double>(next() >> 11) * 0x1p-52 - 1; }

private:
    std::uint64_t m_state;
};

/// What an integer input may be: rows of a table that it selects, else a mask of 0 and 1.
std::int64_t rowsSelected(const Graph& graph, const Shapes& shapes, ValueId input) {
    std::int64_t rows = 0;
    std::vector<ValueId> open{input};
    for (std::size_t i = 0; i < open.size() && i < 32; ++i) {
        for (const NodeId reader : graph.readers(open[i])) {
            const Node& node = graph.node(reader);
            if ((node.is("Gather") || node.is("GatherElements") || node.is("GatherND")) && node.input(1) == open[i]) {
                const ValueShape& table = shapes.of(node.input(0));
                const auto axis = static_cast<std::size_t>(std::max<std::int64_t>(node.attributes.integer("axis", 0), 0));
                if (table.ranked && axis < table.dims.size() && table.dims[axis] > 0) rows = rows == 0 ? table.dims[axis] : std::min(rows, table.dims[axis]);
            }
            for (const char* passes : {"Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Add", "Slice", "Expand"})
                if (node.is(passes) && node.input(0) == open[i]) open.push_back(node.output());
        }
    }
    return rows;
}

/// Position along the sequence: the last axis of ids and masks.
bool hidden(const Dims& dims, std::int64_t index) { return !dims.empty() && dims.back() > 1 && index % dims.back() >= dims.back() - dims.back() / 3; }

HostTensor made(const Dims& dims, DataType type, Fill fill, std::int64_t rows, Numbers& numbers) {
    HostTensor out = HostTensor::zeros(type, dims);
    const std::int64_t count = out.count();
    for (std::int64_t i = 0; i < count; ++i) {
        const auto at = static_cast<std::size_t>(i);
        if (!out.isInteger()) {
            const double value = fill == Fill::ones ? 1 : fill == Fill::zeros ? 0 : fill == Fill::ramp ? static_cast<double>(i) / static_cast<double>(count) : numbers.real();
            if (out.isFloat()) out.floats()[at] = static_cast<float>(value);
            else out.doubles()[at] = value;
            continue;
        }
        const bool mask = rows == 0;
        const std::int64_t limit = std::max<std::int64_t>(mask ? 2 : rows, 1);
        std::int64_t value = fill == Fill::ones ? 1 : fill == Fill::zeros ? 0 : fill == Fill::ramp ? i : static_cast<std::int64_t>(numbers.next() % static_cast<std::uint64_t>(limit));
        // A mask shows what it must: everything, or all but the end.
        if (mask && (fill == Fill::random || fill == Fill::ramp)) value = 1;
        if (mask && fill == Fill::masked) value = hidden(dims, i) ? 0 : 1;
        out.integers()[at] = value % limit;
    }
    out.normalise();
    return out;
}

/// NAME_0.pb, NAME_1.pb ... as long as there are any.
Result<std::vector<std::pair<std::string, HostTensor>>> tensorsOf(const std::filesystem::path& folder, const std::string& name) {
    std::vector<std::pair<std::string, HostTensor>> found;
    for (int i = 0;; ++i) {
        const auto path = folder / (name + "_" + std::to_string(i) + ".pb");
        std::error_code error;
        if (!std::filesystem::exists(path, error)) return found;
        auto tensor = readTensorFile(path);
        if (!tensor) return tl::unexpected(tensor.error());
        const Tensor& one = **tensor;
        if (one.payload.place != Payload::Place::memory || one.payload.bytes->size() != one.byteSize().value_or(UINT64_MAX))
            return fail("weights", "its bytes don't fill its shape", "write the test data again", path.filename().string());
        found.emplace_back(one.name, decodeTensor(one.type, one.dims, *one.payload.bytes));
    }
}

NamedTensors named(const Graph& graph, const std::vector<ValueId>& values, std::vector<std::pair<std::string, HostTensor>> tensors) {
    NamedTensors result;
    // By name where every name is one of the graph's, else by position.
    const bool byName = std::all_of(tensors.begin(), tensors.end(), [&](const auto& each) {
        return std::any_of(values.begin(), values.end(), [&](ValueId value) { return graph.value(value).name == each.first; });
    });
    for (std::size_t i = 0; i < tensors.size() && i < values.size(); ++i) result[byName ? tensors[i].first : graph.value(values[i]).name] = std::move(tensors[i].second);
    return result;
}

} // namespace

std::string_view toString(Fill fill) {
    for (const auto& [each, name] : fills)
        if (each == fill) return name;
    return {};
}

std::optional<Fill> fillNamed(std::string_view name) {
    for (const auto& [each, known] : fills)
        if (known == name) return each;
    return std::nullopt;
}

Result<NamedTensors> makeInputs(const Graph& graph, const Shapes& shapes, Fill fill, std::uint64_t seed) {
    NamedTensors inputs;
    Numbers numbers(seed);
    std::map<std::string, std::int64_t> choices; // what turns each on
    for (const SymbolicDim& dim : symbolicDims(graph))
        if (dim.isChoice()) choices[dim.name] = std::max<std::int64_t>(dim.defaultSize, 1);
    const NamedTensors lengths = lengthInputs(graph, shapes, fill == Fill::masked);
    for (const ValueId input : graph.inputs()) {
        const ValueShape& shape = shapes.of(input);
        const std::string& name = graph.value(input).name;
        if (const auto length = lengths.find(name); length != lengths.end()) {
            inputs[name] = length->second;
            continue;
        }
        if (!shape.known() || shape.type == DataType::undefined || shape.type == DataType::string)
            return fail("evaluate", "input " + name + " has no shape or type that values can be made for", "give it with --data");
        if (const auto choice = choices.find(name); choice != choices.end()) {
            // Random runs take both branches in turn.
            const bool on = fill == Fill::random || fill == Fill::masked ? seed % 2 == 1 : fill != Fill::zeros;
            inputs[name] = HostTensor::ofIntegers(shape.dims, {on ? choice->second : 0}, shape.type);
            continue;
        }
        inputs[name] = made(shape.dims, shape.type, fill, isInteger(shape.type) ? rowsSelected(graph, shapes, input) : 0, numbers);
    }
    return inputs;
}

Result<TestData> readTestData(const Graph& graph, const std::filesystem::path& folder) {
    auto inputs = tensorsOf(folder, "input");
    if (!inputs) return tl::unexpected(inputs.error());
    auto outputs = tensorsOf(folder, "output");
    if (!outputs) return tl::unexpected(outputs.error());
    if (outputs->empty()) return fail("options", folder.string() + " holds no output_0.pb", "name a folder of test data");
    return TestData{named(graph, graph.inputs(), std::move(*inputs)), named(graph, graph.outputs(), std::move(*outputs))};
}

} // namespace triptych
