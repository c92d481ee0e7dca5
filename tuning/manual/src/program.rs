//! The page of a program, with all of its commands, and its completion, both from its command line.

use std::io;

use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::prose::Page;

/// A program whose command line is known.
#[derive(Debug)]
pub struct Program {
    command: Command,
}

impl Program {
    /// Takes the program's command line, as `CommandFactory::command` gives it.
    #[must_use]
    pub fn new(command: Command) -> Self {
        // Without the generated `help` command, which says nothing that the page does not.
        let mut command =
            with_values_in_help(command.disable_help_subcommand(true).subcommand_value_name("COMMAND"));
        command.build();
        Self { command }
    }

    /// The page up to its options and commands; the caller adds files, notes and references.
    #[must_use]
    pub fn page(&self) -> Page {
        let man = Man::new(self.command.clone());
        let name = self.command.get_name();
        let version = self.command.get_version().unwrap_or_default();
        let mut page = Page::titled(name, "1", &format!("{name} {version}"));
        page.extend(rendered(|out| man.render_name_section(out)));
        page.extend(rendered(|out| man.render_synopsis_section(out)));
        page.extend(rendered(|out| man.render_description_section(out)));
        page.extend(rendered(|out| man.render_options_section(out)));
        if visible(&self.command).next().is_some() {
            page.section("COMMANDS");
            add_commands(&mut page, &self.command, &self.command);
        }
        if let Some(notes) = self.command.get_after_long_help().or_else(|| self.command.get_after_help()) {
            page.section("NOTES");
            add_notes(&mut page, &notes.to_string());
        }
        page
    }
}

/// The completion of a program for bash.
#[must_use]
pub fn bash_completion(command: Command) -> String {
    let (mut command, mut text) = (command, Vec::new());
    let name = command.get_name().to_owned();
    clap_complete::generate(clap_complete::Shell::Bash, &mut command, name, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Each command of `parent` and below, with what it does and its own options. Options that it has in common with `program`
/// are said once, above.
fn add_commands(page: &mut Page, program: &Command, parent: &Command) {
    for command in visible(parent) {
        page.subsection(command.get_bin_name().unwrap_or_else(|| command.get_name()));
        let man = Man::new(own_options_only(program, command));
        page.extend(without_headings(&rendered(|out| man.render_description_section(out))));
        let common: Vec<String> = command
            .get_arguments()
            .filter(|arg| !arg.is_global_set() && !is_generated(arg) && is_common(program, arg))
            .filter_map(|arg| Some(format!("`--{}`", arg.get_long()?)))
            .collect();
        if !common.is_empty() {
            page.paragraph(&format!("Takes {} as above.", common.join(", ")));
        }
        page.extend(without_headings(&rendered(|out| man.render_options_section(out))));
        if let Some(notes) = command.get_after_long_help().or_else(|| command.get_after_help()) {
            add_notes(page, &notes.to_string());
        }
        add_commands(page, program, command);
    }
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|below| !below.is_hide_set())
}

/// The command without what stands among the program's own options, and without `--help`.
fn own_options_only(program: &Command, command: &Command) -> Command {
    let hidden = |arg: &Arg| arg.is_global_set() || is_generated(arg) || is_common(program, arg);
    command.clone().mut_args(|arg| if hidden(&arg) { arg.hide(true) } else { arg })
}

fn is_generated(arg: &Arg) -> bool {
    arg.get_id() == "help" || arg.get_id() == "version"
}

/// Whether the program itself has the same option and says the same of it.
fn is_common(program: &Command, arg: &Arg) -> bool {
    let mut options =
        program.get_arguments().filter(|own| own.get_long().is_some() && own.get_long() == arg.get_long());
    options.any(|own| own.get_help().map(ToString::to_string) == arg.get_help().map(ToString::to_string))
}

/// Values that need no explanation stand behind the help of their option, as `--help` has them, and not in a list.
fn with_values_in_help(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let values = arg.get_possible_values();
        if values.is_empty()
            || arg.is_hide_possible_values_set()
            || matches!(arg.get_action(), clap::ArgAction::SetTrue | clap::ArgAction::SetFalse)
            || values.iter().any(|value| value.get_help().is_some())
        {
            return arg;
        }
        let names: Vec<&str> =
            values.iter().filter(|value| !value.is_hide_set()).map(|value| value.get_name()).collect();
        let help =
            arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let help = format!("{help} [possible values: {}]", names.join(", "));
        arg.hide_possible_values(true).help(help.clone()).long_help(help)
    });
    command.mut_subcommands(with_values_in_help)
}

