// RNN, GRU and LSTM, step by step. Source of the formulas: the ONNX operator specification.

#include "reference/kernels.h"

#include <algorithm>
#include <cmath>

namespace triptych {

namespace {

using Matrix = std::vector<double>;
using Function = double (*)(double);

Function activation(const std::string& name) {
    if (name == "Sigmoid") return [](double x) { return 1 / (1 + std::exp(-x)); };
    if (name == "Tanh") return [](double x) { return std::tanh(x); };
    if (name == "Relu") return [](double x) { return std::max(x, 0.0); };
    refuse("its activation " + name + " isn't known");
}

/// What all three have in common. X is [sequence, batch, input], or with layout 1 [batch, sequence, input].
struct Sizes {
    std::int64_t length = 0, batch = 0, input = 0, hidden = 0, directions = 1;
    bool batchFirst = false;
};

class Recurrence {
public:
    Recurrence(const KernelCall& call, std::int64_t gates, std::vector<std::string> functions)
        : m_call(call), m_gates(gates), m_x(need(call, 0)), m_w(need(call, 1)), m_r(need(call, 2)) {
        const Attributes& a = call.node.attributes;
        m_direction = a.text("direction", "forward");
        m_sizes.batchFirst = a.integer("layout", 0) != 0;
        m_sizes.directions = m_direction == "bidirectional" ? 2 : 1;
        if (m_x.dims.size() != 3 || m_w.dims.size() != 3 || m_r.dims.size() != 3) refuse("its inputs must have three axes");
        m_sizes.length = m_x.dims[m_sizes.batchFirst ? 1 : 0];
        m_sizes.batch = m_x.dims[m_sizes.batchFirst ? 0 : 1];
        m_sizes.input = m_x.dims[2];
        m_sizes.hidden = m_r.dims[2];
        if (m_w.dims != Dims{m_sizes.directions, gates * m_sizes.hidden, m_sizes.input} || m_r.dims != Dims{m_sizes.directions, gates * m_sizes.hidden, m_sizes.hidden}) refuse("its weights don't fit");
        if (call.input(3) && call.input(3)->count() != m_sizes.directions * 2 * gates * m_sizes.hidden) refuse("its bias doesn't fit");
        if (a.has("clip") && a.real("clip", 0) > 0) refuse("its clip can't be evaluated");
        const std::size_t each = functions.size();
        if (const auto* given = a.texts("activations")) functions = *given;
        else if (m_sizes.directions == 2)
            for (std::size_t i = 0; i < each; ++i) functions.push_back(std::string(functions[i]));
        if (functions.size() != each * static_cast<std::size_t>(m_sizes.directions)) refuse("its activations don't fit its directions");
        for (const std::string& name : functions) m_functions.push_back(activation(name));
    }

    /// `step` makes the next hidden state (and cell) of one batch from x*W and h*R, biases not added.
    template <class Step>
    Outputs run(bool cell, const Step& step) {
        const auto& s = m_sizes;
        const Dims whole = s.batchFirst ? Dims{s.batch, s.length, s.directions, s.hidden} : Dims{s.length, s.directions, s.batch, s.hidden};
        const Dims last = s.batchFirst ? Dims{s.batch, s.directions, s.hidden} : Dims{s.directions, s.batch, s.hidden};
        Outputs out{make(m_call, m_x.type, whole), make(m_call, m_x.type, last)};
        if (cell) out.push_back(make(m_call, m_x.type, last));
        for (std::int64_t d = 0; d < s.directions; ++d) {
            const bool backwards = m_direction == "reverse" || d == 1;
            for (std::int64_t b = 0; b < s.batch; ++b) {
                Matrix h = state(5, d, b), c = cell ? state(6, d, b) : Matrix();
                const std::int64_t length = m_call.input(4) ? std::clamp<std::int64_t>(m_call.input(4)->integers().at(static_cast<std::size_t>(b)), 0, s.length) : s.length;
                for (std::int64_t i = 0; i < length; ++i) {
                    const std::int64_t t = backwards ? length - 1 - i : i;
                    step(*this, d, times(m_w, d, input(t, b)), h, c);
                    for (std::int64_t n = 0; n < s.hidden; ++n) setElement(out[0], place(t, d, b, n), h[static_cast<std::size_t>(n)]);
                }
                for (std::int64_t n = 0; n < s.hidden; ++n) {
                    const auto at = static_cast<std::size_t>(((s.batchFirst ? b * s.directions + d : d * s.batch + b)) * s.hidden + n);
                    setElement(out[1], at, h[static_cast<std::size_t>(n)]);
                    if (cell) setElement(out[2], at, c[static_cast<std::size_t>(n)]);
                }
            }
        }
        return out;
    }

