// Transposed convolution, pictures sampled at other places, local normalisation, determinants.

#include "reference/kernels.h"

#include <algorithm>
#include <cmath>

namespace triptych {

namespace {

/// How far each axis of a transposed convolution reaches.
struct Reach {
    Dims out, strides, dilations, before;
};

Reach reachOf(const KernelCall& call, const HostTensor& x, const HostTensor& w) {
    const Attributes& a = call.node.attributes;
    const auto *strides = a.integers("strides"), *dilations = a.integers("dilations"), *pads = a.integers("pads"), *more = a.integers("output_padding"), *wanted = a.integers("output_shape");
    const std::string automatic = a.text("auto_pad", "NOTSET");
    const std::size_t axes = x.dims.size() - 2;
    Reach reach;
    for (std::size_t i = 0; i < axes; ++i) {
        const std::int64_t stride = listed(strides, i, 1), dilation = listed(dilations, i, 1), extra = listed(more, i, 0);
        if (stride < 1 || dilation < 1) refuse("it steps by nothing");
        const std::int64_t full = stride * (x.dims[i + 2] - 1) + extra + (w.dims[i + 2] - 1) * dilation + 1;
        std::int64_t begin = listed(pads, i, 0), end = listed(pads, i + axes, 0);
        if (wanted || automatic.starts_with("SAME")) {
            const std::int64_t size = wanted ? listed(wanted, wanted->size() - axes + i, 0) : x.dims[i + 2] * stride;
            const std::int64_t total = std::max<std::int64_t>(full - size, 0);
            begin = automatic == "SAME_UPPER" ? total / 2 : total - total / 2;
            end = full - size - begin;
        } else if (automatic == "VALID") {
            begin = end = 0;
        }
        reach.out.push_back(full - begin - end);
        if (reach.out.back() < 0) refuse("its pads cut more than there is");
        reach.strides.push_back(stride);
        reach.dilations.push_back(dilation);
        reach.before.push_back(begin);
    }
    return reach;
}

Outputs transposedConvolution(const KernelCall& call) {
    const HostTensor &x = need(call, 0), &w = need(call, 1);
    if (x.dims.size() < 3 || w.dims.size() != x.dims.size()) refuse("its input and weight must have the same rank, 3 at least");
    const std::int64_t groups = call.node.attributes.integer("group", 1), channels = x.dims[1], filters = w.dims[1];
    if (groups < 1 || channels % groups != 0 || w.dims[0] != channels) refuse("its channels don't divide into groups");
    const Reach reach = reachOf(call, x, w);
    Dims dims{x.dims[0], filters * groups};
    dims.insert(dims.end(), reach.out.begin(), reach.out.end());
    HostTensor out = make(call, x.type, dims);
    std::vector<double> sums(static_cast<std::size_t>(out.count()), 0);
    const Dims spatial(x.dims.begin() + 2, x.dims.end()), kernel(w.dims.begin() + 2, w.dims.end());
    const std::int64_t area = elementCount(spatial).value_or(0), cells = elementCount(kernel).value_or(0), places = elementCount(reach.out).value_or(0);
    for (std::int64_t at = 0; at < area; ++at) {
        for (std::int64_t cell = 0; cell < cells; ++cell) {
            std::int64_t restAt = at, restCell = cell, to = 0, step = 1;
            bool inside = true;
            for (std::size_t i = spatial.size(); i-- > 0;) {
                const std::int64_t place = restAt % spatial[i] * reach.strides[i] - reach.before[i] + restCell % kernel[i] * reach.dilations[i];
                restAt /= spatial[i];
                restCell /= kernel[i];
                inside = inside && place >= 0 && place < reach.out[i];
                to += place * step;
                step *= reach.out[i];
            }
            if (!inside) continue;
            for (std::int64_t n = 0; n < x.dims[0]; ++n)
                for (std::int64_t c = 0; c < channels; ++c)
                    for (std::int64_t f = 0; f < filters; ++f) {
                        const std::int64_t filter = c / (channels / groups) * filters + f;
                        sums[static_cast<std::size_t>((n * filters * groups + filter) * places + to)] += x.at(static_cast<std::size_t>((n * channels + c) * area + at)) * w.at(static_cast<std::size_t>((c * filters + f) * cells + cell));
                    }
        }
    }
    for (std::size_t i = 0; i < sums.size(); ++i) {
        const std::size_t filter = i / static_cast<std::size_t>(places) % static_cast<std::size_t>(filters * groups);
        setElement(out, i, sums[i] + (call.input(2) ? call.input(2)->at(filter) : 0));
    }
    return {std::move(out)};
}

/// A picture with a rule for what lies beyond its edge.
class Picture {
public:
    Picture(const HostTensor& x, const std::string& padding, bool aligned) : m_x(x), m_padding(padding), m_aligned(aligned), m_height(x.dims[2]), m_width(x.dims[3]) {}

