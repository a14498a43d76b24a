use clap::{Command, CommandFactory};

use super::*;

/// Returns every verb and nested verb with its command line.
fn verbs() -> Vec<(String, Command)> {
    fn walk(command: &Command, words: &str, found: &mut Vec<(String, Command)>) {
        found.push((words.to_owned(), command.clone()));
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            walk(below, &format!("{words} {}", below.get_name()), found);
        }
    }
    let mut found = Vec::new();
    let mut cli = Cli::command();
    cli.build();
    walk(&cli, "podgraft", &mut found);
    found
}

#[test]
fn the_command_line_is_valid_and_every_flag_has_a_help_text() {
    Cli::command().debug_assert();
    for (words, verb) in verbs() {
        assert!(verb.get_about().is_some(), "{words} has no description");
        for flag in verb.get_arguments() {
            assert!(flag.get_help().is_some(), "{words} {} has no help", flag.get_id());
        }
    }
}

#[test]
fn the_deployments_arguments_are_accepted() {
    let text = include_str!("../../deploy/kustomize/base/deployment.yaml");
    let deployment: serde_json::Value = serde_saphyr::from_str(text).unwrap();
    let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
    let arguments = arguments.iter().map(|argument| argument.as_str().unwrap());
    Cli::try_parse_from(["podgraft"].into_iter().chain(arguments)).unwrap();
}

/// Returns the command lines of a help's examples: indented lines that begin with `podgraft`, alone or after a pipe. A
/// final `\` joins a line to the next one.
fn examples(help: &str) -> Vec<Vec<String>> {
    let help = help.replace("\\\n", " ");
    let (_, examples) = help.split_once("Examples:\n").expect("the help has a block of examples");
    let commands = examples.lines().filter(|line| line.starts_with("  ")).filter_map(|line| {
        let command = line.rsplit("| ").next().unwrap_or(line).trim();
        command.starts_with("podgraft ").then(|| command.split(" > ").next().unwrap_or(command).trim())
    });
    commands.map(|command| command.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn every_help_ends_with_examples_that_parse() {
    for (words, verb) in verbs() {
        let help = verb.get_after_help().or(verb.get_after_long_help());
        let help = help.unwrap_or_else(|| panic!("{words} --help shows no example")).to_string();
        let examples = examples(&help);
        assert!(!examples.is_empty(), "{words} --help shows no example");
        for example in &examples {
            let line = example.join(" ");
            assert!(line.starts_with(&words), "{words} --help shows an example of another verb: {line}");
            if let Err(error) = Cli::try_parse_from(example) {
                panic!("{words} --help shows an example that does not parse: {line}\n{error}");
            }
        }
    }
}

#[test]
fn examples_are_found_behind_pipes_before_redirections_and_over_lines() {
    let help = "Examples:\n  text\n    helm x | podgraft render -f - \\\n      --config c > out\n\n  podgraft check --config c\nExit codes: 0";
    let found = examples(help);
    assert_eq!(
        found,
        [&["podgraft", "render", "-f", "-", "--config", "c"][..], &["podgraft", "check", "--config", "c"]]
    );
}
