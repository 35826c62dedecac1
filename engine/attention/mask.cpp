#include "attention/mask.h"

#include "attention/mask_pattern.h"
#include "reference/evaluate.h"

#include <cmath>

namespace triptych {

namespace {

constexpr std::int64_t largestMask = std::int64_t(1) << 20;
constexpr int deepest = 60;

} // namespace

TensorPtr MaskReader::givenTensor(ValueId value) const {
    if (const TensorPtr& tensor = m_graph.value(value).initializer) return tensor;
    // A large Constant lies in the file, as an initializer does.
    const NodeId maker = m_graph.producer(value);
    return maker && m_graph.node(maker).is("Constant") ? m_graph.node(maker).attributes.tensor("value") : nullptr;
}

const HostTensor* MaskReader::content(ValueId value, int depth) {
    if (const HostTensor* folded = m_shapes.constant(value)) return folded;
    if (const auto found = m_content.find(value); found != m_content.end()) return found->second.get();
    m_content[value] = nullptr;
    const ValueShape& shape = m_shapes.of(value);
    if (depth > deepest || !m_shapes.isConstant(value) || !shape.known() || shape.count() > largestMask) return nullptr;
    const NodeId maker = m_graph.producer(value);
    if (const TensorPtr tensor = givenTensor(value)) {
        const auto size = tensor->byteSize();
        const auto bytes = readPayload(m_model, *tensor);
        if (!bytes || !size || bytes->size() != *size) return nullptr;
        m_content[value] = std::make_shared<HostTensor>(decodeTensor(tensor->type, tensor->dims, *bytes));
        return m_content[value].get();
    }
    if (!maker || !canFold(m_graph.node(maker))) return nullptr;
    const Node& node = m_graph.node(maker);
    if (const TensorPtr whole = node.is("Slice") ? givenTensor(node.input(0)) : nullptr; whole && elementCount(whole->dims).value_or(0) > largestMask)
        return (m_content[value] = sliceOf(node, *whole)).get();
    std::vector<const HostTensor*> inputs;
    for (const ValueId input : node.inputs) {
        inputs.push_back(input ? content(input, depth + 1) : nullptr);
        if (input && !inputs.back()) return nullptr;
    }
    auto outputs = evaluateNode(node, inputs, node.version(m_model.opsets, 1), largestMask);
    if (!outputs) return nullptr;
    for (std::size_t i = 0; i < outputs->size() && i < node.outputs.size(); ++i)
        if (node.outputs[i] == value) m_content[value] = std::make_shared<HostTensor>(std::move((*outputs)[i]));
    return m_content[value].get();
}

// An additive constant that grades what it leaves is a bias of positions that was folded with its table; a mask has two numbers.
void MaskReader::grade(const HostTensor& mask, MaskFacts& facts) {
    if (mask.isInteger() || mask.dims.size() < 2) return;
    if (isFoldedAlibi(mask)) {
        facts.alibi = true;
        return;
    }
    std::set<double> numbers;
    for (std::size_t i = 0; i < static_cast<std::size_t>(mask.count()) && numbers.size() < 3; ++i)
        if (std::isfinite(mask.at(i))) numbers.insert(mask.at(i));
    facts.learned = facts.learned || numbers.size() > 2;
}

/// The axis of keys, which is the last one but for single ones (where batch and heads stand behind), and the one of queries: the nearest before it that is no single row.
MaskReader::Area MaskReader::areaOf(Dims dims) {
    Area area;
    while (dims.size() > 2 && dims.back() == 1) dims.pop_back();
    if (dims.size() < 2) return area;
    area.columns = dims.back();
    for (std::size_t i = dims.size() - 1; i-- > 0 && area.rows == 1;) area.rows = dims[i];
    return area;
}

void MaskReader::judge(const HostTensor& mask, MaskFacts& facts) {
    if (mask.dims.size() < 2) return;
    const auto [rows, columns] = areaOf(mask.dims);
    const MaskPattern pattern = patternOf(mask, rows, columns);
    facts.causal = facts.causal || pattern.causal;
    facts.window = facts.window || pattern.window;
    facts.blockSparse = facts.blockSparse || pattern.blockSparse;
}

/// A product with a row of slopes, one for each head.
bool MaskReader::slopes(const Node& node) {
    if (!node.is("Mul")) return false;
    for (const ValueId input : node.inputs) {
        const ValueShape& shape = m_shapes.of(input);
        if (!input || !m_shapes.isConstant(input) || !shape.known() || shape.count() < 2 || shape.count() > 1024) continue;
        const HostTensor* row = content(input, 0);
        if (!row || row->isInteger()) continue;
        std::vector<double> numbers;
        for (std::size_t i = 0; i < static_cast<std::size_t>(row->count()); ++i) numbers.push_back(row->at(i));
        if (areSlopes(numbers)) return true;
    }
    return false;
}

/// What a constant says; its values where they can be read.
void MaskReader::visitConstant(ValueId value, Area area, MaskFacts& facts) {
    const ValueShape& shape = m_shapes.of(value);
    const std::size_t rank = shape.ranked ? shape.dims.size() : 0;
    // A mask may be cut out of a larger one; what is smaller only stretches along a side.
    if (rank < 2) return;
    const Area own = areaOf(shape.dims);
    const bool heads = rank >= 3 && shape.dims[rank - 3] > 1 && own.columns >= area.columns && !facts.boolean; // one row for all queries
    if (!heads && (area.rows < 2 || own.rows < area.rows || own.columns < area.columns)) return;
    const HostTensor* mask = content(value, 0);
    std::shared_ptr<const HostTensor> corner;
    if (const TensorPtr tensor = shape.known() && shape.count() > largestMask ? givenTensor(value) : nullptr) mask = (corner = cornerOf(*tensor)).get();
    if (mask && heads && isFoldedAlibi(*mask)) facts.alibi = true;
    if (area.rows < 2 || own.rows < area.rows || own.columns < area.columns) return;
    if (mask) {
        judge(*mask, facts);
        if (!facts.boolean) grade(*mask, facts);
        return;
    }
    // What differs by head or window is a bias or a window's mask: causality is the same for all.
    bool same = true;
    for (std::size_t i = 0; i + 2 < rank; ++i) same = same && shape.dims[i] == 1;
    if (same) facts.unknown = true;
    else facts.learned = true;
}

void MaskReader::visit(ValueId value, int depth, Area area, std::set<ValueId>& seen, MaskFacts& facts) {
    if (!value || depth > deepest || !seen.insert(value).second) return;
    const NodeId id = m_graph.producer(value);
    if (id && slopes(m_graph.node(id))) {
        facts.alibi = true;
        return;
    }
    if (m_shapes.isConstant(value)) return visitGiven(value, depth, area, facts);
    if (id) return visitNode(m_graph.node(id), depth, area, seen, facts);
    facts.fromInput = facts.fromInput || m_graph.isInput(value) || !m_graph.value(value).initializer;
}

/// What does not depend on what is fed.
void MaskReader::visitGiven(ValueId value, int depth, Area area, MaskFacts& facts) {
    if (isOneComparison(value, facts)) return;
    // A window that is wider than the bound length, and blocks that are, still show in how the mask is made.
    MaskFacts made;
    comparisons(value, depth, made);
    const bool causal = facts.causal;
    visitConstant(value, area, facts);
    // Between a block of queries and the keys round it values leave open which key is a query's own.
    if (made.later && !made.causal) facts.causal = causal;
    facts.window = facts.window || made.window;
    facts.blockSparse = facts.blockSparse || made.blockSparse;
}

void MaskReader::visitNode(const Node& node, int depth, Area area, std::set<ValueId>& seen, MaskFacts& facts) {
    if (node.is("Trilu") && node.attributes.integer("upper", 1) == 0) facts.causal = true;
    compared(node, facts);
    if (node.is("Gather") && isPicked(node, depth, area, facts)) return;
    if (node.is("com.microsoft", "RelativePositionBias") || node.is("com.microsoft", "GatedRelativePositionBias")) {
        facts.learned = true;
        return;
    }
    if (node.is("MatMul") || node.is("Einsum") || node.is("Gemm")) { // computed scores, as of decomposed relative positions
        if (m_shapes.isConstant(node.input(0)) != m_shapes.isConstant(node.input(1))) facts.products.push_back(m_graph.producer(node.output()));
        return;
    }
    // What chooses between two that are computed hides neither.
    const bool chooses = node.is("Where") && !m_shapes.isConstant(node.input(1)) && !m_shapes.isConstant(node.input(2));
    // Masks of some keys beside those of others.
    const bool beside = node.is("Concat") && (node.attributes.integer("axis", 0) == -1 || node.attributes.integer("axis", 0) + 1 == static_cast<std::int64_t>(m_shapes.of(node.output()).dims.size()));
    for (std::size_t i = chooses ? 1 : 0; i < node.inputs.size(); ++i) visit(node.input(i), depth + 1, beside && m_shapes.of(node.input(i)).ranked ? areaOf(m_shapes.of(node.input(i)).dims) : area, seen, facts);
}

/// What is gathered from a constant: a table's number for each pair of places, or the rows of a mask of all positions that there may be.
bool MaskReader::isPicked(const Node& gather, int depth, Area area, MaskFacts& facts) {
    const ValueId table = gather.input(0);
    const ValueShape& shape = m_shapes.of(table);
    if (!m_shapes.isConstant(table) || !shape.known()) return false;
    const auto rank = static_cast<std::int64_t>(shape.dims.size());
    const std::int64_t axis = gather.attributes.integer("axis", 0);
    if (rank >= 2 && (axis < 0 ? axis + rank : axis) == rank - 2 && shape.dims.back() == area.columns) {
        MaskFacts rows;
        rows.boolean = shape.type == DataType::boolean;
        visitGiven(table, depth, areaOf(shape.dims), rows);
        facts.causal = facts.causal || rows.causal;
        facts.window = facts.window || rows.window;
        facts.blockSparse = facts.blockSparse || rows.blockSparse;
        // Without its values a square of all positions is rather a mask than a table of distances.
        const bool absent = rows.unknown && (rows.boolean || shape.dims[shape.dims.size() - 2] == shape.dims.back());
        facts.unknown = facts.unknown || absent;
        if (rows.boolean || rows.causal || rows.window || rows.blockSparse || absent) return false; // the positions may be fed
    }
    if (shape.type == DataType::boolean || (rank < 2 && m_shapes.constant(table))) return false;
    facts.learned = true;
    return true;
}

MaskFacts MaskReader::facts(ValueId mask) {
    if (const auto found = m_known.find(mask); found != m_known.end()) return found->second;
    MaskFacts facts;
    const ValueShape& shape = m_shapes.of(mask);
    facts.boolean = shape.type == DataType::boolean;
    const Area area = shape.ranked ? areaOf(shape.dims) : Area();
    std::set<ValueId> seen;
    m_compared.clear();
    visit(mask, 0, area, seen, facts);
    m_known[mask] = facts;
    return facts;
}

} // namespace triptych
