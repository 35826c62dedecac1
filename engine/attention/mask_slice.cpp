// Part of a buffer that is too large to be looked at as a whole: the triangle of all positions that a model may ever have.

#include "attention/mask.h"

#include <cstring>

namespace triptych {

/// What a Slice takes of a tensor, read without decoding the rest; null where that isn't plain.
std::shared_ptr<const HostTensor> MaskReader::sliceOf(const Node& slice, const Tensor& tensor) const {
    const ValueId from = slice.input(0), to = slice.output();
    ColumnView view = ColumnView::whole(tensor.dims);
    return applyView(m_shapes, view, slice, from, to) ? partOf(tensor, view, m_shapes.of(to).dims) : nullptr;
}

/// The first positions of a triangle of all.
std::shared_ptr<const HostTensor> MaskReader::cornerOf(const Tensor& tensor) const {
    constexpr Dim most = 512;
    ColumnView view = ColumnView::whole(tensor.dims);
    Dims dims = tensor.dims;
    for (std::size_t i = 0; i < dims.size(); ++i) {
        if (view.axes[i].empty()) continue;
        dims[i] = view.axes[i].front().size = std::min(dims[i], i + 2 < dims.size() ? Dim(1) : most);
    }
    return partOf(tensor, view, dims);
}

std::shared_ptr<const HostTensor> MaskReader::partOf(const Tensor& tensor, const ColumnView& view, const Dims& dims) const {
    constexpr std::uint64_t mostBytes = std::uint64_t(64) << 20;
    const auto size = tensor.byteSize();
    const std::size_t width = static_cast<std::size_t>(bitsOf(tensor.type)) / 8;
    if (!size || *size > mostBytes || width == 0 || bitsOf(tensor.type) % 8 != 0) return nullptr;
    std::vector<std::size_t> offsets{static_cast<std::size_t>(view.offset)};
    for (const auto& axis : view.axes) {
        const ColumnView::Factor factor = axis.empty() ? ColumnView::Factor() : axis.front();
        if (factor.stride < 0 || axis.size() > 1) return nullptr;
        std::vector<std::size_t> more;
        for (const std::size_t offset : offsets)
            for (std::int64_t i = 0; i < factor.size; ++i) more.push_back(offset + static_cast<std::size_t>(i * factor.stride));
        offsets = std::move(more);
    }
    const auto bytes = readPayload(m_model, tensor);
    if (!bytes || bytes->size() != *size) return nullptr;
    std::vector<std::byte> part(offsets.size() * width);
    for (std::size_t i = 0; i < offsets.size(); ++i) {
        if ((offsets[i] + 1) * width > bytes->size()) return nullptr;
        std::memcpy(part.data() + i * width, bytes->data() + offsets[i] * width, width);
    }
    return std::make_shared<const HostTensor>(decodeTensor(tensor.type, dims, part));
}

} // namespace triptych
