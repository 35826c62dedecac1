#include "drawing/draw.h"

#include <cstdio>

namespace triptych {

namespace {

void escape(std::string& out, std::string_view text) {
    for (const char c : text) {
        switch (c) {
        case '&': out += "&amp;"; break;
        case '<': out += "&lt;"; break;
        case '>': out += "&gt;"; break;
        case '"': out += "&quot;"; break;
        default:
            if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') out += c;
        }
    }
}

void number(std::string& out, float value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f", static_cast<double>(value));
    std::string_view digits = text;
    if (digits.ends_with(".0")) digits.remove_suffix(2);
    out += digits;
}

std::string colour(std::uint32_t rgb) {
    char text[16];
    std::snprintf(text, sizeof text, "#%06X", rgb & 0xffffffU);
    return text;
}

std::string_view familyClass(Family family) { return toString(family); }

class SvgWriter {
public:
    SvgWriter(const DisplayList& list, const Theme& theme, std::string_view title) : m_list(list), m_theme(theme), m_title(title) {}

    std::string run() {
        m_out.reserve(m_list.shapes.size() * 260 + 4096);
        head();
        for (const Shape& shape : m_list.shapes) element(shape);
        m_out += "</svg>\n";
        return std::move(m_out);
    }

private:
    void head() {
        const Box& b = m_list.bounds;
        m_out += "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"";
        for (const float v : {b.x - 16, b.y - 16, b.width + 32, b.height + 32}) {
            number(m_out, v);
            m_out += ' ';
        }
        m_out.back() = '"';
        m_out += " width=\"";
        number(m_out, b.width + 32);
        m_out += "\" height=\"";
        number(m_out, b.height + 32);
        m_out += "\">\n<title>";
        escape(m_out, m_title);
        m_out += "</title>\n<style>\n";
        style();
        m_out += "</style>\n<defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"6\" markerHeight=\"6\" orient=\"auto\"><path d=\"M0 0.8L7.4 4L0 7.2z\" fill=\"" + colour(m_theme.edge) +
                 "\"/></marker></defs>\n<rect x=\"";
        number(m_out, b.x - 16);
        m_out += "\" y=\"";
        number(m_out, b.y - 16);
        m_out += "\" width=\"100%\" height=\"100%\" fill=\"" + colour(m_theme.canvas) + "\"/>\n";
    }

    void style() {
        const auto rule = [&](std::string_view selector, const std::string& body) { m_out += "." + std::string(selector) + "{" + body + "}\n"; };
        m_out += "text{font-family:Inter,'Helvetica Neue',Arial,sans-serif;fill:" + colour(m_theme.ink) + "}\n";
        rule("f", "font-family:'JetBrains Mono','DejaVu Sans Mono',monospace");
        rule("d", "fill:" + colour(m_theme.dim));
        rule("w", "font-weight:600");
        rule("c", "text-anchor:middle");
        rule("r", "text-anchor:end");
        rule("node>rect", "fill:" + colour(m_theme.node) + ";stroke:" + colour(m_theme.nodeLine));
        rule("view>rect,.stand-in>rect,.input>rect", "fill:" + colour(m_theme.panel) + ";stroke:" + colour(m_theme.nodeLine) + ";stroke-dasharray:3 2");
        rule("opaque>rect", "fill:" + colour(m_theme.node) + ";stroke:" + colour(m_theme.selection) + ";stroke-width:2");
        rule("block>rect", "fill:none;stroke:" + colour(m_theme.line));
        rule("collapsed>rect", "fill:" + colour(m_theme.panel) + ";stroke:" + colour(m_theme.nodeLine));
        rule("edge>path", "fill:none;stroke:" + colour(m_theme.edge) + ";stroke-width:1.25");
        for (const Family family : {Family::parallel, Family::attention, Family::linear, Family::norm, Family::region, Family::gated, Family::view}) {
            const std::string paint = colour(m_theme.family(family)), name(familyClass(family));
            char alpha[16];
            std::snprintf(alpha, sizeof alpha, "%.2f", static_cast<double>(m_theme.groupAlpha));
            rule("group." + name + ">rect,.bracket." + name + ">rect", "fill:" + paint + ";fill-opacity:" + alpha + ";stroke:" + paint);
            rule("text." + name + ">rect", "fill:" + colour(m_theme.panel) + ";stroke:" + paint);
        }
        rule("bracket>rect", "stroke-width:2");
    }

    void element(const Shape& shape) {
        m_out += "<g id=\"";
        escape(m_out, shape.id);
        m_out += "\" class=\"";
        m_out += toString(shape.role);
        if (shape.family != Family::none) {
            m_out += ' ';
            m_out += familyClass(shape.family);
        }
        m_out += "\">";
        if (!shape.title.empty()) {
            m_out += "<title>";
            escape(m_out, shape.title);
            m_out += "</title>";
        }
        if (shape.role == Role::edge) path(shape);
        else if (shape.box.width > 0 && (shape.role != Role::text || shape.radius > 0)) rectangle(shape);
        for (const Label& label : shape.labels) text(label);
        m_out += "</g>\n";
    }

    void rectangle(const Shape& shape) {
        m_out += "<rect x=\"";
        number(m_out, shape.box.x);
        m_out += "\" y=\"";
        number(m_out, shape.box.y);
        m_out += "\" width=\"";
        number(m_out, shape.box.width);
        m_out += "\" height=\"";
        number(m_out, shape.box.height);
        m_out += "\" rx=\"";
        number(m_out, shape.radius);
        m_out += "\"/>";
    }

    void path(const Shape& shape) {
        m_out += "<path d=\"M";
        for (std::size_t i = 0; i < shape.path.size(); ++i) {
            if (i > 0) m_out += !shape.curved ? "L" : i % 3 == 1 ? "C" : " ";
            number(m_out, shape.path[i].x);
            m_out += ' ';
            number(m_out, shape.path[i].y);
        }
        m_out += shape.arrow ? "\" marker-end=\"url(#head)\"/>" : "\"/>";
    }

    void text(const Label& label) {
        m_out += "<text x=\"";
        number(m_out, label.at.x);
        m_out += "\" y=\"";
        number(m_out, label.at.y);
        m_out += "\" font-size=\"";
        number(m_out, label.size);
        std::string classes;
        if (label.font == Font::figures) classes += " f";
        if (label.dim) classes += " d";
        if (label.bold) classes += " w";
        if (label.align == Align::centre) classes += " c";
        if (label.align == Align::right) classes += " r";
        m_out += classes.empty() ? "\">" : "\" class=\"" + classes.substr(1) + "\">";
        escape(m_out, label.text);
        m_out += "</text>";
    }

    const DisplayList& m_list;
    const Theme& m_theme;
    std::string_view m_title;
    std::string m_out;
};

} // namespace

std::string writeSvg(const DisplayList& list, const Theme& theme, std::string_view title) { return SvgWriter(list, theme, title).run(); }

} // namespace triptych
