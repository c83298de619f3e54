//! Who answers a Service port's packets from outside.

use tandem_core::family::Family;
use tandem_core::plan::{FrontendPlan, NoEndpoints, PortPlan, Usable};
use tandem_core::row::{Class, Frontend, Protocol};

use crate::engine::{FamilyStatus, FollowState};
use crate::xdp::OutsideStage;

use super::inside::Inside;
use super::view::AnswersView;

impl Inside<'_> {
    /// Who answers packets from outside to the frontends of a Service port that are its own. None if none is for them.
    pub(super) fn who_outside<F: Family>(
        &self,
        plan: &PortPlan<F>,
        own: &[&FrontendPlan<F>],
        status: &FamilyStatus,
    ) -> Option<AnswersView> {
        let external = own.iter().copied().filter(|frontend| is_external(frontend));
        let external: Vec<&FrontendPlan<F>> = external.collect();
        if external.is_empty() {
            return None;
        }
        let outside = &self.sockets.outside;
        if !outside.wanted {
            return Some(AnswersView::nftables(None));
        }
        let off = match &outside.stage {
            OutsideStage::On { .. } => None,
            OutsideStage::Off | OutsideStage::Ending { .. } => Some("XDP is off"),
            OutsideStage::Waiting { .. } => Some("XDP is waiting"),
            OutsideStage::Failed { .. } => Some("XDP failed"),
        };
        if let Some(why) = off.or_else(|| why_not_the_port(plan, status)) {
            return Some(AnswersView::nftables(Some(why.to_owned())));
        }
        let mut reasons: Vec<&str> = external.iter().filter_map(|frontend| why_not(plan, frontend)).collect();
        let some = reasons.len() < external.len();
        reasons.sort_unstable();
        reasons.dedup();
        let reasons = (!reasons.is_empty()).then(|| reasons.join(", "));
        Some(if some {
            AnswersView::xdp(reasons)
        } else {
            AnswersView::nftables(reasons)
        })
    }
}

fn is_external<F: Family>(plan: &FrontendPlan<F>) -> bool {
    match plan.frontend {
        Frontend::Address { class, .. } => class == Class::External,
        Frontend::NodePort { .. } => true,
    }
}

/// Why XDP takes no packet to a Service port.
fn why_not_the_port<F: Family>(plan: &PortPlan<F>, status: &FamilyStatus) -> Option<&'static str> {
    match &status.followed.state {
        FollowState::On { .. } => {}
        FollowState::Off | FollowState::Waiting { .. } => return Some("XDP is waiting"),
        FollowState::Beside { .. } => return Some("a kube-proxy's rules come first"),
        FollowState::Behind { .. } => return Some("XDP is behind"),
    }
    if plan.key.protocol == Protocol::Sctp {
        return Some("SCTP");
    }
    status.followed.left.get(&plan.key).map(|_| "no room")
}

/// Why XDP does not take packets to a frontend. Endpoints on this node are reached by nftables, too: that is decided for each flow.
fn why_not<F: Family>(plan: &PortPlan<F>, frontend: &FrontendPlan<F>) -> Option<&'static str> {
    if frontend.local {
        return Some("traffic policy Local");
    }
    match &plan.all {
        Some(Usable::Endpoints(_)) => None,
        Some(Usable::None(NoEndpoints::OnThisNode)) => Some("no endpoint on this node"),
        Some(Usable::None(NoEndpoints::Anywhere)) | None => Some("no endpoint"),
    }
}
