// Images and regions of them, and geometry.
// Sources: the ONNX operator specification (opset 7 to 25); ONNX Runtime's ContribOperators.md; TensorRT's efficientNMSPlugin.

#include "shapes/rules.h"

#include <algorithm>

namespace triptych {

namespace {

/// Numbers that scale axes: a constant, or (Upsample before opset 9) an attribute.
std::vector<double> scalesOf(const RuleCall& call, std::size_t input) {
    std::vector<double> scales;
    if (const HostTensor* given = call.constant(input))
        for (std::int64_t i = 0; i < given->count(); ++i) scales.push_back(given->at(static_cast<std::size_t>(i)));
    else if (const auto* old = call.node.attributes.reals("scales"); old && !call.has(input)) scales.assign(old->begin(), old->end());
    return scales;
}

Dim rounded(double size) { return size >= 0 && size < 9e15 ? static_cast<Dim>(size) : unknownDim; }

/// Part of an axis that is looked at: all of it, but where a region is cropped.
double croppedPart(const RuleCall& call, std::size_t index, std::size_t count) {
    if (call.node.attributes.text("coordinate_transformation_mode") != "tf_crop_and_resize") return 1;
    const HostTensor* region = call.constant(1);
    if (!region || region->count() != static_cast<std::int64_t>(2 * count)) return -1;
    return region->at(index + count) - region->at(index);
}

/// Wanted sizes, but with one scale for all axes: the smallest, or the largest.
void keepAspect(const RuleCall& call, const Dims& in, const std::vector<std::size_t>& axes, Dims& dims) {
    const std::string policy = call.node.attributes.text("keep_aspect_ratio_policy", "stretch");
    if (policy == "stretch") return;
    double scale = -1;
    for (const std::size_t axis : axes) {
        if (in[axis] <= 0 || dims[axis] < 0) return;
        const double each = static_cast<double>(dims[axis]) / static_cast<double>(in[axis]);
        scale = scale < 0 ? each : policy == "not_larger" ? std::min(scale, each) : std::max(scale, each);
    }
    for (const std::size_t axis : axes) dims[axis] = rounded(scale * static_cast<double>(in[axis]) + 0.5);
}

void resize(RuleCall& call) {
    const ValueShape& in = call.in(0);
    if (!in.ranked) return call.setType(0, in.type);
    const bool old = call.node.is("Upsample") || (call.inputCount() == 2 && call.opset < 11);
    std::vector<std::size_t> axes;
    const auto* listed = call.node.attributes.integers("axes");
    for (std::size_t i = 0; i < (listed ? listed->size() : in.dims.size()); ++i)
        if (const auto axis = axisIn(listed ? (*listed)[i] : static_cast<std::int64_t>(i), in.dims.size())) axes.push_back(*axis);
    const auto sizes = !old && call.has(3) ? call.list(3, "") : std::nullopt;
    const std::vector<double> scales = scalesOf(call, old ? 1 : 2);
    Dims dims = in.dims;
    for (std::size_t i = 0; i < axes.size(); ++i) {
        Dim& dim = dims[axes[i]];
        const double part = croppedPart(call, i, axes.size());
        if (sizes) dim = entry(&*sizes, i, unknownDim);
        else if (scales.size() == axes.size() && dim >= 0 && part >= 0) dim = rounded(static_cast<double>(dim) * part * scales[i] + 1e-6);
        else dim = unknownDim;
    }
    if (sizes) keepAspect(call, in.dims, axes, dims);
    call.set(0, in.type, std::move(dims));
}

void determinant(RuleCall& call) {
    ValueShape out = call.in(0);
    if (!out.ranked || out.dims.size() < 2) return call.setType(0, out.type);
    out.dims.resize(out.dims.size() - 2);
    call.set(0, out);
}

/// Image N x C x sizes, and a grid N x sizes x axes that says where each point of the output lies.
void gridSample(RuleCall& call) {
    const ValueShape &in = call.in(0), &grid = call.in(1);
    if (!in.ranked && !grid.ranked) return call.setType(0, in.type);
    const std::size_t rank = in.ranked ? in.dims.size() : grid.dims.size();
    Dims dims{sizeAt(in, 0), sizeAt(in, 1)};
    if (dims[0] < 0) dims[0] = sizeAt(grid, 0);
    for (std::size_t i = 2; i < rank; ++i) dims.push_back(sizeAt(grid, i - 1));
    call.set(0, in.type, std::move(dims));
}

/// The size is that of an image, N x C x sizes; the grid has neither channels nor, at its end, more than an axis for each size.
void affineGrid(RuleCall& call) {
    const ValueShape &theta = call.in(0), &shape = call.in(1);
    const auto size = call.list(1, "");
    const Dim axes = size ? static_cast<Dim>(size->size()) - 2 : shape.ranked ? sizeAt(shape, 0) - 2 : sizeAt(theta, 1);
    if (axes < 1 || axes > 3) return call.setType(0, theta.type);
    Dims dims{size ? (*size)[0] : sizeAt(theta, 0)};
    for (Dim i = 0; i < axes; ++i) dims.push_back(size ? (*size)[static_cast<std::size_t>(i) + 2] : unknownDim);
    dims.push_back(axes);
    call.set(0, theta.type, std::move(dims));
}

void maxRoiPool(RuleCall& call) {
    const auto* size = call.node.attributes.integers("pooled_shape");
    call.set(0, call.in(0).type, {sizeAt(call.in(1), 0), sizeAt(call.in(0), 1), entry(size, 0, unknownDim), entry(size, 1, unknownDim)});
}

void roiAlign(RuleCall& call) {
    const Attributes& attributes = call.node.attributes;
    call.set(0, call.in(0).type, {sizeAt(call.in(1), 0), sizeAt(call.in(0), 1), attributes.integer("output_height", 1), attributes.integer("output_width", 1)});
}

void cropAndResize(RuleCall& call) {
    const auto size = call.list(3, "");
    call.set(0, call.in(0).type, {sizeAt(call.in(1), 0), sizeAt(call.in(0), 1), entry(size ? &*size : nullptr, 0, unknownDim), entry(size ? &*size : nullptr, 1, unknownDim)});
}

/// The reverse of a pool without dilation.
void maxUnpool(RuleCall& call) {
    const ValueShape& in = call.in(0);
    if (!in.ranked || in.dims.size() < 3) return call.setType(0, in.type);
    const auto given = call.has(2) ? call.list(2, "") : std::nullopt;
    if (given && given->size() == in.dims.size()) return call.set(0, in.type, *given);
    if (call.has(2)) return call.set(0, in.type, Dims(in.dims.size(), unknownDim));
    const Attributes& attributes = call.node.attributes;
    const auto *kernel = attributes.integers("kernel_shape"), *strides = attributes.integers("strides"), *pads = attributes.integers("pads");
    const std::size_t spatial = in.dims.size() - 2;
    Dims dims{in.dims[0], in.dims[1]};
    for (std::size_t i = 0; i < spatial; ++i) {
        const Dim size = in.dims[i + 2], width = modest(kernel, i, unknownDim);
        if (size < 1 || width < 0) dims.push_back(unknownDim);
        else dims.push_back(resized(times(size - 1, entry(strides, i, 1)), width - modest(pads, i, 0) - modest(pads, i + spatial, 0)));
    }
    call.set(0, in.type, std::move(dims));
}

/// N x (C * block) x blocks to N x C x image.
void columnsToImage(RuleCall& call) {
    const ValueShape &in = call.in(0), &shape = call.in(1);
    const auto image = call.list(1, ""), block = call.list(2, "");
    if (!image && !(shape.ranked && sizeAt(shape, 0) >= 1 && sizeAt(shape, 0) <= 16)) return call.setType(0, in.type);
    Dim area = block ? 1 : unknownDim;
    if (block)
        for (const std::int64_t size : *block) area = times(area, size);
    const Dim columns = sizeAt(in, 1);
    Dims dims{sizeAt(in, 0), columns >= 0 && area > 0 ? columns / area : unknownDim};
    if (image) dims.insert(dims.end(), image->begin(), image->end());
    else dims.resize(2 + static_cast<std::size_t>(shape.dims[0]), unknownDim);
    call.set(0, in.type, std::move(dims));
}

void centerCropPad(RuleCall& call) {
    const ValueShape& in = call.in(0);
    if (!in.ranked) return call.setType(0, in.type);
    const auto size = call.list(1, "");
    const auto* axes = call.node.attributes.integers("axes");
    Dims dims = in.dims;
    for (std::size_t i = 0; i < (axes ? axes->size() : dims.size()); ++i) {
        const auto axis = axisIn(axes ? (*axes)[i] : static_cast<std::int64_t>(i), dims.size());
        if (axis) dims[*axis] = size ? entry(&*size, i, unknownDim) : unknownDim;
    }
    call.set(0, in.type, std::move(dims));
}

void imageDecoder(RuleCall& call) {
    call.dataDependent = "the size of the image that it decodes";
    call.set(0, DataType::uint8, {unknownDim, unknownDim, call.node.attributes.text("pixel_format", "RGB") == "Grayscale" ? 1 : 3});
}

void nonMaxSuppression(RuleCall& call) {
    // None, where no box may be kept: the default.
    const auto most = call.has(2) ? call.integer(2) : std::optional<std::int64_t>(0);
    if (most && *most == 0) return call.set(0, DataType::int64, {0, 3});
    call.dataDependent = "as many as boxes are kept";
    call.set(0, DataType::int64, {unknownDim, 3});
}

/// com.microsoft: slices of one size, one after another along an axis.
void unfold(RuleCall& call) {
    ValueShape out = call.in(0);
    const auto axis = out.ranked ? axisIn(call.node.attributes.integer("dim", -1), out.dims.size()) : std::nullopt;
    const std::int64_t size = call.node.attributes.integer("size", unknownDim), step = call.node.attributes.integer("step", 1);
    if (!axis) return call.setType(0, out.type);
    Dim& along = out.dims[*axis];
    along = along < size || size < 0 || step < 1 ? unknownDim : (along - size) / step + 1;
    out.dims.push_back(std::max(size, unknownDim));
    call.set(0, out);
}

/// TRT, as detectors are exported for TensorRT: how many boxes are kept, and room for the most of them: boxes, scores, classes.
void efficientNms(RuleCall& call) {
    const Dim batch = sizeAt(call.in(0), 0), most = call.node.attributes.integer("max_output_boxes", unknownDim);
    const DataType type = call.in(0).type;
    call.set(0, DataType::int32, {batch, 1});
    call.set(1, type, {batch, most, 4});
    call.set(2, type, {batch, most});
    call.set(3, DataType::int32, {batch, most});
}

} // namespace

void addImageRules(RuleTable& table) {
    table["Resize"] = table["Upsample"] = resize;
    table["Det"] = determinant;
    table["GridSample"] = table["com.microsoft::GridSample"] = gridSample;
    table["AffineGrid"] = affineGrid;
    table["MaxRoiPool"] = maxRoiPool;
    table["RoiAlign"] = roiAlign;
    table["com.microsoft::CropAndResize"] = cropAndResize;
    table["MaxUnpool"] = maxUnpool;
    table["Col2Im"] = columnsToImage;
    table["CenterCropPad"] = centerCropPad;
    table["ImageDecoder"] = imageDecoder;
    table["NonMaxSuppression"] = nonMaxSuppression;
    table["com.microsoft::UnfoldTensor"] = unfold;
    table["TRT::EfficientNMS_TRT"] = efficientNms;
}

} // namespace triptych
