//! To which folder some programs are attached, and why they are not.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tandem_xdp::kernel::{Attached, Folder, Sockets, Who};

use super::report::Where;
use crate::backoff::Retry;

/// Why the programs are not loaded, in one line.
pub(super) type Problem = String;

/// Waits for something that did not work, or that had nothing to do.
pub(super) fn waits() -> Retry {
    Retry::new(Duration::from_secs(1), Duration::from_secs(30))
}

/// The folder of some programs.
#[derive(Default)]
pub(super) struct Place {
    /// The folder that they are attached to, and since when.
    pub(super) at: Option<(Folder, SystemTime)>,
    /// Why they are not attached, if they should be.
    pub(super) why_not: Option<Arc<str>>,
    /// Whether this run detached them and has not attached them again. An earlier run may have left them attached.
    detached: bool,
    /// Why they could not be detached.
    stays: Option<Problem>,
    /// When it is tried again to attach them to this folder.
    retry: Option<(Folder, Retry)>,
}

impl Place {
    /// Has programs be attached to this folder, and to no other; to none if it is none. `hold` is called before programs come to a
    /// folder where none were.
    pub(super) fn bring(
        &mut self,
        sockets: &Sockets,
        who: Who,
        wanted: Result<Option<Folder>, Arc<str>>,
        hold: impl Fn() -> Result<(), Problem>,
    ) -> bool {
        let wanted = match wanted {
            Ok(Some(folder)) => folder,
            Ok(None) => {
                let was = self.at.take().is_some() | self.why_not.take().is_some();
                self.detach(sockets, who);
                return was;
            }
            // The folder that they are attached to may be gone, and the links with it, or it is another one than the one
            // that is looked for.
            Err(why) => {
                self.detach(sockets, who);
                return self.fails(who, why);
            }
        };
        let is_there = self.at.as_ref().is_some_and(|(folder, _)| *folder == wanted);
        if is_there && sockets.is_attached(who, &wanted) {
            return false;
        }
        let retry = self.retry.take().filter(|(folder, _)| *folder == wanted);
        let retry = retry.map_or_else(waits, |(_, retry)| retry);
        if !retry.due(Instant::now()) {
            self.retry = Some((wanted, retry));
            return false;
        }
        if who == Who::Pods {
            sockets.set_pods(&wanted);
        }
        let ready = if sockets.is_linked(who, &wanted) {
            Ok(())
        } else {
            hold()
        };
        match ready.and_then(|()| sockets.attach(who, &wanted.path).map_err(words)) {
            Ok(how) => {
                if let Some(whose) = whose(who) {
                    let how = match how {
                        Attached::Anew => "attached to",
                        Attached::Adopted => "taken over at",
                    };
                    let path = wanted.path.display();
                    tracing::info!("sockets: the programs of the {whose} are {how} {path}");
                }
                (self.at, self.why_not) = (Some((wanted, SystemTime::now())), None);
                self.detached = false;
                true
            }
            Err(why) => {
                self.retry = Some((wanted, retry.failed(Instant::now())));
                // Some of them may be attached. What the status denies must not be so.
                self.detached = false;
                self.detach(sockets, who);
                self.fails(who, why.into())
            }
        }
    }

    /// Detaches them, also from where an earlier run attached them.
    fn detach(&mut self, sockets: &Sockets, who: Who) {
        if !self.detached {
            match sockets.detach(who) {
                Ok(()) => (self.detached, self.stays) = (true, None),
                Err(error) => {
                    let why = words(error);
                    if self.stays.as_ref() != Some(&why) {
                        tracing::warn!("sockets: {why}: the program stays attached; tried again");
                        self.stays = Some(why);
                    }
                }
            }
        }
    }

    fn fails(&mut self, who: Who, why: Arc<str>) -> bool {
        if self.why_not.as_ref() == Some(&why) {
            return false;
        }
        if let Some(whose) = whose(who) {
            tracing::warn!("sockets: {why}: nftables serves what the programs of the {whose} would take");
        }
        (self.at, self.why_not) = (None, Some(why));
        true
    }

    pub(super) fn shown(&self) -> Where {
        match (&self.at, &self.why_not) {
            (_, Some(why)) => Where::Not { why: Arc::clone(why) },
            (Some((folder, since)), None) => Where::At {
                folder: folder.path.clone(),
                since: *since,
            },
            (None, None) => Where::Nowhere,
        }
    }
}

/// Whose calls programs translate, in words; none for those that show frontends.
fn whose(who: Who) -> Option<&'static str> {
    match who {
        Who::Answers => None,
        Who::Node => Some("node"),
        Who::Pods => Some("pods"),
    }
}

/// An error with all its causes, in one line.
pub(super) fn words(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text.replace('\n', " | ")
}
