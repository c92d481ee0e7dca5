//! A manual page that is written as text: headings, paragraphs and items, with code spans in bold.

use clap_mangen::roff::{Inline, Roff, bold, roman};

/// A page under construction. Text may hold `code spans`, which become bold.
#[derive(Debug)]
pub struct Page {
    /// Roff without the preamble.
    text: String,
}

impl Page {
    /// Begins a page, for example `dunlin.toml`, section 5, with the one sentence of its NAME.
    #[must_use]
    pub fn new(title: &str, section: &str, source: &str, about: &str) -> Self {
        let mut page = Self::titled(title, section, source);
        page.section("NAME");
        page.line([roman(format!("{title} - {about}"))]);
        page
    }

    /// A page that has nothing yet but its title. It has no date, so that the same program gives the same page on every day.
    pub(crate) fn titled(title: &str, section: &str, source: &str) -> Self {
        Self { text: format!(".TH \"{title}\" \"{section}\" \"\" \"{source}\" \"Dunlin\"\n") }
    }

    /// A heading of the page.
    pub fn section(&mut self, heading: &str) {
        self.control("SH", &[heading]);
    }

    /// A heading inside a section.
    pub fn subsection(&mut self, heading: &str) {
        self.control("SS", &[heading]);
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        if !self.follows_heading() {
            self.control("PP", &[]);
        }
        self.line(spans(text));
    }

    /// A term with what is said of it: the first paragraph beside or below the term, the others under it.
    pub fn item(&mut self, term: &str, paragraphs: &[String]) {
        self.control("TP", &[]);
        self.line(spans(term));
        for (index, paragraph) in paragraphs.iter().enumerate() {
            if index > 0 {
                self.control("IP", &[]);
            }
            self.line(spans(paragraph));
        }
    }

    /// Lines that are shown as they stand.
    pub fn example(&mut self, lines: &str) {
        if !self.follows_heading() {
            self.control("PP", &[]);
        }
        self.control("nf", &[]);
        for line in lines.lines() {
            self.line([roman(format!("    {line}"))]);
        }
        self.control("fi", &[]);
    }

    /// Other pages that are worth reading, such as `dunlin(1)`.
    pub fn see_also(&mut self, pages: &[&str]) {
        self.section("SEE ALSO");
        self.line(references(pages));
    }

    /// The page as roff.
    #[must_use]
    pub fn render(&self) -> String {
        Roff::default().render() + &self.text
    }

    /// Adds roff that was rendered elsewhere, without a preamble.
    pub(crate) fn extend(&mut self, roff: impl AsRef<str>) {
        self.text.push_str(roff.as_ref());
    }

    /// Whether nothing stands below the last heading yet: a paragraph needs no mark there.
    fn follows_heading(&self) -> bool {
        self.text.lines().next_back().is_some_and(|line| line.starts_with(".SH") || line.starts_with(".SS"))
    }

    fn control(&mut self, name: &str, arguments: &[&str]) {
        let mut roff = Roff::default();
        roff.control(name, arguments.iter().copied());
        self.add(&roff);
    }

    fn line(&mut self, line: impl Into<Vec<Inline>>) {
        let mut roff = Roff::default();
        roff.text(line);
        self.add(&roff);
    }

    fn add(&mut self, roff: &Roff) {
        self.text.push_str(&roff.render().replace(&Roff::default().render(), ""));
    }
}

/// `dunlin(1), dunlin.toml(5)` with the names in bold.
pub(crate) fn references(pages: &[&str]) -> Vec<Inline> {
    let mut line = Vec::new();
    for (index, page) in pages.iter().enumerate() {
        let (name, section) = page.split_once('(').unwrap_or((page, ""));
        line.push(bold(name));
        let end = if index + 1 == pages.len() { "" } else { ", " };
        line.push(roman(if section.is_empty() { end.to_owned() } else { format!("({section}{end}") }));
    }
    line
}

/// Text with its code spans in bold.
pub(crate) fn spans(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate().filter(|(_, part)| !part.is_empty());
    parts.map(|(index, part)| if index % 2 == 1 { bold(part) } else { roman(part) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_spans_are_bold_and_dots_at_the_start_are_text() {
        let mut page = Page::new("x.toml", "5", "x 1", "a file");
        page.paragraph(".dot and `mqtt.max_inflight`, then \\ and more");
        let text = page.render();
        assert!(text.contains(".TH \"x.toml\" \"5\" \"\" \"x 1\" \"Dunlin\""), "{text}");
        assert!(text.contains("\\fBmqtt.max_inflight\\fR"), "{text}");
        assert!(!text.lines().any(|line| line.starts_with(".dot")), "{text}");
        assert!(text.contains("then \\\\ and") || text.contains("then \\e and"), "{text}");
    }

    #[test]
    fn references_name_page_and_section() {
        let mut page = Page::new("x", "1", "x 1", "a program");
        page.see_also(&["dunlin(1)", "dunlin.toml(5)"]);
        assert!(page.render().contains("\\fBdunlin\\fR(1), \\fBdunlin.toml\\fR(5)"), "{}", page.render());
    }
}
