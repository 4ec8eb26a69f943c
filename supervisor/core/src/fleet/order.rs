//! The order among services: who depends on whom.
