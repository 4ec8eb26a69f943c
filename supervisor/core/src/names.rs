//! Names and ids. Each is its own type, so that one cannot be passed for another.

use std::{fmt, sync::Arc};

/// The longest service or application name: a DNS label (RFC 1035 §2.3.4), because the name becomes one.
pub const NAME_LEN_MAX: usize = 63;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    /// The name has no characters.
    Empty,
    /// The name has more than [`NAME_LEN_MAX`] bytes.
    TooLong,
    /// The first character is not a lower-case letter or a digit, or the last one is a dash.
    BadEdge,
    /// This character is not a lower-case letter, a digit, `-` or `_`.
    BadCharacter(char),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Empty => write!(f, "a name cannot be empty"),
            NameError::TooLong => write!(f, "a name has at most {NAME_LEN_MAX} characters"),
            NameError::BadEdge => write!(f, "a name starts with a letter or digit and does not end with '-'"),
            NameError::BadCharacter(c) => {
                write!(f, "{c:?} is not allowed: a name is made of a-z, 0-9, '-' and '_'")
            }
        }
    }
}

impl std::error::Error for NameError {}

fn checked(name: &str) -> Result<Arc<str>, NameError> {
    let (Some(first), Some(last)) = (name.chars().next(), name.chars().last()) else {
        return Err(NameError::Empty);
    };
    if name.len() > NAME_LEN_MAX {
        return Err(NameError::TooLong);
    }
    if let Some(c) = name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '_')) {
        return Err(NameError::BadCharacter(c));
    }
    if !first.is_ascii_alphanumeric() || last == '-' {
        return Err(NameError::BadEdge);
    }
    Ok(name.into())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks and takes a name.
            pub fn new(name: &str) -> Result<Self, NameError> {
                checked(name).map($type)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// The name of an application: `shop`.
    AppName
}

name! {
    /// The name of a service, which is also its host name in the mesh: `api` is `http://api.plt.local/`.
    ServiceId
}

name! {
    /// The name of a job: `nightly`.
    JobId
}

/// One of the places a service's processes may take: `api/0`. A worker outlives its runs.
///
/// Each index has two places that take turns: a replacement is started in the free one before the other is left, so that both
/// have their own folder, sockets and cgroup meanwhile. The program has the same number in either.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId {
    /// The service this is a worker of.
    pub service: ServiceId,
    /// Counts from 0 within the service.
    pub index: u16,
    /// Whether it is the second place of this index, `api/0b`.
    pub second: bool,
}

impl WorkerId {
    /// The first place of an index.
    pub fn new(service: ServiceId, index: u16) -> WorkerId {
        WorkerId { service, index, second: false }
    }

    /// The other place of the same index.
    pub fn beside(&self) -> WorkerId {
        WorkerId { second: !self.second, ..self.clone() }
    }

    /// The place within the service, for names of files: `0`, `0b`.
    pub fn place(&self) -> String {
        format!("{}{}", self.index, if self.second { "b" } else { "" })
    }

    /// The reverse of [`WorkerId::place`].
    pub fn of_place(service: ServiceId, place: &str) -> Option<WorkerId> {
        let index = place.strip_suffix('b');
        Some(WorkerId { service, index: index.unwrap_or(place).parse().ok()?, second: index.is_some() })
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.place())
    }
}

/// One process tree started for a worker. Our own number, never reused within an application's life, because
/// the kernel reuses pids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back() {
        for (index, second, place) in [(0, false, "0"), (12, true, "12b")] {
            let id = WorkerId { service: ServiceId::new("api").unwrap(), index, second };
            assert_eq!(id.to_string(), format!("api/{place}"));
            assert_eq!(WorkerId::of_place(id.service.clone(), place), Some(id.clone()));
            assert_eq!(id.beside().beside(), id);
        }
        for wrong in ["", "b", "1c", "-1", "70000"] {
            assert_eq!(WorkerId::of_place(ServiceId::new("api").unwrap(), wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_are_dns_labels() {
        let check = |name: &str, expected: Result<&str, NameError>| {
            assert_eq!(
                ServiceId::new(name).as_ref().map(ServiceId::as_str),
                expected.as_ref().copied(),
                "{name:?}"
            );
        };
        check("api", Ok("api"));
        check("api-v2_beta", Ok("api-v2_beta"));
        check("0", Ok("0"));
        check("", Err(NameError::Empty));
        check("-api", Err(NameError::BadEdge));
        check("api-", Err(NameError::BadEdge));
        check("Api", Err(NameError::BadCharacter('A')));
        check("a/b", Err(NameError::BadCharacter('/')));
        check(&"a".repeat(64), Err(NameError::TooLong));
    }
}
