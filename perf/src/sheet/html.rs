//! A report as one HTML page that needs nothing else: styles inside, bars as SVG.

use super::report::{Bars, Block, Report, Table};

/// The whole report.
pub(crate) fn text(report: &Report) -> String {
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{0}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{0}</h1>\n",
        escaped(&report.title)
    );
    for block in &report.blocks {
        match block {
            Block::Heading(heading) => text.push_str(&format!("<h2>{}</h2>\n", inline(heading))),
            Block::Text(paragraph) => text.push_str(&format!("<p>{}</p>\n", inline(paragraph))),
            Block::List(items) => {
                text.push_str("<ul>\n");
                items.iter().for_each(|item| text.push_str(&format!("<li>{}</li>\n", inline(item))));
                text.push_str("</ul>\n");
            }
            Block::Table(content) => table(content, &mut text),
            Block::Bars(content) => bars(content, &mut text),
        }
    }
    text.push_str("</body>\n</html>\n");
    text
}

fn table(table: &Table, text: &mut String) {
    let class = |index: usize| if index == 0 || index >= table.words_from { "" } else { " class=\"n\"" };
    text.push_str("<div class=\"wide\"><table>\n");
    if table.head.iter().any(|name| !name.is_empty()) {
        text.push_str("<tr>");
        for (index, name) in table.head.iter().enumerate() {
            text.push_str(&format!("<th{}>{}</th>", class(index), inline(name)));
        }
        text.push_str("</tr>\n");
    }
    for row in &table.rows {
        text.push_str("<tr>");
        for (index, cell) in row.iter().enumerate() {
            text.push_str(&format!("<td{}>{}</td>", class(index), inline(cell)));
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</table></div>\n");
}

/// A bar for each median, with a line from the least to the most.
fn bars(bars: &Bars, text: &mut String) {
    let largest = bars.bars.iter().map(|(_, spread)| spread.most).fold(f64::MIN_POSITIVE, f64::max);
    let height = bars.bars.len() * ROW + 18;
    text.push_str(&format!("<svg role=\"img\" aria-label=\"{}\" viewBox=\"0 0 720 {height}\">\n", bars.unit));
    for (index, (kind, spread)) in bars.bars.iter().enumerate() {
        let top = index * ROW;
        let at = |value: f64| LEFT + value / largest * WIDTH;
        let (middle, end) = (top + 11, at(spread.median));
        text.push_str(&format!(
            "<text x=\"84\" y=\"{0}\" class=\"e\">{kind}</text>\
             <rect class=\"{kind}\" x=\"{LEFT}\" y=\"{1}\" width=\"{2:.1}\" height=\"14\"/>\
             <line x1=\"{3:.1}\" x2=\"{4:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>\
             <text x=\"{5:.1}\" y=\"{0}\">{6:.2}</text>\n",
            top + 15,
            top + 4,
            end - LEFT,
            at(spread.least),
            at(spread.most),
            at(spread.most) + 6.0,
            spread.median,
        ));
    }
    let foot = bars.bars.len() * ROW + 13;
    text.push_str(&format!(
        "<text x=\"{LEFT}\" y=\"{foot}\" class=\"u\">{}, median; the line: least to most</text>\n</svg>\n",
        bars.unit
    ));
}

/// Text with `code` and **strong** words.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in escaped(text).split('`').enumerate() {
        if index % 2 == 1 {
            out.push_str(&format!("<code>{part}</code>"));
            continue;
        }
        for (index, part) in part.split("**").enumerate() {
            out.push_str(&if index % 2 == 1 { format!("<strong>{part}</strong>") } else { part.to_owned() });
        }
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const ROW: usize = 22;
const LEFT: f64 = 90.0;
const WIDTH: f64 = 540.0;

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --dim: #888; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin: 2.2rem 0 .5rem; font-size: 1.15rem; border-top: 1px solid var(--line); padding-top: 1rem; }
code { font: .9em ui-monospace, monospace; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
svg { width: 100%; max-width: 45rem; margin: .8rem 0; font: 12px system-ui, sans-serif; }
svg text { fill: currentColor; } svg .e { text-anchor: end; } svg .u { fill: var(--dim); }
svg line { stroke: currentColor; stroke-width: 2; }
rect { fill: #9aa5b1; } rect.dunlin { fill: #2f7ed8; } rect.floor { fill: #cfd5da; }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_can_not_become_markup() {
        assert_eq!(inline("<b> & `a<b` **x**"), "&lt;b&gt; &amp; <code>a&lt;b</code> <strong>x</strong>");
    }
}
