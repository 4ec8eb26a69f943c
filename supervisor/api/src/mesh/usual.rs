//! Parts of a service that are the usual ones for most of them.

use std::{
    ops::{Deref, DerefMut},
    sync::LazyLock,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Guard, Traffic};

/// What a part is like when nothing is said of it.
pub trait Usual: Clone + Default + PartialEq + 'static {
    /// One for all that are like that.
    fn usual() -> &'static Self;
}

impl Usual for Traffic {
    fn usual() -> &'static Self {
        static USUAL: LazyLock<Traffic> = LazyLock::new(Traffic::default);
        &USUAL
    }
}

impl Usual for Guard {
    fn usual() -> &'static Self {
        static USUAL: LazyLock<Guard> = LazyLock::new(Guard::default);
        &USUAL
    }
}

/// A part that takes no memory, and no bytes on the wire, while it is the usual one: snapshots have one of each for every service, and are
/// kept by daemon and proxy. It is used as if it were the `T`.
#[derive(Debug, Clone)]
pub struct OrUsual<T>(Option<Box<T>>);

impl<T: Usual> OrUsual<T> {
    /// Whether it is.
    pub fn is_usual(&self) -> bool {
        **self == *T::usual()
    }
}

impl<T: Usual> From<T> for OrUsual<T> {
    fn from(part: T) -> Self {
        OrUsual((part != *T::usual()).then(|| Box::new(part)))
    }
}

impl<T> Default for OrUsual<T> {
    fn default() -> Self {
        OrUsual(None)
    }
}

impl<T: Usual> PartialEq for OrUsual<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Usual> PartialEq<T> for OrUsual<T> {
    fn eq(&self, other: &T) -> bool {
        **self == *other
    }
}

impl<T: Usual> Deref for OrUsual<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or_else(|| T::usual())
    }
}

impl<T: Usual> DerefMut for OrUsual<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: Usual + Serialize> Serialize for OrUsual<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        T::serialize(self, serializer)
    }
}

impl<'de, T: Usual + Deserialize<'de>> Deserialize<'de> for OrUsual<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(OrUsual::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Service;

    #[test]
    fn a_usual_part_takes_neither_memory_nor_bytes_and_reads_as_one() {
        let mut service = Service { traffic: Traffic::default().into(), ..Service::default() };
        assert!(service.traffic.0.is_none() && service.traffic.is_usual());
        assert_eq!(service.traffic.retries, Traffic::default().retries);
        let text = serde_json::to_string(&service).unwrap();
        assert!(!text.contains("traffic") && !text.contains("guard"), "{text}");
        assert_eq!(serde_json::from_str::<Service>(&text).unwrap(), service);

        service.traffic.total_timeout_ms = 5;
        service.guard.body_max = Some(7);
        let text = serde_json::to_string(&service).unwrap();
        let read = serde_json::from_str::<Service>(&text).unwrap();
        assert_eq!((read.traffic.total_timeout_ms, read.guard.body_max), (5, Some(7)));
        assert_eq!(read, service);
    }

    #[test]
    fn what_an_older_daemon_writes_out_is_the_usual_part_as_well() {
        let written = serde_json::json!({ "traffic": Traffic::default(), "guard": Guard::default() });
        let mut text = serde_json::to_value(Service::default()).unwrap();
        text.as_object_mut().unwrap().extend(written.as_object().unwrap().clone());
        let read: Service = serde_json::from_value(text).unwrap();
        assert!(read.traffic.0.is_none() && read.guard.0.is_none());
    }

    #[test]
    fn a_service_with_nothing_of_its_own_is_small() {
        // Each application has one of them for every service, in the daemon and in the proxy.
        assert!(size_of::<Service>() <= 256, "{} bytes", size_of::<Service>());
    }
}
