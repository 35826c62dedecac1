// Normalisation by mean and variance, in double precision inside, along axes.

#include "reference/kernels.h"

#include <algorithm>
#include <cmath>

namespace triptych {

namespace {

/// What one normalised run of elements has: x -> (x - mean) * inverse.
struct Moments {
    double mean = 0, inverse = 1;
};

Moments moments(const HostTensor& from, std::size_t begin, std::size_t count, double epsilon, bool centred) {
    Moments made;
    if (centred) {
        for (std::size_t i = 0; i < count; ++i) made.mean += from.at(begin + i);
        made.mean /= static_cast<double>(count);
    }
    double square = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const double x = from.at(begin + i) - made.mean;
        square += x * x;
    }
    made.inverse = 1 / std::sqrt(square / static_cast<double>(count) + epsilon);
    return made;
}

void put(HostTensor& to, std::size_t index, double value) {
    std::visit([&](auto& all) { all[index] = static_cast<typename std::decay_t<decltype(all)>::value_type>(value); }, to.values);
}

double affine(double x, const HostTensor* scale, const HostTensor* bias, std::size_t at) {
    const auto part = [&](const HostTensor& tensor) { return tensor.at(at % static_cast<std::size_t>(std::max<std::int64_t>(tensor.count(), 1))); };
    return (scale ? x * part(*scale) : x) + (bias ? part(*bias) : 0);
}

/// Over all axes from `axis` on; outputs: the result, and mean and inverse deviation where the node wants them.
Outputs overTail(const KernelCall& call, const HostTensor& from, const HostTensor* scale, const HostTensor* bias, std::size_t axis, double epsilon, bool centred) {
    HostTensor out = make(call, from.type, from.dims);
    Dims reduced = from.dims;
    std::size_t count = 1;
    for (std::size_t i = axis; i < reduced.size(); ++i) {
        count *= static_cast<std::size_t>(reduced[i]);
        reduced[i] = 1;
    }
    for (const HostTensor* each : {scale, bias})
        if (each && (each->count() == 0 || static_cast<std::int64_t>(count) % each->count() != 0)) refuse("its scale doesn't fit the normalised axes");
    HostTensor means = make(call, DataType::float32, reduced), inverses = means;
    for (std::size_t row = 0; count > 0 && row < static_cast<std::size_t>(out.count()) / count; ++row) {
        const Moments m = moments(from, row * count, count, epsilon, centred);
        put(means, row, m.mean);
        put(inverses, row, m.inverse);
        for (std::size_t i = 0; i < count; ++i) put(out, row * count + i, affine((from.at(row * count + i) - m.mean) * m.inverse, scale, bias, i));
    }
    Outputs outputs{std::move(out)};
    if (call.node.outputs.size() > 1) outputs.push_back(std::move(means));
    if (call.node.outputs.size() > 2) outputs.push_back(std::move(inverses));
    return outputs;
}

Outputs layerNormalisation(const KernelCall& call) {
    const HostTensor& x = need(call, 0);
    return overTail(call, x, &need(call, 1), call.input(2), axisOf(call.node.attributes.integer("axis", -1), x.dims.size()), call.node.attributes.real("epsilon", 1e-5F), true);
}

Outputs rmsNormalisation(const KernelCall& call) {
    const HostTensor& x = need(call, 0);
    auto outputs = overTail(call, x, &need(call, 1), nullptr, axisOf(call.node.attributes.integer("axis", -1), x.dims.size()), call.node.attributes.real("epsilon", 1e-5F), false);
    // Its second output is the inverse deviation: there is no mean.
    if (outputs.size() == 3) outputs.erase(outputs.begin() + 1);
    return outputs;
}

/// com.microsoft: the sum of input, skip and bias is normalised and given out too.
Outputs skipNormalisation(const KernelCall& call, bool centred) {
    HostTensor sum = need(call, 0);
    const auto add = [&](const HostTensor* other) {
        if (!other) return;
        const std::int64_t count = other->count();
        if (count == 0 || sum.count() % count != 0) refuse("its skip input doesn't fit");
        for (std::size_t i = 0; i < static_cast<std::size_t>(sum.count()); ++i) put(sum, i, sum.at(i) + other->at(i % static_cast<std::size_t>(count)));
        sum.normalise();
    };
    add(&need(call, 1));
    add(call.input(centred ? 4 : 3));
    if (sum.dims.empty()) refuse("it normalises no axis");
    auto outputs = overTail(call, sum, &need(call, 2), centred ? call.input(3) : nullptr, sum.dims.size() - 1, call.node.attributes.real("epsilon", centred ? 1e-12F : 1e-5F), centred);
    if (call.node.outputs.size() > 3) {
        outputs.resize(3);
        outputs.push_back(std::move(sum));
    }
    return outputs;
}

/// Channels in groups; InstanceNormalization has a group for each channel.
Outputs groupNormalisation(const KernelCall& call, bool instance) {
    const HostTensor& x = need(call, 0);
    if (x.dims.size() < 2) refuse("it has no channel axis");
    const std::int64_t channels = x.dims[1], groups = instance ? channels : call.node.attributes.integer("num_groups", 1);
    if (groups <= 0 || channels % groups != 0) refuse("its channels don't divide into groups");
    const HostTensor &scale = need(call, 1), &bias = need(call, 2);
    HostTensor out = make(call, x.type, x.dims);
    std::int64_t inner = 1;
    for (std::size_t i = 2; i < x.dims.size(); ++i) inner *= x.dims[i];
    const auto run = static_cast<std::size_t>(channels / groups * inner);
    // Before opset 21 GroupNormalization's scale is one for a group.
    const bool byGroup = !instance && scale.count() == groups && groups != channels;
    for (std::size_t row = 0; run > 0 && row < static_cast<std::size_t>(x.count()) / run; ++row) {
        const Moments m = moments(x, row * run, run, call.node.attributes.real("epsilon", 1e-5F), true);
        for (std::size_t i = row * run; i < (row + 1) * run; ++i) {
            const std::size_t channel = i / static_cast<std::size_t>(inner) % static_cast<std::size_t>(channels);
            put(out, i, affine((x.at(i) - m.mean) * m.inverse, &scale, &bias, byGroup ? channel / static_cast<std::size_t>(channels / groups) : channel));
        }
    }
    return {std::move(out)};
}

Outputs batchNormalisation(const KernelCall& call) {
    const HostTensor& x = need(call, 0);
    if (x.dims.size() < 2) refuse("it has no channel axis");
    HostTensor out = make(call, x.type, x.dims);
    std::size_t inner = 1;
    for (std::size_t i = 2; i < x.dims.size(); ++i) inner *= static_cast<std::size_t>(x.dims[i]);
    const auto channels = static_cast<std::size_t>(x.dims[1]);
    for (std::size_t index = 1; index < 5; ++index)
        if (need(call, index).count() != x.dims[1]) refuse("its parameters don't fit the channels");
    const double epsilon = call.node.attributes.real("epsilon", 1e-5F);
    for (std::size_t i = 0; i < static_cast<std::size_t>(x.count()); ++i) {
        const std::size_t c = i / inner % channels;
        put(out, i, (x.at(i) - need(call, 3).at(c)) / std::sqrt(need(call, 4).at(c) + epsilon) * need(call, 1).at(c) + need(call, 2).at(c));
    }
    return {std::move(out)};
}

Outputs lpNormalisation(const KernelCall& call) {
    const HostTensor& x = need(call, 0);
    const std::size_t axis = axisOf(call.node.attributes.integer("axis", -1), x.dims.size());
    const bool square = call.node.attributes.integer("p", 2) == 2;
    Dims kept = x.dims;
    kept[axis] = 1;
    std::vector<double> norms(static_cast<std::size_t>(elementCount(kept).value_or(0)));
    const auto steps = stridesFor(kept, x.dims);
    walk(x.dims, steps, steps, [&](std::size_t i, std::size_t at, std::size_t) { norms[at] += square ? x.at(i) * x.at(i) : std::fabs(x.at(i)); });
    HostTensor out = make(call, x.type, x.dims);
    walk(x.dims, steps, steps, [&](std::size_t i, std::size_t at, std::size_t) {
        const double norm = square ? std::sqrt(norms[at]) : norms[at];
        put(out, i, norm == 0 ? 0 : x.at(i) / norm);
    });
    return {std::move(out)};
}

} // namespace

void addNormalisations(KernelTable& table) {
    table["LayerNormalization"] = layerNormalisation;
    table["com.microsoft::LayerNormalization"] = layerNormalisation;
    table["RMSNormalization"] = rmsNormalisation;
    for (const char* name : {"SimplifiedLayerNormalization", "com.microsoft::SimplifiedLayerNormalization"}) table[name] = rmsNormalisation;
    for (const char* name : {"SkipLayerNormalization", "com.microsoft::SkipLayerNormalization"}) table[name] = [](const KernelCall& call) { return skipNormalisation(call, true); };
    for (const char* name : {"SkipSimplifiedLayerNormalization", "com.microsoft::SkipSimplifiedLayerNormalization"})
        table[name] = [](const KernelCall& call) { return skipNormalisation(call, false); };
    table["GroupNormalization"] = [](const KernelCall& call) { return groupNormalisation(call, false); };
    table["InstanceNormalization"] = [](const KernelCall& call) { return groupNormalisation(call, true); };
    table["BatchNormalization"] = batchNormalisation;
    table["LpNormalization"] = lpNormalisation;
}

} // namespace triptych
