#include "layout/layered.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace triptych {

namespace {

constexpr float gapX = 18, gapY = 22, grid = 1;

class Layers {
public:
    explicit Layers(const LayeredGraph& graph) : m_graph(graph) {}

    LayeredResult run() {
        assign();
        for (int sweep = 0; sweep < 6; ++sweep) order(sweep % 2 == 0);
        place();
        return result();
    }

private:
    struct Slot {
        float width, height, x = 0; ///< x: centre
        std::size_t layer;
        std::vector<std::size_t> up, down;
        double key = 0;
    };

    void assign() {
        const std::size_t count = m_graph.nodes.size();
        std::vector<std::size_t> layer(count, 0);
        std::vector<std::vector<std::size_t>> outgoing(count), incoming(count);
        for (std::size_t e = 0; e < m_graph.edges.size(); ++e) {
            outgoing[m_graph.edges[e].from].push_back(e);
            incoming[m_graph.edges[e].to].push_back(e);
        }
        for (std::size_t n = 0; n < count; ++n)
            for (const std::size_t e : outgoing[n]) layer[m_graph.edges[e].to] = std::max(layer[m_graph.edges[e].to], layer[n] + 1);
        // What has no predecessor moves down to its first reader: shorter edges.
        for (std::size_t n = count; n-- > 0;) {
            if (!incoming[n].empty() || outgoing[n].empty()) continue;
            std::size_t nearest = layer[m_graph.edges[outgoing[n][0]].to];
            for (const std::size_t e : outgoing[n]) nearest = std::min(nearest, layer[m_graph.edges[e].to]);
            layer[n] = nearest == 0 ? 0 : nearest - 1;
        }
        for (std::size_t n = 0; n < count; ++n) m_slots.push_back({m_graph.nodes[n].width, m_graph.nodes[n].height, 0, layer[n], {}, {}, 0});
        m_chains.resize(m_graph.edges.size());
        for (std::size_t e = 0; e < m_graph.edges.size(); ++e) {
            const auto [from, to] = m_graph.edges[e];
            std::size_t last = from;
            for (std::size_t l = layer[from] + 1; l < layer[to]; ++l) {
                m_slots.push_back({10, 0, 0, l, {}, {}, 0});
                link(last, m_slots.size() - 1);
                last = m_slots.size() - 1;
                m_chains[e].push_back(last);
            }
            link(last, to);
        }
        for (std::size_t s = 0; s < m_slots.size(); ++s) {
            if (m_slots[s].layer >= m_layers.size()) m_layers.resize(m_slots[s].layer + 1);
            m_layers[m_slots[s].layer].push_back(s);
        }
    }
    void link(std::size_t from, std::size_t to) {
        m_slots[from].down.push_back(to);
        m_slots[to].up.push_back(from);
    }

    void order(bool downwards) {
        std::vector<double> position(m_slots.size());
        const auto number = [&](const std::vector<std::size_t>& layer) {
            for (std::size_t i = 0; i < layer.size(); ++i) position[layer[i]] = static_cast<double>(i) - static_cast<double>(layer.size()) / 2;
        };
        for (const auto& layer : m_layers) number(layer);
        for (std::size_t step = 0; step < m_layers.size(); ++step) {
            auto& layer = m_layers[downwards ? step : m_layers.size() - 1 - step];
            for (const std::size_t s : layer) {
                const auto& near = downwards ? m_slots[s].up : m_slots[s].down;
                double sum = 0;
                for (const std::size_t other : near) sum += position[other];
                m_slots[s].key = near.empty() ? position[s] : sum / static_cast<double>(near.size());
            }
            std::stable_sort(layer.begin(), layer.end(), [&](std::size_t a, std::size_t b) { return m_slots[a].key < m_slots[b].key; });
            number(layer);
        }
    }

    /// Each layer in turn is pulled towards its neighbours' centres; overlaps are pushed apart from both sides and averaged.
    void place() {
        for (const auto& layer : m_layers) {
            float x = 0;
            for (const std::size_t s : layer) {
                m_slots[s].x = x + m_slots[s].width / 2;
                x += m_slots[s].width + gapX;
            }
            for (const std::size_t s : layer) m_slots[s].x -= (x - gapX) / 2;
        }
        constexpr int passes = 10;
        for (int pass = 0; pass < passes; ++pass) {
            const bool downwards = pass % 2 == 0;
            for (std::size_t step = 0; step < m_layers.size(); ++step) pull(m_layers[downwards ? step : m_layers.size() - 1 - step], downwards, pass + 2 >= passes);
        }
    }