/// Paragraphs as they are; lines that begin with blanks are examples.
fn add_notes(page: &mut Page, text: &str) {
    for block in text.split("\n\n") {
        let mut prose = String::new();
        let mut example = String::new();
        for line in block.lines() {
            if line.starts_with(' ') {
                flush_prose(page, &mut prose);
                example.push_str(line);
                example.push('\n');
            } else {
                flush_example(page, &mut example);
                prose.push_str(line);
                prose.push('\n');
            }
        }
        flush_prose(page, &mut prose);
        flush_example(page, &mut example);
    }
}

fn flush_prose(page: &mut Page, prose: &mut String) {
    if !prose.is_empty() {
        page.paragraph(prose.trim_end());
        prose.clear();
    }
}

fn flush_example(page: &mut Page, example: &mut String) {
    if !example.is_empty() {
        page.example(example);
        example.clear();
    }
}

/// What a part of the renderer writes, without the preamble that each of them begins with.
fn rendered(part: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut text = Vec::new();
    part(&mut text).expect("a vector takes all that is written");
    let preamble = Roff::default().render();
    let text = String::from_utf8_lossy(&text).replace(&preamble, "");
    text.lines().map(|line| with_bold_spans(line) + "\n").collect()
}

/// A line with its `code spans` in bold.
fn with_bold_spans(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    if parts.len().is_multiple_of(2) || line.starts_with('.') {
        return line.to_owned();
    }
    let set = |(index, part): (usize, &&str)| {
        if index % 2 == 1 { format!("\\fB{part}\\fR") } else { (*part).to_owned() }
    };
    parts.iter().enumerate().map(set).collect()
}

/// The page's own headings stand for those of a part; others become a line of their own.
fn without_headings(part: &str) -> String {
    let mut text = String::new();
    for line in part.lines() {
        match line.strip_prefix(".SH ").map(|heading| heading.trim_matches('"')) {
            Some("DESCRIPTION" | "OPTIONS") => {}
            Some(heading) => {
                let mut named = Roff::default();
                named.control("PP", []);
                named.text([roman(format!("{}:", sentence_case(heading)))]);
                text.push_str(&named.to_roff());
            }
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

fn sentence_case(heading: &str) -> String {
    let mut letters = heading.chars();
    let first: String = letters.next().into_iter().collect();
    first + &letters.as_str().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ducks() -> Command {
        Command::new("ducks")
            .version("1.2")
            .about("Counts ducks.")
            .arg(Arg::new("pond").long("pond").global(true).help("Which pond."))
            .arg(Arg::new("seed").long("seed").help("As in `dice`."))
            .arg(Arg::new("kind").long("kind").value_parser(["mallard", "teal"]).help("Which ones."))
            .subcommand(
                Command::new("feed")
                    .about("Feeds them.")
                    .arg(Arg::new("seed").long("seed").help("As in `dice`."))
                    .arg(Arg::new("bread").long("bread").help("How much of 'it'.").help_heading("Food"))
                    .subcommand(Command::new("swans").about("Only those."))
                    .after_help("Examples:\n  ducks feed --bread 3"),
            )
            .subcommand(Command::new("secret").hide(true))
            .after_help("A note.\n\nAnother note.")
    }

    #[test]
    fn every_command_has_its_place_and_common_options_stand_once() {
        let text = Program::new(ducks()).page().render();
        assert!(text.contains(".SS \"ducks feed\"\nFeeds them."), "{text}");
        assert!(text.contains(".SS \"ducks feed swans\"\nOnly those."), "{text}");
        assert_eq!(text.matches("\\fB\\-\\-pond\\fR").count(), 2, "synopsis and options: {text}");
        assert!(text.contains("Food:\n.TP\n\\fB\\-\\-bread\\fR"), "{text}");
        assert!(text.contains("Takes \\fB\\-\\-seed\\fR as above."), "{text}");
        assert!(text.contains("As in \\fBdice\\fR."), "{text}");
        assert!(text.contains("Which ones. [possible values: mallard, teal]"), "{text}");
        assert!(text.contains(".SH NOTES\nA note.\n.PP\nAnother note."), "{text}");
        assert!(text.contains(".nf\n      ducks feed \\-\\-bread 3\n.fi"), "{text}");
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(text.matches(".ie \\n(.g").count(), 1, "{text}");
    }

    #[test]
    fn the_completion_knows_the_flags() {
        let text = bash_completion(ducks());
        assert!(text.contains("--bread") && text.contains("_ducks"), "{text}");
    }
}
