//! The command line.

mod arguments;
mod cleanup;
mod config;
mod flags;
mod flows;
mod format;
mod outside;
mod planes;
mod ready;
mod ruleset;
mod run;
mod services;
mod status;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::api::{ApiError, SOCKET};

/// The version, and the commit if the build was told of it, as the build of the image is.
const VERSION: &str = match option_env!("TANDEM_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// Kubernetes Services on this node, IPv4 and IPv6 side by side: kube-proxy's work, on nftables.
#[derive(Parser)]
#[command(name = "tandem", version = VERSION, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(Box<run::Run>),
    Services(services::Services),
    Status(status::Status),
    Flows(flows::Flows),
    Ready(ready::Ready),
    Ruleset(ruleset::Ruleset),
    Config(config::Config),
}

/// How to reach the running agent.
#[derive(Args)]
struct Agent {
    /// The running agent's socket.
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table with more columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Runs the command.
pub fn main() -> ExitCode {
    let result = match parse(arguments::normal(std::env::args_os())).command {
        Command::Run(command) => command.run().map_err(|error| AskError::No(error.to_string())),
        Command::Services(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Flows(command) => command.run(),
        Command::Ready(command) => command.run(),
        Command::Ruleset(command) => command.run().map_err(Into::into),
        Command::Config(command) => command.run().map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(words) = error.words() {
                eprintln!("error: {words}");
            }
            ExitCode::from(error.code())
        }
    }
}

/// Help and errors show the command line as the user wrote it: if it was kube-proxy's, there is no `run` in it.
fn parse(arguments: Vec<OsString>) -> Cli {
    let mut command = Cli::command();
    if arguments::is_kube_proxy(&arguments) {
        command = command.mut_subcommand("run", |run| run.override_usage("kube-proxy [OPTIONS]"));
    }
    let cli = Cli::from_arg_matches(&command.clone().get_matches_from(arguments));
    cli.unwrap_or_else(|error| {
        command.build();
        // An error at this point can only be about a flag of `run`.
        match command.find_subcommand_mut("run") {
            Some(run) => error.format(run).exit(),
            None => error.exit(),
        }
    })
}

/// The error of any command, as one line for people.
type CommandError = Box<dyn std::error::Error>;

/// Why a command that asks something does not end with 0. Each has an exit code of its own, so that a script can tell a node
/// that is not well from one about which nothing is known.
#[derive(Debug)]
enum AskError {
    /// The answer is no, and why.
    No(String),
    /// The answer is no, and was printed already.
    Said,
    /// The command line cannot be right. clap uses the same code.
    Usage(String),
    /// There is no answer: no agent, no right, or no such object.
    Unknown(CommandError),
}

impl AskError {
    fn code(&self) -> u8 {
        match self {
            Self::No(_) | Self::Said => 1,
            Self::Usage(_) => 2,
            Self::Unknown(_) => 3,
        }
    }

    fn words(&self) -> Option<String> {
        match self {
            Self::No(words) | Self::Usage(words) => Some(words.clone()),
            Self::Unknown(error) => Some(error.to_string()),
            Self::Said => None,
        }
    }
}

impl From<CommandError> for AskError {
    fn from(error: CommandError) -> Self {
        Self::Unknown(error)
    }
}

impl From<ApiError> for AskError {
    fn from(error: ApiError) -> Self {
        Self::Unknown(error.into())
    }
}

/// Runs the future of a short command.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}

#[cfg(test)]
mod tests;
