//! The command line: one module per verb.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod diff;
pub mod load;
mod render;
mod serve;

/// Grafts per-queue and per-environment pod templates and WASM template modules onto ML task pods.
#[derive(Debug, Parser)]
#[command(name = "podgraft", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Serve(Box<serve::Args>),
    Render(render::Args),
}

/// Does what the command line says. An error is a sentence for whoever typed it: wrong usage or configuration.
pub fn run() -> anyhow::Result<ExitCode> {
    match Cli::parse().verb {
        Verb::Serve(args) => serve::run(*args),
        Verb::Render(args) => render::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_flag_explains_itself() {
        Cli::command().debug_assert();
        for verb in Cli::command().get_subcommands() {
            for flag in verb.get_arguments() {
                assert!(flag.get_help().is_some(), "{} {} has no help", verb.get_name(), flag.get_id());
            }
        }
    }

    #[test]
    fn the_deployments_arguments_are_understood() {
        let text = include_str!("../deploy/kustomize/base/deployment.yaml");
        let deployment: serde_json::Value = serde_saphyr::from_str(text).unwrap();
        let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
        let arguments = arguments.iter().map(|argument| argument.as_str().unwrap());
        Cli::try_parse_from(["podgraft"].into_iter().chain(arguments)).unwrap();
    }
}
