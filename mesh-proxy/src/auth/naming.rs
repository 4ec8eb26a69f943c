//! What of claims is whose name, his roles, and what services are told besides.

use std::rc::Rc;

use watt_policies::jwt::Claims;

use super::{Identity, is_of_header};

/// Which claims they are.
#[derive(Debug)]
pub(super) struct Naming {
    name_claim: Box<str>,
    roles_claim: Rc<str>,
    claims: Box<[Box<str>]>,
}

impl Naming {
    pub(super) fn new(name_claim: &str, roles_claim: &str, claims: &[String]) -> Naming {
        Naming {
            name_claim: name_claim.into(),
            roles_claim: roles_claim.into(),
            claims: claims.iter().map(|name| name.as_str().into()).collect(),
        }
    }

    /// Who it is. `None` where they do not say.
    pub(super) fn identity(&self, claims: Claims) -> Option<Identity> {
        let name = claims.text(&self.name_claim).filter(|name| is_of_header(name))?;
        // A role with a comma in it would be two to whoever reads the header.
        let roles = claims.list(&self.roles_claim).into_iter();
        let roles = roles.filter(|role| is_of_header(role) && !role.contains(',')).map(Box::from).collect();
        let mut lines = String::new();
        for claim in &self.claims {
            if let Some(value) = claims.line(claim).filter(|value| is_of_header(value)) {
                lines += &format!("X-Forwarded-Claim-{}: {value}\r\n", claim.replace('_', "-"));
            }
        }
        Some(Identity {
            name: name.into(),
            roles,
            lines,
            claims: Some((claims, Rc::clone(&self.roles_claim))),
        })
    }
}