    double sample(const std::string& mode, std::int64_t plane, double x, double y) const {
        double column = place(x, m_width), row = place(y, m_height);
        if (m_padding == "border" && mode != "bicubic" && mode != "cubic") column = std::clamp(column, 0.0, double(m_width - 1)), row = std::clamp(row, 0.0, double(m_height - 1));
        if (m_padding == "reflection" && mode != "bicubic" && mode != "cubic") column = reflected(column, m_width), row = reflected(row, m_height);
        if (mode == "nearest") return at(plane, std::nearbyint(column), std::nearbyint(row));
        const double left = std::floor(column), top = std::floor(row), dx = column - left, dy = row - top;
        if (mode == "bilinear" || mode == "linear")
            return (at(plane, left, top) * (1 - dx) + at(plane, left + 1, top) * dx) * (1 - dy) + (at(plane, left, top + 1) * (1 - dx) + at(plane, left + 1, top + 1) * dx) * dy;
        double sum = 0;
        for (int j = -1; j <= 2; ++j)
            for (int i = -1; i <= 2; ++i) sum += cubic(dx - i) * cubic(dy - j) * at(plane, left + i, top + j);
        return sum;
    }

private:
    double place(double normalised, std::int64_t size) const { return m_aligned ? (normalised + 1) / 2 * double(size - 1) : ((normalised + 1) * double(size) - 1) / 2; }

    double reflected(double x, std::int64_t size) const {
        const double low = m_aligned ? 0 : -0.5, high = m_aligned ? double(size - 1) : double(size) - 0.5, span = high - low;
        if (span <= 0) return 0;
        double within = std::fmod(std::fabs(x - low), 2 * span);
        if (within > span) within = 2 * span - within;
        return within + low;
    }

    static double cubic(double t) {
        constexpr double a = -0.75;
        t = std::fabs(t);
        return t <= 1 ? ((a + 2) * t - (a + 3)) * t * t + 1 : t < 2 ? ((a * t - 5 * a) * t + 8 * a) * t - 4 * a : 0;
    }

    double at(std::int64_t plane, double column, double row) const {
        if (m_padding == "reflection") column = reflected(column, m_width), row = reflected(row, m_height);
        if (m_padding != "zeros") column = std::clamp(column, 0.0, double(m_width - 1)), row = std::clamp(row, 0.0, double(m_height - 1));
        if (!(column >= 0 && column < double(m_width) && row >= 0 && row < double(m_height))) return 0;
        return m_x.at(static_cast<std::size_t>((plane * m_height + static_cast<std::int64_t>(row)) * m_width + static_cast<std::int64_t>(column)));
    }

