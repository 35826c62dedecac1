#include "graph/text.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <set>

namespace triptych {

namespace {

/// Thrown inside this file only; parseText turns it into a Failure.
struct TextError {
    std::string what;
};

class Parser {
public:
    explicit Parser(std::string_view text) : m_text(text) {}

    Result<GraphPtr> run() {
        try {
            while (skip(), m_at < m_text.size()) statement();
        } catch (const TextError& error) {
            return fail("text", "line " + std::to_string(m_line) + ": " + error.what);
        }
        if (!m_returned)
            for (const ValueId value : m_produced)
                if (!m_read.contains(value)) m_builder.addOutput(value);
        return m_builder.finish("text");
    }

private:
    void skip() {
        for (; m_at < m_text.size(); ++m_at) {
            if (m_text[m_at] == '#')
                while (m_at + 1 < m_text.size() && m_text[m_at + 1] != '\n') ++m_at;
            else if (m_text[m_at] == '\n') ++m_line;
            else if (!std::isspace(static_cast<unsigned char>(m_text[m_at]))) return;
        }
    }
    char peek() {
        skip();
        return m_at < m_text.size() ? m_text[m_at] : '\0';
    }
    bool take(char c) {
        if (peek() != c) return false;
        ++m_at;
        return true;
    }
    void expect(char c) {
        if (!take(c)) throw TextError{std::string("expected '") + c + "' at '" + std::string(m_text.substr(m_at, 20)) + "'"};
    }
    /// A name; "::" ends it. Names with odd characters stand between back ticks.
    std::string name() {
        std::string text;
        if (take('`')) {
            while (m_at < m_text.size() && m_text[m_at] != '`') text += m_text[m_at++];
            expect('`');
            return text;
        }
        skip();
        for (; m_at < m_text.size(); ++m_at) {
            const char c = m_text[m_at];
            // A colon belongs to a name only between two name characters ("a:0"), never before a type or "::".
            const bool colon = c == ':' && m_at + 1 < m_text.size() && std::isdigit(static_cast<unsigned char>(m_text[m_at + 1]));
            if (!std::isalnum(static_cast<unsigned char>(c)) && std::string_view("_./-").find(c) == std::string_view::npos && !colon) break;
            text += c;
        }
        if (text.empty()) throw TextError{"expected a name at '" + std::string(m_text.substr(m_at, 20)) + "'"};
        return text;
    }

    DeclaredType type() {
        DeclaredType declared;
        declared.kind = "tensor";
        const std::string wanted = name();
        declared.type = dataTypeNamed(wanted);
        if (declared.type == DataType::undefined) throw TextError{"no such type: " + wanted};
        if (!take('[')) return declared;
        declared.hasShape = true;
        while (!take(']')) {
            if (take('?')) {
                declared.dims.push_back(unknownDim);
                declared.symbols.emplace_back();
            } else {
                const std::string size = name();
                const bool number = std::isdigit(static_cast<unsigned char>(size[0]));
                declared.dims.push_back(number ? std::strtoll(size.c_str(), nullptr, 10) : unknownDim);
                declared.symbols.push_back(number ? std::string() : size);
            }
            take(',');
        }
        return declared;
    }

    struct Number {
        double real = 0;
        std::int64_t whole = 0;
        bool isReal = false;
    };
    Number number() {
        skip();
        const std::size_t begin = m_at;
        while (m_at < m_text.size() && (std::isalnum(static_cast<unsigned char>(m_text[m_at])) || std::string_view("+-.").find(m_text[m_at]) != std::string_view::npos)) ++m_at;
        const std::string digits(m_text.substr(begin, m_at - begin));
        if (digits.empty()) throw TextError{"expected a number at '" + std::string(m_text.substr(m_at, 20)) + "'"};
        Number found;
        found.isReal = digits.find_first_of(".enif") != std::string::npos;
        if (found.isReal) found.real = std::strtod(digits.c_str(), nullptr);
        else {
            const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), found.whole);
            if (end.ptr != digits.data() + digits.size()) throw TextError{"no number: " + digits};
            found.real = static_cast<double>(found.whole);
        }
        return found;
    }
    /// {1,2,3} after its opening brace.
    std::vector<Number> numbers(char close) {
        std::vector<Number> all;
        while (!take(close)) {
            all.push_back(number());
            take(',');
        }
        return all;
    }

    static TensorPtr tensor(const std::string& name, DataType type, Dims dims, const std::vector<Number>& all) {
        if (type == DataType::int64) {
            std::vector<std::int64_t> values;
            for (const Number& each : all) values.push_back(each.whole);
            return makeTensor(name, std::move(dims), values);
        }
        if (type == DataType::float32) {
            std::vector<float> values;
            for (const Number& each : all) values.push_back(static_cast<float>(each.real));
            return makeTensor(name, std::move(dims), values);
        }
        if (type == DataType::boolean || type == DataType::int32) {
            auto bytes = std::make_shared<std::vector<std::byte>>();
            for (const Number& each : all)
                for (int shift = 0; shift < bitsOf(type); shift += 8) bytes->push_back(static_cast<std::byte>(type == DataType::boolean ? each.whole != 0 : each.whole >> shift));
            auto made = std::make_shared<Tensor>();
            made->name = name;
            made->type = type;
            made->dims = std::move(dims);
            made->payload.place = Payload::Place::memory;
            made->payload.length = bytes->size();
            made->payload.bytes = std::move(bytes);
            return made;
        }
        throw TextError{"values can be given for i32, i64, f32 and bool only"};
    }
    ValueId literal(const std::vector<Number>& all) {
        bool real = false;
        for (const Number& each : all) real = real || each.isReal;
        const Dims dims{static_cast<Dim>(all.size())};
        return m_builder.addInitializer(tensor("const", real ? DataType::float32 : DataType::int64, dims, all));
    }
    void initializer(ValueId id, const DeclaredType& declared, const std::vector<Number>* all) {
        Value& value = m_builder.edit(id);
        value.declared = declared;
        if (all) {
            const auto count = elementCount(declared.dims);
            if (!count || static_cast<std::size_t>(*count) != all->size()) throw TextError{"the values of " + value.name + " don't fill its shape"};
            value.initializer = tensor(value.name, declared.type, declared.dims, *all);
            return;
        }
        auto made = std::make_shared<Tensor>();
        made->name = value.name;
        made->type = declared.type;
        made->dims = declared.dims;
        value.initializer = made;
    }

