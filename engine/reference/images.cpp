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

void put(HostTensor& to, std::int64_t index, double value) { setElement(to, static_cast<std::size_t>(index), value); }

} // namespace

HostTensor convolved(const KernelCall& call, const HostTensor& x, const HostTensor& w, const HostTensor* bias) {
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
                put(out, (n * filters + filter) * places + i % places, made.at(static_cast<std::size_t>(i)) + (bias ? bias->at(static_cast<std::size_t>(filter)) : 0));
            }
        }
    }
    return out;
}

namespace {

Outputs pooling(const KernelCall& call, bool average) {
    const HostTensor& x = need(call, 0);
    const auto* kernel = call.node.attributes.integers("kernel_shape");
    if (!kernel) refuse("it has no kernel_shape");
    const Window window = windowOf(call, x, *kernel);
    HostTensor out = make(call, x.type, outputDims(x, x.dims[1], window));
    const Dims spatial(x.dims.begin() + 2, x.dims.end());
    const std::int64_t area = elementCount(spatial).value_or(0), places = elementCount(window.out).value_or(0), cells = elementCount(window.kernel).value_or(0);
    const bool padded = call.node.attributes.integer("count_include_pad", 0) != 0;
    HostTensor indices = make(call, DataType::int64, average || call.node.outputs.size() < 2 ? Dims{0} : out.dims);
    if (indices.count() > 0 && call.node.attributes.integer("storage_order", 0) != 0) refuse("its storage order can't be evaluated");
    for (std::int64_t i = 0; i < out.count(); ++i) {
        double result = average ? 0 : -std::numeric_limits<double>::infinity(), count = 0;
        under(window, spatial, unflattened(i % places, window.out), [&](std::int64_t at, std::int64_t) {
            const double value = x.at(static_cast<std::size_t>(i / places * area + at));
            if (!average && value > result && i < indices.count()) indices.integers()[static_cast<std::size_t>(i)] = i / places * area + at;
            result = average ? result + value : std::max(result, value);
            ++count;
        });
        put(out, i, average ? result / (padded ? static_cast<double>(cells) : std::max(count, 1.0)) : result);
    }
    return {std::move(out), std::move(indices)};
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

/// Where an output position lies in the input. With given scales the output is `from` * scale long, before it is cut to whole pixels.
double sourcePosition(const std::string& mode, double position, double scale, double from, double to) {
    if (mode == "asymmetric") return position / scale;
    if (mode == "align_corners") {
        const double length = from * scale;
        return length > 1 ? position * (from - 1) / (length - 1) : 0;
    }
    if (mode == "tf_half_pixel_for_nn") return (position + 0.5) / scale;
    if (mode == "pytorch_half_pixel" && to <= 1) return 0;
    if (mode == "half_pixel_symmetric") {
        const double adjusted = to / (from * scale), centre = from / 2, offset = centre * (1 - adjusted);
        return offset + (position + 0.5) / scale - 0.5;
    }
    return (position + 0.5) / scale - 0.5;
}

struct Resizing {
    std::string mode, rounding, position;
    double cubic = 0;
    bool insideOnly = false; ///< taps outside don't count
};

/// One axis at a time: weights of input positions for an output position.
std::vector<std::pair<std::int64_t, double>> taps(const Resizing& how, double at, std::int64_t size) {
    const auto held = [&](std::int64_t i) { return std::clamp<std::int64_t>(i, 0, size - 1); };
    if (how.mode == "nearest") {
        const std::string& r = how.rounding;
        const double rounded = r == "floor" ? std::floor(at) : r == "ceil" ? std::ceil(at) : r == "round_prefer_ceil" ? std::floor(at + 0.5) : std::ceil(at - 0.5);
        return {{held(static_cast<std::int64_t>(rounded)), 1}};
    }
    const auto low = static_cast<std::int64_t>(std::floor(at));
    const double t = at - static_cast<double>(low), a = how.cubic;
    const auto near = [&](double x) { return (a + 2) * x * x * x - (a + 3) * x * x + 1; };
    const auto far = [&](double x) { return a * x * x * x - 5 * a * x * x + 8 * a * x - 4 * a; };
    std::vector<std::pair<std::int64_t, double>> all{{low, 1 - t}, {low + 1, t}};
    if (how.mode == "cubic") all = {{low - 1, far(1 + t)}, {low, near(t)}, {low + 1, near(1 - t)}, {low + 2, far(2 - t)}};
    if (how.insideOnly) {
        double sum = 0;
        std::erase_if(all, [&](const auto& each) { return each.first < 0 || each.first >= size; });
        for (const auto& each : all) sum += each.second;
        for (auto& each : all) each.second /= sum;
    }
    for (auto& each : all) each.first = held(each.first);
    return all;
}

HostTensor resizedAlong(const KernelCall& call, const HostTensor& x, std::size_t axis, std::int64_t to, double factor, const Resizing& how) {
    const std::int64_t from = x.dims[axis];
    Dims dims = x.dims;
    dims[axis] = to;
    HostTensor out = make(call, x.type, dims);
    const auto inner = static_cast<std::int64_t>(Split(dims, axis).inner);
    for (std::int64_t i = 0; i < out.count(); ++i) {
        const std::int64_t at = i / inner % to, row = i / inner / to;
        double sum = 0;
        for (const auto& [source, weight] : taps(how, sourcePosition(how.position, static_cast<double>(at), factor, static_cast<double>(from), static_cast<double>(to)), from))
            sum += weight * x.at(static_cast<std::size_t>((row * from + source) * inner + i % inner));
        put(out, i, sum);
    }
    return out;
}

Outputs resize(const KernelCall& call) {
    HostTensor x = need(call, 0);
    const Attributes& a = call.node.attributes;
    // Before opset 11 there are no regions, and positions are those of asymmetric.
    const bool old = call.node.op == "Upsample" || call.opset < 11;
    Resizing how{a.text("mode", "nearest"), a.text("nearest_mode", old ? "floor" : "round_prefer_floor"), a.text("coordinate_transformation_mode", old ? "asymmetric" : "half_pixel"),
                 a.real("cubic_coeff_a", -0.75F), a.integer("exclude_outside", 0) != 0};
    if (how.mode == "bilinear") how.mode = "linear";
    if (how.position == "tf_crop_and_resize" || a.integer("antialias", 0) != 0) refuse("this way of resizing isn't known");
    const HostTensor *scales = call.input(old ? 1 : 2), *sizes = old ? nullptr : call.input(3);
    const bool sized = sizes && sizes->count() > 0, scaled = scales && scales->count() > 0;
    std::vector<std::int64_t> axes;
    if (const auto* given = a.integers("axes")) axes = *given;
    else for (std::size_t i = 0; i < x.dims.size(); ++i) axes.push_back(static_cast<std::int64_t>(i));
    const auto* factors = a.reals("scales");
    const auto wanted = static_cast<std::int64_t>(axes.size());
    if ((sized && sizes->count() != wanted) || (!sized && scaled && scales->count() != wanted)) refuse("its scales or sizes don't fit the axes");
    std::vector<double> all;
    for (std::size_t i = 0; i < axes.size(); ++i) {
        const auto from = static_cast<double>(x.dims[axisOf(axes[i], x.dims.size())]);
        all.push_back(sized ? sizes->at(i) / from : scaled ? scales->at(i) : factors && i < factors->size() ? static_cast<double>((*factors)[i]) : 1);
    }
    const std::string policy = a.text("keep_aspect_ratio_policy", "stretch");
    if (sized && policy != "stretch") std::fill(all.begin(), all.end(), policy == "not_larger" ? *std::min_element(all.begin(), all.end()) : *std::max_element(all.begin(), all.end()));
    for (std::size_t i = 0; i < axes.size(); ++i) {
        const std::size_t axis = axisOf(axes[i], x.dims.size());
        const auto from = static_cast<double>(x.dims[axis]);
        const std::int64_t to = sized && policy == "stretch" ? sizes->integers()[i] : static_cast<std::int64_t>(sized ? std::floor(from * all[i] + 0.5) : std::floor(from * all[i]));
        if (to < 0) refuse("its sizes are negative");
        if ((to == x.dims[axis] && all[i] == 1) || x.dims[axis] == 0) continue;
        x = resizedAlong(call, x, axis, to, all[i], how);
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
    table["Conv"] = [](const KernelCall& call) -> Outputs { return {convolved(call, need(call, 0), need(call, 1), call.input(2))}; };
    table["MaxPool"] = [](const KernelCall& call) { return pooling(call, false); };
    table["AveragePool"] = [](const KernelCall& call) { return pooling(call, true); };
    table["GlobalMaxPool"] = [](const KernelCall& call) { return globalPooling(call, false); };
    table["GlobalAveragePool"] = [](const KernelCall& call) { return globalPooling(call, true); };
    for (const char* name : {"Resize", "Upsample"}) table[name] = resize;
    table["DepthToSpace"] = [](const KernelCall& call) { return depthToSpace(call, true); };
    table["SpaceToDepth"] = [](const KernelCall& call) { return depthToSpace(call, false); };
}

} // namespace triptych
