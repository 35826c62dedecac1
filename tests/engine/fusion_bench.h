#pragma once
// What the fusion tests share: a text graph with its shapes and classes, and groups as one line of text.

#include "fusion/partition.h"
#include "graph/text.h"

#include <QtTest>

namespace triptych {

/// A graph written as text, ready to be fused.
struct Bench {
    ModelPtr model;
    GraphPtr graph;
    ShapesPtr shapes;
    NodeClasses classes;
    std::optional<Decomposition> decomposition;
    bool viewsStayApart = false;

    explicit Bench(const char* text) {
        auto parsed = parseText(text);
        if (!parsed) qFatal("%s", parsed.error().message().c_str());
        graph = *parsed;
        auto made = std::make_shared<Model>();
        made->graph = graph;
        made->opsets[""] = 17;
        model = made;
        auto inferred = inferShapes(*model, *graph, {});
        if (!inferred) qFatal("%s", inferred.error().message().c_str());
        shapes = *inferred;
        classes = classify(*graph, *shapes);
    }

    NodeId node(const char* name) const {
        const NodeId found = graph->findNode(name);
        if (!found) qFatal("no node %s", name);
        return found;
    }
    std::vector<NodeId> named(std::initializer_list<const char*> names) const {
        std::vector<NodeId> nodes;
        for (const char* name : names) nodes.push_back(node(name));
        return nodes;
    }
    /// An attention all of whose nodes are those between its projections and `last`; x is what all three read.
    DecomposedAttention& attention(std::initializer_list<const char*> q, std::initializer_list<const char*> k,
                                   std::initializer_list<const char*> v, const char* x) {
        if (!decomposition) decomposition = Decomposition{graph, {}, {}};
        DecomposedAttention attention;
        attention.attention = AttentionId(decomposition->attentions.size());
        attention.q = named(q);
        attention.k = named(k);
        attention.v = named(v);
        attention.inputQ = attention.inputK = attention.inputV = graph->findValue(x);
        return decomposition->attentions.emplace_back(std::move(attention));
    }
    Partition fuse(const PatternSet& enabled) const {
        const FusionInput input{*graph, *shapes, classes, decomposition ? &*decomposition : nullptr, viewsStayApart};
        auto partition = triptych::fuse(input, *shippedPatterns(), enabled);
        if (!partition) qFatal("%s", partition.error().message().c_str());
        const std::string wrong = illegal(*graph, classes, *partition);
        if (!wrong.empty()) qFatal("illegal: %s", wrong.c_str());
        return *partition;
    }
    Partition fuse(std::initializer_list<const char*> ids) const {
        PatternSet enabled;
        for (const char* id : ids) {
            if (!shippedPatterns()->find(id)) qFatal("no pattern %s", id);
            enabled.insert(shippedPatterns()->find(id));
        }
        return fuse(enabled);
    }
    Partition preset(const char* name) const { return fuse(*presetPatterns(*shippedPatterns(), name)); }

    /// "mm+mul[attention.matmul_mul] relu": groups in order, node names joined, the pattern that names each.
    QString groups(const Partition& partition) const {
        QStringList all;
        for (const Group& group : partition.groups) {
            QStringList names;
            for (const NodeId node : group.nodes) names << QString::fromStdString(graph->node(node).name);
            QString text = names.join('+');
            if (group.pattern)
                text += '[' + QString::fromStdString((*shippedPatterns())[group.pattern].id) + ']';
            else if (!group.composite.empty())
                text += '(' + QString::fromStdString(group.composite) + ')';
            all << text;
        }
        return all.join(' ');
    }
    std::int64_t matches(const Partition& partition, const char* id) const {
        return partition.matches[shippedPatterns()->find(id).position()];
    }
    std::size_t computeGroups(const Partition& partition) const {
        std::size_t count = 0;
        for (const Group& group : partition.groups)
            for (const NodeId member : group.nodes)
                if (classes.of[member] == NodeClass::compute) {
                    ++count;
                    break;
                }
        return count;
    }
    /// "multiple readers at mm", for the first near miss of a pattern; empty where there is none.
    QString nearMiss(const Partition& partition, const char* id) const {
        for (const NearMiss& miss : partition.nearMisses)
            if ((*shippedPatterns())[miss.pattern].id == id)
                return QString::fromStdString(miss.reason + " at " + graph->node(miss.at).name);
        return {};
    }
};

} // namespace triptych