    void pull(const std::vector<std::size_t>& layer, bool downwards, bool both) {
        std::vector<float> wish(layer.size()), left(layer.size()), right(layer.size());
        for (std::size_t i = 0; i < layer.size(); ++i) {
            const Slot& slot = m_slots[layer[i]];
            float sum = 0;
            std::size_t count = 0;
            for (const auto* list : {&slot.up, &slot.down}) {
                if (!both && (list == &slot.up) != downwards) continue;
                for (const std::size_t other : *list) sum += m_slots[other].x, ++count;
            }
            wish[i] = count == 0 ? slot.x : sum / static_cast<float>(count);
        }
        const auto apart = [&](std::size_t a, std::size_t b) { return (m_slots[layer[a]].width + m_slots[layer[b]].width) / 2 + gapX; };
        for (std::size_t i = 0; i < layer.size(); ++i) left[i] = i == 0 ? wish[i] : std::max(wish[i], left[i - 1] + apart(i - 1, i));
        for (std::size_t i = layer.size(); i-- > 0;) right[i] = i + 1 == layer.size() ? wish[i] : std::min(wish[i], right[i + 1] - apart(i, i + 1));
        for (std::size_t i = 0; i < layer.size(); ++i) m_slots[layer[i]].x = (left[i] + right[i]) / 2;
        // The average of two legal placements is legal.
    }

    LayeredResult result() {
        LayeredResult out;
        std::vector<float> top(m_layers.size());
        float y = 0;
        for (std::size_t l = 0; l < m_layers.size(); ++l) {
            float height = 0;
            for (const std::size_t s : m_layers[l]) height = std::max(height, m_slots[s].height);
            top[l] = y;
            y += height + gapY;
        }
        out.height = std::max(0.0F, y - gapY);
        float least = 0, most = 0;
        for (std::size_t s = 0; s < m_slots.size(); ++s) {
            const float from = m_slots[s].x - m_slots[s].width / 2, to = m_slots[s].x + m_slots[s].width / 2;
            least = s == 0 ? from : std::min(least, from);
            most = s == 0 ? to : std::max(most, to);
        }
        out.width = most - least;
        const auto snap = [](float v) { return std::round(v / grid) * grid; };
        for (std::size_t n = 0; n < m_graph.nodes.size(); ++n) {
            const Slot& slot = m_slots[n];
            out.nodes.push_back({snap(slot.x - slot.width / 2 - least), top[slot.layer], slot.width, slot.height});
        }
        for (std::size_t e = 0; e < m_graph.edges.size(); ++e) {
            const Box &from = out.nodes[m_graph.edges[e].from], &to = out.nodes[m_graph.edges[e].to];
            std::vector<Point> stops{{from.x + from.width / 2, from.bottom()}};
            for (const std::size_t s : m_chains[e]) stops.push_back({m_slots[s].x - least, top[m_slots[s].layer] + 8});
            stops.push_back({to.x + to.width / 2, to.y});
            out.edges.push_back(curve(stops));
        }
        return out;
    }

    /// Vertical tangents at every stop.
    static std::vector<Point> curve(const std::vector<Point>& stops) {
        std::vector<Point> path{stops[0]};
        for (std::size_t i = 1; i < stops.size(); ++i) {
            const Point a = stops[i - 1], b = stops[i];
            const float pull = (b.y - a.y) * 0.45F;
            path.push_back({a.x, a.y + pull});
            path.push_back({b.x, b.y - pull});
            path.push_back(b);
        }
        return path;
    }

    const LayeredGraph& m_graph;
    std::vector<Slot> m_slots;
    std::vector<std::vector<std::size_t>> m_layers, m_chains;
};

} // namespace

LayeredResult layOutLayers(const LayeredGraph& graph) { return Layers(graph).run(); }

} // namespace triptych