    /// NAME | _ | NAME: TYPE [= {..}] | {..} | CALL
    ValueId operand() {
        if (take('{')) return literal(numbers('}'));
        const std::size_t begin = m_at;
        const std::string first = name();
        if (first == "_") return {};
        if (peek() == '(' || m_text.substr(m_at, 2) == "::") {
            m_at = begin;
            return call({}, {}).front();
        }
        const ValueId id = m_builder.value(first);
        if (take(':')) {
            const DeclaredType declared = type();
            if (take('=')) {
                expect('{');
                const auto all = numbers('}');
                initializer(id, declared, &all);
            } else {
                initializer(id, declared, nullptr);
            }
        }
        return id;
    }

    Attribute::Value attributeValue() {
        if (take('"')) {
            std::string text;
            while (m_at < m_text.size() && m_text[m_at] != '"') text += m_text[m_at++];
            expect('"');
            return text;
        }
        if (take('[')) {
            if (peek() == '"') {
                std::vector<std::string> texts;
                while (!take(']')) {
                    texts.push_back(std::get<std::string>(attributeValue()));
                    take(',');
                }
                return texts;
            }
            const auto all = numbers(']');
            bool real = false;
            for (const Number& each : all) real = real || each.isReal;
            if (!real) {
                std::vector<std::int64_t> whole;
                for (const Number& each : all) whole.push_back(each.whole);
                return whole;
            }
            std::vector<float> reals;
            for (const Number& each : all) reals.push_back(static_cast<float>(each.real));
            return reals;
        }
        if (take('{')) {
            const auto all = numbers('}');
            bool real = false;
            for (const Number& each : all) real = real || each.isReal;
            return tensor("", real ? DataType::float32 : DataType::int64, {static_cast<Dim>(all.size())}, all);
        }
        const Number single = number();
        if (single.isReal) return static_cast<float>(single.real);
        return single.whole;
    }
    bool attributeFollows() {
        const std::size_t begin = m_at;
        const std::size_t line = m_line;
        bool follows = false;
        if (std::isalpha(static_cast<unsigned char>(peek())) || peek() == '_') {
            name();
            follows = peek() == '=';
        }
        m_at = begin;
        m_line = line;
        return follows;
    }

    /// OP(operands, attributes); makes one unnamed output where `outputs` is empty.
    std::vector<ValueId> call(std::string nodeName, std::vector<ValueId> outputs) {
        Node node;
        node.name = std::move(nodeName);
        node.op = name();
        if (m_text.substr(m_at, 2) == "::") {
            m_at += 2;
            node.domain = std::move(node.op);
            node.op = name();
        }
        expect('(');
        while (!take(')')) {
            if (attributeFollows()) {
                std::string key = name();
                expect('=');
                node.attributes.set(std::move(key), attributeValue());
            } else {
                node.inputs.push_back(operand());
                if (node.inputs.back()) m_read.insert(node.inputs.back());
            }
            take(',');
        }
        if (outputs.empty()) outputs.push_back(m_builder.newValue(node.op + "_out"));
        node.outputs = outputs;
        for (const ValueId value : outputs)
            if (value) m_produced.push_back(value);
        m_builder.addNode(std::move(node));
        return outputs;
    }

    void statement() {
        std::string nodeName;
        if (take('@')) nodeName = name();
        std::vector<std::string> names;
        do names.push_back(name());
        while (take(','));
        if (nodeName.empty() && names.size() == 1 && names[0] == "return") {
            m_returned = true;
            do m_builder.addOutput(m_builder.value(name()));
            while (take(','));
            return;
        }
        if (take(':')) {
            const ValueId id = m_builder.value(names[0]);
            const DeclaredType declared = type();
            if (!take('=')) {
                m_builder.edit(id).declared = declared;
                m_builder.addInput(id);
            } else if (take('{')) {
                const auto all = numbers('}');
                initializer(id, declared, &all);
            } else if (name() == "absent") {
                initializer(id, declared, nullptr);
            }
            return;
        }
        expect('=');
        std::vector<ValueId> outputs;
        for (const std::string& each : names) outputs.push_back(each == "_" ? ValueId() : m_builder.value(each));
        call(std::move(nodeName), std::move(outputs));
    }

    std::string_view m_text;
    std::size_t m_at = 0;
    std::size_t m_line = 1;
    bool m_returned = false;
    GraphBuilder m_builder;
    std::vector<ValueId> m_produced;
    std::set<ValueId> m_read;
};

} // namespace

Result<GraphPtr> parseText(std::string_view text) { return Parser(text).run(); }

} // namespace triptych
