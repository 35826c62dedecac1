#include "reference/kernels.h"

#include <exception>
#include <new>
#include <set>

namespace triptych {

void refuse(std::string what) { throw KernelError{std::move(what)}; }

std::vector<std::int64_t> KernelCall::list(std::size_t index, std::string_view attribute) const {
    if (const HostTensor* given = input(index)) {
        if (!given->isInteger()) refuse("its input " + std::to_string(index) + " is not of integers");
        return given->integers();
    }
    const auto* found = node.attributes.integers(attribute);
    return found ? *found : std::vector<std::int64_t>();
}

const HostTensor& need(const KernelCall& call, std::size_t index) {
    const HostTensor* found = call.input(index);
    if (!found) refuse("its input " + std::to_string(index) + " is missing");
    return *found;
}

HostTensor make(const KernelCall& call, DataType type, Dims dims) {
    const auto count = elementCount(dims);
    if (!count || *count > call.maximumElements) refuse("its result would have too many elements");
    return HostTensor::zeros(type, std::move(dims));
}

std::size_t axisOf(std::int64_t axis, std::size_t rank, bool oneMore) {
    const auto size = static_cast<std::int64_t>(rank) + (oneMore ? 1 : 0);
    if (axis < -size || axis >= size) refuse("axis " + std::to_string(axis) + " doesn't fit a rank of " + std::to_string(rank));
    return static_cast<std::size_t>(axis < 0 ? axis + size : axis);
}

Dims broadcastDims(const Dims& a, const Dims& b) {
    Dims out(std::max(a.size(), b.size()), 1);
    for (std::size_t i = 0; i < out.size(); ++i) {
        const Dim x = i < a.size() ? a[a.size() - 1 - i] : 1, y = i < b.size() ? b[b.size() - 1 - i] : 1;
        if (x != y && x != 1 && y != 1) refuse("shapes of " + std::to_string(x) + " and " + std::to_string(y) + " don't go together");
        out[out.size() - 1 - i] = x == 1 ? y : x;
    }
    return out;
}

std::vector<std::int64_t> stridesFor(const Dims& dims, const Dims& target) {
    std::vector<std::int64_t> strides(target.size(), 0);
    std::int64_t step = 1;
    for (std::size_t i = 0; i < dims.size(); ++i) {
        const Dim size = dims[dims.size() - 1 - i];
        strides[target.size() - 1 - i] = size == 1 ? 0 : step;
        step *= size;
    }
    return strides;
}

Split::Split(const Dims& dims, std::size_t axis) {
    for (std::size_t i = 0; i < dims.size(); ++i) (i < axis ? outer : i == axis ? size : inner) *= static_cast<std::size_t>(dims[i]);
}

std::size_t indexIn(std::int64_t index, std::size_t size) {
    const auto whole = static_cast<std::int64_t>(size);
    if (index < -whole || index >= whole) refuse("index " + std::to_string(index) + " is outside of an axis of " + std::to_string(whole));
    return static_cast<std::size_t>(index < 0 ? index + whole : index);
}

std::size_t tupleOffset(const Dims& dims, std::size_t first, const std::int64_t* tuple, std::size_t length, std::size_t inner) {
    std::size_t at = 0;
    for (std::size_t i = 0; i < length; ++i) at = at * static_cast<std::size_t>(dims[first + i]) + indexIn(tuple[i], static_cast<std::size_t>(dims[first + i]));
    return at * inner;
}

HostTensor reshaped(const HostTensor& from, Dims dims) {
    if (elementCount(dims) != elementCount(from.dims)) refuse("the new shape " + dimsText(dims) + " has another number of elements than " + dimsText(from.dims) + "; the file may hold for other sizes than those that are bound");
    return {from.type, std::move(dims), from.values};
}

void copyElement(const HostTensor& from, std::size_t i, HostTensor& to, std::size_t j) {
    if (from.isFloat()) to.floats().at(j) = from.floats().at(i);
    else if (from.isDouble()) to.doubles().at(j) = from.doubles().at(i);
    else to.integers().at(j) = from.integers().at(i);
}

void setElement(HostTensor& to, std::size_t index, double value) {
    std::visit([&](auto& all) { all.at(index) = static_cast<typename std::decay_t<decltype(all)>::value_type>(value); }, to.values);
}

HostTensor transposed(const HostTensor& from, const std::vector<std::int64_t>& perm) {
    const std::size_t rank = from.dims.size();
    if (perm.size() != rank) refuse("its permutation has another rank");
    const auto own = stridesFor(from.dims, from.dims);
    Dims dims(rank);
    std::vector<std::int64_t> strides(rank);
    std::vector<bool> seen(rank, false);
    for (std::size_t i = 0; i < rank; ++i) {
        const std::size_t axis = axisOf(perm[i], rank);
        if (seen[axis]) refuse("its permutation names an axis twice");
        seen[axis] = true;
        dims[i] = from.dims[axis];
        strides[i] = own[axis];
    }
    HostTensor to = HostTensor::zeros(from.type, dims);
    std::visit(
        [&](const auto& in) {
            auto& out = std::get<std::decay_t<decltype(in)>>(to.values);
            walk(dims, strides, strides, [&](std::size_t i, std::size_t at, std::size_t) { out[i] = in[at]; });
        },
        from.values);
    return to;
}

namespace {

const KernelTable& kernels() {
    static const KernelTable table = [] {
        KernelTable made;
        addElementwise(made);
        addActivations(made);
        addIndexing(made);
        addScattering(made);
        addSequences(made);
        addShaping(made);
        addReductions(made);
        addProducts(made);
        addNormalisations(made);
        addImages(made);
        addSampling(made);
        addRecurrent(made);
        addQuantised(made);
        addRotary(made);
        addAttention(made);
        addMicrosoftAttention(made);
        return made;
    }();
    return table;
}

const Kernel* kernelOf(const Node& node) {
    const std::string key = node.domain.empty() ? node.op : node.domain + "::" + node.op;
    const auto found = kernels().find(key);
    return found == kernels().end() ? nullptr : &found->second;
}

} // namespace

bool canEvaluate(const Node& node) { return kernelOf(node) != nullptr; }

bool canFold(const Node& node) {
    static const std::set<std::string_view> large{"Attention", "RotaryEmbedding", "RNN", "GRU", "LSTM", "Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "QLinearMatMul", "QGemm", "MaxPool", "AveragePool",
                                                  "GlobalMaxPool", "GlobalAveragePool", "Resize", "Upsample", "GridSample", "LRN", "Det", "LayerNormalization", "RMSNormalization", "InstanceNormalization",
                                                  "GroupNormalization", "BatchNormalization", "LpNormalization", "DynamicQuantizeLinear", "DepthToSpace", "SpaceToDepth", "Unique", "SequenceEmpty", "SequenceConstruct", "SequenceInsert", "SequenceErase", "SequenceAt", "SequenceLength", "ConcatFromSequence", "SplitToSequence"};
    return node.domain.empty() && !large.contains(node.op) && canEvaluate(node);
}

Result<std::vector<HostTensor>> evaluateNode(const Node& node, std::span<const HostTensor* const> inputs, std::int64_t opset, std::int64_t maximumElements) {
    const std::string who = node.name + " (" + node.op + ")";
    const Kernel* kernel = kernelOf(node);
    if (!kernel) return fail("evaluate", "the operator can't be evaluated", "remove it or give its outputs", who);
    try {
        auto outputs = (*kernel)({node, inputs, opset, maximumElements});
        for (HostTensor& each : outputs) each.normalise();
        return outputs;
    } catch (const KernelError& error) {
        return fail("evaluate", error.what, {}, who);
    } catch (const std::bad_alloc&) {
        return fail("evaluate", "there is not enough memory for it", "verify a smaller model, or bind smaller sizes", who);
    } catch (const std::exception&) { // a variant of another type, an element that isn't there
        return fail("evaluate", "its inputs don't fit it in type or size", "export the model again", who);
    }
}

} // namespace triptych
