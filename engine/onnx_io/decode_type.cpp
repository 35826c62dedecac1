// TypeProto and ValueInfoProto.

#include "onnx_io/decode.h"

namespace triptych {

namespace {

using Kind = WireField::Kind;

} // namespace

DeclaredType Decoder::type(std::span<const std::byte> message) {
    DeclaredType declared;
    bool isOther = false;
    WireReader reader(message);
    for (WireField field; reader.next(field);) {
        if (field.kind != Kind::bytes) continue;
        switch (field.number) {
        case 1: declared.kind = "tensor"; break;
        case 4: declared.kind = "sequence"; break;
        case 5: declared.kind = "map"; break;
        case 8: declared.kind = "sparse_tensor"; break;
        case 9: declared.kind = "optional"; break;
        default: continue;
        }
        if (field.number == 1 || field.number == 8) {
            tensorType(field.bytes, declared);
            continue;
        }
        isOther = true;
        if (declared.kind != "map") elementType(field.bytes, declared);
    }
    if (isOther) declared.other = std::make_shared<const std::string>(reinterpret_cast<const char*>(message.data()), message.size());
    return declared;
}

/// TypeProto.Tensor and TypeProto.SparseTensor.
void Decoder::tensorType(std::span<const std::byte> message, DeclaredType& declared) {
    WireReader tensor(message);
    for (WireField part; tensor.next(part);) {
        if (part.number == 1) {
            declared.type = typeNumbered(part.integer);
            if (!isKnown(declared.type) && part.integer != 0) m_odd.insert("element type " + std::to_string(part.integer) + " is unknown");
        }
        if (part.number != 2 || part.kind != Kind::bytes) continue;
        declared.hasShape = true;
        WireReader shape(part.bytes);
        for (WireField dim; shape.next(dim);) {
            if (dim.number != 1 || dim.kind != Kind::bytes || declared.dims.size() > highestRank) continue;
            Dim size = unknownDim;
            std::string symbol;
            WireReader inner(dim.bytes);
            for (WireField value; inner.next(value);) {
                if (value.number == 1 && value.kind == Kind::varint) size = value.whole();
                if (value.number == 2 && value.kind == Kind::bytes) symbol = cleanText(value.text());
            }
            if (size < unknownDim) m_odd.insert("size " + std::to_string(size) + " is taken as free");
            declared.dims.push_back(std::max(size, unknownDim));
            declared.symbols.push_back(std::move(symbol));
        }
        if (declared.dims.size() > highestRank) { // no tensor has as many axes
            declared.hasShape = false;
            declared.dims.clear();
            declared.symbols.clear();
        }
    }
}

/// The element of TypeProto.Sequence and TypeProto.Optional, as far as it is a tensor: innermost where they are nested.
void Decoder::elementType(std::span<const std::byte> message, DeclaredType& declared) {
    WireReader outer(message);
    for (WireField element; outer.next(element);) {
        if (element.number != 1 || element.kind != Kind::bytes) continue;
        WireReader type(element.bytes);
        for (WireField field; type.next(field);) {
            if (field.kind != Kind::bytes) continue;
            if (field.number == 1) tensorType(field.bytes, declared);
            if (field.number != 4) continue;
            // An optional sequence is followed as a sequence is; what lies deeper isn't. Its kind is told first: it ends the recursion.
            const bool optional = declared.kind == "optional";
            declared.kind = optional ? "sequence" : "";
            if (optional) elementType(field.bytes, declared);
        }
    }
}

void Decoder::contradicts(const DeclaredType& declared, const Tensor& initializer) {
    if (declared.type != DataType::undefined && declared.type != initializer.type)
        warn("the file declares " + std::string(shortName(declared.type)) + " for '" + initializer.name + "', but its initializer is " + std::string(shortName(initializer.type)));
    bool differs = declared.hasShape && declared.dims.size() != initializer.dims.size();
    for (std::size_t i = 0; declared.hasShape && !differs && i < declared.dims.size(); ++i) differs = declared.dims[i] >= 0 && declared.dims[i] != initializer.dims[i];
    if (differs) warn("the file declares " + dimsText(declared.dims) + " for '" + initializer.name + "', but its initializer is " + dimsText(initializer.dims));
}

std::pair<std::string, DeclaredType> Decoder::valueInfo(std::span<const std::byte> message) {
    std::pair<std::string, DeclaredType> found;
    WireReader reader(message);
    for (WireField field; reader.next(field);) {
        if (field.kind != Kind::bytes) continue;
        if (field.number == 1) found.first = cleanText(field.text());
        if (field.number == 2) found.second = type(field.bytes);
    }
    for (const std::string& odd : m_odd) warn("'" + found.first + "': its declared " + odd);
    m_odd.clear();
    return found;
}

} // namespace triptych
