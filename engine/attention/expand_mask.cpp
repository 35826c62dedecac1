// Masks of opaque attention in explicit operators.

#include "attention/expand.h"

#include <limits>

namespace triptych {

ValueId OpaqueEmitter::cast(const std::string& role, ValueId value, DataType type) { return op(role, "Cast", {value}, {{"to", static_cast<std::int64_t>(type), {}}}); }

ValueId OpaqueEmitter::slice(const std::string& role, ValueId value, std::int64_t axis, std::int64_t begin, std::int64_t end, std::int64_t step) {
    using List = std::vector<std::int64_t>;
    if (m_emit.opset() < 10) return op(role, "Slice", {value}, {{"axes", List{axis}, {}}, {"starts", List{begin}, {}}, {"ends", List{end}, {}}});
    return op(role, "Slice", {value, list(role + "/begin", {begin}), list(role + "/end", {end}), list(role + "/axis", {axis}), list(role + "/step", {step})});
}

ValueId OpaqueEmitter::gather(const std::string& role, ValueId value, std::int64_t axis, std::int64_t index) {
    return op(role, "Gather", {value, number(role + "/index", DataType::int64, static_cast<double>(index))}, {{"axis", axis, {}}});
}

ValueId OpaqueEmitter::unsqueeze(const std::string& role, ValueId value, std::int64_t axis) {
    if (m_emit.opset() < 13) return op(role, "Unsqueeze", {value}, {{"axes", std::vector<std::int64_t>{axis}, {}}});
    return op(role, "Unsqueeze", {value, list(role + "/axis", {axis})});
}

ValueId OpaqueEmitter::reduced(const std::string& role, const char* type, ValueId value) {
    const std::int64_t sinceInput = type == std::string_view("ReduceSum") ? 13 : 18;
    if (m_emit.opset() < sinceInput) return op(role, type, {value}, {{"axes", std::vector<std::int64_t>{-1}, {}}});
    return op(role, type, {value, list(role + "/axis", {-1})});
}

ValueId OpaqueEmitter::sizeOf(const std::string& role, ValueId value, std::int64_t axis) {
    return op(role, "Gather", {op(role, "Shape", {value}), list(role + "/axis", {axis})});
}

ValueId OpaqueEmitter::upTo(const std::string& role, ValueId size) {
    if (m_emit.opset() < 11) { // no Range yet: where that many ones are
        const ValueId ones = op(role, "ConstantOfShape", {size}, {{"value", makeTensor("", {1}, std::vector<std::int64_t>{1}), {}}});
        return m_emit.reshape(role, op(role, "NonZero", {ones}), {-1});
    }
    const ValueId scalar = m_emit.reshape(role, size, {});
    return op(role, "Range", {number(role + "/zero", DataType::int64, 0), scalar, number(role + "/one", DataType::int64, 1)});
}

ValueId OpaqueEmitter::part(const std::string& role, ValueId value, std::int64_t axis, std::int64_t begin, std::int64_t length, const std::string& name) {
    const auto source = weightSource(m_call.graph, value);
    const bool absent = source && source->tensor->payload.place == Payload::Place::absent;
    const Dims dims = source ? source->tensor->dims : Dims();
    const auto at = static_cast<std::size_t>(source && source->transposed && dims.size() == 2 ? 1 - axis : axis);
    const bool fits = at < dims.size() && begin + length <= dims[at]; // a damaged file's may not
    if (fits && !(absent && m_call.sizes.forFile())) return m_emit.builder().addInitializer(cutTensor(*source, {{begin, length}}, static_cast<std::size_t>(axis), name));
    return slice(role, value, axis, begin, begin + length);
}

std::string MaskExpansion::unknown(const OpaqueCall& call) {
    if (call.standard() || call.grouped()) return {};
    const ValueId index = call.node.input(inputsOf(call.node).mask);
    if (!index) return {};
    const ValueShape& shape = call.sizes.shapes().of(index);
    const ValueShape& input = call.sizes.shapes().of(call.node.input(0));
    if (!shape.known() || !input.known() || input.dims.empty()) return "mask of unknown shape";
    const Dim batch = input.dims[0];
    // Under the bound sizes too: a free length can be 3B+2 by chance.
    const Dims &boundMask = call.shapes.of(index).dims, &boundInput = call.shapes.of(call.node.input(0)).dims;
    const bool cumulated = shape.dims.size() == 1 && shape.dims[0] == 3 * batch + 2 && boundMask.size() == 1 && !boundInput.empty() && boundMask[0] == 3 * boundInput[0] + 2;
    if (shape.dims.size() == 1 && shape.dims[0] != batch && shape.dims[0] != 2 * batch && !cumulated) return "packed list of sequence lengths";
    return {};
}

ValueId MaskExpansion::apply(ValueId scores, ValueId past, ValueId before) {
    if (m_call.standard()) return standard(scores, past);
    if (const auto options = m_call.bare()) return bare(scores, *options);
    if (m_call.node.input(inputsOf(m_call.node).global)) return banded(scores);
    if (const auto does = decoderSwitches(m_call.node, m_call.shapes)) { // true where a key is padding
        if (!does->padding) return scores;
        return hide(scores, m_emit.op("mask", "Not", {m_emit.unsqueeze("mask", m_emit.unsqueeze("mask", m_call.node.input(5), 1), 1)}), "mask");
    }
    return m_call.grouped() ? groupedQuery(scores, before) : classic(scores, past, before);
}

/// Scores where `shown`, minus infinity elsewhere.
ValueId MaskExpansion::hide(ValueId scores, ValueId shown, const char* role) {
    return m_emit.op(role, "Where", {shown, scores, m_emit.number("minus_infinity", m_type, -std::numeric_limits<double>::infinity())});
}

/// Position of each query: [S,1], or [B,1,S,1] where the offset has a batch; `offset` none: 0.
ValueId MaskExpansion::rows(ValueId scores, ValueId offset) {
    const ValueId counted = m_emit.base().reshape("rows", m_emit.upTo("rows", m_emit.sizeOf("rows", scores, 2)), {-1, 1});
    return offset ? m_emit.op("rows", "Add", {counted, offset}) : counted;
}

/// Position of each key: [T], or [B,1,1,T].
ValueId MaskExpansion::columns(ValueId scores) { return m_keys ? m_keys : m_emit.upTo("columns", m_emit.sizeOf("columns", scores, 3)); }

ValueId MaskExpansion::causal(ValueId scores, ValueId offset) {
    if (offset || m_emit.base().opset() < 14) {
        const ValueId later = m_emit.op("causal", "Less", {rows(scores, offset), columns(scores)});
        return hide(scores, m_emit.op("causal", "Not", {later}), "causal");
    }
    // Lower triangle of ones in the shape of the scores: no length is written into the file.
    const ValueId tail = m_emit.slice("causal", m_emit.op("causal", "Shape", {scores}), 0, 2, 4);
    const ValueId ones = m_emit.op("causal", "ConstantOfShape", {tail}, {{"value", makeTensor("", {1}, std::vector<std::int64_t>{1}), {}}});
    const ValueId lower = m_emit.op("causal", "Trilu", {ones}, {{"upper", std::int64_t(0), {}}});
    return hide(scores, m_emit.cast("causal", lower, DataType::boolean), "causal");
}

/// ai.onnx: at most `left` keys before and `right` keys behind a query's position.
ValueId MaskExpansion::windows(ValueId scores, ValueId offset) {
    for (const auto& [side, name] : {std::pair("left", "left_window_size"), std::pair("right", "right_window_size")}) {
        const std::int64_t size = m_call.node.attributes.integer(name, -1);
        const bool left = side[0] == 'l';
        if (size < 0 || (!left && m_call.node.attributes.integer("is_causal", 0) != 0)) continue; // no later key is seen as it is
        const ValueId at = rows(scores, offset), key = columns(scores);
        const ValueId apart = m_emit.op("window", "Sub", left ? std::vector<ValueId>{at, key} : std::vector<ValueId>{key, at});
        const ValueId far = m_emit.op("window", "Greater", {apart, m_emit.list(std::string("window/") + side, {size})});
        scores = hide(scores, m_emit.op("window", "Not", {far}), "window");
        m_mayHideAll = true;
    }
    return scores;
}

/// Whether a mask covers fewer keys than there are: it hides the rest. Before opset 24 one column stands for all keys.
bool MaskExpansion::shorterThanKeys(ValueId mask) const {
    const Shapes& shapes = m_call.sizes.shapes();
    const Dims& dims = shapes.of(mask).dims;
    const auto length = [&](ValueId value) {
        const Dims& axes = value ? shapes.of(value).dims : Dims{0, 0, 0};
        return axes.size() == 4 ? axes[2] : axes.size() == 3 ? axes[1] : unknownDim;
    };
    const bool stretched = m_emit.base().opset() < 24 && !dims.empty() && dims.back() == 1;
    return !dims.empty() && !stretched && dims.back() != length(m_call.node.input(1)) + length(m_call.node.input(4));
}

ValueId MaskExpansion::padded(ValueId floats, ValueId mask, ValueId scores, ValueId fill) {
    const std::size_t rank = m_call.rankOf(mask);
    const ValueId size = m_emit.sizeOf("mask", mask, static_cast<std::int64_t>(rank) - 1);
    ValueId missing = m_emit.op("mask", "Sub", {m_emit.sizeOf("mask", scores, 3), size});
    if (m_call.microsoft() || m_emit.base().opset() < 24) { // a size that is free may be 1
        const ValueId one = m_emit.op("mask", "Equal", {size, m_emit.list("mask/one", {1})});
        missing = m_emit.op("mask", "Where", {one, m_emit.list("mask/none", {0}), missing});
    }
    const ValueId pads = m_emit.op("mask", "Concat", {m_emit.list("mask/no_pads", std::vector<std::int64_t>(2 * rank - 1, 0)), missing}, {{"axis", std::int64_t(0), {}}});
    return m_emit.op("mask", "Pad", {floats, pads, fill});
}

ValueId MaskExpansion::standard(ValueId scores, ValueId past) {
    const Node& node = m_call.node;
    const ValueId mask = node.input(3), lengths = node.input(6);
    const bool byPosition = node.attributes.integer("is_causal", 0) != 0 || node.attributes.integer("left_window_size", -1) >= 0 || node.attributes.integer("right_window_size", -1) >= 0;
    ValueId offset, counts;
    if (lengths) counts = m_emit.base().reshape("lengths", lengths, {-1, 1, 1, 1});
    if (byPosition && lengths) offset = m_emit.op("lengths", "Sub", {counts, m_emit.sizeOf("lengths", scores, 2)});
    else if (byPosition && past) offset = m_emit.sizeOf("past", past, 2);
    if (mask) {
        m_mayHideAll = true;
        const bool boolean = m_call.shapes.of(mask).type == DataType::boolean, shorter = shorterThanKeys(mask);
        const bool otherType = !boolean && m_call.shapes.of(mask).type != m_type;
        ValueId added = otherType ? m_emit.cast("mask", mask, m_type) : mask;
        if (boolean && shorter) added = m_emit.op("mask", "Where", {mask, m_emit.number("zero", m_type, 0), m_emit.number("minus_infinity", m_type, -std::numeric_limits<double>::infinity())});
        if (shorter) added = padded(added, mask, scores, m_emit.number("minus_infinity", m_type, -std::numeric_limits<double>::infinity()));
        scores = boolean && !shorter ? hide(scores, mask, "mask") : m_emit.op("mask", "Add", {scores, added});
    }
    if (node.attributes.integer("is_causal", 0) != 0) scores = causal(scores, offset);
    scores = windows(scores, offset);
    if (lengths) {
        m_mayHideAll = true;
        scores = hide(scores, m_emit.op("lengths", "Less", {columns(scores), counts}), "lengths");
    }
    return scores;
}

ValueId MaskExpansion::bare(ValueId scores, const BareAttention& options) {
    if (options.mask) {
        m_mayHideAll = true;
        const DataType type = m_call.shapes.of(options.mask).type;
        if (type == DataType::boolean) scores = hide(scores, options.mask, "mask");
        else scores = m_emit.op("mask", "Add", {scores, type == m_type ? options.mask : m_emit.cast("mask", options.mask, m_type)});
    }
    return options.causal ? causal(scores, {}) : scores;
}

/// com.microsoft: hidden keys get a large negative number, not minus infinity.
ValueId MaskExpansion::filtered(ValueId scores, ValueId shown) {
    const double filter = m_call.node.attributes.real("mask_filter_value", -10000);
    const ValueId bias = m_emit.op("mask", "Where", {shown, m_emit.number("zero", m_type, 0), m_emit.number("mask_filter", m_type, filter)});
    return m_emit.op("mask", "Add", {scores, bias});
}

/// Keys between the begins and ends that a list holds: [B] ends; [2B] ends, then begins; [3B+2] ends, then sums of lengths.
ValueId MaskExpansion::ranged(ValueId scores, ValueId list, Dim length) {
    const ValueId input = m_call.node.input(0);
    const Dim batch = m_call.sizes.shapes().of(input).dims[0];
    const auto below = [&](ValueId limits) { return m_emit.op("mask", "Less", {columns(scores), m_emit.base().reshape("mask", limits, {-1, 1, 1, 1})}); };
    if (length == batch) return below(list);
    if (length != 2 * batch) return below(m_emit.op("mask", "Slice", {list, m_emit.list("mask/begin", {0}), m_emit.sizeOf("mask", input, 0), m_emit.list("mask/axis", {0})}));
    const ValueId halves = m_emit.base().reshape("mask", list, {2, -1});
    // One condition for both: a key that is hidden twice is filtered once.
    const ValueId begun = m_emit.op("mask", "Not", {below(m_emit.gather("mask", halves, 0, 1))});
    return m_emit.op("mask", "And", {below(m_emit.gather("mask", halves, 0, 0)), begun});
}

ValueId MaskExpansion::ownSequence(ValueId scores) {
    const ValueId sums = m_emit.cast("lengths", m_call.node.input(inputsOf(m_call.node).tokens + 1), DataType::int64);
    const ValueId lengths = m_emit.op("lengths", "Sub", {m_emit.slice("lengths", sums, 0, 1, std::numeric_limits<std::int64_t>::max()), m_emit.slice("lengths", sums, 0, 0, -1)});
    return hide(scores, m_emit.op("lengths", "Less", {columns(scores), m_emit.base().reshape("lengths", lengths, {-1, 1, 1, 1})}), "lengths");
}

ValueId MaskExpansion::classic(ValueId scores, ValueId past, ValueId before) {
    const Node& node = m_call.node;
    const OpaqueInputs inputs = inputsOf(node);
    const ValueId index = node.input(inputs.mask), bias = node.input(inputs.attentionBias);
    if (bias) scores = m_emit.op("bias", "Add", {scores, bias});
    const Dims dims = index ? m_call.sizes.shapes().of(index).dims : Dims();
    const bool dummy = hasPackedWeight(node) && dims.size() == 2 && dims[1] == 1; // the operator takes it for no mask
    if (node.input(inputs.tokens)) return ownSequence(scores);
    const auto offset = [&](const char* role) { return before ? before : past ? m_emit.sizeOf(role, past, 2) : ValueId(); };
    if (index && !dummy) {
        const auto positive = [&](ValueId value) {
            const DataType type = m_call.shapes.of(index).type;
            return type == DataType::boolean ? value : m_emit.op("mask", "Greater", {value, m_emit.number("none", type, 0)});
        };
        if (dims.size() == 1) {
            scores = filtered(scores, ranged(scores, m_emit.cast("mask", index, DataType::int64), dims[0]));
        } else if (dims.size() == 2) {
            scores = filtered(scores, m_emit.unsqueeze("mask", m_emit.unsqueeze("mask", positive(index), 1), 1));
        } else if (dims.size() == 3) {
            scores = filtered(scores, m_emit.unsqueeze("mask", positive(index), 1));
        } else {
            // [B,1,M,M] for the longest sequence: rows begin behind the past.
            const ValueId counted = offset("mask"), from = counted ? counted : m_emit.list("mask/from", {0});
            const ValueId to = m_emit.op("mask", "Add", {from, m_emit.sizeOf("mask", scores, 2)});
            const ValueId lines = m_emit.op("mask", "Slice", {positive(index), from, to, m_emit.list("mask/rows", {2})});
            scores = filtered(scores, m_emit.op("mask", "Slice", {lines, m_emit.list("mask/from", {0}), m_emit.sizeOf("mask", scores, 3), m_emit.list("mask/columns", {3})}));
        }
    }
    if (node.attributes.integer("unidirectional", 0) == 0) return scores;
    return causal(scores, offset("past"));
}

/// What a bias with a place for each position has for the keys, where they are some of them.
ValueId MaskExpansion::atKeys(ValueId bias, ValueId scores) {
    const ValueId lengths = m_emit.op("bias", "Concat", {m_emit.slice("bias", m_emit.op("bias", "Shape", {scores}), 0, 0, 3), m_emit.list("bias/any", {1})}, {{"axis", std::int64_t(0), {}}});
    const ValueId within = m_emit.op("bias", "Where", {m_emit.op("bias", "Less", {m_keys, m_emit.sizeOf("bias", bias, 3)}), m_keys, m_emit.list("bias/first", {0})});
    return m_emit.op("bias", "GatherElements", {m_emit.op("bias", "Expand", {bias, lengths}), m_emit.op("bias", "Expand", {within, lengths})}, {{"axis", std::int64_t(3), {}}});
}

/// SparseAttention: which blocks of keys each row of blocks sees, as [N,R,R]. A layout has a list of them, and where the list begins for
/// each row; heads have the layouts in turns. Source: ContribOperators.md.
ValueId MaskExpansion::tableOfBlocks() {
    const std::size_t first = inputsOf(m_call.node).blocks;
    const ValueId begins = m_emit.cast("blocks", m_call.node.input(first), DataType::int64), list = m_emit.cast("blocks", m_call.node.input(first + 1), DataType::int64);
    const ValueId begin = m_emit.unsqueeze("blocks", m_emit.slice("blocks", begins, 1, 0, -1), 2);
    const ValueId end = m_emit.unsqueeze("blocks", m_emit.slice("blocks", begins, 1, 1, std::numeric_limits<std::int64_t>::max()), 2);
    const ValueId count = m_emit.sizeOf("blocks", begin, 1), none = m_emit.list("blocks/none", {0});
    // A row lists as many blocks as there are at most; what is no part of it goes to a column that is cut off again.
    const ValueId place = m_emit.op("blocks", "Add", {begin, m_emit.upTo("blocks", count)}), used = m_emit.op("blocks", "Less", {place, end});
    const ValueId flat = m_emit.base().reshape("blocks", m_emit.op("blocks", "Where", {used, place, none}), {0, -1});
    const ValueId listed = m_emit.op("blocks", "Reshape", {m_emit.op("blocks", "GatherElements", {list, flat}, {{"axis", std::int64_t(1), {}}}), m_emit.op("blocks", "Shape", {place})});
    const ValueId column = m_emit.op("blocks", "Where", {used, listed, count});
    const ValueId square = m_emit.op("blocks", "Shape", {place}), wider = m_emit.op("blocks", "Add", {square, m_emit.list("blocks/wider", {0, 0, 1})});
    const auto filled = [&](const char* name, double value, ValueId shape) { return m_emit.op("blocks", "Expand", {m_emit.number(name, DataType::int64, value), shape}); };
    const ValueId all = m_emit.op("blocks", "ScatterElements", {filled("blocks/hidden", 0, wider), column, filled("blocks/shown", 1, square)}, {{"axis", std::int64_t(2), {}}});
    const ValueId table = m_emit.cast("blocks", m_emit.slice("blocks", all, 2, 0, -1), DataType::boolean);
    const Dims& layouts = m_call.shapes.of(m_call.node.input(first)).dims;
    std::vector<std::int64_t> own;
    for (std::int64_t head = 0; head < m_call.spec.heads; ++head) own.push_back(head % layouts[0]);
    return m_emit.op("blocks", "Gather", {table, m_emit.list("blocks/layouts", own)}, {{"axis", std::int64_t(0), {}}});
}

/// Keys in blocks that the query's own block sees.
ValueId MaskExpansion::blocks(ValueId scores, ValueId before) {
    const ValueId size = m_emit.list("blocks/size", {m_call.node.attributes.integer("sparse_block_size", 1)}), table = tableOfBlocks();
    const ValueId row = m_emit.base().reshape("blocks", m_emit.op("blocks", "Div", {rows(scores, before), size}), {0, -1});
    const ValueId column = m_emit.op("blocks", "Div", {columns(scores), size});
    // A buffer may have places behind the last block; no query sees them.
    const ValueId within = m_emit.op("blocks", "Where", {m_emit.op("blocks", "Less", {column, m_emit.sizeOf("blocks", table, 2)}), column, m_emit.list("blocks/none", {0})});
    const ValueId lines = m_emit.op("blocks", "Gather", {table, row}, {{"axis", std::int64_t(1), {}}}); // [N,B,S,R]
    const ValueId shown = m_emit.op("blocks", "Gather", {lines, within}, {{"axis", std::int64_t(3), {}}});
    return hide(scores, m_emit.base().transpose("blocks", shown, {1, 0, 2, 3}), "blocks");
}

ValueId MaskExpansion::groupedQuery(ValueId scores, ValueId before) {
    const std::int64_t window = m_call.node.attributes.integer("local_window_size", -1);
    if (ValueId bias = m_call.node.input(inputsOf(m_call.node).attentionBias)) {
        // A buffer of keys may have more places than there are keys: what lies behind them is hidden.
        if (m_keys) bias = atKeys(bias, scores);
        else if (m_call.node.input(3)) bias = padded(bias, bias, scores, m_emit.number("no_bias", m_type, 0));
        scores = m_emit.op("bias", "Add", {scores, bias});
    }
    if (m_call.node.input(inputsOf(m_call.node).blocks)) scores = blocks(scores, before);
    if (m_filled) scores = hide(scores, m_filled, "lengths");
    if (hidesLaterKeys(m_call.node)) {
        scores = causal(scores, before);
    } else if (!m_filled) { // each sequence as far as it goes
        const ValueId last = m_emit.base().reshape("lengths", m_emit.cast("lengths", m_call.node.input(5), DataType::int64), {-1, 1, 1, 1});
        scores = hide(scores, m_emit.op("lengths", "Not", {m_emit.op("lengths", "Less", {last, columns(scores)})}), "lengths");
    }
    if (window <= 0) return scores;
    const ValueId apart = m_emit.op("window", "Sub", {rows(scores, before), columns(scores)});
    return hide(scores, m_emit.op("window", "Less", {apart, m_emit.list("window/size", {window})}), "window");
}

} // namespace triptych