    /// Rows of a weight times a vector.
    Matrix times(const HostTensor& weight, std::int64_t d, const Matrix& vector) const {
        const std::int64_t rows = m_gates * m_sizes.hidden, columns = static_cast<std::int64_t>(vector.size());
        Matrix made(static_cast<std::size_t>(rows), 0);
        for (std::int64_t row = 0; row < rows; ++row)
            for (std::int64_t column = 0; column < columns; ++column) made[static_cast<std::size_t>(row)] += weight.at(static_cast<std::size_t>((d * rows + row) * columns + column)) * vector[static_cast<std::size_t>(column)];
        return made;
    }
    Matrix recurrent(std::int64_t d, const Matrix& h) const { return times(m_r, d, h); }
    /// Bias of the input (part 0) or the recurrence (part 1).
    double bias(std::int64_t d, std::int64_t part, std::int64_t gate, std::int64_t n) const {
        return m_call.input(3) ? m_call.input(3)->at(static_cast<std::size_t>(((d * 2 + part) * m_gates + gate) * m_sizes.hidden + n)) : 0;
    }
    double peephole(std::int64_t d, std::int64_t gate, std::int64_t n) const { return m_call.input(7) ? m_call.input(7)->at(static_cast<std::size_t>((d * 3 + gate) * m_sizes.hidden + n)) : 0; }
    Function function(std::int64_t d, std::size_t which, std::size_t each) const { return m_functions.at(static_cast<std::size_t>(d) * each + which); }
    std::int64_t hidden() const { return m_sizes.hidden; }

private:
    Matrix input(std::int64_t t, std::int64_t b) const {
        const std::int64_t row = m_sizes.batchFirst ? b * m_sizes.length + t : t * m_sizes.batch + b;
        Matrix made;
        for (std::int64_t i = 0; i < m_sizes.input; ++i) made.push_back(m_x.at(static_cast<std::size_t>(row * m_sizes.input + i)));
        return made;
    }

    Matrix state(std::size_t index, std::int64_t d, std::int64_t b) const {
        Matrix made(static_cast<std::size_t>(m_sizes.hidden), 0);
        const HostTensor* given = m_call.input(index);
        if (!given) return made;
        if (given->count() != m_sizes.directions * m_sizes.batch * m_sizes.hidden) refuse("its initial state doesn't fit");
        const std::int64_t row = m_sizes.batchFirst ? b * m_sizes.directions + d : d * m_sizes.batch + b;
        for (std::int64_t n = 0; n < m_sizes.hidden; ++n) made[static_cast<std::size_t>(n)] = given->at(static_cast<std::size_t>(row * m_sizes.hidden + n));
        return made;
    }

    std::size_t place(std::int64_t t, std::int64_t d, std::int64_t b, std::int64_t n) const {
        const auto& s = m_sizes;
        return static_cast<std::size_t>((s.batchFirst ? (b * s.length + t) * s.directions + d : (t * s.directions + d) * s.batch + b) * s.hidden + n);
    }

