// Products of matrices and tensors: MatMul, Gemm, Einsum and their integer forms.

#include "reference/kernels.h"

#include <Eigen/Core>
#include <algorithm>

namespace triptych {

namespace {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// out[m,n] = a[m,k] * b[k,n] for raw row-major blocks.
template <class T>
void multiply(const T* a, const T* b, T* out, std::int64_t m, std::int64_t k, std::int64_t n) {
    if (m == 0 || n == 0) return;
    Eigen::Map<Matrix<T>> result(out, m, n);
    if (k == 0) {
        result.setZero();
        return;
    }
    result.noalias() = Eigen::Map<const Matrix<T>>(a, m, k) * Eigen::Map<const Matrix<T>>(b, k, n);
}

/// numpy.matmul: the last two axes multiply, those before are broadcast, a vector gets an axis that goes again.
HostTensor matmul(const KernelCall& call, const HostTensor& a, const HostTensor& b, DataType type) {
    if (a.dims.empty() || b.dims.empty()) refuse("a scalar can't be multiplied as a matrix");
    Dims left = a.dims, right = b.dims;
    const bool row = left.size() == 1, column = right.size() == 1;
    if (row) left.insert(left.begin(), 1);
    if (column) right.push_back(1);
    const std::int64_t m = left[left.size() - 2], k = left.back(), n = right.back();
    if (right[right.size() - 2] != k) refuse("inner sizes " + std::to_string(k) + " and " + std::to_string(right[right.size() - 2]) + " differ");
    const Dims batchA(left.begin(), left.end() - 2), batchB(right.begin(), right.end() - 2);
    const Dims batch = broadcastDims(batchA, batchB);
    Dims dims = batch;
    if (!row) dims.push_back(m);
    if (!column) dims.push_back(n);
    HostTensor out = make(call, type, dims);
    const auto stepsA = stridesFor(batchA, batch), stepsB = stridesFor(batchB, batch);
    if (a.values.index() != b.values.index() || a.values.index() != out.values.index()) refuse("its inputs are of different types");
    std::visit(
        [&](auto& to) {
            using All = std::decay_t<decltype(to)>;
            const auto& from = std::get<All>(a.values);
            const auto& other = std::get<All>(b.values);
            walk(batch, stepsA, stepsB, [&](std::size_t i, std::size_t x, std::size_t y) {
                multiply(from.data() + x * static_cast<std::size_t>(m * k), other.data() + y * static_cast<std::size_t>(k * n),
                         to.data() + i * static_cast<std::size_t>(m * n), m, k, n);
            });
        },
        out.values);
    return out;
}

Outputs gemm(const KernelCall& call) {
    const Attributes& attributes = call.node.attributes;
    HostTensor a = need(call, 0), b = need(call, 1);
    if (a.dims.size() != 2 || b.dims.size() != 2) refuse("it multiplies matrices only");
    if (attributes.integer("transA", 0) != 0) a = transposed(a, {1, 0});
    if (attributes.integer("transB", 0) != 0) b = transposed(b, {1, 0});
    HostTensor out = matmul(call, a, b, a.type);
    const double alpha = attributes.real("alpha", 1), beta = attributes.real("beta", 1);
    const HostTensor* c = call.input(2);
    const auto stepsOut = stridesFor(out.dims, out.dims);
    const auto stepsC = c ? stridesFor(c->dims, broadcastDims(out.dims, c->dims)) : stepsOut;
    if (c && broadcastDims(out.dims, c->dims) != out.dims) refuse("its third input doesn't fit the product");
    std::visit(
        [&](auto& all) {
            using T = typename std::decay_t<decltype(all)>::value_type;
            walk(out.dims, stepsOut, stepsC, [&](std::size_t i, std::size_t, std::size_t at) {
                if (alpha != 1) all[i] = static_cast<T>(alpha * static_cast<double>(all[i]));
                if (!c) return;
                const T added = std::get<std::decay_t<decltype(all)>>(c->values)[at];
                all[i] += beta == 1 ? added : static_cast<T>(beta * static_cast<double>(added));
            });
        },
        out.values);
    return {std::move(out)};
}

/// Letters of each operand and of the result, the ellipsis already spelled out with upper-case ones of its own.
struct Equation {
    std::vector<std::string> operands;
    std::string result;
};

Equation parseEquation(std::string text, std::span<const HostTensor* const> inputs) {
    std::erase(text, ' ');
    const std::size_t arrow = text.find("->");
    Equation equation;
    std::string left = text.substr(0, arrow);
    for (std::size_t begin = 0; begin <= left.size();) {
        const std::size_t comma = std::min(left.find(',', begin), left.size());
        equation.operands.push_back(left.substr(begin, comma - begin));
        begin = comma + 1;
    }
    if (equation.operands.size() != inputs.size()) refuse("its equation has another number of operands");
    // Letters that no equation uses stand for the axes of "...".
    std::size_t widest = 0;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        std::string& letters = equation.operands[i];
        const std::size_t dots = letters.find("...");
        if (dots == std::string::npos) continue;
        const std::size_t named = letters.size() - 3, rank = inputs[i] ? inputs[i]->dims.size() : 0;
        if (rank < named) refuse("its equation names more axes than an operand has");
        widest = std::max(widest, rank - named);
    }
    const auto spelled = [](std::size_t count) {
        std::string made;
        for (std::size_t i = count; i-- > 0;) made += static_cast<char>(1 + i);
        return made;
    };
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        std::string& letters = equation.operands[i];
        if (const std::size_t dots = letters.find("..."); dots != std::string::npos) letters.replace(dots, 3, spelled(need({Node(), inputs, 0, 0}, i).dims.size() - (letters.size() - 3)));
        if (letters.size() != need({Node(), inputs, 0, 0}, i).dims.size()) refuse("its equation names another number of axes than an operand has");
    }
    if (arrow != std::string::npos) {
        equation.result = text.substr(arrow + 2);
        if (const std::size_t dots = equation.result.find("..."); dots != std::string::npos) equation.result.replace(dots, 3, spelled(widest));
        return equation;
    }
    equation.result = spelled(widest);
    std::string letters;
    for (const std::string& operand : equation.operands) letters += operand;
    std::sort(letters.begin(), letters.end());
    for (const char letter : letters)
        if (letter >= 'A' && std::count(letters.begin(), letters.end(), letter) == 1) equation.result += letter;
    return equation;
}