    const HostTensor& m_x;
    const std::string& m_padding;
    bool m_aligned;
    std::int64_t m_height, m_width;
};

Outputs gridSample(const KernelCall& call) {
    const HostTensor &x = need(call, 0), &grid = need(call, 1);
    if (x.dims.size() != 4 || grid.dims.size() != 4 || grid.dims[3] != 2 || grid.dims[0] != x.dims[0]) refuse("it works on pictures only");
    const std::string mode = call.node.attributes.text("mode", "bilinear"), padding = call.node.attributes.text("padding_mode", "zeros");
    const Picture picture(x, padding, call.node.attributes.integer("align_corners", 0) != 0);
    HostTensor out = make(call, x.type, {x.dims[0], x.dims[1], grid.dims[1], grid.dims[2]});
    const std::int64_t places = grid.dims[1] * grid.dims[2];
    for (std::int64_t i = 0; i < out.count(); ++i) {
        const std::int64_t plane = i / places, at = (plane / x.dims[1] * places + i % places) * 2;
        setElement(out, static_cast<std::size_t>(i), picture.sample(mode, plane, grid.at(static_cast<std::size_t>(at)), grid.at(static_cast<std::size_t>(at + 1))));
    }
    return {std::move(out)};
}

/// Each element by those of the channels round its own.
Outputs localResponse(const KernelCall& call) {
    const HostTensor& x = need(call, 0);
    const Attributes& a = call.node.attributes;
    const double alpha = double(a.real("alpha", 0.0001F)), beta = double(a.real("beta", 0.75F)), bias = double(a.real("bias", 1));
    const std::int64_t size = a.integer("size", 1);
    if (x.dims.size() < 2 || size < 1) refuse("it has no channels");
    const Split split(x.dims, 1);
    HostTensor out = make(call, x.type, x.dims);
    const auto channels = static_cast<std::int64_t>(split.size);
    for (std::size_t i = 0; i < static_cast<std::size_t>(x.count()); ++i) {
        const auto channel = static_cast<std::int64_t>(i / split.inner % split.size);
        double sum = 0;
        for (std::int64_t c = std::max<std::int64_t>(channel - (size - 1) / 2, 0); c <= std::min(channel + size / 2, channels - 1); ++c) {
            const double each = x.at(i + static_cast<std::size_t>(c) * split.inner - static_cast<std::size_t>(channel) * split.inner);
            sum += each * each;
        }
        setElement(out, i, x.at(i) / std::pow(bias + alpha / double(size) * sum, beta));
    }
    return {std::move(out)};
}

/// By elimination with the largest element of each column.
double determinant(std::vector<double> m, std::size_t size) {
    double result = 1;
    for (std::size_t column = 0; column < size; ++column) {
        std::size_t best = column;
        for (std::size_t row = column + 1; row < size; ++row)
            if (std::fabs(m[row * size + column]) > std::fabs(m[best * size + column])) best = row;
        if (m[best * size + column] == 0) return 0;
        if (best != column) {
            for (std::size_t i = 0; i < size; ++i) std::swap(m[best * size + i], m[column * size + i]);
            result = -result;
        }
        result *= m[column * size + column];
        for (std::size_t row = column + 1; row < size; ++row) {
            const double factor = m[row * size + column] / m[column * size + column];
            for (std::size_t i = column; i < size; ++i) m[row * size + i] -= factor * m[column * size + i];
        }
    }
    return result;
}

Outputs determinants(const KernelCall& call) {
    const HostTensor& x = need(call, 0);
    if (x.dims.size() < 2 || x.dims.back() != x.dims[x.dims.size() - 2]) refuse("it needs square matrices");
    const auto size = static_cast<std::size_t>(x.dims.back());
    HostTensor out = make(call, x.type, Dims(x.dims.begin(), x.dims.end() - 2));
    for (std::size_t i = 0; i < static_cast<std::size_t>(out.count()); ++i) {
        std::vector<double> matrix(size * size);
        for (std::size_t j = 0; j < matrix.size(); ++j) matrix[j] = x.at(i * matrix.size() + j);
        setElement(out, i, determinant(std::move(matrix), size));
    }
    return {std::move(out)};
}

} // namespace

void addSampling(KernelTable& table) {
    table["ConvTranspose"] = transposedConvolution;
    table["GridSample"] = gridSample;
    table["LRN"] = localResponse;
    table["Det"] = determinants;
}

} // namespace triptych
