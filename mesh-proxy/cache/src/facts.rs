//! How fresh a stored response is.

use crate::{control::SECONDS_MAX, request::Directives};

/// A time, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// Milliseconds since any beginning, by a clock that nobody sets.
    pub ms: u64,
    /// Seconds since the Unix epoch, to compare with what messages say.
    pub unix_s: u64,
}

/// What is known of a stored response without looking into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Its status.
    pub status: u16,
    pub(crate) received_ms: u64,
    /// How old it was then, and how old it may become.
    pub(crate) initial_age_s: u64,
    pub(crate) lifetime_s: u64,
    /// It has to be asked for each time whether it is still right.
    pub(crate) no_cache: bool,
    /// It is never to be used when it is stale, whatever a client takes.
    pub(crate) strict: bool,
    /// For so long after that it may be used while another one is got, and when none can be got.
    pub(crate) while_revalidate_s: u64,
    pub(crate) if_error_s: u64,
    /// When it was made, by its own word, or when it came.
    pub(crate) date_s: u64,
}

/// What may be done with a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It is the answer.
    Fresh,
    /// It is stale, and the answer all the same, because the client takes it.
    Stale,
    /// It is the answer, and a new one is to be got meanwhile.
    WhileRevalidating,
    /// The service has to be asked whether it is still right.
    Validate,
}

impl Facts {
    /// How old it is, in seconds (RFC 9111 §4.2.3).
    pub fn age_s(&self, now: Moment) -> u64 {
        let resident_s = now.ms.saturating_sub(self.received_ms) / 1000;
        self.initial_age_s.saturating_add(resident_s).min(SECONDS_MAX)
    }

    /// For how long it is fresh yet; less than 0 once it is stale.
    pub fn ttl_s(&self, now: Moment) -> i64 {
        // Both are at most 2^31.
        self.lifetime_s.cast_signed() - self.age_s(now).cast_signed()
    }

    /// Whether the service has to be asked each time.
    pub fn is_validated_each_time(&self) -> bool {
        self.no_cache
    }

    /// What may be done with it for a request that says this.
    pub fn usable(&self, directives: &Directives, now: Moment) -> Use {
        let age_s = self.age_s(now);
        let is_refused = directives.no_cache
            || directives.max_age.is_some_and(|max| age_s > max)
            || directives.min_fresh.is_some_and(|min| self.ttl_s(now) < min.cast_signed());
        if self.no_cache || is_refused {
            return Use::Validate;
        }
        if self.lifetime_s > age_s {
            return Use::Fresh;
        }
        let stale_s = age_s - self.lifetime_s;
        if stale_s < self.while_revalidate_s {
            return Use::WhileRevalidating;
        }
        let is_taken = directives.max_stale.is_some_and(|max| stale_s <= max);
        if is_taken && !self.strict { Use::Stale } else { Use::Validate }
    }

    /// Whether it may be the answer when the service gives none, or an error.
    pub fn may_cover_errors(&self, directives: &Directives, now: Moment) -> bool {
        let stale_s = self.age_s(now).saturating_sub(self.lifetime_s);
        !self.no_cache && !directives.no_cache && stale_s < self.if_error_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            status: 200,
            received_ms: 10_000,
            initial_age_s: 5,
            lifetime_s: 60,
            no_cache: false,
            strict: false,
            while_revalidate_s: 10,
            if_error_s: 100,
            date_s: 0,
        }
    }

    fn at(second: u64) -> Moment {
        Moment { ms: 10_000 + second * 1000, unix_s: 0 }
    }

    #[test]
    fn a_response_is_used_by_its_age() {
        let plain = Directives::default();
        for (second, age, expected) in [
            (0, 5, Use::Fresh),
            (54, 59, Use::Fresh),
            (55, 60, Use::WhileRevalidating),
            (64, 69, Use::WhileRevalidating),
            (65, 70, Use::Validate),
        ] {
            assert_eq!((facts().age_s(at(second)), facts().usable(&plain, at(second))), (age, expected));
        }
        assert_eq!((facts().ttl_s(at(0)), facts().ttl_s(at(65))), (55, -10));
        assert!(facts().may_cover_errors(&plain, at(154)) && !facts().may_cover_errors(&plain, at(155)));
        assert_eq!(Facts { no_cache: true, ..facts() }.usable(&plain, at(0)), Use::Validate);
        assert_eq!(facts().age_s(Moment { ms: u64::MAX, unix_s: 0 }), SECONDS_MAX);
        assert_eq!(facts().age_s(Moment::default()), 5, "the clock of another beginning");
    }

    #[test]
    fn a_request_may_want_another_one() {
        let usable = |directives: Directives, second| facts().usable(&directives, at(second));
        assert_eq!(usable(Directives { no_cache: true, ..Directives::default() }, 0), Use::Validate);
        assert_eq!(usable(Directives { max_age: Some(4), ..Directives::default() }, 0), Use::Validate);
        assert_eq!(usable(Directives { max_age: Some(5), ..Directives::default() }, 0), Use::Fresh);
        assert_eq!(usable(Directives { min_fresh: Some(56), ..Directives::default() }, 0), Use::Validate);
        assert_eq!(usable(Directives { min_fresh: Some(55), ..Directives::default() }, 0), Use::Fresh);
        assert_eq!(usable(Directives { max_stale: Some(20), ..Directives::default() }, 75), Use::Stale);
        assert_eq!(usable(Directives { max_stale: Some(20), ..Directives::default() }, 76), Use::Validate);
        let strict = Facts { strict: true, while_revalidate_s: 0, ..facts() };
        assert_eq!(
            strict.usable(&Directives { max_stale: Some(20), ..Directives::default() }, at(75)),
            Use::Validate
        );
    }
}