/// An operand with axes in the order of `letters`: those that it hasn't get size 1; one that it has twice is its diagonal.
HostTensor arranged(const KernelCall& call, const HostTensor& from, const std::string& own, const std::string& letters) {
    const auto strides = stridesFor(from.dims, from.dims);
    Dims dims(letters.size(), 1);
    std::vector<std::int64_t> steps(letters.size(), 0);
    for (std::size_t i = 0; i < own.size(); ++i) {
        const std::size_t at = letters.find(own[i]);
        steps[at] += strides[i];
        if (from.dims[i] != 1) dims[at] = from.dims[i];
    }
    HostTensor to = make(call, from.type, dims);
    walk(dims, steps, steps, [&](std::size_t i, std::size_t at, std::size_t) { copyElement(from, at, to, i); });
    return to;
}

HostTensor summedOver(const KernelCall& call, const HostTensor& from, const std::vector<bool>& gone) {
    Dims kept = from.dims, dims;
    for (std::size_t i = 0; i < kept.size(); ++i) {
        if (gone[i]) kept[i] = 1;
        else dims.push_back(kept[i]);
    }
    HostTensor to = make(call, from.type, kept);
    const auto steps = stridesFor(kept, from.dims);
    std::visit(
        [&](auto& out) {
            const auto& in = std::get<std::decay_t<decltype(out)>>(from.values);
            walk(from.dims, steps, steps, [&](std::size_t i, std::size_t at, std::size_t) { out[at] += in[i]; });
        },
        to.values);
    to.dims = dims;
    return to;
}

/// Two operands: letters of both that the result keeps are batches, those that it drops are summed in a product of matrices.
HostTensor contracted(const KernelCall& call, const HostTensor& a, const std::string& lettersA, const HostTensor& b, const std::string& lettersB, const std::string& kept,
                      std::string& made) {
    std::string batch, left, right, inner;
    const auto has = [](const std::string& letters, char letter) { return letters.find(letter) != std::string::npos; };
    std::string all = lettersA;
    for (const char letter : lettersB)
        if (!has(all, letter)) all += letter;
    for (const char letter : all) {
        std::string& to = has(lettersA, letter) && has(lettersB, letter) ? (has(kept, letter) ? batch : inner) : has(lettersA, letter) ? left : right;
        if (!has(to, letter)) to += letter;
    }
    HostTensor x = arranged(call, a, lettersA, batch + left + inner), y = arranged(call, b, lettersB, batch + inner + right);
    const auto product = [](const Dims& dims, std::size_t begin, std::size_t count) {
        std::int64_t size = 1;
        for (std::size_t i = begin; i < begin + count; ++i) size *= dims[i];
        return size;
    };
    // Batches are broadcast where one operand has size 1 there.
    Dims dims, batchX, batchY;
    for (std::size_t i = 0; i < batch.size(); ++i) {
        batchX.push_back(x.dims[i]);
        batchY.push_back(y.dims[i]);
        dims.push_back(std::max(x.dims[i], y.dims[i]));
    }
    for (std::size_t i = 0; i < left.size(); ++i) dims.push_back(x.dims[batch.size() + i]);
    for (std::size_t i = 0; i < right.size(); ++i) dims.push_back(y.dims[batch.size() + inner.size() + i]);
    const std::int64_t m = product(x.dims, batch.size(), left.size()), k = product(x.dims, batch.size() + left.size(), inner.size()), n = product(y.dims, batch.size() + inner.size(), right.size());
    if (product(y.dims, batch.size(), inner.size()) != k) refuse("its operands differ in a summed size");
    batchX.insert(batchX.end(), {m, k});
    batchY.insert(batchY.end(), {k, n});
    HostTensor out = matmul(call, reshaped(x, batchX), reshaped(y, batchY), a.type);
    made = batch + left + right;
    return reshaped(out, dims);
}

