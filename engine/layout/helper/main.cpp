// triptych-layout: lays blocks out with Graphviz dot, in a process of its own. dot is not thread-safe and may abort on an
// assertion; here that costs one run, not the program.
//
// In, on standard input, one block after another until the end:
//   block NODES EDGES RANKS \n  then NODES lines "WIDTH HEIGHT" in pixels, RANKS lines "COUNT NODE NODE ..." of nodes to put
//   side by side, EDGES lines "FROM TO" (positions of nodes)
// Out, for each block, on standard output:
//   block \n  then NODES lines "X Y" (centres, y downwards), EDGES lines "COUNT X Y X Y ..." (a start point, then cubic triples)

#include <graphviz/cgraph.h>
#include <graphviz/gvc.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

constexpr double pixelsAnInch = 72;
constexpr int mostNodes = 100000;

char* text(const char* literal) { return const_cast<char*>(literal); } // cgraph takes char* and doesn't write to it

void setSize(Agnode_t* node, double width, double height) {
    agsafeset(node, text("width"), std::to_string(width / pixelsAnInch).data(), text(""));
    agsafeset(node, text("height"), std::to_string(height / pixelsAnInch).data(), text(""));
}

void printEdge(Agedge_t* edge, double top) {
    const splines* route = ED_spl(edge);
    if (!route || route->size == 0) {
        std::printf("0\n");
        return;
    }
    const bezier& curve = route->list[0];
    const bool reached = curve.eflag != 0;
    std::printf("%zu", static_cast<std::size_t>(curve.size) + (reached ? 3U : 0U));
    for (std::size_t i = 0; i < static_cast<std::size_t>(curve.size); ++i) std::printf(" %.1f %.1f", curve.list[i].x, top - curve.list[i].y);
    // The last stretch to the arrow's tip, as a straight cubic.
    if (reached) {
        const pointf last = curve.list[curve.size - 1];
        for (int i = 0; i < 2; ++i) std::printf(" %.1f %.1f", (last.x + curve.ep.x) / 2, top - (last.y + curve.ep.y) / 2);
        std::printf(" %.1f %.1f", curve.ep.x, top - curve.ep.y);
    }
    std::printf("\n");
}

bool layOutOne(GVC_t* context, int nodeCount, int edgeCount, int rankCount) {
    Agraph_t* graph = agopen(text("block"), Agdirected, nullptr);
    for (const auto& [name, value] : {std::pair("nslimit", "0.3"), std::pair("nslimit1", "0.3"), std::pair("nodesep", "0.25"), std::pair("ranksep", "0.3")}) agattr(graph, AGRAPH, text(name), text(value));
    for (const auto& [name, value] : {std::pair("shape", "box"), std::pair("fixedsize", "true"), std::pair("label", ""), std::pair("width", "1"), std::pair("height", "0.5")}) agattr(graph, AGNODE, text(name), text(value));
    agattr(graph, AGEDGE, text("arrowsize"), text("0.7"));
    std::vector<Agnode_t*> nodes;
    std::vector<Agedge_t*> edges;
    for (int i = 0; i < nodeCount; ++i) {
        double width = 0, height = 0;
        if (std::scanf("%lf %lf", &width, &height) != 2) return false;
        nodes.push_back(agnode(graph, std::to_string(i).data(), 1));
        setSize(nodes.back(), width, height);
    }
    for (int i = 0; i < rankCount; ++i) {
        Agraph_t* rank = agsubg(graph, ("rank" + std::to_string(i)).data(), 1);
        agsafeset(rank, text("rank"), text("same"), text(""));
        int count = 0, node = 0;
        if (std::scanf("%d", &count) != 1 || count < 0 || count > nodeCount) return false;
        for (; count > 0; --count) {
            if (std::scanf("%d", &node) != 1 || node < 0 || node >= nodeCount) return false;
            agsubnode(rank, nodes[static_cast<std::size_t>(node)], 1);
        }
    }
    for (int i = 0; i < edgeCount; ++i) {
        int from = 0, to = 0;
        if (std::scanf("%d %d", &from, &to) != 2 || from < 0 || to < 0 || from >= nodeCount || to >= nodeCount) return false;
        edges.push_back(agedge(graph, nodes[static_cast<std::size_t>(from)], nodes[static_cast<std::size_t>(to)], nullptr, 1));
    }
    if (gvLayout(context, graph, "dot") != 0) return false;
    const double top = GD_bb(graph).UR.y;
    std::printf("block\n");
    for (Agnode_t* node : nodes) std::printf("%.1f %.1f\n", ND_coord(node).x, top - ND_coord(node).y);
    for (Agedge_t* edge : edges) printEdge(edge, top);
    std::fflush(stdout);
    gvFreeLayout(context, graph);
    agclose(graph);
    return true;
}

} // namespace

int main() {
    GVC_t* context = gvContext();
    int nodes = 0, edges = 0, ranks = 0;
    while (std::scanf(" block %d %d %d", &nodes, &edges, &ranks) == 3) {
        if (nodes <= 0 || nodes > mostNodes || edges < 0 || edges > 10 * mostNodes || ranks < 0 || ranks > mostNodes || !layOutOne(context, nodes, edges, ranks)) return EXIT_FAILURE;
    }
    gvFreeContext(context);
    return EXIT_SUCCESS;
}
