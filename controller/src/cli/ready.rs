//! `tandem ready`

use clap::Args;

use crate::api::{ReadyView, get};

use super::format::{print, structured};
use super::{Agent, AskError, Output, block_on};

/// Say whether the agent of this pod, or of this node, can be relied on. For readiness probes.
///
/// Exits with 0 if every list is complete, both families are programmed, and the health check address is the agent's own
/// or turned off; also if the agent stands by with complete lists while another one serves the node. Exits with 1 if not,
/// and says why in one line. Exits with 3 if no agent answers.
#[derive(Args)]
#[command(after_help = "Examples:\n  tandem ready\n  tandem ready -o json")]
pub(super) struct Ready {
    /// Another form than text.
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    #[command(flatten)]
    agent: Agent,
}

impl Ready {
    pub(super) fn run(self) -> Result<(), AskError> {
        let view: ReadyView = block_on(get(&self.agent.socket, "/v1/ready"))??;
        if !structured(&view, self.output)? {
            let word = if view.ready { "ready" } else { "not ready" };
            print(&format!("{word}: {}\n", view.reason))?;
        }
        if view.ready { Ok(()) } else { Err(AskError::Said) }
    }
}