Outputs einsum(const KernelCall& call) {
    Equation equation = parseEquation(call.node.attributes.text("equation"), call.inputs);
    HostTensor sum = need(call, 0);
    std::string letters = equation.operands[0];
    const auto keptAfter = [&](std::size_t index) {
        std::string kept = equation.result;
        for (std::size_t i = index + 1; i < equation.operands.size(); ++i) kept += equation.operands[i];
        return kept;
    };
    for (std::size_t i = 1; i < equation.operands.size(); ++i) {
        std::string made;
        sum = contracted(call, sum, letters, need(call, i), equation.operands[i], keptAfter(i), made);
        letters = made;
    }
    std::string unique;
    for (const char letter : letters)
        if (unique.find(letter) == std::string::npos) unique += letter;
    sum = arranged(call, sum, letters, unique);
    std::vector<bool> gone;
    std::string left;
    for (const char letter : unique) {
        gone.push_back(equation.result.find(letter) == std::string::npos);
        if (!gone.back()) left += letter;
    }
    sum = summedOver(call, sum, gone);
    std::vector<std::int64_t> perm;
    for (const char letter : equation.result) {
        const std::size_t at = left.find(letter);
        if (at == std::string::npos) refuse("its equation's result names an axis that no operand has");
        perm.push_back(static_cast<std::int64_t>(at));
    }
    return {transposed(sum, perm)};
}

Outputs integerProduct(const KernelCall& call) {
    return {matmul(call, lessZero(need(call, 0), call.input(2), true), lessZero(need(call, 1), call.input(3), false), DataType::int32)};
}

} // namespace

HostTensor lessZero(HostTensor from, const HostTensor* zero, bool rows) {
    from.type = DataType::int32;
    if (!zero) return from;
    auto& all = from.integers();
    const std::size_t columns = from.dims.empty() ? 1 : static_cast<std::size_t>(from.dims.back());
    const std::size_t height = from.dims.size() < 2 ? 1 : static_cast<std::size_t>(from.dims[from.dims.size() - 2]);
    const std::size_t points = zero->integers().size();
    for (std::size_t i = 0; i < all.size(); ++i) {
        const std::size_t at = points <= 1 ? 0 : rows ? i / columns % height : i % columns;
        if (points > 0) all[i] -= zero->integers()[std::min(at, points - 1)];
    }
    return from;
}

HostTensor product(const KernelCall& call, const HostTensor& a, const HostTensor& b) { return matmul(call, a, b, a.type); }

void addProducts(KernelTable& table) {
    table["MatMul"] = [](const KernelCall& call) -> Outputs { return {product(call, need(call, 0), need(call, 1))}; };
    table["com.microsoft::FusedMatMul"] = [](const KernelCall& call) -> Outputs {
        HostTensor a = need(call, 0), b = need(call, 1);
        const auto turn = [](HostTensor& each) {
            std::vector<std::int64_t> perm(each.dims.size());
            for (std::size_t i = 0; i < perm.size(); ++i) perm[i] = static_cast<std::int64_t>(i);
            if (perm.size() >= 2) std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
            each = transposed(each, perm);
        };
        if (call.node.attributes.integer("transA", 0) != 0) turn(a);
        if (call.node.attributes.integer("transB", 0) != 0) turn(b);
        HostTensor out = product(call, a, b);
        const float alpha = call.node.attributes.real("alpha", 1);
        if (out.isFloat())
            for (float& each : out.floats()) each *= alpha;
        return {std::move(out)};
    };
    table["Gemm"] = gemm;
    table["Einsum"] = einsum;
    table["MatMulInteger"] = integerProduct;
}

} // namespace triptych
