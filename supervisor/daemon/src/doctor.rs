//! `wattctl doctor`: what this host offers, what it does not, and the command that would change it. Needs no running
//! application and leaves nothing behind. What `up` and `status` warn of are the same conclusions.
//!
//! What the kernel allows is tried, not deduced: `facts` collects (the exec stage's probe, a cgroup made and removed),
//! `features` draws the conclusions, without looking anywhere itself, and `topic` knows which ones concern an application.

mod cgroups;
mod facts;
mod features;
mod topic;
mod walls;

use watt_api::control::{Doctor, Feature, FeatureState};
use watt_core::plan::Plan;
use watt_exec::plan::Probe;

use self::facts::Facts;
pub(crate) use self::{cgroups::Cgroups, facts::kernel, topic::asks_for_pressure};

/// What this host offers this process's user.
pub fn report() -> Doctor {
    let findings = features::findings(&Facts::collect());
    Doctor { features: findings.into_iter().map(|finding| finding.feature).collect() }
}

/// What nothing of watt runs without and this host does not have. Looked at in no time, before a start.
pub fn obstacle() -> Option<Feature> {
    let needed = [features::kernel(&facts::kernel()), features::pidfd(&facts::pidfd())];
    needed.into_iter().map(|finding| finding.feature).find(|feature| feature.state == FeatureState::Off)
}

/// What an application asks for and this host does not offer, from what its start has found out.
pub(crate) fn warnings(probe: Option<&Probe>, cgroups: Cgroups, plan: &Plan) -> Vec<String> {
    let probe = probe.cloned().ok_or_else(|| "what the host allows could not be tried".to_owned());
    let facts = Facts::with(probe, cgroups);
    topic::warnings(&features::findings(&facts), plan, facts.uid)
}
