// Operators over windows of an image: convolution, pooling, resizing, and channels to space and back.

#include "reference/kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace triptych {

namespace {

/// How a window moves over the spatial axes of [N, C, D1, D2, ...].
struct Window {
    Dims kernel, strides, dilations, begin, out;
};

std::int64_t listed(const std::vector<std::int64_t>* list, std::size_t index, std::int64_t absent) { return list && index < list->size() ? (*list)[index] : absent; }

Window windowOf(const KernelCall& call, const HostTensor& x, Dims kernel) {
    const Attributes& attributes = call.node.attributes;
    const auto *strides = attributes.integers("strides"), *dilations = attributes.integers("dilations"), *pads = attributes.integers("pads");
    const std::string automatic = attributes.text("auto_pad", "NOTSET");
    const bool ceiling = attributes.integer("ceil_mode", 0) != 0;
    Window window;
    window.kernel = std::move(kernel);
    const std::size_t axes = window.kernel.size();
    if (x.dims.size() != axes + 2) refuse("its window doesn't fit the rank of its input");
    for (std::size_t i = 0; i < axes; ++i) {
        const std::int64_t size = x.dims[i + 2], stride = listed(strides, i, 1), dilation = listed(dilations, i, 1);
        if (stride < 1 || dilation < 1 || window.kernel[i] < 1) refuse("its window has a size below 1");
        const std::int64_t reach = dilation * (window.kernel[i] - 1) + 1;
        std::int64_t before = listed(pads, i, 0), after = listed(pads, i + axes, 0), out = 0;
        if (automatic.starts_with("SAME")) {
            out = (size + stride - 1) / stride;
            const std::int64_t total = std::max<std::int64_t>((out - 1) * stride + reach - size, 0);
            before = automatic == "SAME_LOWER" ? (total + 1) / 2 : total / 2;
        } else {
            if (automatic == "VALID") before = after = 0;
            const std::int64_t room = size + before + after - reach;
            if (room < 0) refuse("its window is larger than its input");
            out = (ceiling ? (room + stride - 1) / stride : room / stride) + 1;
            // A window that would begin in the padding behind the end doesn't count.
            if (ceiling && (out - 1) * stride >= size + before) --out;
        }
        window.strides.push_back(stride);
        window.dilations.push_back(dilation);
        window.begin.push_back(before);
        window.out.push_back(out);
    }
    return window;
}

/// Visits the input positions under a window: (flat input index, flat kernel index).
template <class Visit>
void under(const Window& window, const Dims& spatial, const Dims& at, const Visit& visit) {
    const std::int64_t cells = elementCount(window.kernel).value_or(0);
    for (std::int64_t cell = 0; cell < cells; ++cell) {
        std::int64_t rest = cell, flat = 0, step = 1;
        bool inside = true;
        for (std::size_t i = spatial.size(); i-- > 0;) {
            const std::int64_t k = rest % window.kernel[i];
            rest /= window.kernel[i];
            const std::int64_t position = at[i] * window.strides[i] - window.begin[i] + k * window.dilations[i];
            inside = inside && position >= 0 && position < spatial[i];
            flat += position * step;
            step *= spatial[i];
        }
        if (inside) visit(flat, cell);
    }
}

Dims unflattened(std::int64_t flat, const Dims& dims) {
    Dims at(dims.size());
    for (std::size_t i = dims.size(); i-- > 0;) {
        at[i] = flat % dims[i];
        flat /= dims[i];
    }
    return at;
}

Dims outputDims(const HostTensor& x, std::int64_t channels, const Window& window) {
    Dims dims{x.dims[0], channels};
    dims.insert(dims.end(), window.out.begin(), window.out.end());
    return dims;
}

void put(HostTensor& to, std::int64_t index, double value) {
    std::visit([&](auto& all) { all[static_cast<std::size_t>(index)] = static_cast<typename std::decay_t<decltype(all)>::value_type>(value); }, to.values);
}

Outputs convolution(const KernelCall& call) {
    const HostTensor &x = need(call, 0), &w = need(call, 1);
    if (x.dims.size() < 3 || w.dims.size() != x.dims.size()) refuse("its input and weight must have the same rank, 3 at least");
    const std::int64_t groups = call.node.attributes.integer("group", 1), filters = w.dims[0], depth = w.dims[1];
    if (groups < 1 || x.dims[1] != depth * groups || filters % groups != 0) refuse("its channels don't divide into groups");
    const Window window = windowOf(call, x, Dims(w.dims.begin() + 2, w.dims.end()));
    HostTensor out = make(call, x.type, outputDims(x, filters, window));
    const Dims spatial(x.dims.begin() + 2, x.dims.end());
    const std::int64_t area = elementCount(spatial).value_or(0), cells = elementCount(window.kernel).value_or(0), places = elementCount(window.out).value_or(0);
    // A product of matrices for each image and group: weights times the patches.
    HostTensor patches = make(call, x.type, {depth * cells, places}), weights = make(call, w.type, {filters / groups, depth * cells});
    for (std::int64_t n = 0; n < x.dims[0]; ++n) {
        for (std::int64_t g = 0; g < groups; ++g) {
            std::visit([](auto& all) { std::fill(all.begin(), all.end(), 0); }, patches.values);
            for (std::int64_t place = 0; place < places; ++place)
                under(window, spatial, unflattened(place, window.out), [&](std::int64_t at, std::int64_t cell) {
                    for (std::int64_t c = 0; c < depth; ++c)
                        copyElement(x, static_cast<std::size_t>(((n * groups + g) * depth + c) * area + at), patches, static_cast<std::size_t>((c * cells + cell) * places + place));
                });
            const std::int64_t size = weights.count();
            for (std::int64_t i = 0; i < size; ++i) copyElement(w, static_cast<std::size_t>(g * size + i), weights, static_cast<std::size_t>(i));
            const HostTensor made = product(call, weights, patches);
            for (std::int64_t i = 0; i < made.count(); ++i) {
                const std::int64_t filter = g * (filters / groups) + i / places;
                put(out, (n * filters + filter) * places + i % places, made.at(static_cast<std::size_t>(i)) + (call.input(2) ? call.input(2)->at(static_cast<std::size_t>(filter)) : 0));
            }
        }
    }
    return {std::move(out)};
}

Outputs pooling(const KernelCall& call, bool average) {
    const HostTensor& x = need(call, 0);
    const auto* kernel = call.node.attributes.integers("kernel_shape");
    if (!kernel) refuse("it has no kernel_shape");
    const Window window = windowOf(call, x, *kernel);
    HostTensor out = make(call, x.type, outputDims(x, x.dims[1], window));
    const Dims spatial(x.dims.begin() + 2, x.dims.end());
    const std::int64_t area = elementCount(spatial).value_or(0), places = elementCount(window.out).value_or(0), cells = elementCount(window.kernel).value_or(0);
    const bool padded = call.node.attributes.integer("count_include_pad", 0) != 0;
    for (std::int64_t i = 0; i < out.count(); ++i) {
        double result = average ? 0 : -std::numeric_limits<double>::infinity(), count = 0;
        under(window, spatial, unflattened(i % places, window.out), [&](std::int64_t at, std::int64_t) {
            const double value = x.at(static_cast<std::size_t>(i / places * area + at));
            result = average ? result + value : std::max(result, value);
            ++count;
        });
        put(out, i, average ? result / (padded ? static_cast<double>(cells) : std::max(count, 1.0)) : result);
    }
    return {std::move(out)};
}

Outputs globalPooling(const KernelCall& call, bool average) {
    const HostTensor& x = need(call, 0);
    if (x.dims.size() < 2) refuse("it has no channel axis");
    Dims dims = x.dims;
    std::fill(dims.begin() + 2, dims.end(), 1);
    HostTensor out = make(call, x.type, dims);
    const std::int64_t area = out.count() == 0 ? 0 : x.count() / out.count();
    for (std::int64_t i = 0; i < out.count(); ++i) {
        double result = average ? 0 : -std::numeric_limits<double>::infinity();
        for (std::int64_t j = 0; j < area; ++j) {
            const double value = x.at(static_cast<std::size_t>(i * area + j));
            result = average ? result + value / static_cast<double>(area) : std::max(result, value);
        }
        put(out, i, result);
    }
    return {std::move(out)};
}

/// Where an output position lies in the input.
double sourcePosition(const std::string& mode, double position, double scale, double from, double to) {
    if (mode == "asymmetric") return position / scale;
    if (mode == "align_corners") return to > 1 ? position * (from - 1) / (to - 1) : 0;
    if (mode == "pytorch_half_pixel" && to <= 1) return 0;
    return (position + 0.5) / scale - 0.5;
}

/// One axis at a time: weights of input positions for an output position.
std::vector<std::pair<std::int64_t, double>> taps(const std::string& mode, const std::string& rounding, double cubic, double at, std::int64_t size) {
    const auto held = [&](std::int64_t i) { return std::clamp<std::int64_t>(i, 0, size - 1); };
    if (mode == "nearest") {
        const double rounded = rounding == "floor" ? std::floor(at) : rounding == "ceil" ? std::ceil(at) : rounding == "round_prefer_ceil" ? std::floor(at + 0.5) : std::ceil(at - 0.5);
        return {{held(static_cast<std::int64_t>(rounded)), 1}};
    }
    const auto low = static_cast<std::int64_t>(std::floor(at));
    const double t = at - static_cast<double>(low);
    if (mode == "linear") return {{held(low), 1 - t}, {held(low + 1), t}};
    const auto near = [&](double x) { return (cubic + 2) * x * x * x - (cubic + 3) * x * x + 1; };
    const auto far = [&](double x) { return cubic * x * x * x - 5 * cubic * x * x + 8 * cubic * x - 4 * cubic; };
    return {{held(low - 1), far(1 + t)}, {held(low), near(t)}, {held(low + 1), near(1 - t)}, {held(low + 2), far(2 - t)}};
}

Outputs resize(const KernelCall& call) {
    HostTensor x = need(call, 0);
    const Attributes& attributes = call.node.attributes;
    const std::string mode = attributes.text("mode", "nearest"), position = attributes.text("coordinate_transformation_mode", "half_pixel");
    if (position == "tf_crop_and_resize" || attributes.integer("antialias", 0) != 0) refuse("this way of resizing isn't known");
    const HostTensor *scales = call.input(2), *sizes = call.input(3);
    for (std::size_t axis = 0; axis < x.dims.size(); ++axis) {
        const bool sized = sizes && sizes->count() > 0, scaled = scales && scales->count() > 0;
        if ((sized && sizes->dims != Dims{static_cast<Dim>(x.dims.size())}) || (!sized && scaled && scales->dims != Dims{static_cast<Dim>(x.dims.size())})) refuse("it resizes some axes only");
        const std::int64_t from = x.dims[axis];
        const double factor = sized ? sizes->at(axis) / static_cast<double>(from) : scaled ? scales->at(axis) : 1;
        const std::int64_t to = sized ? sizes->integers()[axis] : static_cast<std::int64_t>(std::floor(static_cast<double>(from) * factor));
        if (to == from || from == 0) continue;
        Dims dims = x.dims;
        dims[axis] = to;
        HostTensor out = make(call, x.type, dims);
        std::int64_t inner = 1;
        for (std::size_t i = axis + 1; i < dims.size(); ++i) inner *= dims[i];
        for (std::int64_t i = 0; i < out.count(); ++i) {
            const std::int64_t at = i / inner % to, row = i / inner / to;
            double sum = 0;
            for (const auto& [source, weight] : taps(mode, attributes.text("nearest_mode", "round_prefer_floor"), attributes.real("cubic_coeff_a", -0.75F),
                                                     sourcePosition(position, static_cast<double>(at), factor, static_cast<double>(from), static_cast<double>(to)), from))
                sum += weight * x.at(static_cast<std::size_t>((row * from + source) * inner + i % inner));
            put(out, i, sum);
        }
        x = std::move(out);
    }
    return {std::move(x)};
}

/// Channels that hold a square of pixels each, or back.
Outputs depthToSpace(const KernelCall& call, bool toSpace) {
    const HostTensor& x = need(call, 0);
    const std::int64_t b = call.node.attributes.integer("blocksize", 1);
    if (x.dims.size() != 4 || b < 1) refuse("it works on images only");
    const std::int64_t n = x.dims[0], c = x.dims[1], h = x.dims[2], w = x.dims[3];
    if (toSpace ? c % (b * b) != 0 : (h % b != 0 || w % b != 0)) refuse("its sizes don't divide by the block");
    if (!toSpace) return {reshaped(transposed(reshaped(x, {n, c, h / b, b, w / b, b}), {0, 3, 5, 1, 2, 4}), {n, c * b * b, h / b, w / b})};
    const bool columns = call.node.attributes.text("mode", "DCR") == "CRD";
    const HostTensor apart = columns ? transposed(reshaped(x, {n, c / (b * b), b, b, h, w}), {0, 1, 4, 2, 5, 3}) : transposed(reshaped(x, {n, b, b, c / (b * b), h, w}), {0, 3, 4, 1, 5, 2});
    return {reshaped(apart, {n, c / (b * b), h * b, w * b})};
}

} // namespace

void addImages(KernelTable& table) {
    table["Conv"] = convolution;
    table["MaxPool"] = [](const KernelCall& call) { return pooling(call, false); };
    table["AveragePool"] = [](const KernelCall& call) { return pooling(call, true); };
    table["GlobalMaxPool"] = [](const KernelCall& call) { return globalPooling(call, false); };
    table["GlobalAveragePool"] = [](const KernelCall& call) { return globalPooling(call, true); };
    table["Resize"] = resize;
    table["DepthToSpace"] = [](const KernelCall& call) { return depthToSpace(call, true); };
    table["SpaceToDepth"] = [](const KernelCall& call) { return depthToSpace(call, false); };
}

} // namespace triptych
