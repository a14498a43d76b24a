//! Generates `docs/cli.md` from the program's own description of its command line.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::compare;

const HEAD: &str = "\
# Command line

<!-- Generated: UPDATE=1 cargo test --test documents -->

This page is generated from `podgraft --help`. Every command has `--help` with the text below.
Output goes to stdout, diagnostics go to stderr. Colors are used on a terminal only; `NO_COLOR` turns them off.
A reader that closes the pipe early, such as `head`, ends podgraft with exit code 141.

";

#[test]
fn the_command_line_reference_is_generated() {
    let mut program = podgraft::cli::command();
    program.build();
    let mut commands = Vec::new();
    collect(&program, "podgraft", &mut commands);
    let mut text = HEAD.to_owned();
    text += "| command | purpose |\n|---|---|\n";
    for (name, command) in commands.iter().filter(|(_, command)| !command.has_subcommands()) {
        let _ = writeln!(text, "| [`{name}`](#{}) | {} |", name.replace(' ', "-"), cell(&about(command)));
    }
    for (name, command) in &commands {
        section(name, command, &mut text);
    }
    compare("docs/cli.md", &text);
}

fn collect<'c>(command: &'c Command, name: &str, found: &mut Vec<(String, &'c Command)>) {
    found.push((name.to_owned(), command));
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        collect(below, &format!("{name} {}", below.get_name()), found);
    }
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn section(name: &str, command: &Command, text: &mut String) {
    let long = command.get_long_about().map_or_else(|| about(command), ToString::to_string);
    let _ = write!(text, "\n## {name}\n\n{}\n", long.trim_end());
    if !command.has_subcommands() {
        let usage = command.clone().render_usage().to_string();
        let _ = write!(text, "\n```text\n{}\n```\n", usage.trim_start_matches("Usage: "));
    }
    let arguments: Vec<&Arg> = command.get_arguments().filter(|argument| is_own(argument)).collect();
    if !arguments.is_empty() {
        text.push_str("\n| option | meaning |\n|---|---|\n");
        for argument in arguments {
            let _ = writeln!(text, "| {} | {} |", option(argument), meaning(argument));
        }
    }
    if let Some(after) = command.get_after_help() {
        let _ = write!(text, "\n```text\n{}\n```\n", after.to_string().trim_end());
    }
}

/// True for what is not clap's own help and version.
fn is_own(argument: &Arg) -> bool {
    !["help", "version"].contains(&argument.get_id().as_str()) && !argument.is_hide_set()
}

/// `-f`, `--filename <FILE>`, or a positional's name.
fn option(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default().iter().map(|name| format!("<{name}>"));
    let value = if argument.get_action().takes_values() { names.collect::<Vec<_>>().join(" ") } else { String::new() };
    let Some(long) = argument.get_long() else { return format!("`{}`", value.replace('|', "\\|")) };
    let short = argument.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
    format!("{short}`{}`", cell(format!("--{long} {value}").trim_end()))
}

fn meaning(argument: &Arg) -> String {
    let mut text = argument.get_help().map(|help| cell(&help.to_string())).unwrap_or_default();
    if !text.is_empty() && !text.ends_with('.') {
        text.push('.');
    }
    let values = argument.get_possible_values();
    if argument.get_action().takes_values() && !values.is_empty() {
        let values = values.iter().map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({})", value.get_name(), cell(&help.to_string())),
            None => format!("`{}`", value.get_name()),
        });
        let _ = write!(text, " One of {}.", values.collect::<Vec<_>>().join(", "));
    }
    let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        let _ = write!(text, " Default: `{}`.", defaults.join(" "));
    }
    if let Some(variable) = argument.get_env() {
        let _ = write!(text, " Environment: `{}`.", variable.to_string_lossy());
    }
    if argument.is_required_set() {
        text.push_str(" Required.");
    }
    text
}

/// Text as a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
