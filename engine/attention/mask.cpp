#include "attention/mask.h"

#include "reference/evaluate.h"

#include <cmath>

namespace triptych {

namespace {

constexpr std::int64_t largestMask = std::int64_t(1) << 20;
constexpr int deepest = 60;

} // namespace

const HostTensor* MaskReader::content(ValueId value, int depth) {
    if (const HostTensor* folded = m_shapes.constant(value)) return folded;
    if (const auto found = m_content.find(value); found != m_content.end()) return found->second.get();
    m_content[value] = nullptr;
    const ValueShape& shape = m_shapes.of(value);
    if (depth > deepest || !m_shapes.isConstant(value) || !shape.known() || shape.count() > largestMask) return nullptr;
    const NodeId maker = m_graph.producer(value);
    TensorPtr tensor = m_graph.value(value).initializer;
    // A large Constant lies in the file, as an initializer does.
    if (!tensor && maker && m_graph.node(maker).is("Constant")) tensor = m_graph.node(maker).attributes.tensor("value");
    if (tensor) {
        const auto size = tensor->byteSize();
        const auto bytes = readPayload(m_model, *tensor);
        if (!bytes || !size || bytes->size() != *size) return nullptr;
        m_content[value] = std::make_shared<HostTensor>(decodeTensor(tensor->type, tensor->dims, *bytes));
        return m_content[value].get();
    }
    if (!maker || !canFold(m_graph.node(maker))) return nullptr;
    const Node& node = m_graph.node(maker);
    std::vector<const HostTensor*> inputs;
    for (const ValueId input : node.inputs) {
        inputs.push_back(input ? content(input, depth + 1) : nullptr);
        if (input && !inputs.back()) return nullptr;
    }
    const auto opset = m_model.opsets.find(node.domain);
    auto outputs = evaluateNode(node, inputs, opset == m_model.opsets.end() ? 1 : opset->second, largestMask);
    if (!outputs) return nullptr;
    for (std::size_t i = 0; i < outputs->size() && i < node.outputs.size(); ++i)
        if (node.outputs[i] == value) m_content[value] = std::make_shared<HostTensor>(std::move((*outputs)[i]));
    return m_content[value].get();
}

// An additive constant that grades what it leaves is a bias of positions that was folded with its table; a mask has two numbers.
void MaskReader::grade(const HostTensor& mask, MaskFacts& facts) const {
    if (mask.isInteger() || mask.dims.size() < 2) return;
    std::set<double> numbers;
    for (std::size_t i = 0; i < static_cast<std::size_t>(mask.count()) && numbers.size() < 3; ++i)
        if (std::isfinite(mask.at(i))) numbers.insert(mask.at(i));
    facts.learned = facts.learned || numbers.size() > 2;
}

/// The last axis and the one of queries: the nearest before it that is no single row.
MaskReader::Area MaskReader::areaOf(const Dims& dims) {
    Area area;
    if (dims.size() < 2) return area;
    area.columns = dims.back();
    for (std::size_t i = dims.size() - 1; i-- > 0 && area.rows == 1;) area.rows = dims[i];
    return area;
}

// Causal: every row (query) treats the keys after it in one way, and no key up to it that way. A window cuts far keys off too.
void MaskReader::judge(const HostTensor& mask, MaskFacts& facts) const {
    if (mask.dims.size() < 2) return;
    const auto [rows, columns] = areaOf(mask.dims);
    if (rows < 2 || columns < rows || mask.count() == 0) return;
    // The last query stands at the last key, or the first at the first.
    if (judgeFrom(mask, columns - rows, facts) || columns == rows) return;
    judgeFrom(mask, 0, facts);
}

bool MaskReader::judgeFrom(const HostTensor& mask, std::int64_t shift, MaskFacts& facts) {
    const auto [rows, columns] = areaOf(mask.dims);
    const double cut = mask.at(static_cast<std::size_t>(columns - 1)); // the first query must not see the last key
    if (shift == 0 && cut == mask.at(0)) return false;
    bool window = false;
    for (std::int64_t row = 0; row < rows; ++row) {
        for (std::int64_t column = 0; column < columns; ++column) {
            const bool isCut = mask.at(static_cast<std::size_t>(row * columns + column)) == cut;
            if (column > row + shift && !isCut) return false;
            if (column == row + shift && isCut) return false;
            if (column < row + shift && isCut) window = true;
        }
    }
    facts.causal = true;
    facts.window = facts.window || window;
    return true;
}

/// A product with a geometric row of numbers between 0 and 1, one for each head. Source: Press, Smith, Lewis: Train short, test long (2022).
bool MaskReader::slopes(const Node& node) {
    if (!node.is("Mul")) return false;
    for (const ValueId input : node.inputs) {
        const ValueShape& shape = m_shapes.of(input);
        if (!input || !m_shapes.isConstant(input) || !shape.known() || shape.count() < 2 || shape.count() > 1024) continue;
        const HostTensor* row = content(input, 0);
        if (!row || row->isInteger()) continue;
        const double ratio = row->at(1) / row->at(0);
        bool geometric = ratio > 0 && ratio < 1 && row->at(0) > 0 && row->at(0) < 1;
        // Where the heads are no power of two the second part is a row of its own.
        for (std::size_t i = 1; i < static_cast<std::size_t>(row->count() + 1) / 2; ++i) geometric = geometric && std::fabs(row->at(i) / row->at(i - 1) - ratio) < 1e-3;
        if (geometric) return true;
    }
    return false;
}

void MaskReader::visit(ValueId value, int depth, Area area, std::set<ValueId>& seen, MaskFacts& facts) {
    if (!value || depth > deepest || !seen.insert(value).second) return;
    const ValueShape& shape = m_shapes.of(value);
    if (const NodeId maker = m_graph.producer(value); maker && slopes(m_graph.node(maker))) {
        facts.alibi = true;
        return;
    }
    if (m_shapes.isConstant(value)) {
        const std::size_t rank = shape.ranked ? shape.dims.size() : 0;
        // A mask may be cut out of a larger one; what is smaller only stretches along a side.
        if (rank < 2 || area.rows < 2) return;
        const Area own = areaOf(shape.dims);
        if (own.rows < area.rows || own.columns < area.columns) return;
        if (const HostTensor* mask = content(value, 0)) {
            judge(*mask, facts);
            if (!facts.boolean) grade(*mask, facts);
            return;
        }
        // What differs by head or window is a bias or a window's mask: causality is the same for all.
        bool same = true;
        for (std::size_t i = 0; i + 2 < rank; ++i) same = same && shape.dims[i] == 1;
        if (same) facts.unknown = true;
        else facts.learned = true;
        return;
    }
    const NodeId id = m_graph.producer(value);
    if (!id) {
        facts.fromInput = facts.fromInput || m_graph.isInput(value) || !m_graph.value(value).initializer;
        return;
    }
    const Node& node = m_graph.node(id);
    if (node.is("Trilu") && node.attributes.integer("upper", 1) == 0) facts.causal = true;
    // Rows against columns: a comparison of positions that come from the input.
    for (const char* op : {"Less", "LessOrEqual", "Greater", "GreaterOrEqual"}) {
        if (!node.is(op)) continue;
        const ValueShape &a = m_shapes.of(node.input(0)), &b = m_shapes.of(node.input(1));
        const auto last = [](const ValueShape& s, std::size_t back) { return s.ranked && s.dims.size() > back ? s.dims[s.dims.size() - 1 - back] : Dim(1); };
        const auto row = [&](const ValueShape& s) { return last(s, 0) > 1 && last(s, 1) == 1; };
        const auto column = [&](const ValueShape& s) { return last(s, 0) == 1 && last(s, 1) > 1; };
        if ((row(a) && column(b)) || (column(a) && row(b))) facts.causal = true;
    }
    if (node.is("Gather") && m_shapes.isConstant(node.input(0)) && !m_shapes.constant(node.input(0))) {
        facts.learned = true;
        return;
    }
    if (node.is("MatMul") || node.is("Einsum") || node.is("Gemm")) return; // computed scores, as of decomposed relative positions
    for (const ValueId input : node.inputs) visit(input, depth + 1, area, seen, facts);
}

MaskFacts MaskReader::facts(ValueId mask) {
    if (const auto found = m_known.find(mask); found != m_known.end()) return found->second;
    MaskFacts facts;
    const ValueShape& shape = m_shapes.of(mask);
    facts.boolean = shape.type == DataType::boolean;
    const Area area = shape.ranked ? areaOf(shape.dims) : Area();
    std::set<ValueId> seen;
    visit(mask, 0, area, seen, facts);
    m_known[mask] = facts;
    return facts;
}

} // namespace triptych
