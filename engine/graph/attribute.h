#pragma once
// Attributes of a node.

#include "graph/types.h"

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace triptych {

class Graph;
using GraphPtr = std::shared_ptr<const Graph>;

/// Content of an attribute that we carry without understanding it (type_proto, sparse_tensor): its wire bytes.
struct RawAttribute {
    int onnxType = 0; ///< onnx.AttributeProto.AttributeType
    std::string bytes; ///< the whole AttributeProto
    bool operator==(const RawAttribute&) const = default;
};

struct Attribute {
    using Value = std::variant<std::monostate, std::int64_t, float, std::string, std::vector<std::int64_t>, std::vector<float>,
                               std::vector<std::string>, TensorPtr, std::vector<TensorPtr>, GraphPtr, std::vector<GraphPtr>,
                               RawAttribute>;
    std::string name;
    Value value;
    /// Inside a function body: takes the value of this attribute of the call.
    std::string reference;
};

/// The graphs that an attribute holds: one, several, or none.
std::span<const GraphPtr> graphsOf(const Attribute& attribute);
std::span<GraphPtr> graphsOf(Attribute& attribute);

/// Attributes of one node in the order of the file.
class Attributes {
public:
    Attributes() = default;
    explicit Attributes(std::vector<Attribute> items) : m_items(std::move(items)) {}
    const std::vector<Attribute>& items() const { return m_items; }
    const Attribute* find(std::string_view name) const;
    bool has(std::string_view name) const { return find(name) != nullptr; }
    /// The attribute's value, or `absent` where there is none of that type.
    std::int64_t integer(std::string_view name, std::int64_t absent) const;
    float real(std::string_view name, float absent) const;
    std::string text(std::string_view name, std::string absent = {}) const;
    /// Null where absent.
    const std::vector<std::int64_t>* integers(std::string_view name) const;
    const std::vector<float>* reals(std::string_view name) const;
    const std::vector<std::string>* texts(std::string_view name) const;
    TensorPtr tensor(std::string_view name) const;
    GraphPtr graph(std::string_view name) const;
    /// Whether any of them holds a graph.
    bool holdGraphs() const;
    void set(std::string name, Attribute::Value value);
    void erase(std::string_view name);

private:
    std::vector<Attribute> m_items;
};

/// One line for people: "axis=-1, perm=[0,2,1,3]".
std::string describe(const Attributes& attributes);

} // namespace triptych
