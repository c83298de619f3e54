//! `tandem config`

use clap::{Args, Subcommand};

use crate::config::explain;

use super::CommandError;
use super::format::print;

/// Look up what can be configured.
#[derive(Args)]
pub(super) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Describe a field of the KubeProxyConfiguration or the TandemConfiguration, and what Tandem does with it.
    #[command(after_help = "Examples:\n  tandem config explain conntrack.maxPerCore\n  \
        tandem config explain tandemconfiguration --recursive")]
    Explain {
        /// The field, for example `nftables.masqueradeBit`, or a kind of file. Without it, both kinds are described.
        #[arg(value_name = "FIELD.PATH", default_value = "")]
        path: String,
        /// Print the fields of all sections, without descriptions.
        #[arg(long)]
        recursive: bool,
    },
}

impl Config {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let Command::Explain { path, recursive } = self.command;
        print(&explain(&path, recursive)?)
    }
}
