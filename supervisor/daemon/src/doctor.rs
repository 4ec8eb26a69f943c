//! `wattctl doctor`: what this host offers, what it does not, and the command that would change it. Needs no running
//! application and leaves nothing behind.
//!
//! What the kernel allows is tried, not deduced: `facts` collects (the exec stage's probe, a cgroup made and removed),
//! and `features` draws the conclusions, without looking anywhere itself.

mod cgroups;
mod facts;
mod features;

use watt_api::control::{Doctor, FeatureState};

/// What this host offers this process's user.
pub fn report() -> Doctor {
    Doctor { features: features::features(&facts::Facts::collect()) }
}

/// What `up` should warn of: everything that is not on, in words.
pub fn warnings(doctor: &Doctor) -> Vec<String> {
    let missing = doctor.features.iter().filter(|feature| feature.state != FeatureState::On);
    missing.map(|feature| format!("{}: {}", feature.name, feature.detail)).collect()
}
