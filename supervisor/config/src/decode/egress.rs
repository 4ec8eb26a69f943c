//! What a private service may reach outside of the mesh.

use watt_core::{
    plan::{Egress, EgressRule, Network},
    sandbox::Profile,
};

use super::fields::Fields;
use crate::{
    keys::EGRESS,
    report::Problem,
    scalar::{Scalar, Whole, quote},
    show::Shown,
};

/// Decodes `egress`. In a strict sandbox nothing is reached that is not written.
pub(super) fn decode(f: &mut Fields<'_, '_, '_>, network: Network, profile: Profile) -> Egress {
    let field = f.field("egress");
    let mut inner = Fields::open(f.d, &EGRESS, field, None);
    let allow = inner.each("allow", "a destination", EgressRule::parse, Scalar::show);
    let ports = inner.each("host_ports", "a port", Whole::<1, 65535>::parse, Scalar::show);
    let host_ports = ports.iter().flatten().filter_map(|(port, _)| u16::try_from(port.0).ok()).collect();
    let default = match profile {
        Profile::Off | Profile::Standard => None,
        Profile::Strict => Some(Vec::new()),
    };
    if let (Network::Host, Some(allow), Some(field)) = (network, &allow, inner.field("allow")) {
        let at = allow.first().map_or(field.key_span, |(_, span)| *span);
        let problem = Problem::new(at, format!("{} has no effect on the host's network", quote("allow")));
        inner.d.problem(problem.hint("write `network: private`, or remove it"));
    }
    if allow.is_none() && default.is_some() {
        inner.show("allow", Shown::List(Vec::new()));
    }
    let shown = inner.close();
    f.show("egress", shown);
    let allow = allow.map(|rules| rules.into_iter().map(|(rule, _)| rule).collect()).or(default);
    Egress { allow, host_ports }
}
