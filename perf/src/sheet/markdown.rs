//! A report as Markdown.

use super::report::{Block, Report, Table};

/// The whole report.
pub(crate) fn text(report: &Report) -> String {
    let mut text = format!("# {}\n", report.title);
    for block in &report.blocks {
        match block {
            Block::Heading(heading) => text.push_str(&format!("\n## {heading}\n")),
            Block::Text(paragraph) => text.push_str(&format!("\n{paragraph}\n")),
            Block::List(items) => {
                text.push('\n');
                items.iter().for_each(|item| text.push_str(&format!("* {item}\n")));
            }
            Block::Table(content) => table(content, &mut text),
            // Tables say the same.
            Block::Bars(_) => {}
        }
    }
    text
}

fn table(table: &Table, text: &mut String) {
    let rule = |index: usize| if index == 0 || index >= table.words_from { "---" } else { "--:" };
    let rules: Vec<&str> = (0..table.head.len()).map(rule).collect();
    text.push_str(&format!("\n| {} |\n|{}|\n", table.head.join(" | "), rules.join("|")));
    for row in &table.rows {
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
}
