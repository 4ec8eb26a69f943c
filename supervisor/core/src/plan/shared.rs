//! Parts of a plan that services mostly have in common.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

/// A part of which services that have the same one have it together, since most of many do: a plan is kept for as long as its application
/// runs. It is used as if it were the `T`; who changes it has one of its own from then on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shared<T>(Arc<T>);

impl<T: PartialEq> Shared<T> {
    /// Is the same one as that from now on, if they are equal.
    pub(super) fn join(&mut self, other: &Shared<T>) {
        if self == other {
            self.0 = Arc::clone(&other.0);
        }
    }
}

impl<T: PartialEq> PartialEq<T> for Shared<T> {
    fn eq(&self, other: &T) -> bool {
        **self == *other
    }
}

impl<T> From<T> for Shared<T> {
    fn from(part: T) -> Self {
        Shared(Arc::new(part))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::Service, testing};

    #[test]
    fn services_have_together_what_they_have_in_common_until_one_changes() {
        let mut api = testing::service("api");
        let mut web = testing::service("web");
        web.limits.oom_group = !api.limits.oom_group;
        api.join(&web);
        assert!(Arc::ptr_eq(&api.guard.0, &web.guard.0) && Arc::ptr_eq(&api.restart.0, &web.restart.0));
        assert_ne!(api.limits, web.limits, "what differs stays");

        api.guard.body_max = Some(1);
        assert_eq!((api.guard.body_max, web.guard.body_max), (Some(1), None));
    }

    #[test]
    fn a_service_is_small_besides_what_it_has_in_common_with_others() {
        // Of each there is one for as long as the application runs.
        assert!(size_of::<Service>() <= 1024, "{} bytes", size_of::<Service>());
    }
}