    const KernelCall& m_call;
    std::int64_t m_gates;
    const HostTensor &m_x, &m_w, &m_r;
    std::string m_direction;
    Sizes m_sizes;
    std::vector<Function> m_functions;
};

Outputs rnn(const KernelCall& call) {
    return Recurrence(call, 1, {"Tanh"}).run(false, [](const Recurrence& r, std::int64_t d, const Matrix& x, Matrix& h, Matrix&) {
        const Matrix before = r.recurrent(d, h);
        for (std::int64_t n = 0; n < r.hidden(); ++n) {
            const auto at = static_cast<std::size_t>(n);
            h[at] = r.function(d, 0, 1)(x[at] + before[at] + r.bias(d, 0, 0, n) + r.bias(d, 1, 0, n));
        }
    });
}

/// Gates in the order z, r, h.
Outputs gru(const KernelCall& call) {
    const bool linear = call.node.attributes.integer("linear_before_reset", 0) != 0;
    return Recurrence(call, 3, {"Sigmoid", "Tanh"}).run(false, [linear](const Recurrence& r, std::int64_t d, const Matrix& x, Matrix& h, Matrix&) {
        const std::int64_t hidden = r.hidden();
        const auto at = [&](std::int64_t gate, std::int64_t n) { return static_cast<std::size_t>(gate * hidden + n); };
        const Matrix before = r.recurrent(d, h);
        Matrix z(h.size()), reset(h.size()), held = h;
        for (std::int64_t n = 0; n < hidden; ++n) {
            z[at(0, n)] = r.function(d, 0, 2)(x[at(0, n)] + before[at(0, n)] + r.bias(d, 0, 0, n) + r.bias(d, 1, 0, n));
            reset[at(0, n)] = r.function(d, 0, 2)(x[at(1, n)] + before[at(1, n)] + r.bias(d, 0, 1, n) + r.bias(d, 1, 1, n));
            held[at(0, n)] *= reset[at(0, n)];
        }
        const Matrix gated = linear ? before : r.recurrent(d, held);
        for (std::int64_t n = 0; n < hidden; ++n) {
            const double carried = linear ? reset[at(0, n)] * (gated[at(2, n)] + r.bias(d, 1, 2, n)) : gated[at(2, n)] + r.bias(d, 1, 2, n);
            const double fresh = r.function(d, 1, 2)(x[at(2, n)] + carried + r.bias(d, 0, 2, n));
            h[at(0, n)] = (1 - z[at(0, n)]) * fresh + z[at(0, n)] * h[at(0, n)];
        }
    });
}

/// Gates in the order i, o, f, c.
Outputs lstm(const KernelCall& call) {
    if (call.node.attributes.integer("input_forget", 0) != 0) refuse("its coupled gates can't be evaluated");
    return Recurrence(call, 4, {"Sigmoid", "Tanh", "Tanh"}).run(true, [](const Recurrence& r, std::int64_t d, const Matrix& x, Matrix& h, Matrix& c) {
        const std::int64_t hidden = r.hidden();
        const Matrix before = r.recurrent(d, h);
        for (std::int64_t n = 0; n < hidden; ++n) {
            const auto own = static_cast<std::size_t>(n);
            const auto sum = [&](std::int64_t gate) { return x[static_cast<std::size_t>(gate * hidden + n)] + before[static_cast<std::size_t>(gate * hidden + n)] + r.bias(d, 0, gate, n) + r.bias(d, 1, gate, n); };
            const double i = r.function(d, 0, 3)(sum(0) + r.peephole(d, 0, n) * c[own]), f = r.function(d, 0, 3)(sum(2) + r.peephole(d, 2, n) * c[own]);
            const double cell = f * c[own] + i * r.function(d, 1, 3)(sum(3));
            const double o = r.function(d, 0, 3)(sum(1) + r.peephole(d, 1, n) * cell);
            c[own] = cell;
            h[own] = o * r.function(d, 2, 3)(cell);
        }
    });
}

} // namespace

void addRecurrent(KernelTable& table) {
    table["RNN"] = rnn;
    table["GRU"] = gru;
    table["LSTM"] = lstm;
}

} // namespace triptych
